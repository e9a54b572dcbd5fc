"""Conditions that stay conditions where several runs are mapped over, instead of becoming a choice of results."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

T = TypeVar("T")


@jax.custom_batching.custom_vmap
def greatest(number: Array) -> Array:
    """Return the greatest of a number, or truth, of the runs that are mapped over: one for all of them."""
    return number


@greatest.def_vmap
def _greatest_of_many(size: int, batched: list[bool], number: Array) -> tuple[Array, bool]:
    return greatest(jnp.max(number)), False


def if_any(condition: Array, then: Callable[[], T], otherwise: T) -> T:
    """Do something if a condition holds in any of the runs that are mapped over."""
    if isinstance(condition, jax.core.Tracer):
        result: T = jax.lax.cond(greatest(condition), then, lambda: otherwise)
        return result
    return then() if condition else otherwise  # outside of jit, where a condition would be compiled anew every time


@jax.custom_batching.custom_vmap
def number_of_run(due: Array, scores: dict[str, Array]) -> Array:
    """Return the number of the run among those that are mapped over; -1 for one that is alone."""
    return jnp.full((), -1, jnp.int32)


@number_of_run.def_vmap
def _numbers_of_runs(size: int, batched: list[Any], due: Array, scores: dict[str, Array]) -> tuple[Array, bool]:
    outside = number_of_run(*jax.tree.map(lambda x, mapped: x[0] if mapped else x, (due, scores), tuple(batched)))
    return jnp.maximum(outside, 0) * size + jnp.arange(size, dtype=jnp.int32), True
