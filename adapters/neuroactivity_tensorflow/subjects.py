"""What a wrapper keeps of the model that it resets: names, shapes and initialisers, never the model's state.

A saved wrapper is built again without its model. Its variables then come as a bare list, in the order in which Keras
hands the same list to the optimizer's own slots; names and shapes are paired with it in that order and checked. Of
``variable.path`` only the ending is checked, without numbers, and only against an exchange: a loaded copy has lost the
names in front, ``dense_3`` has become ``dense_5``, and a copy may bear other names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity_tensorflow.initializers import FreshValues, Initializer, RebuiltLayer
from neuroactivity_tensorflow.models import Model, owner_of, raw, variables_of
from neuroactivity_tensorflow.optimizers import Moment, Slots

__all__ = ["Bound", "Subject"]


class Trained(NamedTuple):
    """What is remembered of a variable that the optimizer trains: its name in the model, ``None`` if it is of another.

    Args:
        name: Its name.
        shape: Its shape.
        ending: The ending of its path, or nothing if it has none.
    """

    name: str | None
    shape: tuple[int, ...]
    ending: str

    @classmethod
    def of(cls, name: str | None, variable: Any) -> "Trained":
        """Describe a variable: of its path the layer's name and its own, without Keras's numbers."""
        ending = "/".join(getattr(variable, "path", "").split("/")[-2:])
        return cls(name, tuple(variable.shape), re.sub(r"_\d+(?=[_/]|$)", "", ending))


class Subject:
    """A model that is measured and reset, or what a configuration remembers of it.

    Args:
        model: The model; ``None`` if it is only remembered.
        parameters: What the optimizer trains, in its order.
        layers: The layers that draw fresh values, by path.
    """

    def __init__(
        self,
        model: Model | None,
        parameters: Sequence[Trained],
        layers: Mapping[str, RebuiltLayer],
    ) -> None:
        self.model, self.layers = model, layers
        self._parameters = parameters

    @classmethod
    def of(cls, model: Model, layout: na.Layout, initializer: Initializer) -> "Subject":
        """Describe a model as far as a layout and an initializer need it.

        Raises:
            ValueError: If a layer cannot be built again from its configuration.
        """
        named = variables_of(model)
        layout.validate(named)
        trained = model.values() if isinstance(model, Mapping) else model.trainable_variables
        names = {id(variable): name for name, variable in named.items()}
        drawn = [view for group in layout.values() if group.resettable for view in group.incoming + group.unscored]
        layers: dict[str, RebuiltLayer] = {}
        for view in drawn if initializer == "layer" else ():
            path, owner = view.param.rpartition("/")[0], owner_of(model, view.param)
            if path not in layers:
                layers[path] = _rebuilt(view.param, owner)
        return cls(model, [Trained.of(names[id(variable)], variable) for variable in trained], layers)

    def bind(self, variables: Sequence[Any]) -> dict[str, Any]:
        """Return the variables that the optimizer trains by name: by identity, or as the model is only remembered.

        Raises:
            LayoutError: If they are not those that the configuration remembers.
        """
        if self.model is not None:
            names = {id(raw(variable)): name for name, variable in variables_of(self.model).items()}
            self._parameters = [Trained.of(names.get(id(raw(variable))), variable) for variable in variables]
        saved = self._parameters
        if len(variables) != len(saved):
            raise na.LayoutError(f"expected the {len(saved)} variables that were saved, got {len(variables)}")
        endings = {own.ending for own in saved}
        for own, variable in zip(saved, variables, strict=True):
            got = Trained.of(own.name, variable)
            where = f"parameter {own.name!r}" if own.name else "a variable of no group"
            if got.shape != own.shape:
                raise na.LayoutError(f"{where}: expected the saved shape {own.shape}, got {got.shape}")
            if got.ending != own.ending and got.ending in endings:
                raise na.LayoutError(
                    f"{where}: expected the saved variable {own.ending!r}, got {variable.path!r}; give the variables "
                    "in the order in which they were saved"
                )
        return {own.name: variable for own, variable in zip(saved, variables, strict=True) if own.name is not None}

    def get_config(self) -> dict[str, Any]:
        """Return what is remembered as JSON values."""
        return {
            "parameters": [[own.name, list(own.shape), own.ending] for own in self._parameters],
            "layers": {path: layer.record for path, layer in self.layers.items()},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Subject":
        """Remember what :meth:`get_config` wrote down."""
        layers = {path: RebuiltLayer(record) for path, record in config["layers"].items()}
        return cls(None, [Trained(name, tuple(shape), ending) for name, shape, ending in config["parameters"]], layers)


def _rebuilt(param: str, owner: Any) -> RebuiltLayer:
    """Build the layer of a parameter once more."""
    try:
        if owner is None:
            raise ValueError("it is in no layer")
        return RebuiltLayer.of(owner)
    except ValueError as error:
        raise ValueError(
            f"parameter {param!r}: initializer='layer' cannot draw fresh values for it: {error}; use "
            "initializer='snapshot' or a function from a key to fresh parameters"
        ) from error


@dataclass
class Bound:
    """What building ties to variables: a plain object, which neither Keras nor TensorFlow tracks or saves.

    Args:
        subject: What is known of the model.
        rules: What the inner optimizer's slots start with.
        owned: The groups that the optimizer trains.
        variables: The parameters' ``tf.Variable`` by name.
        shapes: The shape of each group's scores.
        slots: The inner optimizer's slots.
        snapshot: The variables that keep a snapshot, by parameter.
        fresh: The source of fresh values.
        warned: Groups that have been warned of.
    """

    subject: Subject
    rules: Mapping[str, Moment]
    owned: na.Layout = field(default_factory=lambda: na.Layout([]))
    variables: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    slots: Slots = field(default_factory=dict)
    snapshot: Mapping[str, Any] = field(default_factory=dict)
    fresh: FreshValues | None = None
    warned: set[str] = field(default_factory=set)

    def split(self, flat: Any) -> dict[str, Any]:
        """Take the groups' values out of one array of all."""
        starts = np.cumsum([0, *(int(np.prod(shape)) for shape in self.shapes.values())])
        return {
            name: np.reshape(flat[start : start + int(np.prod(shape))], shape)
            for (name, shape), start in zip(self.shapes.items(), starts, strict=False)
        }

    def join(self, values: Mapping[str, Any], dtype: Any) -> Any:
        """Put the groups' values into one tensor; of a group without values zeros."""
        parts = [values.get(name, tf.zeros(shape, dtype)) for name, shape in self.shapes.items()]
        return tf.concat([tf.reshape(tf.cast(part, dtype), [-1]) for part in parts], axis=0)
