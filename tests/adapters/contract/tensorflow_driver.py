"""The network and its wrappers in TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa, activations, layout_of, parameters, write
from tests.adapters.contract.network import FRESH, LAYERS, SHAPES, Counts, Values, X, layout, reset, weights


@keras.saving.register_keras_serializable("contract")
class Gated(keras.Model):
    """The network, of Keras's layers."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        for layer, shape in SHAPES.items():
            setattr(self, layer, keras.layers.Dense(shape[1]))

    def call(self, x):
        hidden = tf.nn.relu(self.first(x))
        return self.out(tf.nn.relu(self.value(hidden)) * tf.nn.relu(self.gate(hidden)))


class Unknown(keras.optimizers.Optimizer):
    """An optimizer with a slot that nobody has described."""

    def build(self, variables) -> None:
        super().build(variables)
        self.odd = [self.add_variable_from_reference(variable, name="odd") for variable in variables]

    def update_step(self, gradient, variable, learning_rate) -> None:
        self.assign_sub(variable, learning_rate * gradient)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01, epsilon=1e-9),  # Keras adds it before it corrects the bias
    "sgd": lambda: keras.optimizers.SGD(0.0),
    "unknown": lambda: Unknown(0.25),
}


class TensorFlowDriver:
    """Trains the network with gradients that it is given; without a method by the plain optimizer."""

    rounding, initializers = 0.0, ("layer", "snapshot")
    read_as_factors: frozenset[str] = frozenset()

    def __init__(
        self,
        method: str | None = None,
        *,
        optimizer: Any = "adam",
        prepare: Callable[[Gated], None] = lambda model: None,
        initial: Values | None = None,
        trained: Sequence[str] = LAYERS,
        groups: na.Layout | None = None,
        initializer: str | Mapping[str, np.ndarray] = FRESH,
        **options: Any,
    ) -> None:
        self.model, self.probe = self._built(), X
        write(self.model, self._cast(weights() if initial is None else initial))
        prepare(self.model)
        self.trained = trained
        self.inner = self.wrapper = OPTIMIZERS.get(optimizer, optimizer)()
        if method == "redo":
            options["probe"] = lambda: tf.constant(self.probe)
        if method is not None:
            self.wrapper = {"regrama": ReGraMa, "redo": ReDo}[method](
                self.inner,
                self.model,
                layout=groups or layout(),
                initializer=self._initializer(initializer),
                **options,
            )
        variables = [variable for layer in trained for variable in getattr(self.model, layer).variables]
        self.wrapper.build(variables or [keras.Variable([1.0])])

    @staticmethod
    def _built() -> Gated:
        model = Gated()
        model(X)
        return model

    def _initializer(self, initializer: str | Mapping[str, np.ndarray]) -> Any:
        if isinstance(initializer, str):
            return "layer" if initializer == "drawn" else initializer
        return lambda key: self._cast(initializer)

    def _cast(self, values: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        """Bring values into the precision of the model's parameters."""
        present = parameters(self.model)
        return {name: tf.cast(value, present[name].dtype) for name, value in self.native(values).items()}

    @staticmethod
    def name(param: str) -> str:
        return param

    @staticmethod
    def native(values: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        return {name: tf.constant(value) for name, value in values.items()}

    @staticmethod
    def group(group: na.NeuronGroup) -> na.NeuronGroup:
        return group

    @classmethod
    def find_layout(cls, **options: Any) -> na.Layout:
        """Find the layout of the network, instead of being given it."""
        return layout_of(cls._built(), X, **options)

    def activations(self, x: np.ndarray, groups: na.Layout) -> dict[str, np.ndarray]:
        outputs = activations(self.model, tf.constant(x), layout=groups)
        return {name: value.numpy() for name, value in outputs.items()}

    def step(self, grads: Mapping[str, np.ndarray | None]) -> None:
        """Take a step with these gradients, where there are some."""
        variables = {
            f"{layer}/{variable.name}": variable
            for layer in self.trained
            for variable in getattr(self.model, layer).variables
        }
        pairs = [
            (None if grads[name] is None else tf.cast(grads[name], variable.dtype), variable)
            for name, variable in variables.items()
        ]
        self.wrapper.apply_gradients(pairs)

    def params(self) -> Values:
        return {name: value.numpy().copy() for name, value in parameters(self.model).items()}

    def moments(self) -> list[Values]:
        """Return Adam's first and second moments."""
        names = [f"{layer}/{variable.name}" for layer in LAYERS for variable in getattr(self.model, layer).variables]
        slots = [variable for variable in self.inner.variables if tuple(variable.shape)]
        return [
            {name: slot.numpy().copy() for name, slot in zip(names, own, strict=True)}
            for own in (
                [slot for slot in slots if slot.name.endswith("momentum")],
                [slot for slot in slots if slot.name.endswith("velocity")],
            )
        ]

    @staticmethod
    def expected(values: Values, dead: Mapping[str, list[int]]) -> Values:
        """What a reset of these neurons makes of the values that a step has left."""
        return reset(values, dead, FRESH)

    def counts(self) -> Counts:
        return Counts(*(int(getattr(self.wrapper, name)) for name in Counts._fields))

    def report(self) -> na.ActivityReport | None:
        return self.wrapper.last_report

    def scalars(self, prefix: str) -> dict[str, float]:
        return self.wrapper.scalars(prefix)

    def state(self) -> Any:
        """Copy all that a resumed run is given."""
        saved: dict[str, np.ndarray] = {}
        self.wrapper.save_own_variables(saved)
        return self.params(), {name: np.array(value) for name, value in saved.items()}

    def resume(self, state: Any) -> None:
        params, saved = state
        write(self.model, self.native(params))
        self.wrapper.load_own_variables(saved)

    def wrap_again(self) -> None:
        """Wrap the wrapper in another one that resets the same."""
        ReGraMa(self.wrapper, self.model, layout=self.wrapper.layout)

    @staticmethod
    def noise() -> list[float]:
        """Draw from the framework's global generators."""
        return [*tf.random.uniform((3,)).numpy().tolist(), *keras.random.uniform((3,)).numpy().tolist()]
