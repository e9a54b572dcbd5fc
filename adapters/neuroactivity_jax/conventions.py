"""Which axis of an array counts neurons: the conventions of Flax, Haiku and Equinox, told by names and shapes."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import neuroactivity as na
from neuroactivity import LayoutError
from neuroactivity_jax.equinox_layers import Hint, Kind
from neuroactivity_jax.listing import Fold, Listed, Module, Shape
from neuroactivity_jax.readings import Convention, Reading, scale_readings, weight_readings

__all__ = ["Convention", "Stacked", "list_layers"]

Stacked: TypeAlias = int | Collection[str] | Mapping[str, int] | None
"""How many leading axes of independent copies arrays have: all of them, or those below certain paths; or to be told."""

_CONVENTIONS: dict[str, Convention] = {"kernel": "flax", "w": "haiku", "weight": "equinox"}
_KINDS: dict[str, Kind] = {"embedding": "embedding", "embeddings": "embedding", "scale": "scale"}


class _Layer(NamedTuple):
    """A layer, the arrays that make its neurons, and the ways to read them."""

    module: Module
    kind: Kind
    leaf: str
    bias: str | None
    convention: Convention
    readings: Sequence[Reading]

    @property
    def shape(self) -> Shape:
        return self.module.shapes[self.leaf]


def list_layers(
    modules: Sequence[Module],
    hints: Mapping[str, Hint],
    convention: Convention | None,
    stacked: Stacked,
    *,
    mapped: bool = False,
) -> list[Listed]:
    """List dense and convolutional layers, embeddings and normalisations.

    Args:
        modules: The modules.
        hints: What is known of some of them beyond names and shapes, by name.
        convention: The order of axes in all of them, if names are not to tell it.
        stacked: Which of them have leading axes of independent copies.
        mapped: Whether all arrays of the tree look as if a ``vmap`` had given them one axis.

    Raises:
        LayoutError: If an array can be read in several ways, or not in the way that is asked for, or nothing tells the
            order of its axes.
    """
    layers = [_read(module, hints.get(module.name), convention, stacked, mapped) for module in modules]
    known = [layer for layer in layers if layer is not None and layer.readings]
    if convention is None:
        _check_order([layer for layer in known if layer.module.name not in hints])
    sure = [layer for layer in known if len(layer.readings) == 1]
    copies = {layer.module.name: layer.shape[: layer.readings[0].stacks] for layer in sure}
    return [_describe(layer, _choose(layer, copies, mapped)) for layer in known]


def _check_order(layers: Sequence[_Layer]) -> None:
    """Raise if nothing tells the order of axes of a ``weight``, as Equinox and PyTorch call it but others too.

    A network without biases looks the same read backwards, to discovery as well.
    """
    named = [layer for layer in layers if layer.kind == "weight" and layer.leaf == "weight"]
    if len(named) > 1 and all(layer.bias is None for layer in named):
        raise LayoutError(
            f"parameter {named[0].module.param(named[0].leaf)!r} of shape {named[0].shape}: without any bias nothing "
            "tells whether its axes are 'neuron in' (convention='equinox') or 'in neuron' ('flax'); give convention="
        )


def _read(
    module: Module, hint: Hint | None, convention: Convention | None, stacked: Stacked, mapped: bool
) -> _Layer | None:
    """Find out what a module is, and how its arrays can be read."""
    leaf = module.find("kernel", "w", "weight", "embedding", "embeddings", "scale")
    if leaf is None:
        return None
    bias, order = module.find("bias", "b", "offset"), convention or _CONVENTIONS.get(leaf, "flax")
    shape, shift = module.shapes[leaf], None if bias is None else module.shapes[bias]
    kind = hint.kind if hint is not None else _KINDS.get(leaf, "weight")
    if hint is None and kind == "weight" and (len(shape) < 2 or shape == shift):
        kind = "scale"
    if kind == "weight":
        readings = weight_readings(module.param(leaf), shape, shift, order)
    elif kind == "scale":
        readings = scale_readings(shape, 1 if hint is None else hint.axes, ones=leaf == "scale" and bias == "offset")
    else:
        readings, bias = [Reading("stack " * (len(shape) - 2) + "vocabulary neuron", "")], None
    wanted = max(len(shape) - hint.axes, 0) if hint is not None else _wanted(module, stacked)
    most = len(shape) if mapped or (wanted or 0) > 1 else 1  # ``ConvLocal`` has the shapes of a stack in a stack
    readings = [reading for reading in readings if reading.axes == len(shape) and reading.stacks <= most]
    fitting = [reading for reading in readings if wanted is None or reading.stacks == wanted]
    if readings and not fitting:
        expected = f"{('no', 'a')[wanted]} leading axis" if wanted in (0, 1) else f"{wanted} leading axes"
        raise LayoutError(f"parameter {module.param(leaf)!r}: expected {expected} of copies, got shape {shape}")
    return _Layer(module, kind, leaf, bias, order, fitting)


def _wanted(module: Module, stacked: Stacked) -> int | None:
    """How many leading axes of copies a module has, if the user says it."""
    if stacked is None or isinstance(stacked, int):
        return stacked
    paths = [path for path in stacked if f"{module.name}/".startswith(f"{path}/")]
    counts = stacked if isinstance(stacked, Mapping) else dict.fromkeys(stacked, 1)
    return counts[max(paths, key=len)] if paths else 0


def _choose(layer: _Layer, copies: Mapping[str, Shape], mapped: bool) -> Reading:
    """Choose among the readings of a layer by its name, and by the layers that are nearest to it in the tree."""
    if len(layer.readings) == 1:
        return layer.readings[0]
    nearest = _nearest(layer.module.name, copies)
    alike = [reading for reading in layer.readings if reading.stacks and nearest == {layer.shape[: reading.stacks]}]
    if alike:
        return alike[0]
    plain = [reading for reading in layer.readings if not reading.stacks and not reading.weight.endswith("dim")]
    if plain and ((layer.shape[:-3] and not mapped) or "conv" in layer.module.last.lower()):
        return plain[0]
    ways = " or ".join(repr(reading.weight) for reading in layer.readings)
    raise LayoutError(
        f"parameter {layer.module.param(layer.leaf)!r} of shape {layer.shape}: it can be read as {ways}; say which by "
        "stacked= or rule="
    )


def _nearest(name: str, copies: Mapping[str, Shape]) -> set[Shape]:
    """Return the sizes of the stacks, empty for none, of the layers with which one shares the longest path."""

    def shared(other: str) -> int:
        pairs = zip(name.split("/"), other.split("/"), strict=False)
        return next((place for place, (a, b) in enumerate(pairs) if a != b), len(name.split("/")))

    longest = max(map(shared, copies), default=0)
    return {sizes for other, sizes in copies.items() if shared(other) == longest}


def _describe(layer: _Layer, reading: Reading) -> Listed:
    """Describe a layer as a group, for discovery without axes of size one beside its neurons."""
    module, spatial = layer.module, {"k", "h", "w", "d"}.intersection(reading.weight.split())
    names = reading.weight.split()
    if spatial and layer.shape[names.index("in")] == 1:
        names[names.index("in")] = "one"
    folds: dict[str, Fold] = {}
    weight = _vector(module, layer.leaf, " ".join(names), folds)
    bias = None if layer.bias is None else _vector(module, layer.bias, reading.bias, folds)
    name = module.name or layer.leaf
    if layer.kind == "scale":
        group = na.norm(name, scale=weight, shift=bias)
    elif spatial:
        outputs = "batch neuron ..." if layer.convention == "equinox" else "... neuron"
        group = na.conv(name, weight=weight, bias=bias, activation="stack " * reading.stacks + outputs)
    else:
        group = na.dense(name, weight=weight, bias=bias)
    return Listed(group, folds)


def _vector(module: Module, leaf: str, pattern: str, folds: dict[str, Fold]) -> tuple[str, str]:
    """Describe an array, with its neurons and axes of size one beside them folded into one axis."""
    shape, names = module.shapes[leaf], pattern.split()
    start = names.count("stack")
    rest = names[start:]
    sizes = [size for size, name in zip(shape[start:], rest, strict=True) if name != "neuron"]
    if not sizes or set(sizes) != {1} or "in" in rest or "one" in rest:
        return module.param(leaf), pattern
    folds[module.param(leaf)] = Fold.of(shape, slice(start, len(shape)), neuron=" ".join(rest))
    return module.param(leaf), " ".join([*names[:start], "neuron"])
