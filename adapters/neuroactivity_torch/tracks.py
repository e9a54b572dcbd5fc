"""What is known of neurons while they are followed: in which tensors they lie, and what an operation makes of them."""

from typing import Any, NamedTuple, TypeAlias

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

Place: TypeAlias = tuple[Any, ...]
"""Where a tensor lies in memory: two tensors of one place are the same."""


class Seen(NamedTuple):
    """Neurons where something reads them.

    Attributes:
        values: A copy of what was read.
        owners: Whose each entry is, counted from 1; 0 for nobody's.
        mark: What the same entries have in common.
        stream: Whether they were added to a residual stream.
    """

    values: Tensor
    owners: Tensor
    mark: Any
    stream: bool = False


class Track(NamedTuple):
    """Neurons of a group inside a tensor.

    Attributes:
        owners: Whose each entry is, as in :class:`Seen`.
        call: The bit of the call that made them.
        before: The bits of the calls that this call's inputs depend on.
        active: Whether an activation function has been applied.
        own: What the neurons were before they were normalised, or before other values were added to them, as long as no
            activation function has followed.
        source: The same values, not copied, before they were reshaped.
    """

    owners: Tensor
    call: int
    before: int
    active: bool = False
    own: Seen | None = None
    source: Seen | None = None


class Step(NamedTuple):
    """An operation that a group's neurons go through."""

    operation: Any
    args: Any
    kwargs: Any
    inputs: list[Tensor]
    holding: dict[int, Track]
    copies: dict[int, Tensor]
    outputs: list[Tensor]

    @property
    def values(self) -> Tensor:
        """The first input that holds the neurons, as it was before the operation."""
        return self.copies[next(iter(self.holding))]

    @property
    def own(self) -> Seen:
        """What the neurons were before they were normalised, or something was added: now, or earlier."""
        first = next(iter(self.holding.values()))
        return self.merged.own or Seen(self.values.clone(), first.owners, mark_of(self.values))

    @property
    def merged(self) -> Track:
        """What is known of all inputs that hold the neurons."""
        first, *more = self.holding.values()
        for track in more:
            own = first.own if track.own is not None else None
            active = first.active or track.active
            first = Track(first.owners, first.call | track.call, first.before & track.before, active, own)
        return first

    @property
    def others(self) -> list[Tensor]:
        """The other inputs."""
        return [t for t in self.inputs if id(t) not in self.holding and t.is_floating_point()]

    def full(self, owners: Tensor, output: Tensor) -> set[int]:
        """The ids of the other inputs that have a value for each neuron."""
        axes = [axis for axis in range(owners.ndim) if (owners.amax(axis) != owners.amin(axis)).any()]
        return {id(t) for t in self.others if any(t.expand(output.shape).stride(axis) for axis in axes)}


def memory_of(tensor: Tensor) -> StorageWeakRef:
    """Name the memory that a tensor shares with its views; the name is never used again for other memory."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def place_of(tensor: Tensor) -> Place:
    """Name the place of a tensor."""
    return (memory_of(tensor), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)


def mark_of(tensor: Tensor) -> Place:
    """Name the entries of a tensor, whatever its shape, as they are now."""
    return memory_of(tensor), tensor.storage_offset(), tensor.numel(), 0 if tensor.is_inference() else tensor._version


def is_written(operation: Any, tensor: Tensor, args: Any) -> bool:
    """Whether an operation writes into a tensor."""
    arguments = zip(operation._schema.arguments, args, strict=False)
    return any(
        value is tensor and spec.alias_info is not None and spec.alias_info.is_write for spec, value in arguments
    )
