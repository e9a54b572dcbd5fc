"""What a wrapper is attached to: a model, the optimizers that train it, and what resets may write of it."""

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Literal, Unpack
from weakref import WeakSet

from torch import Tensor, nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.arrays import is_sharded
from neuroactivity.errors import check_choice
from neuroactivity.wrapping import (
    Options,
    ResetOptions,
    as_inputs,
    check_searched,
    derive_key,
    name_of_score,
    note_outside,
    option,
    trained_groups,
    written_params,
)
from neuroactivity_torch.changes import fitting_groups, trained_parameters, warn_of_changes
from neuroactivity_torch.clock import Clock
from neuroactivity_torch.devices import check_wrapping, reshard, unwrapped
from neuroactivity_torch.hooks import Hooks
from neuroactivity_torch.initializers import FreshValues
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.measurements import Measurement
from neuroactivity_torch.memory import Memory
from neuroactivity_torch.optimizers import Moment, steppers
from neuroactivity_torch.parameters import UsedGradient, parameters
from neuroactivity_torch.ranks import ProcessGroup, Ranks, fingerprint
from neuroactivity_torch.storage import check_memory


class Attached(ABC):
    """A model, its optimizers and the options of a wrapper; looks up what is trained now."""

    tau, every, max_fraction = option("tau"), option("every"), option("max_fraction")
    reset_silent, on_report, lowest = option("reset_silent"), option("on_report"), option("lowest")
    start, stop, batches, protect = option("start"), option("stop"), option("batches"), option("protect")
    outgoing, clock, score = option("outgoing"), option("clock"), property(attrgetter("options.score"))
    _own_score: Callable[..., Any]
    _reads_outputs = False
    """Whether scores need to know who reads the neurons, so that a layout that is only listed will not do."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        example_inputs: tuple[Any, ...] | Tensor = (),
        layout: na.Layout | None = None,
        tau: float = 0.01,
        moments: Mapping[str, Moment] | None = None,
        process_group: ProcessGroup | Literal[False] | None = None,
        check_ranks: bool = False,
        **options: Unpack[Options],
    ) -> None:
        given: dict[str, Any] = {**options}
        initializer, seed = given.pop("initializer", "layer"), given.pop("seed", 0)
        given["score"] = None if given.get("score") is self._own_score else given.get("score")
        self._options = ResetOptions(tau=tau, **given)
        self._scored_by = name_of_score(self.options.score)
        writes = self._writes = self.options.writes
        check_choice("check_ranks", check_ranks, (True, False))
        alone = not (writes or self._reads_outputs)
        self._ranks, self._check_ranks = Ranks() if alone else Ranks.of(model, process_group), check_ranks
        model = unwrapped(model)
        check_wrapping(model)
        reshard(model)
        self.model, self.optimizer = model, optimizer
        self._steppers = steppers(optimizer, moments, writes=writes)
        self.layout = self._find_layout(as_inputs(example_inputs), layout)
        self._reported = self.layout  # as it is reset now
        self._latest: Measurement | None = None
        self.steps = self.measurements = self.resets = self.neurons_reset = 0
        self._stepped: dict[int, UsedGradient] = {}
        self._gradients: dict[int, Tensor | None] = {}
        self._checked = False
        self._warned: set[str] = set()
        self._params = dict(model.named_parameters())
        self._shapes = {name: parameter.shape for name, parameter in self._params.items()}
        self._trained = trained_parameters(self._params, self._steppers)
        self._trained_layout = trained_groups(self.layout, self._trained, writes=writes)
        self._check_writes(first=True)
        drawn = self._trained_layout if writes else na.Layout([])
        untrained = not any(stepper.optimizer.state for stepper in self._steppers)
        outgoing = self.options.outgoing
        self._fresh = FreshValues(model, drawn, initializer, seed=seed, outgoing=outgoing, compare=untrained)
        self._memory, self._clock = Memory(), Clock()
        self._compare_wrappers(seed, initializer)
        if not self._reads_outputs:
            self._try_score({name: self._trained.get(name) for name in self._params})
        _ATTACHED.add(self)
        inner = [stepper.optimizer for stepper in self._steppers]
        self._hooks = Hooks(inner, self._before_step if writes or not self._reads_outputs else None, self._after_step)

    def _compare_wrappers(self, seed: Any, initializer: Any) -> None:
        """Raise if the ranks have not made the same wrapper."""
        snapshot = [value for value in (self._fresh.snapshot or {}).values() if self._ranks and not is_sharded(value)]
        parts = {"layout": self.layout.to_dict(), "seed": seed, "score": self._scored_by}
        parts |= {"options": replace(self.options, on_report=None, score=None)}
        parts |= {"initializer": initializer if isinstance(initializer, str) else "a function"}
        parts |= {"snapshot": [*map(fingerprint, snapshot)]}
        differing = self._ranks.differing({name: derive_key(0, 0, repr(part)) for name, part in parts.items()})
        if differing:
            own = "if each trains a model of its own, give process_group=False"
            ddp = "make it after DistributedDataParallel, which makes them equal; " if "snapshot" in differing else ""
            raise ValueError(f"{differing}: expected the same on every rank; {ddp}{own}")

    @abstractmethod
    def _try_score(self, signals: Mapping[str, Tensor | None]) -> None:
        """Call a user's score once, with zeros of these shapes, so that what is wrong with it shows now."""

    @abstractmethod
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Called before each step of an optimizer; may return other arguments of the step."""

    @abstractmethod
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Called after each step of an optimizer."""

    @property
    def options(self) -> ResetOptions:
        """All options together."""
        return self._options

    @options.setter
    def options(self, options: ResetOptions) -> None:
        if options.writes and not self._writes:
            raise ValueError("max_fraction: the wrapper was made with 0, to measure only; attach another one to reset")
        if self._writes and options.outgoing != self._options.outgoing:
            self._fresh.cover(self._trained_layout, options.outgoing)
            self._checked = False
        if options.clock == "run":
            self._hand_over()
        self._options = options

    def _hand_over(self) -> None:
        """Let the clock of the run do for all entries from now on."""
        for stepper in self._steppers:
            self._clock.hand_over(stepper)

    def _find_layout(self, inputs: tuple[Any, ...], layout: na.Layout | None) -> na.Layout:
        """Return the layout, discovered if it is not given, with a remark if the optimizer trains other networks."""
        if layout is None and not inputs and (self._writes or self._reads_outputs):
            what = "what the model is called with is needed to find its layout"
            hint = "" if self._reads_outputs else ", or max_fraction=0 to measure only"
            raise na.LayoutError(f"example_inputs: {what}; or give layout={hint}")
        layout = layout_of(self.model, *inputs) if layout is None else layout
        check_searched(layout, writes=self._writes)
        layout.validate(parameters(self.model))
        own = {id(parameter) for parameter in self.model.parameters()}
        outside = {held for stepper in self._steppers for held in stepper.holds()} - own
        return note_outside(layout, len(outside), type(self.model).__name__)

    def _written(self) -> dict[str, nn.Parameter]:
        """The parameters that resets write, by name."""
        layout, outgoing = self._trained_layout, self.options.outgoing
        names = written_params(layout, layout, outgoing=outgoing) if self._writes else ()
        return {name: self._trained[name] for name in names}

    def _check_writes(self, *, first: bool = False) -> None:
        """Raise if resets could not write what they are to write, or another wrapper writes it."""
        written = self._written()
        check_memory(dict(self.model.named_parameters()), written)
        times = Counter(number for stepper in self._steppers for number in stepper.holds())
        for name in [name for name, parameter in written.items() if times[id(parameter)] > 1]:
            several = f"expected each parameter in one of several, got {name!r} in {times[id(written[name])]}"
            raise ValueError(f"optimizer: {several}")
        for stepper in self._steppers:
            held = stepper.holds()
            names = [name for name, parameter in written.items() if id(parameter) in held]
            stepper.check_state(written, names)
            if first and names:
                stepper.check_first_state(written, names)
        for other in [other for other in _ATTACHED if other is not self]:
            self._check_beside(other)

    def _check_beside(self, other: "Attached") -> None:
        """Raise if another wrapper writes what this one does, or knows readers of it that this one does not."""
        mine, theirs = [{id(each.optimizer) for each in wrapper._steppers} for wrapper in (self, other)]
        if mine & theirs and {*map(id, self._written().values())} & {*map(id, other._written().values())}:
            raise ValueError(
                f"optimizer: a {type(other).__name__} is attached to it already and resets the same parameters; "
                "call its detach() first, or make one of the two with max_fraction=0, to measure only"
            )
        for resets, reads in ((self, other), (other, self)):
            if missed := resets._unseen_reader(reads):
                name, param, model = *missed, type(reads.model).__name__
                raise ValueError(
                    f"group {name!r}: its neurons are read by {param!r} of {model} too, another wrapper's model, and "
                    "a reset would not clear that; find both layouts with layout_of(..., readers=[the other model]), "
                    "mark the group resettable=False, or detach() a wrapper that is not needed any more"
                )

    def _unseen_reader(self, other: "Attached") -> tuple[str, str] | None:
        """Name a group that is reset here, and a parameter that another wrapper alone knows to read it."""

        def key(wrapper: "Attached", view: na.ParamView) -> tuple[int, na.ParamView]:
            return id(wrapper._params.get(view.param, view)), replace(view, param="")

        theirs = {key(other, view): group for group in other.layout.values() for view in group.incoming}
        for group in self._trained_layout.values() if self._writes else ():
            own = {id(self._params[view.param]) for view in group.outgoing if group.resettable}
            for view in group.incoming if own else ():
                readers = [each.param for each in theirs[key(self, view)].outgoing] if key(self, view) in theirs else []
                if missed := [name for name in readers if id(other._params.get(name)) not in own]:
                    return group.name, missed[0]
        return None

    def _look(self) -> None:
        """See which parameters are trained now: some may have been frozen, replaced or added."""
        reshard(self.model)
        self._params = dict(self.model.named_parameters())
        before, now = self._trained, trained_parameters(self._params, self._steppers)
        shapes, was = {name: parameter.shape for name, parameter in self._params.items()}, self._shapes
        same = before.keys() == now.keys() and all(before[name] is parameter for name, parameter in now.items())
        if same and shapes == was:
            return
        self._shapes = shapes
        layout = fitting_groups(self.layout, parameters(self.model))
        old, self._trained = self._trained_layout, now
        self._trained_layout = trained_groups(layout, now, writes=self._writes, strict=False)
        if self._writes:
            self._check_writes()
            self._fresh.cover(self._trained_layout, self.options.outgoing)
            self._clock.keep({number for stepper in self._steppers for number in stepper.holds()})
        reported = [self._trained_layout.get(name, group) for name, group in self.layout.items()]
        self._reported = na.Layout([replace(group, partners=()) for group in reported])
        resized = {name for name, shape in shapes.items() if was.get(name, shape) != shape}
        warn_of_changes(self.model, before, now, old, self._trained_layout, resized)

    def detach(self) -> None:
        """Remove the hooks from the optimizer; the model keeps its values."""
        self._hand_over()
        _ATTACHED.discard(self)
        self._hooks.remove()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the hooks, and with them the functions that only they call: few of these can be pickled."""
        options = replace(self.options, on_report=None, score=None)
        return vars(self) | {
            "_hooks": copy.copy(self._hooks),
            "_steppers": [],
            "_stepped": {},
            "_ranks": Ranks(),
            "_options": options,
        }


_ATTACHED: WeakSet[Attached] = WeakSet()
"""The wrappers that are attached to an optimizer."""
