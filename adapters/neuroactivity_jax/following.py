"""Follow what a weight made to what reads it: through activation functions, normalisations and the like.

An operation that multiplies neurons with weights, and sums over them, reads them. So does a normalisation, or a sum
with other values, that comes after the activation function. Where one comes before it, the function's result is what
is read, and where no function comes at all, what the weight made. A product with other values is read as the product.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from neuroactivity_jax.origins import REDUCED, Origin, axes_of_product
from neuroactivity_jax.tracks import UNSEEN, Axes, Ends, Followed, Kind

_SAME = {"convert_element_type", "copy", "stop_gradient", "reduce_precision", "neg", "optimization_barrier"}
_POOLED = {"reduce_window_max", "reduce_window_min", "reduce_window_sum", "reduce_window"}
_MOVED = {"transpose", "broadcast_in_dim", "reshape", "squeeze", "expand_dims"}
_PARTS = {"slice", "dynamic_slice", "split", "concatenate", "pad", "gather", "rev", "dynamic_update_slice"}
_READERS = {"dot_general", "conv_general_dilated"}

_SUMS = {"add", "sub", "add_any"}
_PRODUCTS = {"mul", "div"}
_FUNCTIONS = {
    *("exp", "exp2", "expm1", "log", "log1p", "tanh", "sin", "cos", "tan", "logistic", "sqrt", "rsqrt", "cbrt", "erf"),
    *("erfc", "abs", "sign", "square", "integer_pow", "pow", "floor", "ceil", "round", "max", "min", "clamp"),
    *("gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not", "asinh", "acosh", "atan", "atan2", "sinh", "cosh", "rem"),
    *("is_finite", "nextafter", "erf_inv", "lgamma", "digamma"),
}


def follow(
    name: str,
    options: Mapping[str, Any],
    operands: Sequence[tuple[Any, Origin]],
    result: Any,
    sources: Sequence[int | None],
    ends: Ends,
) -> tuple[Followed, ...]:
    """Return what the result of an operation has of what weights made, and write down what the operation reads.

    Args:
        name: Name of the operation.
        options: Its options.
        operands: The arrays it is given, and where each comes from.
        result: Its result.
        sources: For each axis of the result the axis of the first operand that it is, if the operation moves axes.
        ends: Where what is read is written down.
    """
    holding: dict[int, dict[int, Followed]] = {}
    for place, (_, origin) in enumerate(operands):
        for followed in origin.followed:
            holding.setdefault(followed.made, {})[place] = followed
    passed: list[Followed] = []
    for made, held in holding.items():
        first = next(iter(held.values()))
        if name in _SUMS | _PRODUCTS | _FUNCTIONS or name == "select_n":
            others = [operand for place, operand in enumerate(operands) if place not in held]
            passed += _combined(name, made, held, others, result, ends)
        elif name in _SAME | _POOLED:
            passed.append(first.becomes(result))
        elif name in _MOVED:
            passed.append(_moved(name, first, operands[0][0].shape, result, sources))
        elif name in _PARTS:
            passed.append(first.in_part())
        elif name in REDUCED:
            passed += _reduced(first, options["axes"], result, ends)
        elif name == "dot_general":
            passed += _multiplied(options["dimension_numbers"], operands, held, result, ends)
        elif jnp.issubdtype(result.dtype, jnp.floating):
            ends.add(tuple(held.values()), Kind.READ if name in _READERS else Kind.NOT_SEEN)
    return tuple(passed)


def _combined(
    name: str, made: int, held: Mapping[int, Followed], others: Sequence[tuple[Any, Origin]], result: Any, ends: Ends
) -> Iterator[Followed]:
    """Follow neurons through an operation on each entry, unless it ends here what is theirs."""
    whole = [one for one in held.values() if not one.reduced] or list(held.values())
    normed = len(whole) < len(held) or any(origin.statistics >> made & 1 for _, origin in others)
    others = [other for other in others if not other[1].constant and not other[1].statistics >> made & 1]
    merged = _merged(whole)
    if name == "select_n":
        yield from _chosen(merged, held, others, result)
    elif name in _FUNCTIONS or (name == "div" and 0 not in held):
        yield _applied(name, merged, result)
    elif not normed and (not others or name in _PRODUCTS):
        yield merged.becomes(result)
    elif name == "div" and merged.function == "exp":  # by its own sum, which is a softmax
        yield _applied("softmax", merged, result)
    elif merged.depth:
        ends.add((merged,))
    elif any(_is_stream(value, origin, merged) for value, origin in others):
        if merged.stream and any(origin.behind >> made & 1 for _, origin in others):  # by what has read the stream
            ends.add((merged,))
        yield merged.in_part()._replace(stream=True)
    else:
        yield merged._replace(own=merged.output).becomes(result)


def _is_stream(other: Any, origin: Origin, followed: Followed) -> bool:
    """Whether what is added to neurons is older than they are, or depends on them, and is no parameter."""
    samples = [size for axis, size in enumerate(other.shape) if axis not in (followed.axes or ())]
    if origin.fixed or not (origin.behind or max(samples, default=1) > 1):  # a shift, a position, running statistics
        return False
    return not origin.behind & ~followed.before or bool(origin.behind >> followed.made & 1)


def _chosen(merged: Followed, held: Mapping[int, Followed], others: Sequence[Any], result: Any) -> Iterator[Followed]:
    """Follow neurons through a choice: by their own values, or by a mask, which is no function of them."""
    if 0 in held and len(held) > 1:
        yield _applied("select_n", merged, result)
    elif 0 not in held:
        yield merged.in_part() if len(others) > 1 else merged.becomes(result)


def _applied(name: str, merged: Followed, result: Any) -> Followed:
    """Apply a function to each entry."""
    if merged.axes is None:
        return merged.unseen()
    return merged._replace(depth=merged.depth + 1, function=name, own=None).becomes(result)


def _merged(several: Sequence[Followed]) -> Followed:
    """Put together what is known of arrays of the same neurons."""
    depth = max(one.depth for one in several)
    own = next((one.own for one in several if one.own is not None), None) if not depth else None
    merged = next(one for one in several if one.depth == depth)._replace(own=own)
    if depth == UNSEEN or (len({(one.axes, one.folded) for one in several}) == 1 and merged.axes is not None):
        return merged
    if len({id(one.output.value) for one in several}) == 1:
        return merged if len({(one.axes, one.folded) for one in several}) == 1 else merged.in_part()
    return merged.unseen() if depth else merged._replace(value=own or merged.start).in_part()


def _moved(
    name: str, followed: Followed, before: Sequence[int], result: Any, sources: Sequence[int | None]
) -> Followed:
    """Move neurons; where a reshape merges or splits one of their axes, remember how to undo it."""
    axes, folded = followed.axes, followed.folded
    if axes is None:
        if name != "reshape" or folded is None:
            return followed._replace(folded=None)
        shape, axes = folded
        return followed._replace(axes=axes, folded=None).becomes(result) if shape == result.shape else followed
    if any(axis is not None and axis not in sources for axis in axes):
        return followed._replace(axes=None, folded=(tuple(before), axes) if name == "reshape" else None)
    return followed._replace(axes=tuple([None if axis is None else list(sources).index(axis) for axis in axes]))


def _reduced(followed: Followed, axes: Sequence[int], result: Any, ends: Ends) -> Iterator[Followed]:
    """Follow neurons of which each is summed, or the like; a sum over neurons is a statistic of them."""
    if followed.axes is None:
        yield followed.in_part()._replace(reduced=True)
    elif any(axis in axes for axis in followed.axes):
        ends.add((followed,), Kind.IN_STATISTICS)
    else:
        kept: Axes = tuple(
            [None if axis is None else axis - sum(gone < axis for gone in axes) for axis in followed.axes]
        )
        yield followed._replace(reduced=True).becomes(result, kept)


def _multiplied(
    numbers: Any, operands: Sequence[tuple[Any, Origin]], held: Mapping[int, Followed], result: Any, ends: Ends
) -> Iterator[Followed]:
    """Follow neurons through a product that sums over samples, as attention does; one that sums over neurons reads."""
    for place, followed in held.items():
        axes = axes_of_product(numbers, [value.ndim for value, _ in operands], place)
        if followed.axes is None or len(held) > 1 or any(axis not in (None, *axes) for axis in followed.axes):
            ends.add((followed,))
        else:
            kept: Axes = tuple([None if axis is None else axes[axis] for axis in followed.axes])
            yield followed.becomes(result, kept)
