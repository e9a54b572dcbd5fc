"""A reset neuron's own clock: where a reset writes, the optimizer goes on as one that was made at that moment.

No update is written here a second time. While a reset is young, the optimizer takes each of its steps once more, from
where it stood before and with its count of steps replaced by the age of the entries that the reset wrote, and those
entries keep the outcome. After :data:`neuroactivity.wrapping.clock.YOUNG` steps their moments are handed over, and the
count of the run does for them too.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import optimizers

import neuroactivity as na
from neuroactivity.arrays import no_autograph
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping import written_params
from neuroactivity.wrapping.clock import YOUNG, handing_over_factor
from neuroactivity_tensorflow.graphs import apart
from neuroactivity_tensorflow.optimizers import is_known
from neuroactivity_tensorflow.parameters import assign_all, tf_variable
from neuroactivity_tensorflow.slots import Member, twin_of

_ADAM = {"momentum": "beta_1", "velocity": "beta_2", "velocity_hat": "beta_2"}
_CORRECTED: dict[type, Mapping[str, str]] = {
    optimizers.Adam: _ADAM,
    optimizers.AdamW: _ADAM,
    optimizers.Adamax: {"momentum": "beta_1"},
    optimizers.Nadam: {"velocity": "beta_2"},  # its momentum is corrected by a product that has vanished by then
}
"""Optimizers whose count of steps corrects a bias: the slots that it corrects, and where their decay stands."""

_NEWER: dict[str, Mapping[str, str]] = {  # not in every version of Keras
    "Muon": {"momentum": "adam_beta_1", "velocity": "adam_beta_2"},
    "ScheduleFreeAdamW": {"velocity": "beta_2"},
}
_CORRECTED |= {getattr(optimizers, name): slots for name, slots in _NEWER.items() if hasattr(optimizers, name)}

_STEP = "_distributed_tf_update_step"  # Keras's, called with gradients as they are used, after the decay of weights


def corrects_bias(optimizer: Any) -> bool:
    """Whether an optimizer's count of steps corrects the bias of its moments, so that a reset needs a clock."""
    return type(optimizer) in _CORRECTED and not getattr(optimizer, "warmup_steps", 0)


def warn_of_counts(found: Sequence[Any], warned: set[str], *, stacklevel: int) -> None:
    """Name the optimizers whose steps depend on how many they have made, and which cannot have an own clock, once."""
    for optimizer in found:
        name = f"optimizer {type(optimizer).__name__}"
        if name in warned:
            continue
        if type(optimizer) is optimizers.Lamb:
            why = "mixes all entries of a parameter in each step"
        elif type(optimizer) in _CORRECTED and not corrects_bias(optimizer):
            why = "warms up by its step count"
        elif not is_known(optimizer) and _counts_steps(optimizer):
            why = "keeps a step count, and what that corrects is not known"
        else:
            continue
        warned.add(name)
        warnings.warn(
            f'{name} {why}: reset neurons go by the clock of the run, as with clock="run"',
            na.ActivityWarning,
            stacklevel=stacklevel + 1,
        )


def _counts_steps(optimizer: Any) -> bool:
    """Whether the first step of an optimizer like this one differs from its thousandth; True if that cannot be told."""
    outcomes = []
    for count in (0, 999):
        try:
            variable, twin = keras.Variable(tf.ones((2, 2))), twin_of(optimizer)
            twin.build([variable])
            twin._iterations.assign(count)
            twin._backend_update_step([tf.ones((2, 2))], [variable], 0.5)
        except Exception:  # it is the user's
            return True
        after = [variable, *(slot for slot in twin.variables if slot is not twin._iterations)]
        outcomes.append([value.numpy() for value in after])
    return not all(map(np.array_equal, *outcomes))


@dataclass(eq=False)
class OwnClock:
    """Corrects the steps of one optimizer at the entries that resets wrote not long ago.

    Args:
        member: The optimizer.
        variables: The model's ``tf.Variable`` by name.
        layout: The groups that are reset.
        outgoing: What a reset makes of outgoing parameters.
        split: From one number for each neuron to arrays by group.
        born: For each neuron the optimizer's count of steps at the last reset.
        latest: The largest of them.
    """

    member: Member
    variables: Mapping[str, Any]
    layout: na.Layout
    outgoing: Outgoing
    split: Callable[[Any], dict[str, Any]]
    born: Any
    latest: Any
    _entered: int = field(default=0, init=False)
    _outer: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        optimizer, _, slots = self.member
        decays = {slot: getattr(optimizer, beta) for slot, beta in _CORRECTED[type(optimizer)].items()}
        self._held: dict[str, list[tuple[Any, float | None]]] = {}
        for name in written_params(self.layout, self.layout, outgoing=self.outgoing):
            variable = self.variables[name]
            own = {slot: tf_variable(by_id[id(variable)]) for slot, by_id in slots.items() if id(variable) in by_id}
            if own and not ("velocity" in decays and "velocity" not in own):  # Muon corrects no bias where it has none
                moved = [(held, decays.get(slot)) for slot, held in own.items() if slot != "average"]
                self._held[name] = [(variable, None), *moved]

    def start(self, mask: Any) -> list[tuple[Any, Any]]:
        """Return what to write when neurons are reset, by a mask of all: pairs of a ``tf.Variable`` and its value."""
        count, born = self._count(), tf_variable(self.born)
        return [(born, tf.where(mask, count, tf.convert_to_tensor(born))), (tf_variable(self.latest), count)]

    def _count(self) -> Any:
        return tf.cast(tf.convert_to_tensor(tf_variable(self.member.optimizer._iterations)), tf.int64)

    def __enter__(self) -> None:
        """Correct the optimizer's steps from now on; replicas enter one after the other, before any of them steps."""
        self._entered += 1
        if self._entered == 1:
            optimizer = vars(self.member.optimizer)
            step, self._outer = getattr(self.member.optimizer, _STEP), optimizer.get(_STEP)

            def corrected(distribution: Any, pairs: Sequence[tuple[Any, Any]], rate: Any) -> None:
                self._step(lambda: step(distribution, pairs, rate), distribution, pairs, rate)

            optimizer[_STEP] = corrected

    def __exit__(self, *error: object) -> None:
        self._entered -= 1
        if not self._entered:
            optimizer = vars(self.member.optimizer)
            del optimizer[_STEP]
            optimizer |= {} if self._outer is None else {_STEP: self._outer}

    @no_autograph
    def _step(self, step: Callable[[], Any], distribution: Any, pairs: Sequence[tuple[Any, Any]], rate: Any) -> None:
        """Take a step; once more, for the entries that are young, if there are any."""
        ids = {id(tf_variable(self.variables[name])) for name in self._held}
        own = [pair for pair in pairs if id(pair[1]) in ids]

        def again() -> None:
            if own:
                type(self.member.optimizer)._distributed_tf_update_step(self.member.optimizer, distribution, own, rate)

        held = [(name, *entry) for name, entries in self._held.items() for entry in entries]  # without gradients, too
        young = self._count() - tf_variable(self.latest) < YOUNG
        tf.cond(young, apart(lambda: self._correct(step, again, held)), lambda: _nothing(step))

    def _correct(self, step: Callable[[], Any], again: Callable[[], Any], held: Sequence[tuple[str, Any, Any]]) -> None:
        """Take a step, and the same with other counts, from the oldest reset that is young to the latest."""
        count, born = self._count(), tf.convert_to_tensor(tf_variable(self.born))
        variables = [variable for _, variable, _ in held]
        before = _values(variables)
        step()

        def oldest(below: Any) -> Any:
            ages = count - born
            return tf.reduce_max(tf.where((ages >= 0) & (ages < below), ages, -1))

        def body(age: Any, *values: Any) -> Any:
            assign_all(zip(variables, before, strict=True))
            with self._aged(age):
                again()
            outcome = self._handed_over(_values(variables), held, count + 1, age + 1)
            untouched = self._untouched(born == count - age, {name for name, _, _ in held})
            kept = zip(held, values, outcome, strict=True)
            return [oldest(age), *(tf.where(untouched[name], old, new) for (name, *_), old, new in kept)]

        stepped = _values(variables)
        loop = [oldest(tf.constant(YOUNG, tf.int64)), *stepped]
        try:
            _, *values = tf.while_loop(lambda age, *_: age >= 0, body, loop)
        except BaseException:
            assign_all(zip(variables, stepped if tf.executing_eagerly() else (), strict=False))
            raise
        assign_all(zip(variables, values, strict=True))

    def _untouched(self, mask: Any, names: set[str]) -> dict[str, Any]:
        """Return where a reset of these neurons does not write."""
        whole = {view.param for group in self.layout.values() for _, view in group.views}
        ones = {name: tf.ones(self.variables[name].shape, tf.bool) if name in names else None for name in whole}
        return na.reset_moments(ones, self.split(mask), self.layout, outgoing=self.outgoing)

    @staticmethod
    def _handed_over(values: Sequence[Any], held: Sequence[tuple[str, Any, Any]], count: Any, age: Any) -> list[Any]:
        """Make moments those of the run's count, once they are old enough."""
        new = []
        for value, (_, _, decay) in zip(values, held, strict=True):
            if decay is not None:
                dtype = tf.float64 if value.dtype == tf.float64 else tf.float32
                factor = tf.cast(handing_over_factor(decay, tf.cast(count, dtype), YOUNG), dtype)
                factor = tf.where(age == YOUNG, factor, tf.ones_like(factor))
                value = tf.cast(tf.cast(value, dtype) * factor, value.dtype)
            new.append(value)
        return new

    @contextmanager
    def _aged(self, age: Any) -> Iterator[None]:
        """Let the optimizer count from a reset."""
        optimizer = vars(self.member.optimizer)
        counts = {"_iterations": age}
        if "_u_product" in optimizer:  # Nadam's
            counts["_u_product"] = self._u_product(optimizer["_u_product"].dtype, age)
        kept = {name: optimizer[name] for name in counts}
        optimizer.update(counts)
        try:
            yield
        finally:
            optimizer.update(kept)

    def _u_product(self, dtype: str, age: Any) -> Any:
        """Return what Nadam's product of decays is in the step after ``age`` others."""
        steps = tf.range(1, YOUNG + 1, dtype=tf.float64)
        decays = self.member.optimizer.beta_1 * (1 - 0.5 * tf.constant(0.96, tf.float64) ** steps)
        return tf.cast(tf.math.cumprod(decays)[age], dtype)


def _nothing(step: Callable[[], Any]) -> None:
    step()


def _values(variables: Sequence[Any]) -> list[Any]:
    return [tf.convert_to_tensor(variable) for variable in variables]
