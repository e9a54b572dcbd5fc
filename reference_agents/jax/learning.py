"""Shared parts of the JAX agents: threads, twin critics, gradient steps, serialisation."""

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

import neuroactivity as na
import neuroactivity_jax
from neuroactivity import analysis
from neuroactivity_jax import activations
from reference_agents.agent import Masks
from reference_agents.jax.activity import Activity, TrainState
from reference_agents.jax.networks import Network, NetworkWithHead, Params, discover_layout
from reference_agents.running.files import check_sizes

T = TypeVar("T")
CRITICS: Final = ("critic1", "critic2")


def limit_threads(number: int) -> None:
    """Limit XLA's CPU threads.

    XLA reads the number once, at JAX's first computation; later calls in the same process have no effect.
    """
    os.environ["PJRT_NPROC"] = str(number)


@dataclass(frozen=True)
class Learner:
    """A network and its wrapped optimizer, which measures and resets its neurons."""

    network: Network
    layout: na.Layout
    optimizer: optax.GradientTransformationExtraArgs

    @classmethod
    def create(cls, activity: Activity, name: str, network: Network, layout: na.Layout, rate: float) -> "Learner":
        """Build a learner with a wrapped Adam optimizer; ``name`` is the network's name in the records."""
        return cls(network, layout, activity.wrap(name, optax.adam(rate), layout, network.init))

    def init(self, key: Array) -> TrainState:
        """Draw initial parameters."""
        params = self.network.init(key)
        return TrainState(params, self.optimizer.init(params))

    def step(self, trained: TrainState, gradients: Params, inputs: Array) -> TrainState:
        """Apply one optimizer step; ReDo measures activations on the inputs."""
        params, state = trained
        outputs = lambda: activations(params, lambda p: self.network(p, inputs), layout=self.layout)  # noqa: E731
        updates, state = self.optimizer.update(gradients, state, params, activations=outputs)
        return TrainState(optax.apply_updates(params, updates), state)


def twin_critics(activity: Activity, critic: NetworkWithHead, rate: float) -> dict[str, Learner]:
    """Build the learners of two critics with different initial weights."""
    layout = discover_layout(critic, critic.trunk.inputs)  # of both
    return {name: Learner.create(activity, name, critic, layout, rate) for name in CRITICS}


def critic_inputs(observations: Array, actions: Array) -> Array:
    """Concatenate observations and actions, (batch, observation + action)."""
    return jnp.concatenate([observations, actions], axis=1)


def min_q(critic: NetworkWithHead, params: Mapping[str, Params], observations: Array, actions: Array) -> Array:
    """Return the minimum of both critics' Q-values, (batch, 1)."""
    inputs = critic_inputs(observations, actions)
    return jnp.minimum(*(critic(params[name], inputs) for name in CRITICS))


def critic_loss(
    critic: NetworkWithHead, params: Mapping[str, Params], inputs: Array, target_q: Array
) -> tuple[Array, Array]:
    """Return both critics' squared TD error, summed, and the first one's mean Q-value."""
    q_values = [critic(params[name], inputs) for name in CRITICS]  # two of (batch, 1)
    return jnp.stack([jnp.square(q - target_q).mean() for q in q_values]).sum(), q_values[0].mean()


def prune(trained: TrainState, masks: Masks, layout: na.Layout) -> TrainState:
    """Prune masked neurons of a network."""
    arrays = {group: jnp.asarray(mask) for group, mask in masks.items()}
    pruned = analysis.prune(neuroactivity_jax.parameters(trained.params), arrays, layout)
    return trained._replace(params=neuroactivity_jax.write(trained.params, pruned))


def params_of(trained: Mapping[str, TrainState]) -> dict[str, Params]:
    """Return the parameters of each network by name."""
    return {name: network.params for name, network in trained.items()}


def pack(state: object, **values: Any) -> bytes:
    """Serialise an agent's state, a pytree of arrays, and further values as JSON."""
    arrays = {_name(path): _plain(leaf) for path, leaf in jax.tree.leaves_with_path(state)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, values=np.asarray(json.dumps(values)), **arrays)
    return file.getvalue()


def unpack(saved: bytes, like: T) -> tuple[T, dict[str, Any]]:
    """Read the state, a pytree like ``like``, and the further values that ``pack`` wrote."""
    with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
        check_sizes(arrays.zip)

        def restored(path: Any, old: Array) -> Array:
            array = jnp.array(arrays[_name(path)])
            expected = jax.random.key_data(old) if _is_key(old) else old
            if jnp.shape(array) != jnp.shape(expected) or array.dtype != jnp.result_type(expected):
                form = f"{jnp.shape(expected)} of {jnp.result_type(expected)}"
                raise ValueError(f"{_name(path)}: expected {form}, got {array.shape} of {array.dtype}")
            return jax.random.wrap_key_data(array) if _is_key(old) else array

        return jax.tree.map_with_path(restored, like), json.loads(arrays["values"].item())


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_key(array: Array) -> bool:
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.prng_key))


def _plain(array: Array) -> NDArray[Any]:
    return np.asarray(jax.random.key_data(array) if _is_key(array) else array)
