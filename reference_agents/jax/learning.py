"""What the updates of the JAX agents have in common: threads, twin critics, steps, a state to keep."""

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
from reference_agents.jax.activity import Activity, Trained
from reference_agents.jax.networks import Headed, Network, Params, discover_layout

T = TypeVar("T")
CRITICS: Final = ("critic1", "critic2")


def limit_threads(number: int) -> None:
    """Let XLA compute with so many threads on a CPU.

    It reads this once, when JAX starts to compute: a process that has computed before goes on with as many threads as
    it has.
    """
    os.environ["PJRT_NPROC"] = str(number)


@dataclass(frozen=True)
class Learner:
    """A network, and the optimizer that trains it, measures its neurons and resets them."""

    network: Network
    layout: na.Layout
    optimizer: optax.GradientTransformationExtraArgs

    @classmethod
    def watched(cls, activity: Activity, name: str, network: Network, layout: na.Layout, rate: float) -> "Learner":
        """Train a network by Adam at a learning rate, watched over under a name."""
        return cls(network, layout, activity.watch(name, optax.adam(rate), layout, network.start))

    def start(self, key: Array) -> Trained:
        """Draw initial parameters."""
        params = self.network.start(key)
        return Trained(params, self.optimizer.init(params))

    def step(self, trained: Trained, gradients: Params, inputs: Array) -> Trained:
        """Take one step along gradients; where ReDo is to measure, it does so on the inputs."""
        params, state = trained
        outputs = lambda: activations(params, lambda own: self.network(own, inputs), layout=self.layout)  # noqa: E731
        updates, state = self.optimizer.update(gradients, state, params, activations=outputs)
        return Trained(optax.apply_updates(params, updates), state)


def twin_critics(activity: Activity, critic: Headed, rate: float) -> dict[str, Learner]:
    """Train two critics, alike but for their weights."""
    layout = discover_layout(critic, critic.trunk.inputs)  # of both
    return {name: Learner.watched(activity, name, critic, layout, rate) for name in CRITICS}


def pairs(observations: Array, actions: Array) -> Array:
    """Return what a critic judges, (batch, observation + action)."""
    return jnp.concatenate([observations, actions], axis=1)


def lowest(critic: Headed, params: Mapping[str, Params], observations: Array, actions: Array) -> Array:
    """Return the lower of two critics' values, (batch, 1)."""
    inputs = pairs(observations, actions)
    return jnp.minimum(*(critic(params[name], inputs) for name in CRITICS))


def squared_error(critic: Headed, params: Mapping[str, Params], inputs: Array, goal: Array) -> tuple[Array, Array]:
    """Return how far two critics are from a goal, (batch, 1), and the first one's mean value."""
    values = [critic(params[name], inputs) for name in CRITICS]  # two of (batch, 1)
    return jnp.stack([jnp.square(value - goal).mean() for value in values]).sum(), values[0].mean()


def prune(trained: Trained, masks: Masks, layout: na.Layout) -> Trained:
    """Remove masked neurons of a network from what it computes."""
    marked = {group: jnp.asarray(mask) for group, mask in masks.items()}
    pruned = analysis.prune(neuroactivity_jax.parameters(trained.params), marked, layout)
    return trained._replace(params=neuroactivity_jax.write(trained.params, pruned))


def parameters(trained: Mapping[str, Trained]) -> dict[str, Params]:
    """Return the parameters of networks by name."""
    return {name: network.params for name, network in trained.items()}


def pack(state: object, **values: Any) -> bytes:
    """Write an agent's state, a tree of arrays, and its further values, plain numbers and text, as bytes."""
    arrays = {_name(path): _plain(leaf) for path, leaf in jax.tree.leaves_with_path(state)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, values=np.asarray(json.dumps(values)), **arrays)
    return file.getvalue()


def unpack(saved: bytes, like: T) -> tuple[T, dict[str, Any]]:
    """Read the state, a tree such as ``like``, and the values that ``pack`` wrote."""
    with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:

        def restored(path: Any, old: Array) -> Array:
            array = jnp.array(arrays[_name(path)])
            return jax.random.wrap_key_data(array) if _is_key(old) else array

        return jax.tree.map_with_path(restored, like), json.loads(arrays["values"].item())


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_key(array: Array) -> bool:
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.prng_key))


def _plain(array: Array) -> NDArray[Any]:
    return np.asarray(jax.random.key_data(array) if _is_key(array) else array)
