"""A user's initialiser, taken apart, so that only those arrays are drawn that are needed."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.interpreters import partial_eval

import neuroactivity as na
from neuroactivity.resets import Outgoing
from neuroactivity_jax.conditions import if_any
from neuroactivity_jax.parameters import PyTree, parameters


def draw_needed(initializer: Callable[[Array], PyTree], key: Array, needed: Mapping[str, Array]) -> dict[str, Array]:
    """Draw those arrays that are needed, inside a compiled function, each behind its own condition; others are zero.

    An initialiser that does not come apart, where the parts together are longer than the whole, is called as it is.

    Args:
        initializer: From a key to parameters.
        key: A key.
        needed: For each parameter to return whether it is needed.
    """

    def drawn(data: Array) -> list[Array]:
        fresh = parameters(initializer(jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))))
        return [fresh[name] for name in needed]

    data = jax.random.key_data(key)
    whole = jax.make_jaxpr(drawn)(data)
    parts = [_part(whole, number) for number in range(len(needed))]
    if sum(_length(part.jaxpr) for part, _ in parts) > 2 * _length(whole.jaxpr):
        return dict(zip(needed, drawn(data), strict=True))

    fresh = {}
    for (name, wanted), (part, used) in zip(needed.items(), parts, strict=True):
        shape = part.out_avals[0]
        draw: Callable[[], list[Array]] = partial(jaxpr_as_fun(part), *[data] * used)
        (fresh[name],) = if_any(wanted, draw, [jnp.zeros(shape.shape, shape.dtype)])
    return fresh


def _part(whole: ClosedJaxpr, number: int) -> tuple[ClosedJaxpr, int]:
    """Return what is needed for one result of a program, and whether it needs the input."""
    wanted = [at == number for at in range(len(whole.jaxpr.outvars))]
    program, used = partial_eval.dce_jaxpr(whole.jaxpr, wanted)
    return ClosedJaxpr(program, whole.consts), sum(used)


def _length(program: Jaxpr) -> int:
    """Count the operations of a program, with those of the programs in it."""
    inner: list[Any] = [part for equation in program.eqns for part in equation.params.values()]
    programs = [part.jaxpr if isinstance(part, ClosedJaxpr) else part for part in inner]
    return len(program.eqns) + sum(_length(part) for part in programs if isinstance(part, Jaxpr))


def needed_params(masks: Mapping[str, Array], layout: na.Layout, outgoing: Outgoing) -> dict[str, Array]:
    """Return for each parameter that a reset takes fresh values of whether it has neurons to reset."""
    needed: dict[str, Array] = {}
    for name, mask in masks.items():
        for role, view in layout[name].views if layout[name].resettable else ():
            if role != "outgoing" or outgoing in ("small", "fresh"):
                needed[view.param] = needed.get(view.param, False) | jnp.any(mask)
    return needed
