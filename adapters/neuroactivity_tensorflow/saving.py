"""What of a wrapper is saved, and what a saved one is checked for before anything is set."""

import inspect
import json
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Self

import keras
import numpy as np

import neuroactivity as na
from neuroactivity.wrapping import COUNTS, ResetOptions, check_same_layout, option, read_counts
from neuroactivity.wrapping.scoring import check_same_score, name_of_score
from neuroactivity_tensorflow.initializers import Initializer
from neuroactivity_tensorflow.optimizers import OptimizerWrapper, is_optimizer_of
from neuroactivity_tensorflow.parameters import assign_all, tf_variable
from neuroactivity_tensorflow.state import BuildState, ModelRecord

_OPTIONS = ("tau", "every", "max_fraction", "reset_silent", "seed")
_NEWER = ("lowest", "start", "stop", "batches", "protect", "outgoing", "clock", "score")  # not in earlier files
_CONFIG = ("name", "optimizer", "layout", *_OPTIONS, "initializer", "model")
_LAYOUT = "layout"


def _option(name: str) -> Any:
    """Make an attribute out of an option; where a compiled step has it already, ``fit`` compiles its step anew."""
    plain = option(name)

    def assign(wrapper: Any, value: Any) -> None:
        changed = plain.fget(wrapper) != value
        model = wrapper._state.record.model
        alone = wrapper._state.compiled_alone or not is_optimizer_of(model, wrapper)
        if changed and wrapper._state.compiled and alone:
            raise ValueError(
                f"{name}: a compiled step goes by the options that it was compiled with; make another wrapper"
            )
        plain.fset(wrapper, value)
        if changed and wrapper._state.compiled:
            model.make_train_function(force=True)

    return property(plain.fget, assign)


class SavedWrapper(OptimizerWrapper):
    """A wrapper that Keras can save and load: its configuration, its counts and its other variables."""

    tau, every, max_fraction = _option("tau"), _option("every"), _option("max_fraction")
    reset_silent, on_report, lowest = _option("reset_silent"), _option("on_report"), _option("lowest")
    start, stop, batches, protect = _option("start"), _option("stop"), _option("batches"), _option("protect")
    outgoing, clock, score = _option("outgoing"), _option("clock"), property(attrgetter("options.score"))
    initializer, seed = property(attrgetter("_initializer")), property(attrgetter("_seed"))

    layout: na.Layout
    options: ResetOptions
    _initializer: Initializer
    _seed: int
    _state: BuildState
    _counts: Any

    @property
    def steps(self) -> int:
        """Steps so far."""
        return int(self._iterations.numpy())

    @property
    def measurements(self) -> int:
        """Measurements so far."""
        return self._count(0)

    @property
    def resets(self) -> int:
        """Measurements that reset at least one neuron."""
        return self._count(1)

    @property
    def neurons_reset(self) -> int:
        """Neurons reset so far."""
        return self._count(2)

    def _count(self, position: int) -> int:
        return int(self._counts.numpy()[position]) if self.built else 0

    def save_own_variables(self, store: Any) -> None:
        """Copy all variables into a mapping, those of the inner optimizer too, and the layout that they belong to."""
        for i, variable in enumerate(self.variables):
            store[str(i)] = np.array(variable.numpy())
        if self.built:
            record = self.layout.to_dict() | ({} if self.score is None else {"score": name_of_score(self.score)})
            store[_LAYOUT] = np.frombuffer(json.dumps(record).encode(), "uint8").copy()

    def load_own_variables(self, store: Any) -> None:
        """Continue from what :meth:`save_own_variables` saved; everything is checked before anything is set.

        What was saved before the first step is left alone, with a warning, as Keras does.

        Raises:
            ValueError: If the state is not of this form, or holds another layout or score.
        """
        if not hasattr(store, "keys"):
            raise ValueError(f"state: expected variables by number, got {type(store).__name__}")
        keys, variables = set(store.keys()), self.variables
        if _LAYOUT in keys and not self.built:
            raise ValueError(
                "state: expected a wrapper that has its variables; call optimizer.build(model.trainable_variables) "
                "before loading"
            )
        if len(keys - {_LAYOUT}) == len(variables) - len(self._state.newer):  # of an earlier version
            variables = [variable for variable in variables if id(variable) not in self._state.newer]
        if _LAYOUT not in keys and len(keys) != len(variables):  # it had not been built, or was no wrapper
            super().load_own_variables(store)
            return
        if _LAYOUT in keys:
            record = _read_layout(np.asarray(store[_LAYOUT]))
            score = record.pop("score", "") if isinstance(record, dict) else ""
            check_same_layout(record, self.layout, source='config["layout"]')
            check_same_score(score, name_of_score(self.score))
        if keys - {_LAYOUT} != set(map(str, range(len(variables)))):
            shown = sorted(map(str, keys))
            raise ValueError(f"state: expected {len(variables)} variables, '0' to '{len(variables) - 1}', got {shown}")
        values = [np.asarray(store[str(i)]) for i in range(len(variables))]
        for i, variable in enumerate(variables):
            if variable is getattr(self, "_seen", None) and values[i].dtype == bool:  # an earlier file: at most once
                values[i] = values[i].astype("int32")
        for i, (variable, value) in enumerate(zip(variables, values, strict=True)):
            where = f"state: variable '{i}' ({variable.name})"
            _check_value(where, variable, value)
            if any(variable is kept for kept in getattr(self, "_snapshot", ())) and not np.isfinite(value).all():
                raise ValueError(f"{where}: expected finite values, got NaN or Inf")
            if variable is getattr(self, "_since", None) and (value < 0).any():
                raise ValueError(f"{where}: expected no negative numbers, got {value.min()}")
        if self.built:
            by_id = {id(variable): value for variable, value in zip(variables, values, strict=True)}
            counts = [by_id[id(self._iterations)].item(), *by_id[id(self._counts)].tolist()]
            read_counts(dict(zip(COUNTS, counts, strict=True)))
        assign_all([(tf_variable(variable), value) for variable, value in zip(variables, values, strict=True)])

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all variables, those of the inner optimizer too, in the order of ``variables``; checked as in loading.

        Raises:
            ValueError: If there is another number of them, or one is not of its form.
        """
        if len(weights) != len(self.variables):
            raise ValueError(f"state: expected {len(self.variables)} variables, got {len(weights)}")
        self.load_own_variables({str(i): np.asarray(value) for i, value in enumerate(weights)})

    def get_config(self) -> dict[str, Any]:
        """Return options, layout, inner optimizer and what is remembered of the model; neither model nor functions.

        ``on_report`` and ``moments`` are not in it.
        """
        return {
            "name": self.name,
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "layout": self.layout.to_dict(),
            **{option: getattr(self, option) for option in _OPTIONS + _NEWER},
            "score": keras.saving.serialize_keras_object(self.score),
            "initializer": keras.saving.serialize_keras_object(self.initializer),
            "model": self._state.record.get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """Build the optimizer that :meth:`get_config` described, without its model, and without a search.

        Raises:
            ValueError: If the configuration is not of this form, or its parts contradict each other.
        """
        config = _known_keys(cls, config)
        try:
            layout = na.Layout.from_dict(config.pop("layout"))
        except na.LayoutError as error:
            raise na.LayoutError(f"config: {error}") from None
        scores = {score.__name__: score for score in na.rules.SCORES}
        with keras.saving.custom_object_scope({**scores, **(custom_objects or {})}):
            optimizer = keras.saving.deserialize_keras_object(config.pop("optimizer"))
            model = ModelRecord.from_config(config.pop("model"))
            for name in ("initializer", "score"):
                if isinstance(config.get(name), Mapping):
                    config[name] = keras.saving.deserialize_keras_object(config[name])
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(f"config: optimizer: expected an optimizer, got {type(optimizer).__name__}")
        model.check_layout(layout)
        return cls(optimizer, model, layout=layout, **config)  # type: ignore[call-arg,arg-type]


def _known_keys(cls: type, config: Any) -> dict[str, Any]:
    """Return a configuration with the keys of this version.

    Raises:
        ValueError: If one is missing or not known.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"config: expected a dictionary, got {type(config).__name__}")
    known: dict[str, Any] = dict(config)
    if "subject" in known:  # the model's name in earlier files
        known["model"] = known.pop("subject")
    own = {*_CONFIG, *_NEWER, *inspect.signature(cls).parameters} - {"options", "subject"}
    missing, unknown = [key for key in _CONFIG[1:] if key not in known], [key for key in known if key not in own]
    if missing or unknown:
        what = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is not known"
        raise ValueError(f"config: {what}; expected the keys {sorted(_CONFIG)}, got {sorted(map(str, known))}")
    return known


def _read_layout(saved: Any) -> Any:
    """Read the layout's JSON values out of a state."""
    try:
        return json.loads(saved.astype("uint8").tobytes().decode())
    except (ValueError, TypeError) as error:
        raise na.LayoutError(f"state: layout: expected JSON, got {error}") from None


def _check_value(where: str, variable: Any, value: Any) -> None:
    """Check that a value can be written to a variable."""
    shape, dtype = tuple(variable.shape), str(variable.dtype)
    if value.shape != shape or _kind(str(value.dtype)) != _kind(dtype):
        raise ValueError(f"{where}: expected shape {shape} and dtype {dtype}, got {value.shape} and {value.dtype}")


def _kind(dtype: str) -> str:
    return "float" if "float" in dtype else dtype.rstrip("0123456789")
