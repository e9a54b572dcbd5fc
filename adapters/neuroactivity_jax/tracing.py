"""Run a model and note what each of its weights is multiplied with, whatever library the model is written in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

__all__ = ["Operand", "operands"]

_INLINED = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}
_KEEPING = {"convert_element_type", "copy", "stop_gradient", "reduce_precision"}


class Operand(NamedTuple):
    """What a weight is multiplied with in a matrix product or a convolution.

    Attributes:
        param: Name of the weight.
        value: What it is multiplied with.
        axes: For each axis of the weight that axis of the value which runs along with it; ``None`` where none does.
    """

    param: str
    value: Array
    axes: tuple[int | None, ...]


class _Origin(NamedTuple):
    """The parameter that a value is, and the parameter's axis for each axis of the value."""

    param: str
    axes: tuple[int, ...]


_Origins: TypeAlias = Sequence[_Origin | None]


def operands(params: Mapping[str, Array], function: Callable[[dict[str, Array]], Any]) -> list[Operand]:
    """Run a function of parameters, and list what they are multiplied with.

    The insides of loops and branches are not looked into.
    """
    names = sorted(params)  # the order in which JAX takes a dictionary apart
    program = jax.make_jaxpr(function)(dict(params))
    origins = [_Origin(name, tuple(range(params[name].ndim))) for name in names]
    found: list[Operand] = []
    _evaluate(program, [params[name] for name in names], origins, found)
    return found


def _evaluate(
    program: ClosedJaxpr, inputs: Sequence[Any], origins: _Origins, found: list[Operand]
) -> tuple[list[Any], list[_Origin | None]]:
    """Evaluate a program operation by operation; return its results and which of them are parameters."""
    values: dict[Any, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values.update(zip(program.jaxpr.invars, inputs, strict=True))
    known: dict[Any, _Origin | None] = dict(zip(program.jaxpr.invars, origins, strict=True))

    def read(atom: Any) -> tuple[Any, _Origin | None]:
        return (atom.val, None) if isinstance(atom, Literal) else (values[atom], known.get(atom))

    for equation in program.jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        results, sources = _apply(equation, [value for value, _ in given], [origin for _, origin in given], found)
        values.update(zip(equation.outvars, results, strict=True))
        known.update(zip(equation.outvars, sources, strict=True))
    ends = [read(atom) for atom in program.jaxpr.outvars]
    return [value for value, _ in ends], [origin for _, origin in ends]


def _apply(
    equation: Any, inputs: Sequence[Any], origins: _Origins, found: list[Operand]
) -> tuple[Sequence[Any], _Origins]:
    """Evaluate one operation, and note it if it multiplies a parameter."""
    primitive, options = equation.primitive, equation.params
    inner = [part for part in options.values() if isinstance(part, ClosedJaxpr | Jaxpr)]
    if primitive.name in _INLINED and inner:
        program = inner[0] if isinstance(inner[0], ClosedJaxpr) else ClosedJaxpr(inner[0], ())
        return _evaluate(program, inputs, origins, found)
    results = primitive.bind(*inputs, **options)
    if primitive.multiple_results:
        return results, [None] * len(results)
    origin = None
    if primitive.name == "dot_general":
        found += _of_product(options["dimension_numbers"], inputs, origins)
    elif primitive.name == "conv_general_dilated":
        found += _of_convolution(options, inputs, origins)
    elif primitive.name in _KEEPING:
        origin = origins[0]
    elif primitive.name == "transpose" and origins[0] is not None:
        origin = _Origin(origins[0].param, tuple(origins[0].axes[axis] for axis in options["permutation"]))
    return [results], [origin]


def _of_product(numbers: Any, inputs: Sequence[Any], origins: _Origins) -> list[Operand]:
    """List the parameters among the two factors of a matrix product, each with the other factor."""
    found = []
    for side, origin in enumerate(origins):
        if origin is not None:
            along = {own: other for pairs in numbers for own, other in zip(pairs[side], pairs[1 - side], strict=True)}
            found.append(_operand(origin, inputs[1 - side], along))
    return found


def _of_convolution(options: Mapping[str, Any], inputs: Sequence[Any], origins: _Origins) -> list[Operand]:
    """Read the kernel of a convolution without groups."""
    value, kernel = options["dimension_numbers"].lhs_spec, options["dimension_numbers"].rhs_spec
    if origins[1] is None or options["feature_group_count"] != 1 or options["batch_group_count"] != 1:
        return []
    return [_operand(origins[1], inputs[0], {kernel[1]: value[1]})]


def _operand(origin: _Origin, value: Any, along: Mapping[int, int]) -> Operand:
    """Put the axes in the order of the parameter."""
    order = [origin.axes.index(axis) for axis in range(len(origin.axes))]
    return Operand(origin.param, value, tuple(along.get(axis) for axis in order))
