"""Twin delayed deep deterministic policy gradients in JAX (TD3, Fujimoto et al. 2018)."""

from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from reference_agents import agent
from reference_agents.agent import Batch, Masks
from reference_agents.config import Config
from reference_agents.jax.activity import Activity, TrainState
from reference_agents.jax.learning import (
    CRITICS,
    Learner,
    critic_inputs,
    critic_loss,
    limit_threads,
    min_q,
    pack,
    params_of,
    prune,
    twin_critics,
    unpack,
)
from reference_agents.jax.networks import Params, discover_layout, network
from reference_agents.seeding import derive

LOSSES: Final = ("loss/critic", "loss/actor", "value")


class State(NamedTuple):
    """Training state."""

    actor: TrainState
    critics: dict[str, TrainState]
    target_actor: Params
    targets: dict[str, Params]  # of the critics
    losses: dict[str, Array]  # the latest of each
    key: Array  # random key


class TD3:
    """TD3 with twin critics.

    It adds three things to DDPG: clipped double Q-learning, target policy smoothing, and delayed updates of the actor
    and the targets.

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
        self.actor_learner = Learner.create(self.activity, "actor", self.actor, layout, config.actor_lr)
        self.critic_learners = twin_critics(self.activity, self.critic, config.critic_lr)

        self.state = self._init_state()
        self._compiled_act = jax.jit(self._act, static_argnames="explore")
        self._compiled_update = jax.jit(self._update, donate_argnums=0)

    def _init_state(self) -> State:
        """Initialise the training state."""
        keys = jax.random.split(jax.random.key(derive(self.config.seed, "weights")), 3)
        actor = self.actor_learner.init(keys[0])
        critics = {name: self.critic_learners[name].init(key) for name, key in zip(CRITICS, keys[1:], strict=True)}
        return State(
            actor=actor,
            critics=critics,
            target_actor=jax.tree.map(jnp.copy, actor.params),
            targets=jax.tree.map(jnp.copy, params_of(critics)),
            losses={name: jnp.zeros(()) for name in LOSSES},
            key=jax.random.key(derive(self.config.seed, "noise")),
        )

    def act(self, observation: agent.Array, *, explore: bool) -> agent.Array:
        """Select the policy's action, with Gaussian noise to explore."""
        action, key = self._compiled_act(self.state.actor.params, observation, self.state.key, explore=explore)
        self.state = self.state._replace(key=key)
        return np.array(action)

    def _act(self, params: Params, observation: Array, key: Array, *, explore: bool) -> tuple[Array, Array]:
        """Return an action, (action,), and the next random key."""
        actions = jnp.tanh(self.actor(params, observation[None]))  # (1, action)
        if explore:
            key, noise = jax.random.split(key)
            actions += jax.random.normal(noise, actions.shape) * self.config.exploration_noise
        return jnp.clip(actions[0], -1, 1), key

    def update(self, batch: Batch[agent.Array]) -> None:
        """Update the critics; with policy delay, also the actor and all targets."""
        self.updates += 1
        with_actor = self.updates % self.config.policy_delay == 0
        self.state = self._compiled_update(self.state, Batch(*map(jnp.array, batch)), with_actor)
        self.activity.after_update(self.state.critics, steps=1)
        self.activity.after_update({"actor": self.state.actor}, steps=int(with_actor))

    def _update(self, state: State, batch: Batch[Array], with_actor: Array) -> State:
        """Update the critics and, if it is due, the actor."""
        state = self._update_critics(state, batch)
        updated: State = jax.lax.cond(with_actor, self._update_actor, lambda state, _: state, state, batch)
        return updated

    def _update_critics(self, state: State, batch: Batch[Array]) -> State:
        """Take a gradient step of both critics towards the clipped double-Q target."""
        key, noise = jax.random.split(state.key)
        actions = self._smoothed_actions(state.target_actor, batch.next_observations, noise)  # (batch, action)
        next_q = min_q(self.critic, state.targets, batch.next_observations, actions)  # (batch, 1)
        target_q = batch.rewards + self.config.gamma * (1 - batch.terminated) * next_q  # (batch, 1)
        inputs = critic_inputs(batch.observations, batch.actions)  # (batch, observation + action)

        loss_and_grad = jax.value_and_grad(critic_loss, argnums=1, has_aux=True)
        (loss, value), gradients = loss_and_grad(self.critic, params_of(state.critics), inputs, target_q)
        critics = {
            name: learner.step(state.critics[name], gradients[name], inputs)
            for name, learner in self.critic_learners.items()
        }
        return state._replace(critics=critics, losses=state.losses | {"loss/critic": loss, "value": value}, key=key)

    def _smoothed_actions(self, params: Params, observations: Array, key: Array) -> Array:
        """Return the target policy's actions with clipped noise, (batch, action)."""
        actions = jnp.tanh(self.actor(params, observations))  # (batch, action)
        noise = jax.random.normal(key, actions.shape) * self.config.policy_noise
        return jnp.clip(actions + jnp.clip(noise, -self.config.noise_clip, self.config.noise_clip), -1, 1)

    def _update_actor(self, state: State, batch: Batch[Array]) -> State:
        """Take a gradient step of the actor on the first critic, and update all targets."""

        def loss(params: Params) -> Array:
            actions = jnp.tanh(self.actor(params, batch.observations))  # (batch, action)
            return -self.critic(state.critics["critic1"].params, critic_inputs(batch.observations, actions)).mean()

        actor_loss, gradients = jax.value_and_grad(loss)(state.actor.params)
        actor = self.actor_learner.step(state.actor, gradients, batch.observations)
        polyak_update = optax.incremental_update
        return state._replace(
            actor=actor,
            target_actor=polyak_update(actor.params, state.target_actor, self.config.polyak),
            targets=polyak_update(params_of(state.critics), state.targets, self.config.polyak),
            losses=state.losses | {"loss/actor": actor_loss},
        )

    def prune_actor(self, masks: Masks) -> None:
        """Remove masked neurons from the actor, for evaluation only."""
        actor = prune(self.state.actor, masks, self.activity.layouts["actor"])
        self.state = self.state._replace(actor=actor)

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with mean Q-value; None before the first."""
        latest, since = self.state.losses, {"loss/actor": self.config.policy_delay}  # else 1
        return {name: float(latest[name]) if self.updates >= since.get(name, 1) else None for name in LOSSES}

    def save(self) -> bytes:
        """Return the full state of the agent."""
        return pack(self.state, updates=self.updates, activity=self.activity.state())

    def load(self, state: bytes) -> None:
        """Restore what ``save`` returned."""
        self.state, values = unpack(state, self.state)
        self.updates = values["updates"]
        self.activity.load_state(values["activity"])
