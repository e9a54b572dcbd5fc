"""SBX: ``model.learn(..., callback=ActivityCallback())``, or ``attach(model)`` without a callback."""

import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Unpack
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp

import neuroactivity as na
from neuroactivity.report import latest_scalars
from neuroactivity.wrapping import HostOptions, Method, check_host_options, check_networks
from neuroactivity_jax.hosts.train_state import Attached, detach_state
from neuroactivity_jax.reports import find_state, report
from neuroactivity_jax.state import ActivityState

try:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback

    from neuroactivity_jax.hosts.sbx_networks import Probe, attach_network, states
except ImportError as error:
    raise ImportError("SBX is missing: pip install '.[sbx]' in a clone") from error

_STATE = "neuroactivity"  # of a model: what its save() stores and its load() brings back
_OWNERS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""Who has attached to a model: a callback, or ``attach``. A model that was loaded has no owner."""


class ActivityCallback(BaseCallback):  # type: ignore[misc]
    """Measures, and resets, the networks of an SBX model while it learns.

    Every network that has an optimizer is attached to: ``actor`` and ``qf`` of SAC, TD3, DDPG and CrossQ, ``actor``,
    ``qf1`` and ``qf2`` of TQC, ``qf`` of DQN, ``actor`` and ``vf`` of PPO. Target networks never are. Fresh values are
    those of the policy's own initialisers. Where SBX builds its networks anew (``param_resets``), they are attached to
    again. When ``learn`` ends, the networks get their own optimizers back; the counts stay with the model, also through
    ``save`` and ``load``, and the next ``learn`` with an ``ActivityCallback`` goes on from there.

    Args:
        method: ``"regrama"`` and ``"redo"`` reset, ``"measure"`` does not. ReDo judges the activations on samples of
            the replay or rollout buffer.
        networks: Names of the networks to look at; ``None`` for all of them.
        verbose: As for any callback.
        options: Those of :func:`neuroactivity_jax.regrama`, with the same defaults; ``every`` counts the updates of
            each network. ``on_report`` is called with a network's name and its report.

    Raises:
        ValueError: When ``learn`` begins, if an option is out of range, or something is attached already.

    Example:
        ``model.learn(100_000, callback=ActivityCallback(every=1000, max_fraction=0.05))``
    """

    def __init__(
        self,
        method: Method = "regrama",
        *,
        networks: Collection[str] | None = None,
        verbose: int = 0,
        **options: Unpack[HostOptions],
    ) -> None:
        super().__init__(verbose)
        check_host_options(method, options)
        check_networks(networks)
        self._method, self._networks, self._options = method, networks, options
        self._told: dict[str, tuple[int, dict[str, float]]] = {}

    def _init_callback(self) -> None:
        if self.parent is not None:  # which calls it at its events alone, and not when learn() begins and ends
            raise ValueError(f"callback: give it to learn() itself, not to {type(self.parent).__name__}")

    def _on_training_start(self) -> None:
        if _OWNERS.get(self.model) is self:
            detach(self.model)  # a learn() that was broken off has left it attached
        _attach(self.model, self, self._method, self._networks, self._options)
        self._watched = set(_attached(self.model.policy))

    def _on_step(self) -> bool:
        attached = _attached(self.model.policy)
        if lost := sorted(self._watched.difference(attached)):
            text = "a train state was put in its place, so nothing of it is measured or reset any more"
            warnings.warn(f"{', '.join(lost)}: {text}", na.ActivityWarning, stacklevel=2)
            self._watched &= attached.keys()
        for name, state in attached.items():
            found, layout = find_state(state.opt_state), state.tx.layout
            measurements = int(found.measurements)
            if self._told.get(name, (-1, {}))[0] != measurements:
                latest = report(found, layout)
                self._told[name] = measurements, latest_scalars(latest, layout, f"neuroactivity/{name}")
            for key, value in self._told[name][1].items():
                total = "/" not in key.removeprefix(f"neuroactivity/{name}/")  # the screen has room for totals alone
                self.logger.record(key, value, exclude=None if total else ("stdout", "log"))
        return True

    def _on_training_end(self) -> None:
        detach(self.model)


def attach(
    model: BaseAlgorithm,
    method: Method = "regrama",
    *,
    networks: Collection[str] | None = None,
    **options: Unpack[HostOptions],
) -> None:
    """Measure, and reset, the networks of an SBX model, until :func:`detach`; :func:`reports` tells what was found.

    Args:
        model: The model.
        method: As for :class:`ActivityCallback`, and so are the other arguments.
        networks: Names of the networks to look at; ``None`` for all of them.
        options: Those of :func:`neuroactivity_jax.regrama`.

    Raises:
        LayoutError: If a network's layout cannot be found.
        ValueError: If an option is out of range, or something is attached already.

    Example:
        ``attach(model, every=1000, max_fraction=0.05)``, then ``model.learn(100_000)``
    """
    check_host_options(method, options)
    _attach(model, attach, method, networks, options)


def detach(model: BaseAlgorithm) -> None:
    """Give the networks of a model their own optimizers back, with their moments; nothing happens if they have them.

    What is remembered of measurements and resets stays with the model, for the next time.

    Args:
        model: The model.
    """
    policy = model.policy
    for name, state in _attached(policy).items():
        records = jax.device_get(find_state(state.opt_state)._asdict() | {"inner_state": ()})
        kept = {"layout": state.tx.layout.to_dict(), "records": records, "parameters": _shapes(state.params)}
        setattr(model, _STATE, {**getattr(model, _STATE, {}), name: kept})
        setattr(policy, f"{name}_state", detach_state(state))
    vars(policy).pop("build", None)
    _OWNERS.pop(model, None)


def reports(model: BaseAlgorithm) -> dict[str, na.ActivityReport | None]:
    """Return the latest report of each network that is attached to, by name; ``None`` before its first measurement.

    Args:
        model: The model.
    """
    return {name: report(state.opt_state, state.tx.layout) for name, state in _attached(model.policy).items()}


def _attach(
    model: BaseAlgorithm, owner: Any, method: Method, networks: Collection[str] | None, options: Mapping[str, Any]
) -> None:
    """Attach to all networks, or to none if something is wrong."""
    if model in _OWNERS:
        raise ValueError("model: something is attached to it already; call detach(model) first")
    detach(model)  # one that was saved while it learned has its wrappers still
    policy, saved = model.policy, getattr(model, _STATE, {})
    names = list(states(policy))
    check_networks(networks, names)
    again, attached = {}, {}
    for name in names if networks is None else networks:
        settings = {"method": method, "probe": Probe(model), **options}
        kept = _of_this_model(name, saved.get(name), getattr(policy, f"{name}_state").params)
        state = attach_network(policy, name, layout=_kept_layout(kept, method), **settings)
        again[name] = partial(attach_network, name=name, layout=state.tx.layout, **settings)
        attached[name] = state if kept is None else _continued(state, kept, name)
    for name, state in attached.items():
        setattr(policy, f"{name}_state", state)
    policy.build = partial(_build, policy, again)
    _OWNERS[model] = owner


def _attached(policy: Any) -> dict[str, Any]:
    """Return the train states of a policy that are attached to, by network."""
    return {name: state for name, state in states(policy).items() if isinstance(state.tx, Attached)}


def _build(policy: Any, again: Mapping[str, Callable[[Any], Any]], *args: Any) -> Any:
    """Build a policy's networks anew, as SBX's ``param_resets`` does, and attach to them."""
    key = type(policy).build(policy, *args)
    for name, attach_again in again.items():
        setattr(policy, f"{name}_state", attach_again(policy))
    return key


def _shapes(params: Any) -> dict[str, list[int]]:
    return {jax.tree_util.keystr(path): list(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def _of_this_model(name: str, kept: Any, params: Any) -> Any:
    """Return what an earlier ``learn`` has left, or nothing if it was of a network with other parameters."""
    if kept is None or kept.get("parameters", shapes := _shapes(params)) == shapes:
        return kept
    what = "its state is of a network with other parameters"
    warnings.warn(f"{name} starts anew: {what}", na.ActivityWarning, stacklevel=4)
    return None


def _kept_layout(kept: Any, method: Method) -> na.Layout | None:
    """Return the layout of an earlier ``learn``, unless it was listed only and a search is needed."""
    layout = None if kept is None else na.Layout.from_dict(kept["layout"])
    return layout if layout and (method == "measure") == all(g.status == "listed" for g in layout.values()) else None


def _continued(state: Any, kept: Mapping[str, Any], name: str) -> Any:
    """Go on from what an earlier ``learn`` has left, if it was made with the same options."""
    new = find_state(state.opt_state)
    old = new._replace(**{**kept["records"], "inner_state": new.inner_state})
    same = kept["layout"] == state.tx.layout.to_dict() and _form(old) == _form(new)
    if not same:
        warnings.warn(f"{name} starts anew: it was attached with other options", na.ActivityWarning, stacklevel=4)
        return state
    old = jax.tree.map(jnp.asarray, old)

    def exchange(node: Any) -> Any:
        return old if isinstance(node, ActivityState) else node

    opt_state = jax.tree.map(exchange, state.opt_state, is_leaf=lambda node: isinstance(node, ActivityState))
    return state.replace(opt_state=opt_state)


def _form(state: ActivityState) -> Any:
    """Return the structure of a state, and its shapes but those that depend on ``every``."""
    return jax.tree.map(jnp.shape, state._replace(born=()))
