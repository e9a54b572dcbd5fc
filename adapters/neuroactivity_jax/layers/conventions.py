"""Which axis of an array counts neurons: the conventions of Flax, Haiku and Equinox, told by names and shapes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import neuroactivity as na
from neuroactivity import LayoutError, ParamView
from neuroactivity.discovery import MergedAxes
from neuroactivity.discovery.names import is_norm, noisy_parts
from neuroactivity_jax.layers.axis_orders import AxisOrder, Convention, scale_orders, weight_orders
from neuroactivity_jax.layers.copies import check_place, is_below, nearest
from neuroactivity_jax.layers.equinox import Hint, Kind
from neuroactivity_jax.layers.layer_arrays import LayerArrays, Listed, Shape

Stacked: TypeAlias = int | Collection[str] | Mapping[str, int] | None
"""How many leading axes of copies arrays have: all of them, or those below certain paths; ``None`` to infer it."""

Copies: TypeAlias = int | Mapping[str, int] | None
"""The same, checked, with a number for each path."""

_CONVENTIONS: dict[str, Convention] = {"kernel": "flax", "w": "haiku", "weight": "equinox"}
_KINDS: dict[str, Kind] = {"embedding": "embedding", "embeddings": "embedding", "scale": "scale", "gamma": "scale"}


class _Layer(NamedTuple):
    """A layer, the arrays that make its neurons, and the orders of axes that these can have."""

    arrays: LayerArrays
    kind: Kind
    leaf: str
    bias: str | None
    convention: Convention
    orders: Sequence[AxisOrder]
    deviations: Sequence[str] = ()  # of learned noise, one for the weight and one for the bias

    @property
    def param(self) -> str:
        return self.arrays.param(self.leaf)

    @property
    def shape(self) -> Shape:
        return self.arrays.shapes[self.leaf]


def read_stacked(stacked: Stacked, layers: Sequence[LayerArrays]) -> Copies:
    """Check which layers are said to have leading axes of copies.

    Raises:
        ValueError: If ``stacked`` has none of its forms, or one of its paths leads to no layer.
    """
    listed = isinstance(stacked, Collection) and not isinstance(stacked, str | bytes | Mapping)
    copies: Copies = dict.fromkeys(stacked, 1) if listed else stacked  # type: ignore[arg-type, assignment]
    numbers = copies.values() if isinstance(copies, Mapping) else [0 if copies is None else copies]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        expected = "True, False, a number, paths or a mapping of paths to numbers"
        raise ValueError(f"stacked: expected {expected}, got {stacked!r}")
    for path in copies if isinstance(copies, Mapping) else ():
        if not any(is_below(layer.name, path) for layer in layers):
            names = ", ".join([layer.name for layer in layers][:8])
            raise ValueError(
                f"stacked: expected paths of layers or of what holds them, got {path!r}; there are {names}"
            )
    return copies


def list_layers(
    layers: Sequence[LayerArrays],
    hints: Mapping[str, Hint],
    convention: Convention | None,
    copies: Copies,
    *,
    mapped: bool = False,
) -> list[Listed]:
    """List the groups of dense and convolutional layers, embeddings and normalisations.

    Args:
        layers: The layers.
        hints: What Equinox's classes tell of some of them, by path.
        convention: The order of axes in all of them, if names are not to tell it.
        copies: Which of them have leading axes of independent copies.
        mapped: Whether all arrays of the tree look as if a ``vmap`` had given them one axis.

    Raises:
        LayoutError: If an array can be read in several ways, or not in the way that is asked for, or nothing tells the
            order of its axes.
    """
    read = [_read(layer, hints.get(layer.name), convention, copies, mapped) for layer in layers]
    known = [layer for layer in read if layer is not None and layer.orders]
    if convention is None:
        _check_order([layer for layer in known if layer.arrays.name not in hints])
    sure = [layer for layer in known if len(layer.orders) == 1]
    stacks = {layer.arrays.name: layer.shape[: layer.orders[0].stacks] for layer in sure}
    return [_describe(layer, _choose(layer, stacks, mapped)) for layer in known]


def _check_order(layers: Sequence[_Layer]) -> None:
    """Raise if nothing tells the order of axes of a ``weight``, as Equinox and PyTorch call it but others too.

    A network without biases looks the same read backwards, to discovery as well.
    """
    named = [layer for layer in layers if layer.kind == "weight" and layer.leaf == "weight"]
    if len(named) > 1 and all(layer.bias is None for layer in named):
        raise LayoutError(
            f"parameter {named[0].param!r} of shape {named[0].shape}: without any bias nothing tells whether its axes "
            "are 'neuron in' (convention='equinox') or 'in neuron' ('flax'); give convention="
        )


def _read(
    arrays: LayerArrays, hint: Hint | None, convention: Convention | None, copies: Copies, mapped: bool
) -> _Layer | None:
    """Find out what a layer is, and which orders of axes its arrays can have."""
    leaf = arrays.find("kernel", "w", "weight", "embedding", "embeddings", "scale", *_gamma(arrays))
    bias, deviations = arrays.find("bias", "b", "offset", *(["beta"] if leaf == "gamma" else [])), []
    parts = [names for names in noisy_parts(arrays.shapes) if _alike(arrays, names)]
    if leaf is None and parts:
        leaf, bias, deviations = parts[0][0], (parts[1][0] if parts[1:] else None), [noise for _, noise in parts]
    if leaf is None:
        return None
    whose = convention or _CONVENTIONS.get(leaf.removesuffix("_mu").removeprefix("mu_"), "flax")
    shape, shift = arrays.shapes[leaf], None if bias is None else arrays.shapes[bias]
    kind = hint.kind if hint is not None else _KINDS.get(leaf, "weight")
    if hint is None and kind == "weight" and (len(shape) < 2 or shape == shift):
        kind = "scale"
    if kind == "weight":
        if hint is None:
            check_place(arrays.param(leaf), shape, shift, arrays.last)
        orders = weight_orders(arrays.param(leaf), shape, shift, whose)
    elif kind == "scale":
        orders = scale_orders(shape, 1 if hint is None else hint.axes, ones=leaf == "scale" and bias == "offset")
    else:
        orders, bias = [AxisOrder("stack " * (len(shape) - 2) + "vocabulary neuron", "")], None
    wanted = max(len(shape) - hint.axes, 0) if hint is not None else _wanted(arrays.name, copies)
    most = len(shape) if mapped or (wanted or 0) > 1 else 1  # ``ConvLocal`` has the shapes of a stack in a stack
    orders = [order for order in orders if order.axes == len(shape) and order.stacks <= most]
    fitting = [order for order in orders if wanted is None or order.stacks == wanted]
    if orders and not fitting:
        expected = f"{('no', 'a')[wanted]} leading axis" if wanted in (0, 1) else f"{wanted} leading axes"
        raise LayoutError(f"parameter {arrays.param(leaf)!r}: expected {expected} of copies, got shape {shape}")
    return _Layer(arrays, kind, leaf, bias, whose, fitting, deviations)


def _gamma(arrays: LayerArrays) -> list[str]:
    """Return the name of a scale that a normalisation may have, and other layers too."""
    return ["gamma"] if is_norm(arrays.last) or arrays.shapes.get("gamma") == arrays.shapes.get("beta") else []


def _alike(arrays: LayerArrays, names: Sequence[str]) -> bool:
    """Whether these arrays have one shape."""
    return len({arrays.shapes[name] for name in names}) == 1


def _wanted(name: str, copies: Copies) -> int | None:
    """How many leading axes of copies a layer has, if the user says it."""
    if not isinstance(copies, Mapping):
        return copies
    paths = [path for path in copies if is_below(name, path)]
    return copies[max(paths, key=len)] if paths else 0


def _choose(layer: _Layer, stacks: Mapping[str, Shape], mapped: bool) -> AxisOrder:
    """Choose among the orders of a layer by its name, and by the layers that are nearest to it in the tree."""
    if len(layer.orders) == 1:
        return layer.orders[0]
    near = nearest(layer.arrays.name, stacks)
    alike = [order for order in layer.orders if order.stacks and near == {layer.shape[: order.stacks]}]
    if alike:
        return alike[0]
    plain = [order for order in layer.orders if not order.stacks and not order.weight.endswith("dim")]
    if plain and ((layer.shape[:-3] and not mapped) or "conv" in layer.arrays.last.lower()):
        return plain[0]
    ways = " or ".join(repr(order.weight) for order in layer.orders)
    raise LayoutError(
        f"parameter {layer.param!r} of shape {layer.shape}: it can be read as {ways}; say which by stacked= or rule="
    )


def _describe(layer: _Layer, order: AxisOrder) -> Listed:
    """Describe a layer as a group, for discovery without axes of size one beside its neurons."""
    names = order.weight.split()
    spatial = {"k", "h", "w", "d"}.intersection(names)
    if spatial and layer.shape[names.index("in")] == 1:
        names[names.index("in")] = "one"
    merged: dict[str, MergedAxes] = {}
    weight = _merge_ones(layer.arrays, layer.leaf, names, merged)
    bias = None if layer.bias is None else _merge_ones(layer.arrays, layer.bias, order.bias.split(), merged)
    name = layer.arrays.name or layer.leaf
    if layer.kind == "scale":
        group = na.norm(name, scale=weight, shift=bias)
    elif spatial:
        outputs = "batch neuron ..." if layer.convention == "equinox" else "... neuron"
        group = na.conv(name, weight=weight, bias=bias, activation="stack " * order.stacks + outputs)
    else:
        group = na.dense(name, weight=weight, bias=bias)
    if layer.deviations:
        both = [_with_noise(views, layer, merged) for views in (group.incoming, group.unscored)]
        group = replace(group, incoming=both[0], unscored=both[1])
    return Listed(group, merged)


def _with_noise(means: tuple[ParamView, ...], layer: _Layer, merged: dict[str, MergedAxes]) -> tuple[ParamView, ...]:
    """Add the views of deviations of learned noise to those of the means."""
    own = (layer.param, layer.arrays.param(str(layer.bias)))
    pairs = dict(zip(own, map(layer.arrays.param, layer.deviations), strict=False))
    merged |= {pairs[mean]: axes for mean, axes in merged.items() if mean in pairs}
    return (*means, *[replace(view, param=pairs[view.param]) for view in means])


def _merge_ones(arrays: LayerArrays, leaf: str, names: list[str], merged: dict[str, MergedAxes]) -> tuple[str, str]:
    """Describe an array; if all axes beside its neurons have size one, they are merged for discovery."""
    param, shape, stacks = arrays.param(leaf), arrays.shapes[leaf], names.count("stack")
    inner = names[stacks:]
    ones = [size == 1 for size, name in zip(shape[stacks:], inner, strict=True) if name != "neuron"]
    if not ones or not all(ones) or "in" in inner or "one" in inner:
        return param, " ".join(names)
    merged[param] = MergedAxes.of(shape, slice(stacks, len(shape)), neuron=" ".join(inner))
    return param, "stack " * stacks + "neuron"
