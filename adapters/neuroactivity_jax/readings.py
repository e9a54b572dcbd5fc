"""The ways to read the arrays of a layer that their shapes allow."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from neuroactivity import LayoutError
from neuroactivity_jax.listing import Shape

__all__ = ["Convention", "Reading", "scale_readings", "weight_readings"]

Convention: TypeAlias = Literal["flax", "haiku", "equinox"]
"""Whose order of axes weights have: ``in neuron`` in Flax and Haiku, ``neuron in`` in Equinox."""

_SPATIAL = ((), ("k",), ("h", "w"), ("d", "h", "w"))


class Reading(NamedTuple):
    """A way to read a weight or a scale, and the bias or shift beside it, as patterns."""

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


def weight_readings(name: str, shape: Shape, bias: Shape | None, convention: Convention) -> list[Reading]:
    """List the ways to read a weight that fit the shape of its bias.

    Args:
        name: Name of the weight.
        shape: Its shape.
        bias: Shape of its bias, if it has one.
        convention: Whose order of axes to expect.

    Raises:
        LayoutError: If only the order of axes of another convention fits.
    """
    transposed = convention == "haiku" and "transpose" in name.lower()  # Haiku's transposed kernels end in ``out in``
    expected, other = [
        [reading for reading in _candidates(len(shape), convention, swapped) if _fits(reading, shape, bias)]
        for swapped in (transposed, not transposed)
    ]
    if other and not expected and len(shape) == 2:
        order = "'neuron in'" if convention == "equinox" else "'in neuron'"
        raise LayoutError(
            f"parameter {name!r} of shape {shape}: expected the order of axes {order}, as in {convention}, "
            f"got a bias of shape {bias}; give convention= or rule="
        )
    return expected or other


def scale_readings(shape: Shape, axes: int, *, ones: bool) -> list[Reading]:
    """List the way to read the scale of a normalisation, whose shift has the same shape.

    Args:
        shape: Shape of the scale.
        axes: Number of its axes in one copy of the layer.
        ones: Whether axes of size one in front are no copies, as in Haiku's ``BatchNorm``.
    """
    further = "".join(f" axis{place}" for place in range(1, axes))
    if len(shape) == axes:
        return [Reading(f"neuron{further}", f"neuron{further}")]
    if ones and set(shape[:-1]) == {1}:
        pattern = " ".join([*(f"one{place}" for place in range(1, len(shape))), "neuron"])
        return [Reading(pattern, pattern)]
    stacks = "stack " * (len(shape) - axes)
    return [Reading(f"{stacks}neuron{further}", f"{stacks}neuron{further}")] if stacks else []


def _candidates(axes: int, convention: Convention, swapped: bool) -> Iterator[Reading]:
    """Yield every way to read a weight of so many axes, with outputs and inputs swapped or not."""
    for spare in range(min(axes - 2, len(_SPATIAL) - 1), -1, -1):
        copies = ("stack",) * (axes - 2 - spare)
        spatial = _SPATIAL[spare]
        if convention == "equinox":
            pair = ("in", "neuron") if swapped else ("neuron", "in")
            yield _reading((*copies, *pair, *spatial), (*copies, "neuron", *spatial))
            continue
        pair = ("neuron", "in") if swapped else ("in", "neuron")
        yield _reading((*copies, *spatial, *pair), (*copies, "neuron"))
        if convention == "flax" and spare == 1 and not swapped:
            yield _reading((*copies, "in", "neuron", "dim"), (*copies, "neuron", "dim"))


def _reading(weight: tuple[str, ...], bias: tuple[str, ...]) -> Reading:
    return Reading(" ".join(weight), " ".join(bias))


def _fits(reading: Reading, shape: Shape, bias: Shape | None) -> bool:
    """Whether the bias has the sizes of the weight's axes of the same names, and ones along the spatial ones."""
    if bias is None:
        return True
    sizes = dict(zip(reading.weight.split(), shape, strict=True))
    own = [sizes[axis] if axis in ("neuron", "dim") else 1 for axis in reading.bias.split()[reading.stacks :]]
    return bias == (*shape[: reading.stacks], *own)
