"""Follow neurons from the layer that makes them to where they are read, through activation functions and the like."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from neuroactivity_torch.operations import (
    KEPT,
    LINEAR,
    SUMS,
    is_elementwise,
    is_move,
    is_norm,
    is_reader,
    moved,
    multiplied,
    name_of,
    pooled,
    reshapes,
    tensors_in,
)
from neuroactivity_torch.tracks import Place, Seen, Step, Track, is_written, mark_of, memory_of, place_of


class Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches every operation of a model's run, and follows neurons through those that keep them apart.

    An operation that multiplies neurons with weights reads them. So does a normalisation, and a sum with other values,
    that comes after the activation function. Where one comes before it, the function's result is what is read, and
    where none comes at all, the neurons' own values. What a layer adds to a stream that it has read itself is its own.

    Attributes:
        lost: Groups that went through an operation which cannot be followed.
    """

    def __init__(self, own: Mapping[str, set[StorageWeakRef]], params: Iterable[Tensor]) -> None:
        """Take the parameters, and which belong to each group, such as its bias: adding these adds nothing else."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: dict[str, list[Seen]] = {}
        self.lost: set[str] = set()
        self._own, self._calls = own, 0
        self._origins = {memory_of(param): {memory_of(param)} for param in params}
        self._as_expected: set[StorageWeakRef] = set()
        self._tracks: dict[Place, dict[str, Track]] = {}
        self._expected: dict[Place, set[StorageWeakRef]] = {}
        self._behind: dict[StorageWeakRef, int] = {}
        self._read: set[Any] = set()

    def enter(self, inputs: Iterable[Tensor]) -> None:
        """Note the inputs of the model: what does not depend on them is constant."""
        self._behind |= {memory_of(tensor): 0 for tensor in inputs}

    def start(self, group: str, output: Tensor, owners: Tensor, inputs: Iterable[Tensor]) -> None:
        """Follow neurons from the output of their layer."""
        before, call = self._calls_behind(inputs), 1 << self._calls
        self._calls += 1
        memory = memory_of(output)
        self._behind[memory] = self._behind.get(memory, 0) | before | call
        source = Seen(output, owners, mark_of(output))
        self._tracks.setdefault(place_of(output), {})[group] = Track(owners, call, before, source=source)

    def expect(self, tensor: Tensor, param: Tensor) -> None:
        """Find out whether a parameter reads this very tensor, but for its shape and a scale."""
        self._expected.setdefault(place_of(tensor), set()).add(memory_of(param))

    def is_as_expected(self, param: Tensor) -> bool:
        """Whether a parameter has read what was expected."""
        return memory_of(param) in self._as_expected

    def holds(self, group: str, tensor: Tensor) -> bool:
        """Whether a tensor holds neurons of a group."""
        return group in self._tracks.get(place_of(tensor), {})

    def read(self, tensor: Tensor) -> None:
        """Note that something reads a tensor."""
        for group, track in self._tracks.get(place_of(tensor), {}).items():
            self._note(group, track, tensor)

    def seen(self, group: str) -> list[Seen]:
        """Return what was read of a group; of a layer that writes to a residual stream, what it wrote."""
        if group in self.lost:
            return []
        seen = self._seen.get(group, [])
        return [part for part in seen if part.stream] or seen

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = list(tensors_in((args, kwargs)))
        places = {id(tensor): place_of(tensor) for tensor in inputs}
        tracks = {key: dict(found) for key, place in places.items() if (found := self._tracks.get(place))}
        expected = set().union(*[self._expected.get(place, set()) for place in places.values()])
        known = [memory_of(tensor) for tensor in inputs]
        depends, behind = any(memory in self._behind for memory in known), self._calls_behind(inputs)
        copies = {id(t): t.clone() if is_written(operation, t, args) else t for t in inputs if id(t) in tracks}
        for key in [id(t) for t in inputs if id(t) in tracks and copies[id(t)] is not t]:
            tracks[key] = {group: track._replace(source=None) for group, track in tracks[key].items()}
        output = operation(*args, **kwargs)
        outputs = list(tensors_in(output))
        origins = set().union(*[self._origins.get(memory, set()) for memory in known])
        if expected:
            self._pass_expected(operation, expected, origins, outputs)
        if tracks:
            self._follow(operation, args, kwargs, inputs, tracks, copies, outputs)
        for memory in map(memory_of, outputs):
            if depends:
                self._behind[memory] = self._behind.get(memory, 0) | behind
            elif origins:
                self._origins.setdefault(memory, set()).update(origins)
        return output

    def _pass_expected(
        self,
        operation: Any,
        expected: set[StorageWeakRef],
        origins: set[StorageWeakRef],
        outputs: list[Tensor],
    ) -> None:
        """Follow a module's input to the parameter that reads it."""
        scales = is_elementwise(operation) and name_of(operation) in LINEAR
        if scales or is_reader(operation) or is_norm(operation):
            self._as_expected |= expected & origins
        if scales or is_move(operation):
            for tensor in outputs:
                self._expected.setdefault(place_of(tensor), set()).update(expected)

    def _calls_behind(self, tensors: Iterable[Tensor]) -> int:
        """Bits of the calls that tensors depend on."""
        bits = 0
        for tensor in tensors:
            bits |= self._behind.get(memory_of(tensor), 0)
        return bits

    def _note(self, group: str, track: Track, tensor: Tensor, *, stream: bool = False) -> None:
        """Copy what is read, once."""
        seen = track.own or track.source
        if seen is None or (seen is track.source and mark_of(seen.values) != seen.mark):  # changed in place since
            seen = Seen(tensor, track.owners, mark_of(tensor))
        if (group, seen.mark, stream) not in self._read:
            self._read.add((group, seen.mark, stream))
            seen = seen._replace(values=seen.values.detach().clone())
            self._seen.setdefault(group, []).append(seen._replace(stream=stream))

    def _follow(
        self,
        operation: Any,
        args: Any,
        kwargs: Any,
        inputs: list[Tensor],
        tracks: dict[int, dict[str, Track]],
        copies: dict[int, Tensor],
        outputs: list[Tensor],
    ) -> None:
        """Follow all groups through an operation."""
        results: dict[Place, dict[str, Track]] = {place_of(tensor): {} for tensor in outputs}
        for group in {group: None for found in tracks.values() for group in found}:
            holding = {key: found[group] for key, found in tracks.items() if group in found}
            step = Step(operation, args, kwargs, inputs, holding, copies, outputs)
            for tensor, track in self._pass(group, step):
                if track.source is None or not reshapes(operation) or track.source.values.numel() != tensor.numel():
                    track = track._replace(source=Seen(tensor, track.owners, mark_of(tensor)))
                results[place_of(tensor)][group] = track
            if name_of(operation) == "copy" and group not in results[place_of(args[0])]:
                self._lose_part(group, args[0])
        self._tracks |= results

    def _lose_part(self, group: str, tensor: Tensor) -> None:
        """Give a group up if another one's values are written over a part of its neurons."""
        places = [place for place, found in self._tracks.items() if place[0] == memory_of(tensor) and group in found]
        if places != [place_of(tensor)]:
            self.lost.add(group)

    def _pass(self, group: str, step: Step) -> list[tuple[Tensor, Track]]:
        """Say which outputs of an operation hold a group's neurons, and note where it reads them."""
        first, track = step.outputs[0] if step.outputs else None, step.merged
        if first is None or not first.is_floating_point():
            return []  # a mask, a choice: what is made of the values themselves goes another way
        if name_of(step.operation) in KEPT:
            return [(first, track)]
        if is_move(step.operation):
            owners = {key: held.owners for key, held in step.holding.items()}
            shares = tensors_in(moved(step.operation, step.args, step.kwargs, owners))
            pairs = zip(step.outputs, shares, strict=True)
            return [(tensor, track._replace(owners=share)) for tensor, share in pairs if share.any()]
        if is_elementwise(step.operation):
            return self._pass_elementwise(group, step, first)
        if is_norm(step.operation) and id(step.args[0]) in step.holding and not track.active:
            return [(first, track._replace(own=step.own))]
        if is_norm(step.operation) or is_reader(step.operation):
            return self._pass_reader(group, step, first)
        share = pooled(step.operation, step.args, step.kwargs, track.owners, first)
        if share is not None:
            return [(first, track._replace(owners=share))]
        if first.numel() >= step.values.numel():
            self.lost.add(group)
        return []

    def _pass_reader(self, group: str, step: Step, output: Tensor) -> list[tuple[Tensor, Track]]:
        """Read each input, but for those that are summed over samples."""
        passed = []
        for position, value in enumerate(step.args):
            if id(value) in step.holding:
                track = step.holding[id(value)]
                share = multiplied(step.operation, step.args, position, track.owners, output)
                if share is None:
                    self._note(group, track, step.copies[id(value)])
                else:
                    passed.append((output, track._replace(owners=share)))
        return passed

    def _pass_elementwise(self, group: str, step: Step, output: Tensor) -> list[tuple[Tensor, Track]]:
        """Follow neurons through an elementwise operation, unless it ends here what is theirs."""
        track, name = step.merged, name_of(step.operation)
        shares = [held.owners.expand(output.shape) for held in step.holding.values()]
        owners = shares[0]
        for share in shares[1:]:
            if ((share != owners) & (share > 0) & (owners > 0)).any():
                self.lost.add(group)  # two neurons in one place, as where halves of a layer are multiplied
                return []
            owners = torch.maximum(owners, share)
        if name not in LINEAR:
            return [(output, track._replace(owners=owners, active=True, own=None))]
        own_params, full = self._own.get(group, set()), step.full(owners, output)
        others = [t for t in step.others if not own_params & self._origins.get(memory_of(t), set())]
        behind = {id(t): self._behind[memory_of(t)] for t in others if memory_of(t) in self._behind}
        added = name in SUMS and any(id(t) in full or id(t) in behind for t in others)
        scaled = any(bits & track.call for key, bits in behind.items() if key not in full)  # by the neurons' own size
        if not added and not scaled:
            return [(output, track._replace(owners=owners))]
        streams = [bits for key, bits in behind.items() if key in full]
        stream = added and bool(streams) and all(not bits & ~track.before or bits & track.call for bits in streams)
        if track.active or stream:
            self._note(group, track, step.values, stream=stream)
            return []
        return [(output, track._replace(owners=owners, own=step.own))]
