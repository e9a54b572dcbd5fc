"""Where parameters lie in memory: a reset writes rows, which must be nobody else's."""

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from neuroactivity_torch.devices import own_part


def check_memory(params: Mapping[str, nn.Parameter], written: Collection[str]) -> None:
    """Raise if a parameter that resets write cannot be written row by row.

    Args:
        params: The model's parameters by name.
        written: Names of those that resets write.

    Raises:
        ValueError: If one has no values, its entries share their memory, as in an expanded tensor, or it shares it with
            another.
    """
    sharing = _sharing(params)
    for name in written:
        if params[name].is_meta:
            what = "is on the meta device, where it has no values to reset; give it some first"
            raise ValueError(f"parameter {name!r} {what} (model.to_empty(device=...))")
        reach, part = 0, own_part(params[name])
        for stride, size in sorted(zip(part.stride(), part.shape, strict=True)):
            if size > 1 and stride <= reach:
                what = "its entries share memory, as in an expanded tensor; clone it first"
                raise ValueError(f"parameter {name!r}: {what}")
            reach += stride * (size - 1)
        if name in sharing:
            raise ValueError(
                f"parameter {name!r} shares its memory with {sharing[name]!r}, but is another parameter; tie them by "
                "assigning the same nn.Parameter"
            )


def _sharing(params: Mapping[str, Tensor]) -> dict[str, str]:
    """Name parameters that share memory, each with another one that does.

    Two with gaps between their entries may lie in each other's gaps, as columns of one matrix do: these share memory if
    they start at the same place.
    """
    spans, found = [], dict[str, str]()
    for name, parameter in params.items():
        start, bytes_ = _start(parameter), parameter.element_size()
        if start:
            part = own_part(parameter)
            reach = 1 + sum(stride * (size - 1) for stride, size in zip(part.stride(), part.shape, strict=True))
            spans.append((start, start + bytes_ * (reach if reach == part.numel() else 1), name))
    end, last = 0, ""
    for start, stop, name in sorted(spans):
        if start < end:
            found.setdefault(last, name)
            found[name] = last
        if stop > end:
            end, last = stop, name
    return found


def _start(tensor: Tensor) -> int:
    """Where a tensor's memory starts; 0 if it has none, as on the meta device, or none of its own."""
    try:
        return own_part(tensor).data_ptr()
    except RuntimeError:
        return 0
