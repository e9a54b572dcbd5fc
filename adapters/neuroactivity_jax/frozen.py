"""Which parameters an optimizer holds but never moves, as where ``optax.set_to_zero`` is its part for them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from neuroactivity_jax.dataflow import plain, trace_labels
from neuroactivity_jax.parameters import PyTree, name_of, parameters, replace


def frozen_params(
    inner: optax.GradientTransformationExtraArgs, params: PyTree, extra: Mapping[str, Any] | None = None
) -> frozenset[str]:
    """Name the parameters whose update does not depend on their gradient: the optimizer does not train them.

    Nothing is computed: the optimizer's program is read. So a learning rate that starts at zero, or an optimizer that
    gathers several batches, is not mistaken for one that never moves.

    Args:
        inner: The optimizer.
        params: Parameters, or their shapes.
        extra: What its update is given beside gradients, state and parameters. Before that is known, one that asks for
            more than the loss, as functions of the parameters, is not known to leave any alone.

    Raises:
        ValueError: If the optimizer's state has other parts after an update than at first.

    Example:
        >>> params = {"a": jax.numpy.ones(2), "b": jax.numpy.ones(2)}
        >>> parts = {"train": optax.adam(0.1), "freeze": optax.set_to_zero()}
        >>> tx = optax.multi_transform(parts, {"a": "train", "b": "freeze"})
        >>> sorted(frozen_params(optax.with_extra_args_support(tx), params))
        ['b']
    """

    def step(grads: dict[str, Any], values: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
        tree = replace(params, values)
        state = inner.init(tree)
        updates, after = inner.update(replace(params, grads), state, tree, **extra)
        parts[:] = _names(state), _names(after)
        return parameters(updates)

    shapes, parts = jax.eval_shape(dict, parameters(params)), list[list[str]]()
    for given in ({}, {"value": jnp.zeros(())}) if extra is None else (extra,):
        try:
            program, updates = jax.make_jaxpr(partial(step, extra=given), return_shape=True)(shapes, shapes)
            break
        except (TypeError, ValueError):
            continue
    else:
        return frozenset()
    before, after = parts
    if before != after:
        first = min(set(before) ^ set(after), default="")
        raise ValueError(
            f"state {first!r} of the optimizer: expected it to be there from init on and to stay; where parts come "
            "and go with updates, it cannot be reset (with max_fraction=0 nothing is)"
        )
    gradients = [frozenset([name]) for name in sorted(shapes)]  # as JAX takes a dictionary apart
    reached = trace_labels(program.jaxpr, gradients + [frozenset()] * len(shapes))
    moved = {name for name, names in zip(sorted(updates), reached, strict=True) if name in plain(names)}
    return frozenset(set(updates) - moved)


def _names(state: PyTree) -> list[str]:
    return [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
