"""The networks of an SBX policy: their train states, what they are called with, how they are initialised."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import ref

import numpy as np
import optax
from flax.training.train_state import TrainState
from gymnasium import spaces
from jax.experimental import io_callback
from sbx.ppo.policies import CnnPolicy

import neuroactivity as na
from neuroactivity.wrapping import Method, derive_key
from neuroactivity_jax.activations import activations
from neuroactivity_jax.hosts.train_state import Attached, attach_state
from neuroactivity_jax.layouts import layout_of
from neuroactivity_jax.parameters import PyTree

_SAMPLES, _PROBE = 8, 256


def states(policy: Any) -> dict[str, Any]:
    """Return the train states of a policy by network: all that an optimizer of the policy trains."""
    parts = vars(policy).items()
    return {name.removesuffix("_state"): part for name, part in parts if isinstance(part, TrainState)}


def attach_network(
    policy: Any,
    name: str,
    *,
    method: Method,
    probe: "Probe",
    layout: na.Layout | None,
    seed: int = 0,
    on_report: Callable[[str, na.ActivityReport], None] | None = None,
    **options: Any,
) -> Any:
    """Return the train state of a network, attached."""
    state, inputs = getattr(policy, f"{name}_state"), _inputs(policy, name)
    module, batch_stats = state.apply_fn.__self__, getattr(state, "batch_stats", None)
    module = module.clone(**({"dropout_rate": 0.0} if getattr(module, "dropout_rate", None) else {}))

    def apply(params: PyTree, *inputs: Any) -> Any:
        if batch_stats is None:
            return module.apply(params, *inputs)
        variables = {"params": params, "batch_stats": batch_stats}
        return module.apply(variables, *inputs, train=True, mutable=["batch_stats"])[0]

    def initial(key: Any) -> PyTree:
        variables = module.init(key, *[samples[:1] for samples in inputs])
        return variables if batch_stats is None else variables["params"]

    def probed(params: PyTree) -> Any:
        shapes = [np.zeros((_PROBE, *samples.shape[1:]), samples.dtype) for samples in inputs]

        def batch() -> list[Any]:
            return [np.asarray(one, shape.dtype) for one, shape in zip(probe(len(inputs)), shapes, strict=True)]

        drawn = io_callback(batch, shapes)
        return activations(params, lambda params: apply(params, *drawn), layout=found)

    found = layout
    if found is None:
        found = layout_of(state.params, None if method == "measure" else lambda params: apply(params, *inputs))
        found = _without_copied(found) if isinstance(policy, CnnPolicy) else found
    attached = attach_state(
        state,
        layout=found,
        method=method,
        activations=probed,
        seed=derive_key(seed, 0, name) >> 32,
        on_report=None if on_report is None else partial(on_report, name),
        **{"initializer": initial, **options},
    )
    return _in_place(attached) if type(state.opt_state) is tuple else attached


def _in_place(state: Any) -> Any:
    """Put the wrapper where PPO looks for hyperparameters: in the second part of a chain."""
    chain = optax.chain(optax.identity(), state.tx)
    tx = Attached(chain, state.tx.inner, state.tx.layout)
    return state.replace(tx=tx, opt_state=(optax.EmptyState(), state.opt_state))


def _without_copied(layout: na.Layout) -> na.Layout:
    """Leave the extractor of PPO's image policy alone: SBX copies it between actor and critic at every update."""
    reason = "copied between actor and critic by SBX"
    return na.Layout(
        [
            replace(group, resettable=False, reason=reason) if "NatureCNN" in group.incoming[0].param else group
            for group in layout.values()
        ]
    )


def _inputs(policy: Any, name: str) -> tuple[Any, ...]:
    """Make a few different samples of what a network is called with."""
    rng, space = np.random.default_rng(0), policy.observation_space
    if isinstance(space, spaces.Dict):
        observations = rng.standard_normal((_SAMPLES, spaces.flatdim(space)), np.float32)
    elif isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        observations = rng.standard_normal((_SAMPLES, *space.shape), np.float32)
    else:
        space = deepcopy(space)
        space.seed(0)
        observations = np.stack([space.sample() for _ in range(_SAMPLES)])
    if not name.startswith("qf") or not isinstance(policy.action_space, spaces.Box):
        return (observations,)
    return observations, rng.standard_normal((_SAMPLES, int(np.prod(policy.action_space.shape))), np.float32)


class Probe:
    """Draws what a network is called with from a model's buffer, for ReDo, with a generator of its own."""

    def __init__(self, model: Any) -> None:
        self._model = ref(model)

    def __call__(self, inputs: int) -> tuple[Any, ...]:
        """Return observations, or observations and actions."""
        model = self._model()
        if model is None:
            raise RuntimeError("this model was saved while ReDo was attached; detach(model), and attach anew")
        replay, space = getattr(model, "replay_buffer", None), model.observation_space
        buffer = model.rollout_buffer if replay is None else replay
        filled = buffer.size() * buffer.n_envs
        rows = np.random.default_rng(model.num_timesteps).integers(filled, size=_PROBE)

        def take(stored: Any, shape: Any) -> Any:
            return stored.reshape(-1, *shape)[rows]

        observations: Any = buffer.observations
        if isinstance(space, spaces.Dict):
            observations = {key: take(observations[key], part.shape) for key, part in space.items()}
        else:
            observations = take(observations, space.shape)
        if replay is not None:  # a rollout is stored as the networks see it
            observations = buffer._normalize_obs(observations, model.get_vec_normalize_env())
        if isinstance(space, spaces.Dict):
            observations = np.concatenate([part.reshape(_PROBE, -1) for part in observations.values()], axis=1)
        return (observations, take(buffer.actions, (buffer.action_dim,)))[:inputs]

    def __reduce__(self) -> tuple[Any, ...]:
        return Probe, (_nobody,)  # a model is saved without its buffer


def _nobody() -> None:
    """Stand in for a model that is not there."""
