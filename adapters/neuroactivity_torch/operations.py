"""What PyTorch's operations do to neurons: whether they keep them apart, and whose each entry is afterwards."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

SUMS = {"add", "sub", "rsub", "addcmul", "addcdiv", "lerp"}
"""Operations that add several arrays."""

LINEAR = SUMS | {"mul", "div", "neg", "positive", "masked_fill", "copysign"}
"""Elementwise operations that are no activation function."""

KEPT = {"fill", "zero"}
"""Operations that overwrite entries, which are still the same neurons'."""

_MOVES = {
    *("_reshape_alias", "_to_copy", "_unsafe_view", "cat", "channel_shuffle", "clone", "constant_pad_nd", "copy"),
    *("flip", "gather", "im2col", "index", "index_select", "lift_fresh", "native_channel_shuffle", "pixel_shuffle"),
    *("pixel_unshuffle", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "repeat", "replication_pad1d"),
    *("replication_pad2d", "replication_pad3d", "roll", "stack", "unfold", "unsafe_split", "unsafe_split_with_sizes"),
}
_ELEMENTWISE = {"_prelu_kernel", "_softmax", "_log_softmax", "_safe_softmax", "rrelu_with_noise", "native_dropout"}
_REDUCTIONS = {"mean", "sum", "amax", "amin", "max", "min", "median", "std", "var", "logsumexp"}
_PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2), "_sparse_addmm": (1, 2)}
_PRODUCTS |= {"mv": (0, 1), "addmv": (1, 2), "_sparse_mm": (0, 1)}
_READERS = {
    *("_cdist_forward", "_convolution", "_cudnn_rnn", "_thnn_fused_gru_cell", "_thnn_fused_lstm_cell", "_trilinear"),
    *("addbmm", "addr", "convolution", "convolution_overrideable", "cudnn_convolution", "dot", "gru", "linear", "lstm"),
    *("mkldnn_convolution", "mkldnn_linear", "mkldnn_rnn_layer", "vdot"),
}
_ATTENTION = "scaled_dot_product"


def name_of(operation: Any) -> str:
    """Name an operation, in place or not."""
    return str(operation.overloadpacket.__name__).removesuffix("_")


def is_move(operation: Any) -> bool:
    """Whether an operation only moves entries, or copies them."""
    return (bool(operation.is_view) and name_of(operation) != "as_strided") or name_of(operation) in _MOVES


def reshapes(operation: Any) -> bool:
    """Whether an operation returns all entries of an input once, if it returns as many."""
    return is_move(operation) and (bool(operation.is_view) or name_of(operation) in ("_unsafe_view", "clone"))


def is_elementwise(operation: Any) -> bool:
    """Whether each entry of the result belongs to the neuron whose entries lie in its place."""
    return torch.Tag.pointwise in operation.tags or name_of(operation) in _ELEMENTWISE


def is_norm(operation: Any) -> bool:
    """Whether an operation normalises its first argument and scales each feature."""
    return any(part in name_of(operation) for part in ("layer_norm", "batch_norm", "group_norm", "rms_norm"))


def is_reader(operation: Any) -> bool:
    """Whether an operation multiplies its inputs with weights, or with each other, and sums the products."""
    return name_of(operation) in _READERS or name_of(operation) in _PRODUCTS or _ATTENTION in name_of(operation)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the dense tensors in an operation's arguments or results."""
    if isinstance(value, Tensor):
        if value.layout == torch.strided:
            yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from tensors_in(entry)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def moved(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], owners: Mapping[int, Tensor]) -> Any:
    """Move what says whose each entry is as an operation moves the entries.

    Args:
        operation: The operation.
        args: Its arguments.
        kwargs: Its keyword arguments.
        owners: For the arguments that hold neurons, by the id of the argument.
    """
    name = name_of(operation)

    def stand_in(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)([stand_in(entry) for entry in value])
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if id(value) not in owners:
            return torch.zeros((), device=value.device).expand(value.shape)
        return owners[id(value)].contiguous() if "view" in name else owners[id(value)]

    args = [stand_in(value) for value in args]
    if name == "copy":
        return args[1].expand(args[0].shape)
    if name == "constant_pad_nd":
        return operation(*args[:2], 0)
    return args[0] if name in ("_to_copy", "clone", "lift_fresh") else operation(*args, **kwargs)


def pooled(
    operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], owners: Tensor, output: Tensor
) -> Tensor | None:
    """Say whose the entries are that a pooling, a resampling or a reduction returns; None if it mixes neurons."""
    name, ndim = name_of(operation), owners.ndim
    if "pool" in name or "upsample" in name:
        places = int(next(digit for digit in name if digit.isdigit()))
        return _spread(_without(owners, list(range(ndim - places, ndim))), output)
    if name == "_pack_padded_sequence":
        kept = _without(owners, [0, 1]) if ndim == 3 else None
        return _spread(None if kept is None else kept[0], output)
    dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
    dims = [dims] if isinstance(dims, int) else dims
    if name not in _REDUCTIONS or not isinstance(dims, list | tuple) or not dims:
        return None
    kept = _without(owners, dims)
    return kept if kept is None or output.ndim == ndim else kept.amax(tuple(dims))


def multiplied(operation: Any, args: Sequence[Any], position: int, owners: Tensor, output: Tensor) -> Tensor | None:
    """Say whose the entries are of a product that sums over samples, as attention does; None if over neurons."""
    places: tuple[int, ...] = (-1, 2) if _ATTENTION in name_of(operation) else _PRODUCTS.get(name_of(operation), ())
    if position not in places or position < 0 or owners.ndim < 2 or output.ndim != owners.ndim:
        return None
    return _spread(_without(owners, [-1 if position == places[0] else -2]), output)


def _without(owners: Tensor, axes: Sequence[int]) -> Tensor | None:
    """Keep one entry of axes along which owners do not differ; None if they do."""
    kept = owners.amax(tuple(axes), keepdim=True) if owners.numel() else owners
    return kept if torch.equal(kept.expand(owners.shape), owners) else None


def _spread(owners: Tensor | None, output: Tensor) -> Tensor | None:
    """Spread owners over an output."""
    return None if owners is None else owners.expand(output.shape)
