"""Twin delayed deep deterministic policy gradients in JAX (TD3, Fujimoto et al. 2018), in CleanRL's form."""

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from reference_agents import agent
from reference_agents.agent import Batch, Masks
from reference_agents.config import Config
from reference_agents.jax.activity import Activity, Trained
from reference_agents.jax.learning import (
    CRITICS,
    Learner,
    limit_threads,
    lowest,
    pack,
    pairs,
    parameters,
    prune,
    squared_error,
    twin_critics,
    unpack,
)
from reference_agents.jax.networks import Params, discover_layout, network
from reference_agents.seeding import derive

LOSSES: Final = ("loss/critic", "loss/actor", "value")


class State(NamedTuple):
    """All that changes as the agent learns."""

    actor: Trained
    critics: dict[str, Trained]
    target_actor: Params
    targets: dict[str, Params]  # of the critics
    losses: dict[str, Array]  # the latest of each
    key: Array  # of all noise to come


class TD3:
    """A deterministic actor and two critics, each with a target network.

    What sets it apart from plain deterministic policy gradients: the lower of two values counts, the target policy is
    smoothed by noise, and actor and targets move only after every few updates of the critics.

    Args:
        config: Settings of the run.
        observation_size: Length of an observation.
        action_size: Length of an action.
    """

    def __init__(self, config: Config, observation_size: int, action_size: int) -> None:
        limit_threads(config.threads)
        self.config = config
        self.updates = 0

        self.actor = network(config, observation_size, action_size, config.actor_depth)
        self.critic = network(config, observation_size + action_size, 1, config.depth)
        self.activity = Activity(config)
        layout = discover_layout(self.actor, observation_size)
        self.actor_learner = Learner.watched(self.activity, "actor", self.actor, layout, config.actor_lr)
        self.critic_learners = twin_critics(self.activity, self.critic, config.critic_lr)

        self.state = self._start()
        self._choose_action = jax.jit(self._choose, static_argnames="explore")
        self._learn = jax.jit(self._update, donate_argnums=0)

    def _start(self) -> State:
        """Draw the initial weights."""
        keys = jax.random.split(jax.random.key(derive(self.config.seed, "weights")), 3)
        actor = self.actor_learner.start(keys[0])
        critics = {name: self.critic_learners[name].start(key) for name, key in zip(CRITICS, keys[1:], strict=True)}
        return State(
            actor=actor,
            critics=critics,
            target_actor=jax.tree.map(jnp.copy, actor.params),
            targets=jax.tree.map(jnp.copy, parameters(critics)),
            losses={name: jnp.zeros(()) for name in LOSSES},
            key=jax.random.key(derive(self.config.seed, "noise")),
        )

    def act(self, observation: agent.Array, *, explore: bool) -> agent.Array:
        """Choose the policy's action, with Gaussian noise added to explore."""
        action, key = self._choose_action(self.state.actor.params, observation, self.state.key, explore=explore)
        self.state = self.state._replace(key=key)
        return np.array(action)

    def _choose(self, params: Params, observation: Array, key: Array, *, explore: bool) -> tuple[Array, Array]:
        """Return an action, (action,), and the key of the noise to come."""
        actions = jnp.tanh(self.actor(params, observation[None]))  # (1, action)
        if explore:
            key, noise = jax.random.split(key)
            actions += jax.random.normal(noise, actions.shape) * self.config.exploration_noise
        return jnp.clip(actions[0], -1, 1), key

    def update(self, batch: Batch[agent.Array]) -> None:
        """Learn from one batch: the critics always, the actor and all targets in every few updates."""
        self.updates += 1
        with_actor = self.updates % self.config.policy_every == 0
        self.state = self._learn(self.state, Batch(*map(jnp.array, batch)), with_actor)
        self.activity.after_update(self.state.critics, steps=1)
        self.activity.after_update({"actor": self.state.actor}, steps=int(with_actor))

    def _update(self, state: State, batch: Batch[Array], with_actor: Array) -> State:
        """Take a step of the critics and, if the actor's turn has come, one of the actor."""
        state = self._update_critics(state, batch)
        learned: State = jax.lax.cond(with_actor, self._update_actor, lambda state, _: state, state, batch)
        return learned

    def _update_critics(self, state: State, batch: Batch[Array]) -> State:
        """Take a step of both critics towards the lower of their targets' values of what the target policy would do."""
        key, noise = jax.random.split(state.key)
        actions = self._smoothed_actions(state.target_actor, batch.next_observations, noise)  # (batch, action)
        next_value = lowest(self.critic, state.targets, batch.next_observations, actions)  # (batch, 1)
        goal = batch.rewards + self.config.gamma * (1 - batch.terminated) * next_value  # (batch, 1)
        inputs = pairs(batch.observations, batch.actions)  # (batch, observation + action)

        error = jax.value_and_grad(squared_error, argnums=1, has_aux=True)
        (loss, value), gradients = error(self.critic, parameters(state.critics), inputs, goal)
        critics = {
            name: learner.step(state.critics[name], gradients[name], inputs)
            for name, learner in self.critic_learners.items()
        }
        return state._replace(critics=critics, losses=state.losses | {"loss/critic": loss, "value": value}, key=key)

    def _smoothed_actions(self, params: Params, observations: Array, key: Array) -> Array:
        """Return the target policy's actions with clipped noise added, (batch, action)."""
        actions = jnp.tanh(self.actor(params, observations))  # (batch, action)
        noise = jax.random.normal(key, actions.shape) * self.config.policy_noise
        return jnp.clip(actions + jnp.clip(noise, -self.config.noise_clip, self.config.noise_clip), -1, 1)

    def _update_actor(self, state: State, batch: Batch[Array]) -> State:
        """Take a step of the actor up the first critic, and let all targets follow."""

        def loss(params: Params) -> Array:
            actions = jnp.tanh(self.actor(params, batch.observations))  # (batch, action)
            return -self.critic(state.critics["critic1"].params, pairs(batch.observations, actions)).mean()

        error, gradients = jax.value_and_grad(loss)(state.actor.params)
        actor = self.actor_learner.step(state.actor, gradients, batch.observations)
        follow = optax.incremental_update
        return state._replace(
            actor=actor,
            target_actor=follow(actor.params, state.target_actor, self.config.target_rate),
            targets=follow(parameters(state.critics), state.targets, self.config.target_rate),
            losses=state.losses | {"loss/actor": error},
        )

    def prune_actor(self, masks: Masks) -> None:
        """Remove neurons of the actor, masked by group, from what it computes."""
        actor = prune(self.state.actor, masks, self.activity.layouts["actor"])
        self.state = self.state._replace(actor=actor)

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with the mean value; None before the first."""
        latest, since = self.state.losses, {"loss/actor": self.config.policy_every}  # else 1
        return {name: float(latest[name]) if self.updates >= since.get(name, 1) else None for name in LOSSES}

    def save(self) -> bytes:
        """Return everything that the agent's future depends on."""
        return pack(self.state, updates=self.updates, activity=self.activity.state())

    def load(self, state: bytes) -> None:
        """Take over what ``save`` returned."""
        self.state, values = unpack(state, self.state)
        self.updates = values["updates"]
        self.activity.load_state(values["activity"])
