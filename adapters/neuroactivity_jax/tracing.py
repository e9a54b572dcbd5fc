"""Run a model and record what its weights are multiplied with, and what comes of it, whatever library it uses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

_INLINED = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}
_KEEPING = {"convert_element_type", "copy", "stop_gradient", "reduce_precision"}


class Value(NamedTuple):
    """An array, and how the axes of a parameter correspond to its axes.

    Attributes:
        value: The array.
        axes: For each axis of the parameter the axis of the array that corresponds to it; ``None`` where none does.
    """

    value: Array
    axes: tuple[int | None, ...]


class Made(NamedTuple):
    """What a weight made.

    Attributes:
        weight: Name of the weight or scale that something was multiplied with.
        bias: Name of the bias that was then added; ``None`` for the product alone.
        value: The product, with the axes of the weight, or the sum, with those of the bias.
    """

    weight: str
    bias: str | None
    value: Value


class Trace(NamedTuple):
    """What happened to the parameters, each time that they were used.

    Attributes:
        read: By a weight's name what it was multiplied with in matrix products and convolutions.
        made: The products, and the sums of products, or of what a scale made, with a bias.
    """

    read: dict[str, list[Value]]
    made: list[Made]


class _Origin(NamedTuple):
    """Where a value comes from.

    Attributes:
        param: Name of the parameter that it is, with axes moved at most; ``""`` if it is none.
        axes: For each axis of the value the axis of the parameter; ``None`` where it has none.
        shape: The parameter's shape.
        weight: Name of the weight or scale that made it, only moved or scaled since; ``""`` if none did.
    """

    param: str = ""
    axes: tuple[int | None, ...] = ()
    shape: tuple[int, ...] = ()
    weight: str = ""


_UNKNOWN = _Origin()
_Origins: TypeAlias = Sequence[_Origin]


def trace(params: Mapping[str, Array], function: Callable[[dict[str, Array]], Any]) -> Trace:
    """Run a function of parameters, and record what they are multiplied with and added to, and what comes of it.

    Loops and branches are not looked into.
    """
    names = sorted(params)  # the order in which JAX takes a dictionary apart
    program = jax.make_jaxpr(function)(dict(params))
    origins = [_Origin(name, tuple(range(params[name].ndim)), params[name].shape) for name in names]
    record = Trace({}, [])
    _evaluate(program, [params[name] for name in names], origins, record)
    return record


def _evaluate(
    program: ClosedJaxpr, inputs: Sequence[Any], origins: _Origins, record: Trace
) -> tuple[list[Any], list[_Origin]]:
    """Evaluate a program operation by operation; return its results and where they come from."""
    values: dict[Any, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values.update(zip(program.jaxpr.invars, inputs, strict=True))
    known: dict[Any, _Origin] = dict(zip(program.jaxpr.invars, origins, strict=True))

    def read(atom: Any) -> tuple[Any, _Origin]:
        return (atom.val, _UNKNOWN) if isinstance(atom, Literal) else (values[atom], known.get(atom, _UNKNOWN))

    for equation in program.jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        results, sources = _apply(equation, [value for value, _ in operands], [where for _, where in operands], record)
        values.update(zip(equation.outvars, results, strict=True))
        known.update(zip(equation.outvars, sources, strict=True))
    ends = [read(atom) for atom in program.jaxpr.outvars]
    return [value for value, _ in ends], [origin for _, origin in ends]


def _apply(
    equation: Any, inputs: Sequence[Any], origins: _Origins, record: Trace
) -> tuple[Sequence[Any], Sequence[_Origin]]:
    """Evaluate one operation, and record what it does with parameters."""
    primitive, options = equation.primitive, equation.params
    inner = [part for part in options.values() if isinstance(part, ClosedJaxpr | Jaxpr)]
    if primitive.name in _INLINED and inner:
        program = inner[0] if isinstance(inner[0], ClosedJaxpr) else ClosedJaxpr(inner[0], ())
        return _evaluate(program, inputs, origins, record)
    results = primitive.bind(*inputs, **options)
    if primitive.multiple_results:
        return results, [_UNKNOWN] * len(results)
    origin = _UNKNOWN
    if primitive.name == "dot_general":
        origin = _record_product(options["dimension_numbers"], inputs, results, origins, record)
    elif primitive.name == "conv_general_dilated":
        origin = _record_convolution(options, inputs, results, origins, record)
    elif primitive.name == "mul":  # by a scale, or by what a scale has multiplied
        origin = _Origin(weight=next((o.param or o.weight for o in origins if o.param or o.weight), ""))
    elif primitive.name == "add":
        _record_sum(results, origins, record)
    elif origins and origins[0] != _UNKNOWN:
        origin = _moved(primitive.name, options, origins[0], inputs[0].shape, results.shape)
    return [results], [origin]


def _moved(
    name: str, options: Mapping[str, Any], origin: _Origin, before: tuple[int, ...], after: tuple[int, ...]
) -> _Origin:
    """Return where a value comes from after an operation, which is known if that only moves entries."""
    if name in _KEEPING:
        return origin
    sources: list[int | None] = []
    if name == "transpose":
        sources = list(options["permutation"])
    elif name == "broadcast_in_dim":
        kept = list(options["broadcast_dimensions"])
        sources = [kept.index(axis) if axis in kept else None for axis in range(len(after))]
    elif name == "reshape":
        sources = _inserted(before, after)
    if not sources:
        return _UNKNOWN
    axes = [None if source is None else origin.axes[source] for source in sources if origin.param]
    return origin._replace(axes=tuple(axes))


def _inserted(before: tuple[int, ...], after: tuple[int, ...]) -> list[int | None]:
    """Match the axes of a shape to those of one with additional axes of size 1; nothing if it is none."""
    sources: list[int | None] = []
    left = len(before) - 1
    for size in reversed(after):  # from the last axis on, as broadcasting does
        matches = left >= 0 and size == before[left]
        if not matches and size != 1:
            return []
        sources.append(left if matches else None)
        left -= matches
    return sources[::-1] if left < 0 else []


def _record_product(numbers: Any, inputs: Sequence[Any], result: Any, origins: _Origins, record: Trace) -> _Origin:
    """Record the parameters among the two factors of a matrix product."""
    contracted, batched = numbers
    free = [[i for i in range(inputs[side].ndim) if i not in (*contracted[side], *batched[side])] for side in (0, 1)]
    weight = ""
    for side, origin in enumerate(origins):
        if origin.param:
            along = {axis: twin for pairs in numbers for axis, twin in zip(pairs[side], pairs[1 - side], strict=True)}
            made = {axis: number for number, axis in enumerate(batched[side])}
            made |= {axis: len(batched[0]) + side * len(free[0]) + number for number, axis in enumerate(free[side])}
            weight = _record(origin, _aligned(origin, inputs[1 - side], along), _aligned(origin, result, made), record)
    return _Origin(weight=weight)


def _record_convolution(
    options: Mapping[str, Any], inputs: Sequence[Any], result: Any, origins: _Origins, record: Trace
) -> _Origin:
    """Record the kernel of a convolution without groups."""
    numbers, kernel = options["dimension_numbers"], origins[1]
    if not kernel.param or options["feature_group_count"] != 1 or options["batch_group_count"] != 1:
        return _UNKNOWN
    read = _aligned(kernel, inputs[0], {numbers.rhs_spec[1]: numbers.lhs_spec[1]})
    made = _aligned(kernel, result, {numbers.rhs_spec[0]: numbers.out_spec[1]})
    return _Origin(weight=_record(kernel, read, made, record))


def _record(weight: _Origin, read: Value, made: Value, record: Trace) -> str:
    """Record what a weight was multiplied with, and the product; return its name."""
    record.read.setdefault(weight.param, []).append(read)
    record.made.append(Made(weight.param, None, made))
    return weight.param


def _record_sum(result: Any, origins: _Origins, record: Trace) -> None:
    """Record a bias that is added to what a weight made."""
    for bias, other in (origins, origins[::-1]):
        if bias.param and other.weight:
            value = _aligned(bias, result, {axis: axis for axis in range(result.ndim)})
            record.made.append(Made(other.weight, bias.param, value))


def _aligned(origin: _Origin, value: Any, along: Mapping[int, int]) -> Value:
    """Return how a parameter corresponds to a value, from the value's axes for those of the moved parameter."""
    axes: dict[int, int | None] = {}
    for moved, axis in enumerate(origin.axes):
        target = along.get(moved)
        if axis is not None and target is not None and value.shape[target] == origin.shape[axis]:
            axes[axis] = target
    return Value(value, tuple(axes.get(axis) for axis in range(len(origin.shape))))
