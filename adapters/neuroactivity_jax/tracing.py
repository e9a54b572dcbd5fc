"""Run a model and note what its parameters are applied to and what they make, whatever library it is written in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

__all__ = ["Trace", "Value", "trace"]

_INLINED = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}
_KEEPING = {"convert_element_type", "copy", "stop_gradient", "reduce_precision"}


class Value(NamedTuple):
    """An array, and how a parameter lies along it.

    Attributes:
        value: The array.
        axes: For each axis of the parameter that axis of the array which runs along with it; ``None`` where none does.
    """

    value: Array
    axes: tuple[int | None, ...]


class Trace(NamedTuple):
    """What happened to parameters, by their names, each time that they were used.

    Attributes:
        read: What a weight was multiplied with in a matrix product or a convolution.
        made: The product, or the sum of a bias and what it was added to.
    """

    read: dict[str, list[Value]]
    made: dict[str, list[Value]]


class _Origin(NamedTuple):
    """The parameter that a value is, of so many axes, and for each axis of the value that of the parameter, if any."""

    param: str
    ndim: int
    axes: tuple[int | None, ...]


_Origins: TypeAlias = Sequence[_Origin | None]


def trace(params: Mapping[str, Array], function: Callable[[dict[str, Array]], Any]) -> Trace:
    """Run a function of parameters, and note what they are multiplied with and added to, and what comes of it.

    The insides of loops and branches are not looked into.
    """
    names = sorted(params)  # the order in which JAX takes a dictionary apart
    program = jax.make_jaxpr(function)(dict(params))
    origins = [_Origin(name, params[name].ndim, tuple(range(params[name].ndim))) for name in names]
    found = Trace({}, {})
    _evaluate(program, [params[name] for name in names], origins, found)
    return found


def _evaluate(
    program: ClosedJaxpr, inputs: Sequence[Any], origins: _Origins, found: Trace
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


def _apply(equation: Any, inputs: Sequence[Any], origins: _Origins, found: Trace) -> tuple[Sequence[Any], _Origins]:
    """Evaluate one operation, and note what it does with parameters."""
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
        _note_product(options["dimension_numbers"], inputs, results, origins, found)
    elif primitive.name == "conv_general_dilated":
        _note_convolution(options, inputs, results, origins, found)
    elif primitive.name == "add":
        for known in (origin for origin in origins if origin is not None):
            _note(found.made, known, results, {axis: axis for axis in range(results.ndim)})
    elif origins and origins[0] is not None:
        axes = _moved(primitive.name, options, origins[0].axes, inputs[0].shape, results.shape)
        origin = None if axes is None else origins[0]._replace(axes=axes)
    return [results], [origin]


def _moved(
    name: str, options: Mapping[str, Any], axes: tuple[int | None, ...], before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[int | None, ...] | None:
    """Return where a parameter's axes lie after an operation that only moves entries, ``None`` after any other."""
    if name in _KEEPING:
        return axes
    if name == "transpose":
        return tuple(axes[axis] for axis in options["permutation"])
    if name == "broadcast_in_dim":
        places = dict(zip(options["broadcast_dimensions"], axes, strict=True))
        return tuple(places.get(axis) for axis in range(len(after)))
    if name == "reshape" and after == (1,) * (len(after) - len(before)) + before:  # as a bias gets leading axes
        return (None,) * (len(after) - len(before)) + axes
    return None


def _note_product(numbers: Any, inputs: Sequence[Any], result: Any, origins: _Origins, found: Trace) -> None:
    """Note the parameters among the two factors of a matrix product."""
    contracted, batched = numbers
    free = [[i for i in range(inputs[side].ndim) if i not in (*contracted[side], *batched[side])] for side in (0, 1)]
    for side, origin in enumerate(origins):
        if origin is not None:
            along = {own: other for pairs in numbers for own, other in zip(pairs[side], pairs[1 - side], strict=True)}
            _note(found.read, origin, inputs[1 - side], along)
            first = len(batched[0]) + side * len(free[0])
            made = {own: place for place, own in enumerate(batched[side])}
            made |= {own: first + place for place, own in enumerate(free[side])}
            _note(found.made, origin, result, made)


def _note_convolution(
    options: Mapping[str, Any], inputs: Sequence[Any], result: Any, origins: _Origins, found: Trace
) -> None:
    """Note the kernel of a convolution without groups."""
    numbers = options["dimension_numbers"]
    kernel = numbers.rhs_spec
    if origins[1] is not None and options["feature_group_count"] == options["batch_group_count"] == 1:
        _note(found.read, origins[1], inputs[0], {kernel[1]: numbers.lhs_spec[1]})
        _note(found.made, origins[1], result, {kernel[0]: numbers.out_spec[1]})


def _note(notes: dict[str, list[Value]], origin: _Origin, value: Any, along: Mapping[int, int]) -> None:
    """Note a value, with its axes in the order of the parameter's."""
    places = {own: along.get(axis) for axis, own in enumerate(origin.axes) if own is not None}
    notes.setdefault(origin.param, []).append(Value(value, tuple(places.get(own) for own in range(origin.ndim))))
