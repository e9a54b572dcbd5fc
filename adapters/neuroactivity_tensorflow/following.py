"""Follow neurons from the layer that makes them to where they are read, through activation functions and the like.

The model is traced once, and neurons are followed through the operations of the graph, in the order in which they were
made.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from neuroactivity_tensorflow.operations import (
    ACTIVE,
    COMBINED,
    MOVED,
    NORMS,
    NOTHING,
    POOLS,
    READ,
    REDUCTIONS,
    SAME,
    SUMS,
    Place,
    Seen,
    Track,
    broadcast,
    has_all_neurons,
    moved,
    multiplied,
    reduced,
)

_ACTIVE_LAYERS = (
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.Softmax,
)
_NORM_LAYERS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)
_LOOPS = (
    keras.layers.SimpleRNN,
    keras.layers.SimpleRNNCell,
    keras.layers.GRU,
    keras.layers.GRUCell,
    keras.layers.LSTM,
    keras.layers.LSTMCell,
)


class Trace:
    """What a traced call of a model did.

    An activation, a normalisation or a recurrent layer is seen as one operation.
    """

    def __init__(self) -> None:
        self._outputs: set[str] = set()
        self._inside: dict[str, tuple[Any, Any]] = {}
        self._inputs: set[str] = set()
        self._calls: dict[str, int] = {}
        self._behind: dict[str, int] = {}

    def enter(self, inputs: Any) -> Any:
        """Return a model's inputs as the trace knows them: what does not depend on them is constant."""
        leaves = [tf.identity(leaf) if hasattr(leaf, "dtype") else leaf for leaf in keras.tree.flatten(inputs)]
        self._inputs |= {leaf.name for leaf in leaves if isinstance(leaf, tf.Tensor)}
        return keras.tree.pack_sequence_as(inputs, leaves)

    def end(self, outputs: Iterable[Any], made: Iterable[Any]) -> None:
        """Take what the model returned, and what its layers did."""
        self._outputs = {tensor.name for tensor in outputs}
        self._calls = {tensor.name: 1 << place for place, tensor in enumerate(made)}
        for operation in tf.compat.v1.get_default_graph().get_operations():
            known = [self._behind[tensor.name] for tensor in operation.inputs if tensor.name in self._behind]
            bits = 0
            for each in known:
                bits |= each
            for output in operation.outputs:
                if known or output.name in self._inputs | self._calls.keys():
                    self._behind[output.name] = bits | self._calls.get(output.name, 0)

    def watch(self, layer: Any, function: Callable[..., Any]) -> Callable[..., Any]:
        """Let the call of an activation, a normalisation or a recurrent layer be seen as one operation."""
        if not isinstance(layer, _ACTIVE_LAYERS + _NORM_LAYERS + _LOOPS):
            return function

        def watching(*args: Any, **options: Any) -> Any:
            graph = tf.compat.v1.get_default_graph()
            before = len(graph.get_operations())
            result = function(*args, **options)
            for operation in graph.get_operations()[before:]:
                self._inside[operation.name] = result, layer
            return result

        return watching

    def follow(self, tensor: Any, axis: int | None, *, active: bool = False) -> list[Any]:
        """Return the neurons of a tensor as they are read, wherever that is.

        An operation that multiplies neurons with weights reads them. So does a normalisation, and a sum with other
        values, that comes after the activation function. Where one comes before it, the function's result is what is
        read, and where none comes at all, the neurons' own values. What a layer adds to a stream that it has read
        itself is its own, and a product with other neurons is what is read.

        Args:
            tensor: What a layer returned, or was given.
            axis: The axis of the neurons, which becomes the last; None to leave them where they are.
            active: Whether an activation function has been applied.

        Returns:
            Tensors of this graph, ``None`` in place of the tensor as it is; an empty list if it cannot be told.
        """
        if axis is not None and tensor.shape[axis] is None:
            return []
        seen = _Path(self._outputs, self._inside, self._behind, self._calls.get(tensor.name, 0)).seen(
            tensor, axis, active
        )
        values: list[Any] = []
        for each in seen:
            if each.value.name == tensor.name:
                values.append(None)
            elif each.place.axis is not None:
                part = [slice(None)] * each.place.axis
                part.append(slice(each.place.offset, each.place.offset + tensor.shape[axis]))
                values.append(tf.experimental.numpy.moveaxis(each.value[tuple(part)], each.place.axis, -1))
            elif each.place.like == tensor.name and each.value.shape == tensor.shape:
                values.append(each.value)
            else:
                return []
        return values


class _LostError(Exception):
    """Neurons went through what cannot be followed."""


class _Path:
    """The way of one layer's neurons through a graph."""

    def __init__(
        self, outputs: set[str], inside: dict[str, tuple[Any, Any]], behind: dict[str, int], call: int
    ) -> None:
        self._outputs, self._inside, self._behind, self._call = outputs, inside, behind, call
        self._tracks: dict[str, list[Track]] = {}
        self._found: dict[tuple[str, Place, bool], Seen] = {}
        self._before = 0
        self._next: list[tuple[int, str]] = []
        self._pushed: set[str] = set()

    def seen(self, tensor: Any, axis: int | None, active: bool) -> list[Seen]:
        """Return where neurons are read, what is added to a stream before all others; nothing if they are lost."""
        place = Place(axis, 0, tensor.name)
        self._before = self._behind.get(tensor.name, 0) & ~self._call
        self._tracks[tensor.name] = [Track(Seen(tensor, place), place, active)]
        try:
            self._push(tensor)
            while self._next:
                _, name = heapq.heappop(self._next)
                operation = tensor.graph.get_operation_by_name(name)
                self._pass(operation, list({o.name: o for o in operation.inputs if o.name in self._tracks}.values()))
        except _LostError:
            return []
        for name in self._outputs & self._tracks.keys():
            self._note(self._tracks[name])
        streams = [seen for (*_, stream), seen in self._found.items() if stream]
        return streams or list(self._found.values())

    def _note(self, tracks: Iterable[Track], *, stream: bool = False) -> None:
        for track in tracks:
            seen = track.own or track.seen
            self._found.setdefault((seen.value.name, seen.place, stream), seen)

    def _hold(self, tensor: Any, tracks: Sequence[Track]) -> None:
        if tracks:
            self._tracks.setdefault(tensor.name, []).extend(tracks)
            self._push(tensor)

    def _push(self, tensor: Any) -> None:
        """Let the operations that use a tensor follow, in the order in which they were made."""
        for operation in tensor.consumers():
            if operation.name not in self._pushed:
                self._pushed.add(operation.name)
                heapq.heappush(self._next, (operation._id, operation.name))

    def _pass(self, operation: Any, held: Sequence[Any]) -> None:
        """Say which outputs of an operation hold the neurons, and note where it reads them."""
        kind, outputs = operation.type, list(operation.outputs)
        if operation.name in self._inside:
            result, layer = self._inside[operation.name]
            if isinstance(layer, _LOOPS):
                self._note([track for tensor in held for track in self._tracks[tensor.name]])
            else:
                self._pass_layer(result, held, active=isinstance(layer, _ACTIVE_LAYERS))
        elif kind in READ:
            for tensor in held:
                self._multiply(operation, tensor)
        elif kind in NOTHING or not any(o.dtype.is_floating or o.dtype == tf.variant for o in outputs):
            return  # a shape, a comparison, a choice: what is made of the values themselves goes another way
        elif kind in NORMS:
            self._pass_layer(outputs[0], held, active=False)
        elif kind in SAME:
            for tensor, output in zip(operation.inputs, outputs, strict=True):
                self._hold(output, [t._replace(seen=_like(t, output)) for t in self._tracks.get(tensor.name, [])])
        elif kind in MOVED | POOLS | REDUCTIONS:
            for tensor in held:
                self._move(operation, tensor)
        elif kind in ACTIVE:
            for track in self._merged(held, outputs[0]):
                self._hold(outputs[0], [Track(Seen(outputs[0], track.place), track.place, True)])
        elif kind in COMBINED:
            for track in self._merged(held, outputs[0]):
                self._combine(operation, track)
        else:
            raise _LostError

    def _pass_layer(self, result: Any, held: Sequence[Any], *, active: bool) -> None:
        """Pass an activation or a normalisation layer, of which a tensor is the result; the first held is its input."""
        if result.name in self._tracks:
            return
        for track in self._merged(held[:1], result):
            after = Track(Seen(result, track.place), track.place, True)
            if active:
                self._hold(result, [after])
            elif track.active:
                self._note([track])
            else:
                self._hold(result, [after._replace(active=False, own=track.own or track.seen)])

    def _multiply(self, operation: Any, tensor: Any) -> None:
        """Read a tensor, unless it is summed over samples, as attention does."""
        for track in self._tracks[tensor.name]:
            axis = None if track.place.axis is None else multiplied(operation, tensor, track.place.axis)
            if axis is None:
                self._note([track])
            else:
                place, output = track.place._replace(axis=axis), operation.outputs[0]
                self._hold(output, [track._replace(seen=Seen(output, place), place=place)])

    def _move(self, operation: Any, tensor: Any) -> None:
        """Pass an operation that moves entries, or pools them."""
        for track in self._tracks[tensor.name]:
            for output in operation.outputs:
                place = (reduced if operation.type in REDUCTIONS else moved)(operation, tensor, track.place, output)
                if place is None:
                    continue  # a statistic of all neurons
                whole = output.shape.num_elements() == tensor.shape.num_elements()
                seen = track.seen if whole or place.axis is None or operation.type in MOVED else Seen(output, place)
                self._hold(output, [track._replace(seen=seen, place=place)])

    def _merged(self, held: Sequence[Any], output: Any) -> list[Track]:
        """Return what is known of neurons behind an operation whose inputs they are, entry by entry."""
        tracks = [
            [track._replace(place=broadcast(track.place, tensor, output)) for track in self._tracks[tensor.name]]
            for tensor in held
        ]
        if len(tracks) == 1:
            return tracks[0]
        first, *more = [track for each in tracks for track in each]
        if any(track.place != first.place for track in more) or len(more) + 1 != len(tracks):
            raise _LostError  # two neurons in one place, as where halves of a layer are multiplied
        own = first.own if all(track.own for track in more) else None
        return [first._replace(active=any(each.active for (each,) in tracks), own=own)]

    def _combine(self, operation: Any, track: Track) -> None:
        """Follow neurons through a sum or a product, unless what is theirs ends here."""
        output, behind = operation.outputs[0], self._behind
        others = [tensor for tensor in operation.inputs if tensor.name not in self._tracks and tensor.dtype.is_floating]
        full = {tensor.name for tensor in others if has_all_neurons(tensor, track.place, output)}
        dependent = {tensor.name for tensor in others if tensor.name in behind}
        added = operation.type in SUMS and bool(full or dependent)
        scaled = any(behind[name] & self._call for name in dependent - full)  # by the neurons' own size
        after = Track(Seen(output, track.place), track.place, track.active, track.own)
        if not added and not scaled:
            self._hold(output, [after])
            return
        streams = [behind[name] for name in full & dependent]
        stream = added and bool(streams) and all(not bits & ~self._before or bits & self._call for bits in streams)
        if track.active or stream:
            self._note([track], stream=stream)
        else:
            self._hold(output, [after._replace(own=track.own or track.seen)])


def _like(track: Track, output: Any) -> Seen:
    """Say that what was read is read as another tensor with the same entries, if nothing has been moved since."""
    return Seen(output, track.place) if track.seen.place == track.place else track.seen
