"""ReGraMa and ReDo: attached to an optimizer, they measure and reset a model while it trains."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import neuroactivity as na
from neuroactivity.report import build_report, describe_alerts
from neuroactivity.wrapping import check_every, is_due
from neuroactivity_torch.activations import activations
from neuroactivity_torch.initializers import FreshValues, Initializer
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.models import dense_gradient
from neuroactivity_torch.optimizers import Moment, cleared_moments, moments_of

__all__ = ["ReDo", "ReGraMa"]

_COUNTS = ("steps", "measurements", "resets", "neurons_reset")


class _Resetter(ABC):
    """Measures and resets a model's neurons after every ``every``-th step of its optimizer."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        example_inputs: tuple[Any, ...] | Tensor = (),
        layout: na.Layout | None = None,
        tau: float = 0.01,
        every: int = 1000,
        max_fraction: float | None = None,
        reset_silent: bool = False,
        initializer: Initializer = "layer",
        moments: Mapping[str, Moment] | None = None,
        seed: int = 0,
        on_report: Callable[[na.ActivityReport], None] | None = None,
    ) -> None:
        every = check_every(every)
        na.reset_masks({}, tau, max_fraction=max_fraction)
        self.model, self.optimizer = model, optimizer
        self.layout = layout_of(model, *_as_tuple(example_inputs)) if layout is None else layout
        self.layout.validate(dict(model.named_parameters()))
        self.tau, self.every, self.max_fraction, self.reset_silent = tau, every, max_fraction, reset_silent
        self.on_report = on_report
        self.last_report: na.ActivityReport | None = None
        self.steps = self.measurements = self.resets = self.neurons_reset = 0
        self._trained = _trained_names(model, optimizer)
        self._owned = self._groups_of_optimizer()
        writes = max_fraction != 0  # otherwise the wrapper only measures, and any optimizer and layer will do
        self._moments = moments_of(optimizer, moments) if writes else {}
        self._fresh = FreshValues(model, self._owned if writes else na.Layout([]), initializer, seed=seed)
        self._warned: set[str] = set()
        self._handle = optimizer.register_step_post_hook(
            torch.compiler.disable(self._after_step)  # type: ignore[no-untyped-call]
        )

    @abstractmethod
    def _measure(self) -> dict[str, Tensor]:
        """Score the neurons that the optimizer trains."""

    def _groups_of_optimizer(self) -> na.Layout:
        """Return the groups that this optimizer trains: only for those are the right gradients known here."""
        groups = [g for g in self.layout.values() if any(view.param in self._trained for view in g.incoming)]
        for group in groups if self.max_fraction != 0 else ():
            foreign = [view.param for _, view in group.views if view.param not in self._trained]
            if foreign and group.resettable:
                raise ValueError(
                    f"group {group.name!r}: a reset would write parameter {foreign[0]!r}, which this optimizer does "
                    "not train; mark the group resettable=False, or train both with one optimizer"
                )
        if not groups:
            raise ValueError("the optimizer trains none of the model's neuron groups; is it the model's own optimizer?")
        kept = {group.name for group in groups}
        return na.Layout([_without_partners(group, kept) for group in groups])

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Count a step; measure and reset when one is due."""
        skipped = getattr(optimizer, "found_inf", None)  # a fused step that gradient scaling has called off
        if skipped is not None and float(skipped) > 0:
            return
        self.steps += 1
        if not is_due(self.steps, every=self.every):
            return
        with torch.no_grad():
            scores = self._measure()
            masks = na.reset_masks(scores, self.tau, max_fraction=self.max_fraction, reset_silent=self.reset_silent)
            report = build_report(scores, self.layout, self.tau, masks=masks)
            marked = {group.name: masks[group.name] for group in report.groups if group.reset}
            if marked:
                self._reset(marked)
        self.measurements += 1
        self.resets += bool(marked)
        self.neurons_reset += sum(group.reset or 0 for group in report.groups)
        self.last_report = report
        self._warn(report)
        if self.on_report is not None:
            self.on_report(report)

    def _reset(self, masks: Mapping[str, Tensor]) -> None:
        """Reset the masked neurons: everything is built before the first value is written."""
        named = dict(self.model.named_parameters())
        params = {name: parameter.detach() for name, parameter in named.items()}
        drawn = {view.param for name in masks for view in self._owned[name].incoming + self._owned[name].unscored}
        fresh = self._fresh.draw(self.resets + 1, sorted(drawn))
        new = na.reset(params, fresh, masks, self._owned)
        pairs = [(params[name], value) for name, value in new.items() if value is not params[name]]
        pairs += cleared_moments(self.optimizer, self._moments, named, new, masks, self._owned)
        for old, value in pairs:
            old.copy_(value)

    def _warn(self, report: na.ActivityReport) -> None:
        """Warn of each group that cannot be judged, once."""
        alerts = {name: alert for name, alert in report.alerts.items() if name not in self._warned}
        self._warned |= set(alerts)
        if alerts:
            warnings.warn(describe_alerts(alerts), na.ActivityWarning, stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: counts, and the snapshot if there is one."""
        return {**{name: getattr(self, name) for name in _COUNTS}, "snapshot": self._fresh.snapshot}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            ValueError: If the state is not of this form, or holds a snapshot where none is used, or the reverse.
        """
        expected = {*_COUNTS, "snapshot"}
        if set(state) != expected:
            raise ValueError(f"state: expected the keys {sorted(expected)}, got {sorted(state)}")
        snapshot = state["snapshot"]
        if set(snapshot or ()) != set(self._fresh.snapshot or ()):
            raise ValueError("state: its snapshot does not hold the parameters that this initializer needs")
        for name in _COUNTS:
            setattr(self, name, int(state[name]))
        self._fresh.snapshot = snapshot

    def detach(self) -> None:
        """Leave the optimizer; the model keeps the values it has."""
        self._handle.remove()


class ReGraMa(_Resetter):
    """Resets the neurons whose gradients have died, while the model trains.

    After every ``every``-th step of the optimizer, the gradients which that very step used are scored
    (:func:`neuroactivity.grama`), and neurons with a score of at most ``tau`` are reset: fresh incoming parameters,
    zero outgoing ones, moments as the optimizer starts with. The training loop does not change.

    Args:
        model: The model, or the part of it that ``optimizer`` trains. Groups of which the optimizer trains nothing are
            left alone.
        optimizer: Its optimizer, of ``torch.optim``.
        example_inputs: What the model is called with, to find its layout.
        layout: The neuron groups, if they are not to be found.
        tau: Threshold on the score.
        every: Steps of the optimizer between two measurements.
        max_fraction: At most this part of a group is reset at once; with 0 the wrapper only measures.
        reset_silent: Whether a group without any gradient is reset as a whole.
        initializer: Where fresh values come from: ``"layer"`` (``reset_parameters`` of each module), ``"snapshot"``
            (rows of the values that the model has now), or a function from a key to freshly initialised parameters by
            name, such as ``lambda key: parameters(make_model())``, called while PyTorch's CPU generator is seeded with
            the key.
        moments: For an optimizer outside ``torch.optim``: by state key a function from a parameter and its group's
            options to the value that the optimizer starts with.
        seed: Seed of all draws. Give wrappers of networks with equal parameter names different seeds.
        on_report: Called with each report.

    Attributes:
        last_report: The latest :class:`neuroactivity.ActivityReport`; ``None`` before the first measurement.
        steps: Steps of the optimizer so far.
        measurements: Measurements so far.
        resets: Measurements that reset at least one neuron.
        neurons_reset: Neurons reset so far.

    Raises:
        LayoutError: If the layout cannot be found, or does not fit the model.
        ValueError: If an option is out of range, the optimizer is not known, or a parameter has no initialiser.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 1))
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> regrama = ReGraMa(model, optimizer, example_inputs=torch.zeros(8, 3), every=1)
        >>> model(torch.ones(8, 3)).sum().backward()
        >>> optimizer.step()
        >>> regrama.last_report["0"].neurons
        64

    References:
        Liu et al., "Measure gradients, not activations! Enhancing neuronal activity in deep reinforcement learning",
        NeurIPS 2025, arXiv:2505.24061, Algorithm 1.

    Notes:
        A copy made by ``copy.deepcopy`` or pickle has lost its hook; attach a new wrapper and load the state.
    """

    def _measure(self) -> dict[str, Tensor]:
        named = dict(self.model.named_parameters())
        grads = {name: dense_gradient(named[name]) if name in self._trained else None for name in named}
        return na.grama(grads, self._owned)


class ReDo(_Resetter):
    """Resets the neurons whose activations have died, while the model trains.

    As :class:`ReGraMa`, but scored by :func:`neuroactivity.tau_dormant` on the activations of a batch that ``probe``
    gives.

    Args:
        model: As for :class:`ReGraMa`, and so are all arguments not named here.
        optimizer: The model's optimizer.
        probe: Returns the model's inputs, one or a tuple; called only when a measurement is due.
        tau: Threshold on the score.

    References:
        Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023, arXiv:2302.12902.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        probe: Callable[[], tuple[Any, ...] | Tensor],
        example_inputs: tuple[Any, ...] | Tensor = (),
        layout: na.Layout | None = None,
        tau: float = 0.02,
        every: int = 1000,
        max_fraction: float | None = None,
        reset_silent: bool = False,
        initializer: Initializer = "layer",
        moments: Mapping[str, Moment] | None = None,
        seed: int = 0,
        on_report: Callable[[na.ActivityReport], None] | None = None,
    ) -> None:
        super().__init__(
            model,
            optimizer,
            example_inputs=example_inputs,
            layout=layout,
            tau=tau,
            every=every,
            max_fraction=max_fraction,
            reset_silent=reset_silent,
            initializer=initializer,
            moments=moments,
            seed=seed,
            on_report=on_report,
        )
        self._probe = probe

    def _measure(self) -> dict[str, Tensor]:
        return na.tau_dormant(activations(self.model, *_as_tuple(self._probe()), layout=self._owned), self._owned)


def _as_tuple(inputs: tuple[Any, ...] | list[Any] | Any) -> tuple[Any, ...]:
    """Read model inputs: a tuple or a list of them, or one."""
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _trained_names(model: nn.Module, optimizer: Optimizer) -> set[str]:
    """Names of the model's parameters that the optimizer trains, by identity."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in trained}


def _without_partners(group: na.NeuronGroup, kept: set[str]) -> na.NeuronGroup:
    """Drop the partners that are not kept."""
    partners = [partner for partner in group.partners if partner in kept]
    return group if len(partners) == len(group.partners) else na.NeuronGroup(**{**vars(group), "partners": partners})
