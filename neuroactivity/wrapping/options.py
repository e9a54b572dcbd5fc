"""When a wrapper measures, and what it resets."""

import operator
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict, get_args

from neuroactivity.arrays import Array, Arrays
from neuroactivity.errors import check_choice
from neuroactivity.masks import reset_masks
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping.scoring import Score

Clock: TypeAlias = Literal["own", "run"]
"""How old the optimizer's state of a reset neuron is: as old as the neuron, or as the run."""

Method: TypeAlias = Literal["regrama", "redo", "measure"]
"""What is done in a host: reset by scores of gradients, reset by scores of activations, measure gradients only."""


class Options(TypedDict, total=False):
    """The keyword arguments that all wrappers take, in every framework; :class:`ResetOptions` has their defaults."""

    every: SupportsIndex
    max_fraction: float | None
    reset_silent: bool
    lowest: float | None
    start: SupportsIndex
    stop: SupportsIndex | None
    batches: SupportsIndex
    protect: SupportsIndex
    outgoing: Outgoing
    clock: Clock
    score: Score | None
    initializer: Any
    seed: Any
    on_report: Callable[..., None] | None


class HostOptions(Options, total=False):
    """What a host passes on to the wrappers of its networks; ``on_report`` is called with a name and a report."""

    tau: float


@dataclass(frozen=True, kw_only=True)
class ResetOptions:
    """The options of a wrapper, checked.

    Args:
        tau: Threshold on the score: neurons with a score of at most ``tau`` are reset.
        every: Steps of the optimizer between two measurements.
        max_fraction: At most this part of a group is reset at once; with 0 the wrapper only measures.
        reset_silent: Whether a group without any gradient is reset as a whole.
        lowest: Reset this part of each group at every measurement, those of the lowest scores, whatever ``tau`` says.
        start: The first step at which neurons may be reset; measurements begin at once.
        stop: The last step at which neurons may be reset.
        batches: A score is that of the last so many steps together.
        protect: For so many measurements after its reset a neuron is not reset again.
        outgoing: What the outgoing parameters of a reset neuron become, as :func:`neuroactivity.reset` says.
        clock: ``"own"``: where a reset writes, the optimizer goes on as one made at that moment. ``"run"``: its moments
            start anew and its step count goes on, as in published codes.
        score: What neurons are scored by instead of the wrapper's own score, as :func:`own_scores` calls it.
        on_report: Called with each report.

    Raises:
        ValueError: If an option is out of range, or two contradict each other.
    """

    tau: float = 0.01
    every: SupportsIndex = 1000
    max_fraction: float | None = None
    reset_silent: bool = False
    lowest: float | None = None
    start: SupportsIndex = 0
    stop: SupportsIndex | None = None
    batches: SupportsIndex = 1
    protect: SupportsIndex = 0
    outgoing: Outgoing = "zero"
    clock: Clock = "own"
    score: Score | None = None
    on_report: Callable[[Any], None] | None = None

    def __post_init__(self) -> None:
        numbers = {"every": check_every(self.every), "batches": check_count("batches", self.batches, least=1)}
        numbers |= {name: check_count(name, getattr(self, name)) for name in ("start", "protect")}
        if self.stop is not None:
            numbers["stop"] = check_count("stop", self.stop, least=numbers["start"])
        vars(self).update(numbers)
        if numbers["batches"] > numbers["every"]:
            raise ValueError(f"batches: expected at most every={self.every}, got {self.batches}")
        check_choice("reset_silent", self.reset_silent, (True, False))
        check_choice("outgoing", self.outgoing, get_args(Outgoing))
        check_choice("clock", self.clock, get_args(Clock))
        if self.score is not None and not callable(self.score):
            raise ValueError(f"score: expected a function of gradients or activations and a layout, got {self.score!r}")
        self.masks({})  # raises if a threshold or a fraction is out of range
        if self.on_report is not None and not callable(self.on_report):
            raise ValueError(f"on_report: expected a function of a report or None, got {self.on_report!r}")

    @property
    def writes(self) -> bool:
        """Whether anything is ever reset; if not, any optimizer, layer and layout will do."""
        return self.max_fraction != 0

    def masks(self, scores: Arrays, since: Arrays | None = None) -> dict[str, Array]:
        """Choose the neurons to reset, by :func:`neuroactivity.reset_masks`.

        Args:
            scores: Scores by group name.
            since: Measurements since each neuron's last reset; a group may be absent.
        """
        held = {
            name: ages < int(self.protect) for name, ages in (since or {}).items() if name in scores and self.protect
        }
        limits: dict[str, Any] = {"max_fraction": self.max_fraction, "lowest": self.lowest}
        return reset_masks(scores, self.tau, reset_silent=self.reset_silent, protected=held, **limits)

    def resets_at(self, step: Any) -> Any:
        """Whether neurons may be reset at this step: neither before ``start`` nor after ``stop``."""
        return (step >= self.start) & (True if self.stop is None else step <= self.stop)

    def collects_at(self, step: Any) -> Any:
        """Whether the magnitudes of this step take part in a score, where it is one of several batches."""
        return (-step) % self.every < self.batches

    def batch_at(self, step: Any) -> Any:
        """Which of the batches of a score this step's is, counted from 1."""
        return self.batches - (-step) % self.every


def check_host_options(method: Method, options: HostOptions) -> ResetOptions:
    """Check what a host's callback is given, before the host begins to train.

    Raises:
        TypeError: If an option is not known.
        ValueError: If one is out of range.
    """
    check_choice("method", method, get_args(Method))
    most: Any = 0 if method == "measure" else options.get("max_fraction")
    given = {"tau": 0.02 if method == "redo" else 0.01, **options, "max_fraction": most}
    return ResetOptions(**{name: given[name] for name in given.keys() - {"initializer", "seed"}})


def check_networks(networks: Any, known: Collection[str] = ()) -> None:
    """Raise unless ``networks`` are names of some networks, of those that are known if there are any, or ``None``.

    Raises:
        ValueError: If they are not.
    """
    if networks is None:
        return
    listed = isinstance(networks, Collection) and not isinstance(networks, str)
    if not listed or not networks or not all(isinstance(name, str) for name in networks):
        raise ValueError(f"networks: expected names in a list, or None for all, got {networks!r}")
    if known and (unknown := sorted(set(networks) - set(known))):
        raise ValueError(f"networks: expected some of {', '.join(known)}, got {', '.join(unknown)}")


def option(name: str) -> Any:
    """Make an attribute of a wrapper out of one of its ``options``; what is assigned to it is checked.

    Example:
        >>> class Wrapper:
        ...     tau = option("tau")
        ...     options = ResetOptions(tau=0.5)
        >>> wrapper = Wrapper()
        >>> wrapper.tau = 0.25
        >>> wrapper.options.tau
        0.25
    """

    def assign(wrapper: Any, value: Any) -> None:
        wrapper.options = replace(wrapper.options, **{name: value})

    return property(operator.attrgetter(f"options.{name}"), assign)


def is_due(step: Any, *, every: SupportsIndex) -> Any:
    """Whether a measurement is due at the ``step``-th wrapped step, counted from 1: at every multiple of ``every``.

    Example:
        >>> [step for step in range(1, 7) if is_due(step, every=3)]
        [3, 6]
    """
    return step % every == 0


def check_every(every: SupportsIndex) -> int:
    """Return the number of steps from one measurement to the next as Python's own whole number.

    Raises:
        ValueError: If it is not a whole number of 1 or more.

    Example:
        >>> import numpy as np
        >>> check_every(np.int64(1000))
        1000
    """
    return check_count("every", every, least=1, what="a whole number of steps")


def check_count(name: str, value: Any, *, least: int = 0, what: str = "a whole number") -> int:
    """Return an option that counts something as Python's own whole number.

    Raises:
        ValueError: If it is no whole number, or less than ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}: expected {what} of {least} or more, got {value!r}")
    return number


def check_seed(seed: SupportsIndex) -> int:
    """Return a seed as Python's own whole number.

    Raises:
        ValueError: If it is not a whole number.
    """
    try:
        return operator.index(seed)
    except TypeError:
        raise ValueError(f"seed: expected a whole number, got {seed!r}") from None


def check_initializer(initializer: Any, *names: str) -> None:
    """Raise unless an initialiser is one of those that have a name, or a function.

    Raises:
        ValueError: If it is neither.
    """
    if not callable(initializer) and initializer not in names:
        expected = ", ".join(map(repr, names))
        raise ValueError(f"initializer: expected {expected} or a function from a key, got {initializer!r}")


def as_inputs(inputs: Any) -> tuple[Any, ...]:
    """Return the inputs of a model, one or a tuple or list of them, as a tuple."""
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
