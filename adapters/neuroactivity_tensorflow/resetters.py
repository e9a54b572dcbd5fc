"""The Keras optimizer that ReGraMa and ReDo are: it passes every step on, counts, measures and resets."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity.report import build_report, describe_alerts
from neuroactivity.wrapping import check_every
from neuroactivity_tensorflow.hosts import in_one_place, on_host
from neuroactivity_tensorflow.initializers import FreshValues, Initializer
from neuroactivity_tensorflow.layouts import layout_of
from neuroactivity_tensorflow.models import Model, dense_gradient, raw
from neuroactivity_tensorflow.optimizers import Moment, as_used, cleared_moments, moments_of, slots_of, written
from neuroactivity_tensorflow.subjects import Bound, Subject
from neuroactivity_tensorflow.wrapping import Wrapping, innermost

__all__ = ["Resetter", "as_tuple"]

_OPTIONS = ("tau", "every", "max_fraction", "reset_silent", "seed")


class Resetter(Wrapping):
    """Measures and resets a model's neurons after every ``every``-th step of the optimizer that it wraps."""

    def __init__(
        self,
        optimizer: Any,
        model: Model | Subject,
        *,
        example_inputs: tuple[Any, ...] | Any = (),
        layout: na.Layout | None = None,
        tau: float = 0.01,
        every: int = 1000,
        max_fraction: float | None = None,
        reset_silent: bool = False,
        initializer: Initializer = "layer",
        moments: Mapping[str, Moment] | None = None,
        seed: int = 0,
        on_report: Callable[[na.ActivityReport], None] | None = None,
        name: str | None = None,
    ) -> None:
        every = check_every(every)
        if initializer not in ("layer", "snapshot") and not callable(initializer):
            raise ValueError(f"initializer: expected 'layer', 'snapshot' or a function, got {initializer!r}")
        na.reset_masks({}, tau, max_fraction=max_fraction)
        writes = max_fraction != 0  # otherwise the wrapper only measures, and any optimizer and layout will do
        optimizer = keras.optimizers.get(optimizer)
        rules = moments_of(innermost(optimizer), moments) if writes else {}
        layout = layout_of(model, *as_tuple(example_inputs)) if layout is None else layout
        if not isinstance(model, Subject):
            model = Subject.of(model, layout, initializer if writes else "snapshot")
        super().__init__(optimizer, name=name)
        self.layout = layout
        self.tau, self.every, self.max_fraction, self.reset_silent = tau, every, max_fraction, reset_silent
        self.initializer, self.seed, self.on_report = initializer, seed, on_report
        self._bound = Bound(model, rules)

    @abstractmethod
    def _measure(self, grads: Mapping[str, Any], owned: na.Layout) -> tuple[dict[str, Any], Any]:
        """Score the groups that this step trains, and say of all groups whether there was anything to score."""

    def build(self, variables: Sequence[Any]) -> None:
        """Make the inner optimizer's variables and one's own, and find the model's parameters among ``variables``."""
        if self.built:
            return
        with tf.init_scope():
            bound = self._bound
            bound.variables = {name: raw(variable) for name, variable in bound.subject.bind(variables).items()}
            bound.owned = self._groups_trained(bound.variables, "optimizer")
            if not bound.owned:
                raise ValueError(
                    "the optimizer trains none of the model's neuron groups; is it the model's own optimizer?"
                )
            shapes = {name: tuple(variable.shape) for name, variable in bound.variables.items()}
            bound.shapes = {name: group.bind(shapes).shape for name, group in bound.owned.items()}
            reset = bound.owned if self.max_fraction != 0 else na.Layout([])
            self.inner_optimizer.build(variables)
            bound.slots = slots_of(innermost(self.inner_optimizer), bound.rules) if reset else {}
            self._add_variables(reset)
            bound.snapshot = dict(zip(self._snapshot_names(reset), self._snapshot, strict=True))
            layers = bound.subject.layers
            bound.fresh = FreshValues(
                bound.variables, reset, self.initializer, layers=layers, snapshot=bound.snapshot, seed=self.seed
            )
            super().build(list(variables))

    def _add_variables(self, reset: na.Layout) -> None:
        """Make the variables that are saved with the optimizer: counts, the last measurement, the snapshot."""
        bound = self._bound
        size = sum(int(np.prod(shape)) for shape in bound.shapes.values())
        wide = any(variable.dtype == tf.float64 for variable in bound.variables.values())
        self._counts = self.add_variable((3,), dtype="int64", name="counts")
        self._scores = self.add_variable((size,), dtype="float64" if wide else "float32", name="scores")
        self._masks = self.add_variable((size,), dtype="bool", name="masks")
        self._present = self.add_variable((len(bound.owned),), dtype="bool", name="present")
        self._snapshot = []
        for name in self._snapshot_names(reset):
            own, label = bound.variables[name], f"{name.replace('/', '_')}_snapshot"
            start = keras.initializers.Constant(own.numpy())
            self._snapshot.append(self.add_variable(own.shape, start, own.dtype.name, name=label))

    def _snapshot_names(self, reset: na.Layout) -> list[str]:
        groups = [group for group in reset.values() if group.resettable] if self.initializer == "snapshot" else []
        return list(dict.fromkeys(view.param for group in groups for view in group.incoming + group.unscored))

    def _groups_trained(self, trained: Collection[str], by: str) -> na.Layout:
        """Return the groups that the optimizer or a step trains: only for those are the right gradients known here."""
        groups = [g for g in self.layout.values() if any(view.param in trained for view in g.incoming)]
        for group in groups if self.max_fraction != 0 else ():
            foreign = [view.param for _, view in group.views if view.param not in trained]
            if foreign and group.resettable:
                raise ValueError(
                    f"group {group.name!r}: a reset would write parameter {foreign[0]!r}, which this {by} does "
                    "not train; mark the group resettable=False, or train both with one optimizer"
                )
        kept = {group.name for group in groups}
        return na.Layout([_without_partners(group, kept) for group in groups])

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Pass a step on to the inner optimizer, count it, and measure and reset when that is due."""
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            self.build(trainable_variables)
        variables = trainable_variables or self._trainable_variables
        owned = self._groups_of_step(variables)
        if grads and self._bound.snapshot:
            in_one_place(self._take_snapshot, {})
        self.inner_optimizer.apply(grads, trainable_variables)
        if not grads:
            return
        self._iterations.assign_add(1)
        given = {id(raw(variable)): gradient for variable, gradient in zip(variables, grads, strict=True)}
        named = {name: given.get(id(variable)) for name, variable in self._bound.variables.items()}
        in_one_place(partial(self._when_due, owned), named)

    def _groups_of_step(self, variables: Sequence[Any]) -> na.Layout:
        """Return the groups that a step trains: layers may have been frozen after the build."""
        bound, given = self._bound, {id(raw(variable)) for variable in variables}
        trained = [name for name, variable in bound.variables.items() if id(variable) in given]
        return bound.owned if len(trained) == len(bound.variables) else self._groups_trained(trained, "step")

    def _take_snapshot(self, grads: Mapping[str, Any], gathered: Callable[[Any], Any]) -> None:
        """Take the snapshot before the first step: what was built may have been given loaded weights since."""

        def take() -> None:
            for name, copy in self._bound.snapshot.items():
                raw(copy).assign(tf.convert_to_tensor(self._bound.variables[name]))

        tf.cond(tf.equal(raw(self._iterations), 0), take, lambda: None)

    def _when_due(self, owned: na.Layout, grads: Mapping[str, Any], gathered: Callable[[Any], Any]) -> None:
        """Measure and reset if a measurement is due, with the gradients of all replicas."""

        def measure_and_reset() -> None:
            variables = self._bound.variables
            dense = {name: dense_gradient(gathered(gradient), variables[name]) for name, gradient in grads.items()}
            self._measure_and_reset(as_used(innermost(self.inner_optimizer), dense), owned)

        tf.cond(raw(self._iterations) % self.every == 0, measure_and_reset, lambda: None)

    def _measure_and_reset(self, grads: Mapping[str, Any], owned: na.Layout) -> None:
        """Measure, reset what is inactive, and keep the outcome for the report."""
        bound = self._bound
        scores, present = self._measure(grads, owned)
        masks = na.reset_masks(scores, self.tau, max_fraction=self.max_fraction, reset_silent=self.reset_silent)
        marked = {name: mask for name, mask in masks.items() if owned[name].resettable}
        count = tf.math.count_nonzero(bound.join(marked, tf.bool))
        if marked and self.max_fraction != 0:
            tf.cond(count > 0, lambda: self._reset(marked, owned), lambda: None)
        self._counts.assign_add(tf.stack([1, tf.cast(count > 0, tf.int64), count]))
        self._scores.assign(bound.join(scores, raw(self._scores).dtype))
        self._masks.assign(bound.join(masks, tf.bool))
        self._present.assign(present)
        if self.on_report is not None:
            own = (self._iterations, self._counts, self._scores, self._masks, self._present)
            on_host(self._tell, [tf.convert_to_tensor(raw(variable)) for variable in own], [], what="on_report")

    def _reset(self, masks: Mapping[str, Any], owned: na.Layout) -> None:
        """Reset the masked neurons: everything is built before the first value is written."""
        bound = self._bound
        assert bound.fresh is not None
        names = written(masks, owned)
        params = {name: tf.convert_to_tensor(bound.variables[name]) for name in names}
        fresh = bound.fresh.draw(raw(self._counts)[1] + 1, sorted(names))
        new = na.reset(params, fresh, masks, owned)
        inner = innermost(self.inner_optimizer)
        pairs = [(bound.variables[name], value) for name, value in new.items()]
        pairs += cleared_moments(inner, bound.rules, bound.slots, bound.variables, new, masks, owned)
        for variable, value in pairs:
            variable.assign(value)

    def _tell(self, *values: Any) -> list[Any]:
        assert self.on_report is not None
        report = self.last_report
        assert report is not None
        self.on_report(report)
        return []

    @property
    def last_report(self) -> na.ActivityReport | None:
        """The latest report, read from the optimizer's variables; ``None`` before the first measurement.

        It warns of each group that cannot be judged, once.
        """
        if not self.measurements:
            return None
        bound = self._bound
        present = {name for name, there in zip(bound.owned, self._present.numpy(), strict=True) if there}
        scores = {name: value for name, value in bound.split(self._scores.numpy()).items() if name in present}
        report = build_report(scores, self.layout, self.tau, masks=bound.split(self._masks.numpy()))
        alerts = {name: alert for name, alert in report.alerts.items() if name not in bound.warned}
        bound.warned |= set(alerts)
        if alerts:
            warnings.warn(describe_alerts(alerts), na.ActivityWarning, stacklevel=2)
        return report

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

    def _count(self, place: int) -> int:
        return int(self._counts.numpy()[place]) if self.built else 0

    def get_config(self) -> dict[str, Any]:
        """Return options, layout, inner optimizer and what is remembered of the model; neither model nor functions.

        ``on_report`` and ``moments`` are not in it.
        """
        own = self.initializer
        return {
            "name": self.name,
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "layout": self.layout.to_dict(),
            **{option: getattr(self, option) for option in _OPTIONS},
            "initializer": own if isinstance(own, str) else keras.saving.serialize_keras_object(own),
            "subject": self._bound.subject.get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Resetter":
        """Build the optimizer that :meth:`get_config` described, without its model."""
        config = dict(config)
        with keras.saving.custom_object_scope(custom_objects or {}):
            optimizer = keras.saving.deserialize_keras_object(config.pop("optimizer"))
            subject = Subject.from_config(config.pop("subject"))
            if not isinstance(config["initializer"], str):
                config["initializer"] = keras.saving.deserialize_keras_object(config["initializer"])
        return cls(optimizer, subject, layout=na.Layout.from_dict(config.pop("layout")), **config)


def as_tuple(inputs: tuple[Any, ...] | list[Any] | Any) -> tuple[Any, ...]:
    """Read model inputs: a tuple or a list of them, or one."""
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _without_partners(group: na.NeuronGroup, kept: set[str]) -> na.NeuronGroup:
    """Drop the partners that are not kept."""
    partners = [partner for partner in group.partners if partner in kept]
    return group if len(partners) == len(group.partners) else na.NeuronGroup(**{**vars(group), "partners": partners})
