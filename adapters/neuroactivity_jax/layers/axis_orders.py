"""The orders of axes that an array can have, as far as its shape tells."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from neuroactivity import LayoutError
from neuroactivity_jax.layers.layer_arrays import Shape

Convention: TypeAlias = Literal["flax", "haiku", "equinox"]
"""Whose order of axes weights have: ``in neuron`` in Flax and Haiku, ``neuron in`` in Equinox."""

_SPATIAL = ((), ("k",), ("h", "w"), ("d", "h", "w"))


class AxisOrder(NamedTuple):
    """Patterns of a weight and of the bias beside it, or of a scale and a shift."""

    weight: str
    bias: str

    @property
    def stacks(self) -> int:
        """How many leading axes hold independent copies."""
        return self.weight.split().count("stack")

    @property
    def axes(self) -> int:
        """Number of axes of the weight."""
        return len(self.weight.split())


def weight_orders(name: str, shape: Shape, bias: Shape | None, convention: Convention) -> list[AxisOrder]:
    """List the orders of a weight's axes that fit the shape of its bias.

    Args:
        name: Name of the weight.
        shape: Its shape.
        bias: Shape of its bias, if it has one.
        convention: Whose order of axes to expect.

    Raises:
        LayoutError: If only the order of axes of another convention fits.
    """
    transposed = convention == "haiku" and "transpose" in name.lower()  # Haiku's transposed kernels end in ``out in``
    expected, swapped = [
        [order for order in _candidates(len(shape), convention, swap) if _fits(order, shape, bias)]
        for swap in (transposed, not transposed)
    ]
    if swapped and not expected and len(shape) == 2:
        axes = "'neuron in'" if convention == "equinox" else "'in neuron'"
        raise LayoutError(
            f"parameter {name!r} of shape {shape}: expected the order of axes {axes}, as in {convention}, "
            f"got a bias of shape {bias}; give convention= or rule="
        )
    return expected or swapped


def scale_orders(shape: Shape, axes: int, *, ones: bool) -> list[AxisOrder]:
    """List the order of axes of a normalisation's scale, whose shift has the same shape.

    Args:
        shape: Shape of the scale.
        axes: Number of its axes in one copy of the layer.
        ones: Whether leading axes of size one are no copies, as in Haiku's ``BatchNorm``.
    """
    if ones and set(shape[:-1]) == {1}:
        names = [*(f"one{axis}" for axis in range(1, len(shape))), "neuron"]
    else:
        names = ["stack"] * (len(shape) - axes) + ["neuron", *(f"axis{axis}" for axis in range(1, axes))]
    return [AxisOrder(" ".join(names), " ".join(names))] if len(names) == len(shape) else []


def _candidates(axes: int, convention: Convention, swapped: bool) -> Iterator[AxisOrder]:
    """Yield every order of so many axes that a weight can have, with outputs and inputs swapped or not."""
    for spatial in reversed(_SPATIAL[: max(axes - 1, 0)]):
        copies = ("stack",) * (axes - 2 - len(spatial))
        if convention == "equinox":
            pair = ("in", "neuron") if swapped else ("neuron", "in")
            yield _order((*copies, *pair, *spatial), (*copies, "neuron", *spatial))
            continue
        pair = ("neuron", "in") if swapped else ("in", "neuron")
        yield _order((*copies, *spatial, *pair), (*copies, "neuron"))
        if convention == "flax" and spatial == ("k",) and not swapped:
            yield _order((*copies, "in", "neuron", "dim"), (*copies, "neuron", "dim"))


def _order(weight: tuple[str, ...], bias: tuple[str, ...]) -> AxisOrder:
    return AxisOrder(" ".join(weight), " ".join(bias))


def _fits(order: AxisOrder, shape: Shape, bias: Shape | None) -> bool:
    """Whether the bias has the sizes of the weight's axes of the same names, and ones along the spatial ones."""
    if bias is None:
        return True
    sizes = dict(zip(order.weight.split(), shape, strict=True))
    inner = [sizes[axis] if axis in ("neuron", "dim") else 1 for axis in order.bias.split()[order.stacks :]]
    return bias == (*shape[: order.stacks], *inner)
