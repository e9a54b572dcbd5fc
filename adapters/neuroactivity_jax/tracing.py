"""Run a model and record what its weights are multiplied with, and what comes of it, whatever library it uses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from neuroactivity_jax.following import follow
from neuroactivity_jax.origins import (
    CONSTANT,
    KEEPING,
    UNKNOWN,
    Origin,
    aligned,
    axes_of_product,
    moved_origin,
    passed_on,
    sources_of,
)
from neuroactivity_jax.tracks import Ends, Followed, Kind, Value

_INLINED = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2"}
_OWN_DERIVATIVES = {"custom_jvp_call", "custom_vjp_call"}


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
        made: The products, rows of embeddings, and the sums of products with a bias.
        ends: What became of each of these, in front of what reads it.
        shifts: What is added to what was made, by its number, to differentiate by it; functions with derivatives of
            their own are not looked into then. ``None`` where nothing is differentiated.
    """

    read: dict[str, list[Value]]
    made: list[Made]
    ends: Ends
    shifts: Mapping[int, Array] | None = None


_Origins: TypeAlias = Sequence[Origin]


def trace(params: Mapping[str, Array], function: Callable[[dict[str, Array]], Any]) -> Trace:
    """Run a function of parameters, and record what they are multiplied with and added to, and what comes of it.

    Loops are looked into where their number of steps is known (``scan``), branches are not.
    """
    record = Trace({}, [], Ends())
    _, results = run(params, function, record)
    for result in results:
        record.ends.add(result.followed)
    return record


def run(
    params: Mapping[str, Array], function: Callable[[dict[str, Array]], Any], record: Trace
) -> tuple[list[Any], list[Origin]]:
    """Run a function of parameters, and write into a record; return its results and where they come from."""
    names = sorted(params)  # the order in which JAX takes a dictionary apart
    program = jax.make_jaxpr(function)(dict(params))
    origins = [
        Origin(name, tuple(range(params[name].ndim)), params[name].shape, constant=not params[name].ndim, fixed=True)
        for name in names
    ]
    return _evaluate(program, [params[name] for name in names], origins, record)


def _evaluate(
    program: ClosedJaxpr, inputs: Sequence[Any], origins: _Origins, record: Trace
) -> tuple[list[Any], list[Origin]]:
    """Evaluate a program operation by operation; return its results and where they come from."""
    values: dict[Any, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values.update(zip(program.jaxpr.invars, inputs, strict=True))
    known: dict[Any, Origin] = dict(zip(program.jaxpr.invars, origins, strict=True))
    known |= {variable: CONSTANT for variable in program.jaxpr.constvars if not variable.aval.shape}

    def read(atom: Any) -> tuple[Any, Origin]:
        if isinstance(atom, Literal):
            return atom.val, CONSTANT
        return values[atom], known.get(atom, UNKNOWN)

    for equation in program.jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        results, sources = _apply(equation, [value for value, _ in operands], [where for _, where in operands], record)
        values.update(zip(equation.outvars, results, strict=True))
        known.update(zip(equation.outvars, sources, strict=True))
    ends = [read(atom) for atom in program.jaxpr.outvars]
    return [value for value, _ in ends], [origin for _, origin in ends]


def _apply(
    equation: Any, inputs: Sequence[Any], origins: _Origins, record: Trace
) -> tuple[Sequence[Any], Sequence[Origin]]:
    """Evaluate one operation, and record what it does with parameters."""
    primitive, options = equation.primitive, equation.params
    inner = [part for part in options.values() if isinstance(part, ClosedJaxpr | Jaxpr)]
    if inner and (primitive.name in _INLINED or (primitive.name in _OWN_DERIVATIVES and record.shifts is None)):
        program = inner[0] if isinstance(inner[0], ClosedJaxpr) else ClosedJaxpr(inner[0], ())
        return _evaluate(program, inputs, origins, record)
    if primitive.name in _OWN_DERIVATIVES:
        results: Any = _as_a_whole(equation, inputs, inner[0])
    else:
        results = primitive.bind(*inputs, **options)
    if primitive.multiple_results and primitive.name != "split":
        if primitive.name == "scan" and record.shifts is None:
            _look_into_loop(options, inputs, origins, record)
        for origin in origins:
            record.ends.add(origin.followed, Kind.NOT_SEEN)
        return results, [Origin(**passed_on(primitive.name, origins))] * len(results)
    if primitive.multiple_results:
        return results, [_origin_of(primitive.name, options, inputs, result, origins, record) for result in results]
    made = len(record.made)
    origin = _origin_of(primitive.name, options, inputs, results, origins, record)
    for number in range(made, len(record.made)):
        results = results + record.shifts[number] if record.shifts and number in record.shifts else results
    return [results], [origin]


def _as_a_whole(equation: Any, inputs: Sequence[Any], inner: Any) -> Any:
    """Evaluate an operation that has derivatives of its own."""
    values = {atom: value for atom, value in zip(equation.invars, inputs, strict=True) if not isinstance(atom, Literal)}
    inner = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
    program = inner.replace(constvars=[], invars=list(values), outvars=equation.outvars, eqns=[equation])
    return jaxpr_as_fun(ClosedJaxpr(program, ()))(*values.values())


def _origin_of(
    name: str, options: Mapping[str, Any], inputs: Sequence[Any], result: Any, origins: _Origins, record: Trace
) -> Origin:
    """Say where the result of an operation comes from, and record what it does with parameters."""
    origin, made = UNKNOWN, len(record.made)
    sources = sources_of(name, options, jnp.shape(inputs[0]), result.shape) if inputs else []
    if name == "dot_general":
        origin = _record_product(options["dimension_numbers"], inputs, result, origins, record)
    elif name == "conv_general_dilated":
        origin = _record_convolution(options, inputs, result, origins, record)
    elif name == "mul":  # by a scale, or by what a scale has multiplied
        _record_scale(result, origins, record)
        origin = Origin(weight=next((o.param or o.weight for o in origins if o.param or o.weight), ""))
    elif name == "add":
        _record_sum(result, origins, record)
    elif name == "gather":
        _record_lookup(options["dimension_numbers"], result, origins[0], record)
    elif origins and (name in KEEPING or sources):
        origin = moved_origin(name, origins[0], sources, jnp.shape(inputs[0]), result.shape)
    operands = list(zip(inputs, origins, strict=True))
    followed, given = follow(name, options, operands, result, sources, record.ends), passed_on(name, origins)
    for number in range(made, len(record.made)):
        value = record.made[number].value
        followed += (
            Followed(number, given["behind"], value, value, None if set(value.axes) == {None} else value.axes),
        )
        given["behind"] |= 1 << number
    return origin._replace(followed=followed, **given)


def _look_into_loop(options: Mapping[str, Any], inputs: Sequence[Any], origins: _Origins, record: Trace) -> None:
    """Record what the body of a scan does with parameters, in all its steps at once."""
    consts, carries = options["num_consts"], options["num_carry"]
    body, start = options["jaxpr"], consts + carries
    if not options["length"] or not any(origin.param for origin in origins):
        return
    step = jaxpr_as_fun(body)
    _, before = jax.lax.scan(
        lambda carry, x: (step(*inputs[:consts], *carry, *x)[:carries], carry),
        list(inputs[consts:start]),
        list(inputs[start:]),
        length=options["length"],
        reverse=options["reverse"],
    )
    known = [_outside(origin) for origin in origins[:consts]] + [UNKNOWN] * carries
    known += [_outside(origin)._replace(axes=origin.axes[1:]) for origin in origins[start:]]
    along = {origin.param: origin.axes[0] for origin in origins[start:] if origin.param}
    inner = Trace({}, [], Ends())

    def once(carry: list[Any], x: list[Any]) -> Any:
        _, results = _evaluate(body, [*inputs[:consts], *carry, *x], known, inner)
        for result in results:
            inner.ends.add(result.followed, Kind.NOT_SEEN)
        outputs = [inner.ends.output(number) for number in range(len(inner.made))]
        arrays = [[value.value for value in values] for values in inner.read.values()]
        made = [
            (one.value.value, None if output is None else output.value)
            for one, output in zip(inner.made, outputs, strict=True)
        ]
        forms.extend([None if output is None else output.axes for output in outputs])
        return arrays, made

    forms: list[tuple[int | None, ...] | None] = []
    arrays, made = jax.vmap(once, axis_size=options["length"])(before, list(inputs[start:]))
    for (weight, values), found in zip(inner.read.items(), arrays, strict=True):
        several = [_in_steps(array, value.axes, along.get(weight)) for array, value in zip(found, values, strict=True)]
        record.read.setdefault(weight, []).extend(several)
    for one, (value, output), axes in zip(inner.made, made, forms, strict=True):
        number, stack = len(record.made), along.get(one.bias or one.weight)
        record.made.append(one._replace(value=_in_steps(value, one.value.axes, stack)))
        seen = Value(None, ()) if axes is None else _in_steps(output, axes, stack)
        record.ends.add([Followed(number, 0, seen, seen, None)])


def _outside(origin: Origin) -> Origin:
    """Return what the body of a loop knows of what is made outside of it."""
    return origin._replace(followed=(), behind=0, statistics=0)


def _in_steps(array: Any, axes: Sequence[int | None], stack: int | None) -> Value:
    """Return a value of all steps of a loop, which lie along its first axis, as an axis of the parameter may too."""
    moved = [0 if axis == stack else None if of is None else of + 1 for axis, of in enumerate(axes)]
    return Value(array, tuple(moved))


def _record_product(numbers: Any, inputs: Sequence[Any], result: Any, origins: _Origins, record: Trace) -> Origin:
    """Record the parameters among the two factors of a matrix product."""
    weight = ""
    for side, origin in enumerate(origins):
        if origin.param:
            along = {axis: twin for pairs in numbers for axis, twin in zip(pairs[side], pairs[1 - side], strict=True)}
            made = axes_of_product(numbers, [value.ndim for value in inputs], side)
            weight = _record(origin, aligned(origin, inputs[1 - side], along), aligned(origin, result, made), record)
    return Origin(weight=weight)


def _record_convolution(
    options: Mapping[str, Any], inputs: Sequence[Any], result: Any, origins: _Origins, record: Trace
) -> Origin:
    """Record the kernel of a convolution without groups."""
    numbers, kernel = options["dimension_numbers"], origins[1]
    if not kernel.param or options["feature_group_count"] != 1 or options["batch_group_count"] != 1:
        return UNKNOWN
    read = aligned(kernel, inputs[0], {numbers.rhs_spec[1]: numbers.lhs_spec[1]})
    made = aligned(kernel, result, {numbers.rhs_spec[0]: numbers.out_spec[1]})
    return Origin(weight=_record(kernel, read, made, record))


def _record(weight: Origin, read: Value, made: Value, record: Trace) -> str:
    """Record what a weight was multiplied with, and the product; return its name."""
    record.read.setdefault(weight.param, []).append(read)
    record.made.append(Made(weight.param, None, made))
    return weight.param


def _record_sum(result: Any, origins: _Origins, record: Trace) -> None:
    """Record a bias that is added to what a weight made."""
    for bias, other in (origins, origins[::-1]):
        if bias.param and other.weight:
            value = aligned(bias, result, {axis: axis for axis in range(result.ndim)})
            record.made.append(Made(other.weight, bias.param, value))


def _record_scale(result: Any, origins: _Origins, record: Trace) -> None:
    """Record a scale that something is multiplied with: what is then multiplied with that is followed."""
    for scale, other in (origins, origins[::-1]):
        if scale.param and not other.fixed:
            value = aligned(scale, result, {axis: axis for axis in range(result.ndim)})
            record.made.append(Made(scale.param, None, value))


def _record_lookup(numbers: Any, result: Any, table: Origin, record: Trace) -> None:
    """Record the rows that are taken out of an embedding."""
    if table.param and table.axes == (0, 1) and numbers.collapsed_slice_dims == (0,) and len(numbers.offset_dims) == 1:
        made = aligned(table, result, {1: numbers.offset_dims[0]})
        record.made.append(Made(table.param, None, made))
