"""What the hosts share: a wrapper for each network that a host trains, attached, saved and detached together."""

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

import neuroactivity as na
from neuroactivity import wrapping
from neuroactivity.wrapping import Method, as_inputs, check_host_options, check_networks, check_seed, derive_key
from neuroactivity_torch.devices import unwrapped
from neuroactivity_torch.layouts import layout_of
from neuroactivity_torch.optimizers import Moment
from neuroactivity_torch.parameters import parameters
from neuroactivity_torch.probing import Reader
from neuroactivity_torch.ranks import ProcessGroup
from neuroactivity_torch.wrappers import ReDo, ReGraMa

_SHAPES = "parameters"  # in a network's state, beside what its wrapper says

Listener: TypeAlias = Callable[[str, na.ActivityReport], None]
"""Called with the name of a network and its report."""


class HostOptions(wrapping.HostOptions, total=False):
    """What every host passes on to the wrappers of its networks, and which processes train them together."""

    process_group: ProcessGroup | Literal[False] | None
    check_ranks: bool


@dataclass(frozen=True)
class Network:
    """A network of a host, and what is to be known of it.

    Attributes:
        model: The network.
        optimizer: What trains it.
        inputs: Returns what it is called with, a few samples, to find its layout; nothing if that is not known.
        probe: Returns the inputs that ReDo runs it on.
        readers: What else reads its neurons, called with the same inputs.
        initializer: Where fresh values come from, if nothing else is asked for.
        moments: What its optimizer starts with, if that is not of ``torch.optim`` and corrects no bias.
        layout: Finds its layout, or only lists it, if that is not to be done with ``inputs`` and ``readers``.
    """

    model: nn.Module
    optimizer: Optimizer | Sequence[Optimizer]
    inputs: Callable[[], Any] = tuple
    probe: Callable[[], Any] | None = None
    readers: Sequence[Reader] = ()
    initializer: Any = "layer"
    moments: Mapping[str, Moment] | None = None
    layout: Callable[[bool], na.Layout] | None = None


def check_options(method: Method, options: HostOptions, networks: Collection[str] | None = None) -> None:
    """Raise if there is no such method, or an option is out of range, before there is anything to attach to.

    Raises:
        ValueError: If a value is out of range.
        TypeError: If there is no such option.
    """
    alone: Any = {name: value for name, value in options.items() if name not in ("process_group", "check_ranks")}
    check_host_options(method, alone)
    check_seed(options.get("seed", 0))
    check_networks(networks)


def trained(modules: Mapping[str, nn.Module], optimizers: Iterable[Any]) -> dict[str, tuple[nn.Module, Any]]:
    """Return, by name, the modules that an optimizer trains, with it. Target networks are none of them."""
    held = [(each, _held(each)) for each in optimizers]
    found = {}
    for name, module in modules.items():
        own = {id(parameter) for parameter in module.parameters()}
        optimizer = next((each for each, numbers in held if own & numbers), None)
        if optimizer is not None:
            found[name] = (module, optimizer)
    return found


def check_logger(logger: Any, method: str) -> None:
    """Raise if a logger of a host, where one is given, has not the method that reports are passed to.

    Raises:
        ValueError: If it has not.
    """
    if logger is not None and not callable(getattr(logger, method, None)):
        raise ValueError(f"logger: expected one with a method {method}(), got {logger!r}")


def _held(optimizer: Any) -> set[int]:
    return {id(value) for group in optimizer.param_groups for value in group["params"]}


def sharing(name: str, modules: Mapping[str, nn.Module]) -> list[str]:
    """Return the names of the other modules that have parameters in common with one."""
    module, own = modules[name], {id(parameter) for parameter in modules[name].parameters()}
    others = {other: each for other, each in modules.items() if each is not module}
    return [other for other, each in others.items() if any(id(value) in own for value in each.parameters())]


@contextmanager
def numpy_untouched() -> Iterator[None]:
    """Put NumPy's global generator back, of which a host's buffer draws."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


class Attachments(Mapping[str, ReGraMa | ReDo]):
    """The wrappers of a host's networks, by the networks' names.

    Args:
        networks: The networks by name.
        method: What is done with their neurons.
        state: What :meth:`state_dict` returned in a run that is continued; a network that it does not fit starts anew.
        only: Names of the networks to attach to; ``None`` for all.
        record: Called with every report, for the host's logger.
        options: Those of the wrappers. Each network gets a seed of its own made of ``seed``.

    Raises:
        LayoutError: If a network's layout cannot be discovered.
        ValueError: If an option is out of range, or a wrapper cannot be attached; then none is.
    """

    training: Any = None
    """What a host knows the training by in which they were attached."""

    def __init__(
        self,
        networks: Mapping[str, Network],
        method: Method,
        *,
        state: Mapping[str, Any] | None = None,
        only: Collection[str] | None = None,
        record: Listener | None = None,
        **options: Unpack[HostOptions],
    ) -> None:
        check_options(method, options)
        self._listeners = [each for each in (record, options.pop("on_report", None)) if each is not None]
        if not networks:
            raise ValueError("optimizer: expected one that trains networks of the host, got none that does")
        check_networks(only, networks)
        self._shared = _held_by_several(networks)
        self.method = method
        self._wrappers: dict[str, ReGraMa | ReDo] = {}
        try:
            for name, network in networks.items():
                if only is None or name in only:
                    self._wrappers[name] = self._attach(name, network, (state or {}).get(name), options)
        except BaseException:
            self.detach()
            raise

    def _attach(self, name: str, network: Network, state: Any, options: HostOptions) -> ReGraMa | ReDo:
        """Attach a wrapper to a network, and continue from its state if there is one that fits."""
        given: dict[str, Any] = {"initializer": network.initializer, "moments": network.moments, **options}
        given.setdefault("clock", "own" if network.moments is None else "run")
        given["seed"] = derive_key(given.get("seed", 0), 0, name)
        given["on_report"] = partial(self._tell, name) if self._listeners else None
        if self.method == "measure":
            given["max_fraction"] = 0
        listed = given.get("max_fraction") == 0 and self.method != "redo"
        state = _of_this_model(name, state, network.model)
        inputs = () if listed else as_inputs(network.inputs())
        layout = self._find_layout(network, inputs, state, listed=listed)
        given["layout"] = layout if layout is None or listed else self._leave_alone(network, layout)
        if self.method != "redo":
            wrapper: ReGraMa | ReDo = ReGraMa(network.model, network.optimizer, **given)
        elif network.probe is None:
            raise ValueError(f"method: there is nothing to judge the activations of {name} on; use 'regrama'")
        else:
            wrapper = ReDo(network.model, network.optimizer, probe=network.probe, example_inputs=inputs, **given)
        if state is not None:
            try:
                _load(wrapper, state)
            except ValueError as error:
                warnings.warn(f"{name} starts anew: {error}", na.ActivityWarning, stacklevel=4)
        return wrapper

    def _tell(self, name: str, report: na.ActivityReport) -> None:
        for listener in self._listeners:
            listener(name, report)

    def _find_layout(self, network: Network, inputs: tuple[Any, ...], state: Any, *, listed: bool) -> na.Layout | None:
        """Return the layout of a run that is continued, or search it; only list it if that is all that is needed."""
        if state is not None:
            layout = na.Layout.from_dict(state["layout"])
            if listed == all(group.status == "listed" for group in layout.values()):
                return layout
        if network.layout is not None:
            return network.layout(listed)
        if listed or not inputs:
            return layout_of(network.model) if listed else None  # the wrapper will ask for inputs
        return layout_of(network.model, *inputs, readers=network.readers)

    def _leave_alone(self, network: Network, layout: na.Layout) -> na.Layout:
        """Reset nothing that another optimizer trains, or trains too: a reset clears the moments of its own alone."""
        named, held = dict(unwrapped(network.model).named_parameters()), _trained_by(network)
        trained = {name for name, value in named.items() if id(value) in held and value.requires_grad}
        shared = {name for name, value in named.items() if id(value) in self._shared}
        groups = []
        for group in layout.values():
            written, own = {view.param for _, view in group.views}, {view.param for view in group.incoming} & trained
            reason = "trained with several networks" if written & shared else ""
            reason = reason or ("written with what its optimizer does not train" if own and written - trained else "")
            groups.append(replace(group, resettable=False, reason=reason) if reason and group.resettable else group)
        return na.Layout(groups)

    def __getitem__(self, name: str) -> ReGraMa | ReDo:
        return self._wrappers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._wrappers)

    def __len__(self) -> int:
        return len(self._wrappers)

    def scalars(self, prefix: str = "neuroactivity") -> dict[str, float]:
        """Return the latest reports for a logger, under ``{prefix}/{network}``, with the same keys at any time."""
        found = [wrapper.scalars(f"{prefix}/{name}") for name, wrapper in self.items()]
        return {key: value for scalars in found for key, value in scalars.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what a run that is continued needs: each wrapper's state, on the host."""
        state = {name: {**wrapper.state_dict(), _SHAPES: _shapes(wrapper.model)} for name, wrapper in self.items()}
        return dict(pytree.tree_map_only(Tensor, torch.Tensor.cpu, state))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned.

        Raises:
            ValueError: If it is of other networks, or does not fit them.
        """
        if set(state) != set(self):
            raise ValueError(f"state: expected the networks {', '.join(self)}, got {', '.join(state) or 'nothing'}")
        before = self.state_dict()
        try:
            for name, wrapper in self.items():
                _load(wrapper, state[name])
        except BaseException:
            for name, wrapper in self.items():
                _load(wrapper, before[name])
            raise

    def detach(self) -> None:
        """Remove every hook; the networks keep their values, and the wrappers their counts and reports."""
        for wrapper in self.values():
            wrapper.detach()

    def __reduce__(self) -> tuple[Any, ...]:
        """What a host saves or copies along with its model is the state alone."""
        return dict, (self.state_dict(),)


def _shapes(model: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in parameters(model).items()}


def _trained_by(network: Network) -> set[int]:
    """Return what a network's optimizers hold."""
    optimizers = network.optimizer if isinstance(network.optimizer, Sequence) else [network.optimizer]
    return set().union(*map(_held, optimizers))


def _held_by_several(networks: Mapping[str, Network]) -> set[int]:
    """Return the parameters that are part of several networks and in the optimizers of each."""
    counts: Counter[int] = Counter()
    for network in networks.values():
        counts.update({id(value) for value in network.model.parameters()} & _trained_by(network))
    return {number for number, count in counts.items() if count > 1}


def _of_this_model(name: str, state: Any, model: nn.Module) -> Any:
    """Return a saved state, or nothing if it is of a model with other parameters, whose layout is another one too."""
    if state is None or state.get(_SHAPES, shapes := _shapes(model)) == shapes:
        return state
    warnings.warn(
        f"{name} starts anew: its state is of a network with other parameters", na.ActivityWarning, stacklevel=5
    )
    return None


def _load(wrapper: ReGraMa | ReDo, state: Mapping[str, Any]) -> None:
    """Bring a saved state to the device of a wrapper's model."""
    device = next(wrapper.model.parameters()).device
    state = {key: value for key, value in state.items() if key != _SHAPES}
    wrapper.load_state_dict(pytree.tree_map_only(Tensor, lambda value: value.to(device), state))
