"""Fresh parameter values: from the layers' own initialisers, a snapshot of the start, or the user's function.

Every draw has its own key, made of seed, event and parameter; the global generators are left as they were. The layers'
initialisers and the snapshot compute inside ``tf.function`` and under XLA; a function of the user's is Python and runs
on the host.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity.layout.groups import ParamView
from neuroactivity.layout.patterns import NEURON, BoundPattern
from neuroactivity.wrapping import derive_key
from neuroactivity_tensorflow.hosts import kept_generators, on_host
from neuroactivity_tensorflow.models import check_like, own_variables, raw

__all__ = ["FreshValues", "Initializer", "RebuiltLayer"]

Initializer: TypeAlias = Literal["layer", "snapshot"] | Callable[[int], Mapping[str, Any]]
"""``"layer"``, ``"snapshot"``, or a function from a key to freshly initialised parameters by name."""

_WORD = 2**31 - 2  # Keras's seeds are two numbers below this


class _Words(keras.random.SeedGenerator):  # type: ignore[misc]
    """A seed generator that derives Keras's two seed words from a key and an event, in place of a count of calls."""

    def __init__(self, key: int, event: Any) -> None:
        self._key, self._event, self._calls = key, event, 0  # no state, so that Keras's own constructor is not called

    def next(self, ordered: bool = True) -> Any:
        high = (self._key >> 32) + 7919 * self._calls
        self._calls += 1
        event = tf.cast(self._event, tf.int64)
        return tf.cast(tf.stack([self._key % 2**32 % _WORD, (high + event) % _WORD]), tf.int32)


class RebuiltLayer:
    """A layer built once more from its configuration, aside, to draw values as it does when it is built.

    A layer does not always initialise a variable as it was configured: ``EinsumDense`` changes the initialiser of its
    kernel, ``LSTM`` that of its bias.

    Args:
        record: The layer as Keras serialises it.
        kind: Its class, if it need not be found by name.

    Raises:
        ValueError: If the layer cannot be built from the record.
    """

    def __init__(self, record: Mapping[str, Any], kind: type | None = None) -> None:
        self.record = record
        try:
            with kept_generators():
                layer, given = _rebuilt(record, {} if kind is None else {record["class_name"]: kind})
        except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
            raise ValueError(
                f"{record['class_name']} cannot be built again from its configuration: {brief(error)}"
            ) from error
        self._given = {label: given[id(v)] for label, v in own_variables(layer) if id(v) in given}
        parts = [*self._given.values(), *vars(layer).values()]
        self._seeded = [
            part for part in parts if isinstance(part, keras.initializers.Initializer) and hasattr(part, "seed")
        ]

    @classmethod
    def of(cls, layer: Any) -> "RebuiltLayer":
        """Build a layer of a model once more."""
        try:
            record = keras.saving.serialize_keras_object(layer)
        except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
            raise ValueError(f"{type(layer).__name__} has no configuration: {brief(error)}") from error
        return cls(record, type(layer))

    def draw(self, label: str, variable: Any, words: _Words) -> Any:
        """Draw a value for one of the layer's variables."""
        if label not in self._given:
            raise ValueError(f"{self.record['class_name']} gives it no initializer")
        for part in self._seeded:
            part.seed = words
        return tf.convert_to_tensor(self._given[label](tuple(variable.shape), dtype=variable.dtype.name))


def brief(error: Exception) -> str:
    """Return what an error says in one line, not too long: Keras explains itself at length."""
    words = " ".join(str(error).split())
    return words if len(words) < 160 else f"{words[:160]} ..."


def _rebuilt(record: Mapping[str, Any], kinds: Mapping[str, type]) -> tuple[Any, dict[int, Any]]:
    """Build a layer from its record, and return it with the initialisers that it gave to its variables, by identity."""
    unbuilt = {key: value for key, value in record.items() if key != "build_config"}
    layer = keras.saving.deserialize_keras_object(unbuilt, custom_objects=dict(kinds))
    add_weight, given = layer.add_weight, {}

    def recording(*args: Any, **options: Any) -> Any:
        options = {**dict(zip(("shape", "initializer", "dtype"), args, strict=False)), **options}
        variable = add_weight(**{**options, "initializer": "zeros"})
        given[id(variable)] = keras.initializers.get(options.get("initializer") or "glorot_uniform")
        return variable

    object.__setattr__(layer, "add_weight", recording)
    layer.build_from_config(record.get("build_config"))
    return layer, given


class FreshValues:
    """Draws fresh values for the parameters that a reset takes over.

    Args:
        variables: The parameters' variables by name.
        layout: The neuron groups.
        initializer: ``"layer"`` builds each layer again from its configuration, and calls the initialisers that it
            gives to its variables. ``"snapshot"`` takes rows at random from ``snapshot``. A function gets a key, an
            integer, while Python's and NumPy's generators are seeded with it, and returns fresh parameters by name.
        layers: For ``"layer"``: the layers that hold the parameters, by path.
        snapshot: For ``"snapshot"``: parameters by name.
        seed: Seed of all draws.

    Raises:
        ValueError: If a parameter has no initialiser, or a fresh value does not fit its parameter.
    """

    def __init__(
        self,
        variables: Mapping[str, Any],
        layout: na.Layout,
        initializer: Initializer,
        *,
        layers: Mapping[str, RebuiltLayer],
        snapshot: Mapping[str, Any],
        seed: int,
    ) -> None:
        self._variables, self._initializer, self._seed = variables, initializer, seed
        self._views: dict[str, list[tuple[ParamView, BoundPattern]]] = {}
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        for group in layout.values():
            for role, view, bound in group.bind(shapes).views:
                if group.resettable and role != "outgoing":
                    self._views.setdefault(view.param, []).append((view, bound))
        self._layers, self._snapshot = layers, snapshot
        first = self.draw(0, self._views)
        for name in self._views if initializer == "layer" else ():
            if not np.array_equal(self._layer(name, 0), first[name], equal_nan=True):
                raise ValueError(
                    f"parameter {name!r}: its initializer draws other values each time that it is called, so no seed "
                    "can repeat them; give it a seed, or use initializer='snapshot' or a function"
                )

    def draw(self, event: Any, names: Iterable[str]) -> dict[str, Any]:
        """Draw fresh values for the named parameters.

        Args:
            event: Number of the reset, an integer or a tensor.
            names: Names of parameters; those that no reset takes over are passed over.
        """
        wanted = [name for name in names if name in self._views]
        if self._initializer == "snapshot":
            return {name: self._resample(name, event) for name in wanted}
        if callable(self._initializer):
            return self._call(event, wanted)
        return {name: self._layer(name, event) for name in wanted}

    def _layer(self, name: str, event: Any) -> Any:
        """Draw a parameter as its layer does."""
        path, _, label = name.rpartition("/")
        variable, words = raw(self._variables[name]), _Words(derive_key(self._seed, 0, name), event)
        try:
            value = self._layers[path].draw(label, variable, words)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"parameter {name!r}: initializer='layer' cannot draw fresh values for it ({error}); use "
                "initializer='snapshot' or a function from a key to fresh parameters"
            ) from error
        check_like(value, variable, f"parameter {name!r}, fresh value")
        return value

    def _resample(self, name: str, event: Any) -> Any:
        """Give each neuron the snapshot's entries of a neuron drawn at random."""
        values = tf.convert_to_tensor(raw(self._snapshot[name]))
        words = _Words(derive_key(self._seed, 0, name), event)
        for view, bound in self._views[name]:
            axis, size = bound.names.index(NEURON), bound.size(NEURON)
            owned = [(i,) for i in range(size)] if view.owners is None else view.owners.positions
            width = max(map(len, owned))
            table = np.array([[own[rank % len(own)] for rank in range(width)] for own in owned], np.int32)
            places = {place: (neuron, rank) for neuron, own in enumerate(owned) for rank, place in enumerate(own)}
            owners = np.array([places.get(place, (0, 0)) for place in range(size)], np.int32)
            given = tf.random.stateless_uniform((len(owned),), words.next(), 0, len(owned), tf.int32)
            taken = tf.gather_nd(table, tf.stack([tf.gather(given, owners[:, 0]), owners[:, 1]], axis=1))
            rows = tf.where([place in places for place in range(size)], taken, tf.range(size))
            values = tf.reshape(tf.gather(tf.reshape(values, bound.sizes), rows, axis=axis), values.shape)
        return values

    def _call(self, event: Any, names: list[str]) -> dict[str, Any]:
        """Call the user's function on the host."""

        def function(number: Any) -> list[Any]:
            assert callable(self._initializer)
            key = derive_key(self._seed, int(number), "")
            with kept_generators(key):
                fresh = self._initializer(key)
            missing = [name for name in names if name not in fresh]
            if missing:
                keys = list(fresh)[:8]
                raise ValueError(f"initializer: expected a fresh value for parameter {missing[0]!r}, got {keys}")
            for name in names:
                check_like(fresh[name], raw(self._variables[name]), f"parameter {name!r}, fresh value")
            return [tf.convert_to_tensor(fresh[name]) for name in names]

        variables = [raw(self._variables[name]) for name in names]
        specs = [tf.TensorSpec(variable.shape, variable.dtype) for variable in variables]
        values = on_host(function, [tf.convert_to_tensor(event)], specs, what="initializer")
        return dict(zip(names, values, strict=True))
