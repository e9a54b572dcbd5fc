"""Compare the leading axes of copies that layers are read with, before anything is claimed of them.

Copies may lie on another axis than the first (``variable_axes={"params": 1}``), as the layers of a scanned block often
do. The shapes of a normalisation read as well then, but wrongly; those of the other layers beside it do not.
"""

import re
from collections.abc import Mapping, Sequence

from neuroactivity import LayoutError, NeuronGroup
from neuroactivity_jax.layers.layer_arrays import Listed, Shape

_FIRST = "copies are expected on the first axis of every array (variable_axes={'params': 0} in Flax)"


def check_place(param: str, shape: Shape, bias: Shape | None, layer: str) -> None:
    """Raise if the bias of a layer says that its copies are not on the first axis.

    Args:
        param: Name of the weight.
        shape: Its shape.
        bias: Shape of its bias.
        layer: The layer's name in the module that holds it.

    Raises:
        LayoutError: If they are on another axis.
    """
    if bias is None or len(bias) != 2 or len(shape) < 3:
        return
    neurons, copies = bias
    if shape[-2:] == bias:  # also the shapes of a layer with several axes of outputs, but for the name
        elsewhere = bool(re.fullmatch(r"Dense_\d+", layer)) or "conv" in layer.lower()
    else:
        elsewhere = shape[-1] == neurons and copies in shape[1:-1]
    if elsewhere:
        raise LayoutError(
            f"parameter {param!r} of shape {shape} with a bias of shape {bias}: there seem to be {copies} copies on "
            f"another axis than the first; {_FIRST}; move them there, or describe the layer by rule="
        )


def check_sizes(listed: Sequence[Listed], shapes: Mapping[str, Shape], paths: Sequence[str] | None) -> None:
    """Raise if layers that belong together are read with different numbers of copies.

    Args:
        listed: The groups.
        shapes: The parameters' shapes.
        paths: Below which paths the user says that there are copies; ``None`` if nothing was said. Layers below one
            path agree, and without it layers of one module.

    Raises:
        LayoutError: If they do not agree.
    """
    sizes = {entry.group.name: _stack_sizes(entry, shapes) for entry in listed}
    if paths is None:
        evident = {entry.group.name: sizes[entry.group.name] for entry in listed if _is_evident(entry.group)}
        for entry in [entry for entry in listed if not _is_evident(entry.group) and sizes[entry.group.name]]:
            if evident and sizes[entry.group.name] not in nearest(entry.group.name, evident):
                _refuse(entry.group, shapes, sizes[entry.group.name], "which no layer beside it has")
        return
    first: dict[str, NeuronGroup] = {}
    for group in [entry.group for entry in listed if sizes[entry.group.name]]:
        path = max(
            [path for path in paths if is_below(group.name, path)], key=len, default=group.name.rpartition("/")[0]
        )
        like = first.setdefault(path, group)
        if sizes[like.name] != sizes[group.name]:
            _refuse(group, shapes, sizes[group.name], f"those of {like.name!r} for {_count(sizes[like.name])}")


def _refuse(group: NeuronGroup, shapes: Mapping[str, Shape], sizes: Shape, otherwise: str) -> None:
    param = group.incoming[0].param
    raise LayoutError(
        f"parameter {param!r} of shape {shapes[param]}: its leading axes are read as {_count(sizes)} copies, "
        f"{otherwise}; {_FIRST}; say which have them by stacked=, or describe the layer by rule="
    )


def _count(sizes: Shape) -> str:
    return " x ".join(map(str, sizes))


def _stack_sizes(entry: Listed, shapes: Mapping[str, Shape]) -> Shape:
    """Return the sizes of the leading axes of copies, empty for none."""
    param = entry.group.incoming[0].param
    return (entry.merged[param].shape if param in entry.merged else shapes[param])[: entry.group.stacks]


def _is_evident(group: NeuronGroup) -> bool:
    """Whether the shapes of a group's arrays tell whether it has copies: a weight and a bias do, a scale does not."""
    names = group.incoming[0].parsed.names
    return not set(names) <= {"stack", "neuron", "vocabulary"}


def is_below(name: str, path: str) -> bool:
    """Whether a path leads to a layer or to what holds it."""
    return f"{name}/".startswith(f"{path}/")


def nearest(name: str, stacks: Mapping[str, Shape]) -> set[Shape]:
    """Return the sizes of the stacks, empty for none, of the layers that share the longest path with one."""

    def shared(path: str) -> int:
        pairs = zip(name.split("/"), path.split("/"), strict=False)
        return next((depth for depth, (a, b) in enumerate(pairs) if a != b), len(name.split("/")))

    longest = max(map(shared, stacks), default=0)
    return {sizes for path, sizes in stacks.items() if shared(path) == longest}
