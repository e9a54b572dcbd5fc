"""What a wrapper keeps: of the model names, shapes and initialisers, and what building ties to variables.

A saved wrapper is built again without its model. Its variables then come as a bare list, in the order in which Keras
hands the same list to the optimizer's own slots; names and shapes are paired with it in that order and checked. Of
``variable.path`` only the ending is checked, without numbers, and only against an exchange: a loaded copy has lost the
names in front, ``dense_3`` has become ``dense_5``, and a copy may have other names.
"""

import operator
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping import drawn_views, note_outside, written_params
from neuroactivity_tensorflow.clock import OwnClock
from neuroactivity_tensorflow.initializers import FreshValues, Initializer, RebuiltLayer
from neuroactivity_tensorflow.optimizers import Moment
from neuroactivity_tensorflow.parameters import Model, is_frozen, owner_of, tf_variable, variables_of
from neuroactivity_tensorflow.slots import Member


class _VariableRecord(NamedTuple):
    """What is remembered of a variable that the optimizer trains.

    Attributes:
        name: Its name in the model; ``None`` if it is not the model's.
        shape: Its shape.
        ending: The ending of its path, empty if it has none.
    """

    name: str | None
    shape: tuple[int, ...]
    ending: str

    @classmethod
    def of(cls, name: str | None, variable: Any) -> "_VariableRecord":
        """Describe a variable: of its path the layer's name and its own, without Keras's numbers."""
        ending = "/".join(getattr(variable, "path", "").split("/")[-2:])
        return cls(name, tuple(variable.shape), re.sub(r"_\d+(?=[_/]|$)", "", ending))

    @classmethod
    def read(cls, name: Any, shape: Any, ending: Any) -> "_VariableRecord":
        """Read what a configuration holds of a variable."""
        sizes = tuple([operator.index(size) for size in shape])
        if not isinstance(name, str | None) or not isinstance(ending, str) or min(sizes, default=0) < 0:
            raise ValueError(f"{[name, shape, ending]}")
        return cls(name, sizes, ending)


class ModelRecord:
    """A model that is measured and reset, or what a configuration remembers of it.

    Args:
        model: The model; ``None`` if it is only remembered.
        parameters: What the optimizer trains, in its order.
        layers: The layers that draw fresh values, by path.
    """

    def __init__(
        self, model: Model | None, parameters: Sequence[_VariableRecord], layers: Mapping[str, RebuiltLayer]
    ) -> None:
        self.model, self.layers = model, layers
        self._parameters = parameters
        self._seen: Mapping[str, Any] = {}

    @classmethod
    def of(
        cls, model: Model, layout: na.Layout, initializer: Initializer, *, outgoing: Outgoing = "zero"
    ) -> "ModelRecord":
        """Describe a model as far as a layout and an initializer need it.

        Raises:
            ValueError: If a layer cannot be built again from its configuration.
        """
        named = variables_of(model)
        layout.validate(named)
        trained = model.values() if isinstance(model, Mapping) else model.trainable_variables
        names = {id(variable): name for name, variable in named.items()}
        drawn = drawn_views(layout, {name: tuple(v.shape) for name, v in named.items()}, outgoing=outgoing)
        layers: dict[str, RebuiltLayer] = {}
        for param in drawn if initializer == "layer" else ():
            path = param.rpartition("/")[0]
            if path not in layers:
                layers[path] = _rebuild_owner(param, owner_of(model, param))
        record = cls(model, [_VariableRecord.of(names[id(variable)], variable) for variable in trained], layers)
        record._seen = named
        return record

    def trained(self) -> list[Any]:
        """Return the ``tf.Variable`` that are trained; none if the model is only remembered."""
        return [tf_variable(variable) for variable in self._seen.values() if not is_frozen(variable)]

    def written(self, layout: na.Layout) -> list[Any]:
        """Return the ``tf.Variable`` that resets may write; none if the model is only remembered."""
        return [tf_variable(self._seen[name]) for name in written_params(layout, layout) if name in self._seen]

    def changes(self) -> tuple[list[str], list[str]]:
        """Name the model's parameters that have been replaced or removed, and those that have been added, since."""
        named = variables_of(self.model) if self._seen else {}
        gone = [name for name, variable in self._seen.items() if named.get(name) is not variable]
        return gone, [name for name in named if name not in self._seen]

    def bind(self, variables: Sequence[Any]) -> dict[str, Any]:
        """Name the variables that the optimizer trains: by identity, or by order if the model is only remembered.

        Raises:
            LayoutError: If they are not those that the configuration remembers.
        """
        if self.model is not None:
            names = {id(tf_variable(variable)): name for name, variable in variables_of(self.model).items()}
            self._parameters = [_VariableRecord.of(names.get(id(tf_variable(v))), v) for v in variables]
        records = self._parameters
        if len(variables) != len(records):
            raise na.LayoutError(f"expected the {len(records)} variables that were saved, got {len(variables)}")
        endings = {record.ending for record in records}
        for record, variable in zip(records, variables, strict=True):
            got = _VariableRecord.of(record.name, variable)
            where = f"parameter {record.name!r}" if record.name else "a variable of no group"
            if got.shape != record.shape:
                raise na.LayoutError(f"{where}: expected the saved shape {record.shape}, got {got.shape}")
            if got.ending != record.ending and got.ending in endings:
                raise na.LayoutError(
                    f"{where}: expected the saved variable {record.ending!r}, got {variable.path!r}; give the "
                    "variables in the order in which they were saved"
                )
        return {record.name: v for record, v in zip(records, variables, strict=True) if record.name is not None}

    def get_config(self) -> dict[str, Any]:
        """Return what is remembered as JSON values."""
        return {
            "parameters": [[name, list(shape), ending] for name, shape, ending in self._parameters],
            "layers": {path: layer.record for path, layer in self.layers.items()},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ModelRecord":
        """Read what :meth:`get_config` wrote.

        Raises:
            ValueError: If the configuration is not of that form, or a layer cannot be built from it.
        """
        if not isinstance(config, Mapping) or set(config) != {"parameters", "layers"}:
            got = sorted(map(str, config)) if isinstance(config, Mapping) else type(config).__name__
            raise ValueError(f"config: model: expected the keys ['layers', 'parameters'], got {got}")
        try:
            parameters = [_VariableRecord.read(*entry) for entry in config["parameters"]]
        except (TypeError, ValueError) as error:
            raise ValueError(f"config: model: parameters: expected [name, shape, ending], got {error}") from None
        try:
            layers = {str(path): RebuiltLayer(record) for path, record in config["layers"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"config: model: layers: expected layers as Keras saves them, got {error!r}") from error
        return cls(None, parameters, layers)

    def check_layout(self, layout: na.Layout) -> None:
        """Check a layout against the remembered parameters; what the optimizer does not train is not among them.

        Raises:
            LayoutError: If it is the layout of another model.
        """
        shapes = {name: shape for name, shape, _ in self._parameters if name is not None}
        known = [group for group in layout.values() if all(view.param in shapes for _, view in group.views)]
        if not any(view.param in shapes for group in layout.values() for view in group.incoming):
            raise na.LayoutError(
                f"config: layout: expected parameters of the saved model, {', '.join(list(shapes)[:8])}; it has none"
            )
        try:
            for group in known:
                group.bind({view.param: shapes[view.param] for _, view in group.views})
        except na.LayoutError as error:
            raise na.LayoutError(f"config: layout: {error}") from None


def _rebuild_owner(param: str, owner: Any) -> RebuiltLayer:
    """Rebuild the layer that holds a parameter."""
    try:
        if owner is None:
            raise ValueError("it is in no layer")
        return RebuiltLayer.of(owner)
    except ValueError as error:
        raise ValueError(
            f"parameter {param!r}: initializer='layer' cannot draw fresh values for it: {error}; use "
            "initializer='snapshot' or a function from a key to fresh parameters"
        ) from error


def remark_outsiders(layout: na.Layout, record: ModelRecord) -> na.Layout:
    """Say in the reason of proved groups that the optimizer trains parameters which the proof has not seen."""
    number = sum(name is None for name, _, _ in record._parameters)
    return layout if record.model is None else note_outside(layout, number, type(record.model).__name__)


@dataclass
class BuildState:
    """What building ties to variables: a plain object, which neither Keras nor TensorFlow tracks or saves.

    Args:
        record: What is known of the model.
        moments: The user's initial values of slots.
        trained: The groups that the optimizer trains.
        variables: The parameters' ``tf.Variable`` by name.
        shapes: The shape of each group's scores.
        constraints: The parameters' constraints.
        writes: Whether it was built to reset, and not only to measure.
        members: The optimizers that make the steps, with their slots.
        clocks: The clocks of what was reset not long ago, one for each member that needs one.
        snapshot: The ``tf.Variable`` that keep the initial values, by parameter.
        fresh: The source of fresh values.
        newer: Which of the wrapper's variables are not in files of earlier versions.
        made_with: The clock, and what outgoing parameters become, that it was built for.
        warned: Groups that have been warned of.
        compiled: Whether a step has been compiled, with the options of that time.
        compiled_alone: Whether that was a step of the user's, and not one of ``fit``.
    """

    record: ModelRecord
    moments: Mapping[str, Moment] | None
    trained: na.Layout = field(default_factory=lambda: na.Layout([]))
    variables: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    constraints: Mapping[str, Any] = field(default_factory=dict)
    writes: bool = False
    members: Sequence[Member] = ()
    clocks: Sequence[OwnClock] = ()
    snapshot: Mapping[str, Any] = field(default_factory=dict)
    fresh: FreshValues | None = None
    newer: Collection[int] = ()
    made_with: tuple[str, str] = ("own", "zero")
    warned: set[str] = field(default_factory=set)
    compiled: bool = False
    compiled_alone: bool = False

    def check_model(self) -> None:
        """See whether the model still is what it was when the wrapper was made; warn once of what has been added.

        Raises:
            ValueError: If a parameter has been replaced.
        """
        gone, added = self.record.changes()
        if gone:
            raise ValueError(
                f"parameter {gone[0]!r} was replaced or removed after this wrapper was made; make a new optimizer and "
                "a new wrapper for the model as it is now"
            )
        if not self.warned.issuperset(added):
            self.warned.update(added)
            names = ", ".join(map(repr, added[:8]))
            warnings.warn(
                f"parameters were added to the model after this wrapper was made: {names}; what they read is unknown, "
                "and the layout may be wrong",
                na.ActivityWarning,
                stacklevel=2,
            )

    def split(self, flat: Any) -> dict[str, Any]:
        """Split an array of all groups' values, or a tensor, into the groups' arrays."""
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        numpy = isinstance(flat, np.ndarray)
        parts = np.split(flat, np.cumsum(sizes)[:-1]) if numpy else tf.split(flat, sizes)
        reshape = np.reshape if numpy else tf.reshape
        return {name: reshape(part, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def join(self, values: Mapping[str, Any], dtype: Any) -> Any:
        """Join the groups' values in one tensor, with zeros for a group without values."""
        parts = [values.get(name, tf.zeros(shape, dtype)) for name, shape in self.shapes.items()]
        return tf.concat([tf.reshape(tf.cast(part, dtype), [-1]) for part in parts], axis=0)
