"""Which parameters an optimizer holds but never moves, as where ``optax.set_to_zero`` is its part for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from neuroactivity_jax.parameters import PyTree, parameters, replace

_CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}


def frozen_params(inner: optax.GradientTransformationExtraArgs, params: PyTree) -> frozenset[str]:
    """Name the parameters whose update does not depend on their gradient: the optimizer does not train them.

    Nothing is computed: the optimizer's program is read. So a learning rate that starts at zero, or an optimizer that
    gathers several batches, is not mistaken for one that never moves. Of an optimizer that asks for more than
    gradients, such as the loss, nothing is known.

    Example:
        >>> params = {"a": jax.numpy.ones(2), "b": jax.numpy.ones(2)}
        >>> parts = {"train": optax.adam(0.1), "freeze": optax.set_to_zero()}
        >>> tx = optax.multi_transform(parts, {"a": "train", "b": "freeze"})
        >>> sorted(frozen_params(optax.with_extra_args_support(tx), params))
        ['b']
    """

    def step(grads: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        tree = replace(params, values)
        updates, _ = inner.update(replace(params, grads), inner.init(tree), tree)
        return parameters(updates)

    shapes = jax.eval_shape(dict, parameters(params))
    try:
        program, updates = jax.make_jaxpr(step, return_shape=True)(shapes, shapes)
    except (TypeError, ValueError):
        return frozenset()
    gradients: list[set[str]] = [{name} for name in sorted(shapes)]  # as JAX takes a dictionary apart
    reached = _reached(program.jaxpr, gradients + [set() for _ in shapes])
    moved = {name for name, names in zip(sorted(updates), reached, strict=True) if name in names}
    return frozenset(set(updates) - moved)


def _reached(program: Jaxpr, inputs: Sequence[set[str]]) -> list[set[str]]:
    """Return the names of the gradients that each result of a program depends on."""
    known: dict[Var, set[str]] = dict(zip(program.invars, inputs, strict=True))

    def of(atom: Any) -> set[str]:
        return set() if isinstance(atom, Literal) else known.get(atom, set())

    for equation in program.eqns:
        operands = [of(atom) for atom in equation.invars]
        results = _of_equation(equation.primitive.name, equation.params, operands)
        for number, variable in enumerate(equation.outvars):
            kind = getattr(variable.aval, "dtype", None), getattr(variable.aval, "shape", None)
            is_one_truth = kind == (np.dtype(bool), ())  # such as whether all gradients are finite
            found = set().union(*operands) if results is None else results[number]
            known[variable] = set() if is_one_truth else found
    return [of(atom) for atom in program.outvars]


def _of_equation(name: str, options: Mapping[str, Any], operands: Sequence[set[str]]) -> list[set[str]] | None:
    """Look into calls and branches; ``None`` for what is not looked into, where everything depends on everything."""
    if name == "cond":
        branches = [_reached(branch.jaxpr, operands[1:]) for branch in options["branches"]]
        return [operands[0].union(*results) for results in zip(*branches, strict=True)]
    inner = [part for part in options.values() if isinstance(part, ClosedJaxpr | Jaxpr)]
    if name in _CALLS and len(inner) == 1:
        program = inner[0].jaxpr if isinstance(inner[0], ClosedJaxpr) else inner[0]
        return _reached(program, operands) if len(program.invars) == len(operands) else None
    return None
