"""Fresh parameter values: from the layers' own initialisers, a snapshot of the initial values, or a function.

Every draw has its own key, derived from seed, event and parameter; the global generators are left as they were. Layers'
initialisers and the snapshot compute inside ``tf.function`` and under XLA; a user's function is Python and runs on the
host.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping import check_fresh, derive_key, drawn_views, resample
from neuroactivity_tensorflow.graphs import kept_generators, on_host
from neuroactivity_tensorflow.parameters import own_variables

Initializer: TypeAlias = Literal["layer", "snapshot"] | Callable[[int], Mapping[str, Any]]
"""``"layer"``, ``"snapshot"``, or a function from a key to freshly initialised parameters by name."""

_WORD = 2**31 - 2  # Keras's seeds are two numbers below this


class _SeedWords(keras.random.SeedGenerator):  # type: ignore[misc]
    """A seed generator that derives Keras's two seed words from a key and an event instead of a count of calls."""

    def __init__(self, key: int, event: Any) -> None:
        self._key, self._event, self._calls = key, event, 0  # no state, so that Keras's own constructor is not called

    def next(self, ordered: bool = True) -> Any:
        high = (self._key >> 32) + 7919 * self._calls
        self._calls += 1
        event = tf.cast(self._event, tf.int64)
        return tf.cast(tf.stack([self._key % 2**32 % _WORD, (high + event) % _WORD]), tf.int32)


class RebuiltLayer:
    """A copy of a layer, rebuilt from its configuration to draw values as the layer does when it is built.

    A layer does not always initialise a variable as it was configured: ``EinsumDense`` changes the initialiser of its
    kernel, ``LSTM`` that of its bias.

    Args:
        record: The layer as Keras serialises it.
        kind: Its class, if it cannot be found by name.

    Raises:
        ValueError: If the layer cannot be built from the record.
    """

    def __init__(self, record: Mapping[str, Any], kind: type | None = None) -> None:
        self.record = record
        try:
            with kept_generators():
                layer, by_id = _rebuilt(record, {} if kind is None else {record["class_name"]: kind})
        except (ValueError, TypeError, NotImplementedError, AttributeError) as error:  # of a layer's own constructor
            raise ValueError(
                f"{record['class_name']} cannot be built again from its configuration: {_brief(error)}"
            ) from error
        self._initializers = {label: by_id[id(v)] for label, v in own_variables(layer) if id(v) in by_id}
        parts = [*self._initializers.values(), *vars(layer).values()]
        self._seeded = [
            part for part in parts if isinstance(part, keras.initializers.Initializer) and hasattr(part, "seed")
        ]

    @classmethod
    def of(cls, layer: Any) -> "RebuiltLayer":
        """Rebuild a layer of a model."""
        try:
            record = keras.saving.serialize_keras_object(layer)
        except (ValueError, TypeError, NotImplementedError, AttributeError) as error:  # of a layer's own get_config
            raise ValueError(f"{type(layer).__name__} has no configuration: {_brief(error)}") from error
        return cls(record, type(layer))

    def draw(self, label: str, variable: Any, words: Any) -> Any:
        """Draw a value for one of the layer's variables."""
        if label not in self._initializers:
            raise ValueError(f"{self.record['class_name']} gives it no initializer")
        for part in self._seeded:
            part.seed = words
        return tf.convert_to_tensor(self._initializers[label](tuple(variable.shape), dtype=variable.dtype.name))


def _brief(error: Exception) -> str:
    """Return an error's text in one line, shortened: Keras explains at length."""
    words = " ".join(str(error).split())
    return words if len(words) < 160 else f"{words[:160]} ..."


def _rebuilt(record: Mapping[str, Any], kinds: Mapping[str, type]) -> tuple[Any, dict[int, Any]]:
    """Build a layer from its record; return it with the initialisers of its variables, by the variables' ``id``."""
    unbuilt = {key: value for key, value in record.items() if key != "build_config"}
    layer = keras.saving.deserialize_keras_object(unbuilt, custom_objects=dict(kinds))
    add_weight, by_id = layer.add_weight, {}

    def recording(*args: Any, **options: Any) -> Any:
        options = {**dict(zip(("shape", "initializer", "dtype"), args, strict=False)), **options}
        variable = add_weight(**{**options, "initializer": "zeros"})
        by_id[id(variable)] = keras.initializers.get(options.get("initializer") or "glorot_uniform")
        return variable

    object.__setattr__(layer, "add_weight", recording)
    layer.build_from_config(record.get("build_config"))
    return layer, by_id


class FreshValues:
    """Draws fresh values for the parameters that a reset takes from them.

    Args:
        variables: The parameters' ``tf.Variable`` by name.
        layout: The neuron groups.
        initializer: ``"layer"`` calls the initialisers of each layer, which is rebuilt from its configuration.
            ``"snapshot"`` takes rows at random from ``snapshot``. A function maps a key, an integer, to fresh
            parameters by name, while Python's and NumPy's generators are seeded with the key.
        layers: For ``"layer"``: the layers that hold the parameters, by path.
        snapshot: For ``"snapshot"``: the ``tf.Variable`` that keep the initial values, by parameter.
        seed: Seed of all draws.
        outgoing: What a reset makes of outgoing parameters, which may be drawn too.

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
        outgoing: Outgoing = "zero",
    ) -> None:
        self._variables, self._initializer, self._seed = variables, initializer, seed
        self._layers, self._snapshot = layers, snapshot
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        self._views = drawn_views(layout, shapes, outgoing=outgoing)
        first = self.draw(0, self._views)
        for name in self._views if initializer == "layer" else ():
            if not np.array_equal(self._from_layer(0, name), first[name], equal_nan=True):
                raise ValueError(
                    f"parameter {name!r}: its initializer draws other values each time that it is called, so no seed "
                    "can repeat them; give it a seed, or use initializer='snapshot' or a function"
                )

    def draw(self, event: Any, names: Iterable[str]) -> dict[str, Any]:
        """Draw fresh values for the named parameters.

        Args:
            event: Number of the reset, an integer or a tensor.
            names: Names of parameters; those that no reset takes from fresh values are passed over.
        """
        drawn = [name for name in names if name in self._views]
        one = self.drawer(event, drawn)
        return {name: one(name) for name in drawn}

    def drawer(self, event: Any, names: Sequence[str]) -> Callable[[str], Any]:
        """Return a function that draws one of these parameters; the user's function has drawn all of them."""
        if callable(self._initializer):
            return self._from_function(event, [name for name in names if name in self._views]).__getitem__
        return partial(self._resample if self._initializer == "snapshot" else self._from_layer, event)

    def _words(self, name: str, event: Any) -> _SeedWords:
        return _SeedWords(derive_key(self._seed, 0, name), event)

    def _from_layer(self, event: Any, name: str) -> Any:
        """Draw a parameter as its layer does."""
        path, _, label = name.rpartition("/")
        try:
            value = self._layers[path].draw(label, self._variables[name], self._words(name, event))
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"parameter {name!r}: initializer='layer' cannot draw fresh values for it ({error}); use "
                "initializer='snapshot' or a function from a key to fresh parameters"
            ) from error
        check_fresh({name: value}, self._variables, [name], known=False)
        return value

    def _resample(self, event: Any, name: str) -> Any:
        """Give each neuron the initial entries of a neuron drawn at random."""
        words = self._words(name, event)

        def donors(neurons: int, number: int) -> Any:
            return tf.random.stateless_uniform((neurons,), words.next(), 0, neurons, tf.int32)

        return resample(tf.convert_to_tensor(self._snapshot[name]), self._views[name], donors)

    def _from_function(self, event: Any, names: list[str]) -> dict[str, Any]:
        """Call the user's function on the host."""

        def function(number: Any) -> list[Any]:
            assert callable(self._initializer)
            key = derive_key(self._seed, int(number), "")
            with kept_generators(key):
                fresh = self._initializer(key)
            check_fresh(fresh, self._variables, names)
            return [tf.convert_to_tensor(fresh[name]) for name in names]

        specs = [tf.TensorSpec(self._variables[name].shape, self._variables[name].dtype) for name in names]
        values = on_host(function, [tf.convert_to_tensor(event)], specs, what="initializer")
        return dict(zip(names, values, strict=True))
