"""Soft actor-critic in JAX (Haarnoja et al. 2018), with automatic entropy tuning."""

import math
from dataclasses import dataclass
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
from reference_agents.jax.networks import Params, Trunk, dense, discover_layout, linear, network
from reference_agents.seeding import derive

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
LOSSES: Final = ("loss/critic", "loss/actor", "value", "entropy", "alpha")


@dataclass(frozen=True)
class Actor:
    """A tanh-squashed Gaussian policy with state-dependent mean and standard deviation."""

    trunk: Trunk
    action_size: int

    def init(self, key: Array) -> Params:
        """Draw initial parameters."""
        trunk, mean, log_std = jax.random.split(key, 3)
        width = self.trunk.config.width
        heads = {"mean": linear(mean, width, self.action_size), "log_std": linear(log_std, width, self.action_size)}
        return self.trunk.init(trunk) | heads

    def __call__(self, params: Params, observations: Array, /) -> tuple[Array, Array]:
        """Return mean and log standard deviation before tanh, each (batch, action)."""
        features = self.trunk(params, observations)  # (batch, width)
        position = (jnp.tanh(dense(params["log_std"], features)) + 1) / 2
        return dense(params["mean"], features), LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * position

    def sample(self, params: Params, observations: Array, key: Array) -> tuple[Array, Array]:
        """Sample actions, (batch, action), with log-probabilities, (batch, 1), by the reparametrisation trick."""
        mean, log_std = self(params, observations)
        noise = jax.random.normal(key, mean.shape)  # (batch, action)
        raw = mean + jnp.exp(log_std) * noise
        log_gaussian = -0.5 * jnp.square(noise) - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw))  # log(1 - tanh²), numerically stable
        return jnp.tanh(raw), (log_gaussian - log_slope).sum(1, keepdims=True)


class State(NamedTuple):
    """Training state."""

    actor: TrainState
    critics: dict[str, TrainState]
    targets: dict[str, Params]  # of the critics
    log_alpha: TrainState
    losses: dict[str, Array]  # the latest of each
    key: Array  # random key


class SAC:
    """SAC with twin critics and an automatically tuned entropy coefficient.

    Args:
        config: Settings of the run.
        observation_size: Length of an observation.
        action_size: Length of an action.
    """

    def __init__(self, config: Config, observation_size: int, action_size: int) -> None:
        limit_threads(config.threads)
        self.config = config
        self.updates = 0
        self.target_entropy = -float(action_size)

        self.actor = Actor(Trunk(config, observation_size, config.actor_depth, "trunk."), action_size)
        self.critic = network(config, observation_size + action_size, 1, config.depth)
        self.activity = Activity(config)
        layout = discover_layout(self.actor, observation_size)
        self.actor_learner = Learner.create(self.activity, "actor", self.actor, layout, config.actor_lr)
        self.critic_learners = twin_critics(self.activity, self.critic, config.critic_lr)
        self.alpha_optimizer = optax.adam(config.critic_lr)
        self.state = self._init_state()
        self._compiled_act = jax.jit(self._act, static_argnames="explore")
        self._compiled_update = jax.jit(self._update, donate_argnums=0)

    def _init_state(self) -> State:
        """Initialise the training state."""
        keys = jax.random.split(jax.random.key(derive(self.config.seed, "weights")), 3)
        critics = {name: self.critic_learners[name].init(key) for name, key in zip(CRITICS, keys[1:], strict=True)}
        log_alpha = jnp.zeros(())
        return State(
            actor=self.actor_learner.init(keys[0]),
            critics=critics,
            targets=jax.tree.map(jnp.copy, params_of(critics)),
            log_alpha=TrainState(log_alpha, self.alpha_optimizer.init(log_alpha)),
            losses={name: jnp.zeros(()) for name in LOSSES if name != "alpha"},
            key=jax.random.key(derive(self.config.seed, "noise")),
        )

    def act(self, observation: agent.Array, *, explore: bool) -> agent.Array:
        """Select an action: sampled from the policy to explore, else its mean."""
        action, key = self._compiled_act(self.state.actor.params, observation, self.state.key, explore=explore)
        self.state = self.state._replace(key=key)
        return np.array(action)

    def _act(self, params: Params, observation: Array, key: Array, *, explore: bool) -> tuple[Array, Array]:
        """Return an action, (action,), and the next random key."""
        if explore:
            key, noise = jax.random.split(key)
            actions, _ = self.actor.sample(params, observation[None], noise)  # (1, action)
        else:
            actions = jnp.tanh(self.actor(params, observation[None])[0])
        return actions[0], key

    def update(self, batch: Batch[agent.Array]) -> None:
        """Update the critics and their targets; with policy delay, also the actor and the entropy coefficient."""
        self.updates += 1
        with_actor = self.updates % self.config.policy_delay == 0
        self.state = self._compiled_update(self.state, Batch(*map(jnp.array, batch)), with_actor)
        self.activity.after_update(self.state.critics, steps=1)
        self.activity.after_update({"actor": self.state.actor}, steps=with_actor * self.config.policy_delay)

    def _update(self, state: State, batch: Batch[Array], with_actor: Array) -> State:
        """Update the critics and, if it is due, the actor ``policy_delay`` times."""
        state = self._update_critics(state, batch)
        steps = jnp.where(with_actor, self.config.policy_delay, 0)
        updated: State = jax.lax.fori_loop(0, steps, lambda _, state: self._update_actor(state, batch), state)
        return updated

    def _update_critics(self, state: State, batch: Batch[Array]) -> State:
        """Take a gradient step of both critics towards the soft TD target, and update the target critics."""
        key, noise = jax.random.split(state.key)
        actions, log_prob = self.actor.sample(state.actor.params, batch.next_observations, noise)
        next_q = min_q(self.critic, state.targets, batch.next_observations, actions)  # (batch, 1)
        soft_value = next_q - jnp.exp(state.log_alpha.params) * log_prob  # (batch, 1)
        target_q = batch.rewards + self.config.gamma * (1 - batch.terminated) * soft_value  # (batch, 1)
        inputs = critic_inputs(batch.observations, batch.actions)  # (batch, observation + action)

        loss_and_grad = jax.value_and_grad(critic_loss, argnums=1, has_aux=True)
        (loss, value), gradients = loss_and_grad(self.critic, params_of(state.critics), inputs, target_q)
        critics = {
            name: learner.step(state.critics[name], gradients[name], inputs)
            for name, learner in self.critic_learners.items()
        }
        targets = optax.incremental_update(params_of(critics), state.targets, self.config.polyak)
        losses = state.losses | {"loss/critic": loss, "value": value}
        return state._replace(critics=critics, targets=targets, losses=losses, key=key)

    def _update_actor(self, state: State, batch: Batch[Array]) -> State:
        """Take a gradient step of the actor and one of the entropy coefficient."""
        key, noise = jax.random.split(state.key)
        alpha = jnp.exp(state.log_alpha.params)

        def loss(params: Params) -> tuple[Array, Array]:
            actions, log_prob = self.actor.sample(params, batch.observations, noise)
            q = min_q(self.critic, params_of(state.critics), batch.observations, actions)  # (batch, 1)
            return (alpha * log_prob - q).mean(), -log_prob.mean()

        (actor_loss, entropy), gradients = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
        actor = self.actor_learner.step(state.actor, gradients, batch.observations)
        losses = state.losses | {"loss/actor": actor_loss, "entropy": entropy}
        log_alpha = self._update_alpha(state.log_alpha, entropy)
        return state._replace(actor=actor, log_alpha=log_alpha, losses=losses, key=key)

    def _update_alpha(self, log_alpha: TrainState, entropy: Array) -> TrainState:
        """Take a gradient step of the entropy coefficient, which rises if the entropy is below its target."""
        gradient = jnp.exp(log_alpha.params) * (entropy - self.target_entropy)
        update, state = self.alpha_optimizer.update(gradient, log_alpha.optimizer)
        return TrainState(optax.apply_updates(log_alpha.params, update), state)

    def prune_actor(self, masks: Masks) -> None:
        """Remove masked neurons from the actor, for evaluation only."""
        actor = prune(self.state.actor, masks, self.activity.layouts["actor"])
        self.state = self.state._replace(actor=actor)

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with mean Q-value, entropy and entropy coefficient; None before the first."""
        latest = self.state.losses | {"alpha": jnp.exp(self.state.log_alpha.params)}
        since = {"loss/actor": self.config.policy_delay, "entropy": self.config.policy_delay, "alpha": 0}  # else 1
        return {name: float(latest[name]) if self.updates >= since.get(name, 1) else None for name in LOSSES}

    def save(self) -> bytes:
        """Return the full state of the agent."""
        return pack(self.state, updates=self.updates, activity=self.activity.state())

    def load(self, state: bytes) -> None:
        """Restore what ``save`` returned."""
        self.state, values = unpack(state, self.state)
        self.updates = values["updates"]
        self.activity.load_state(values["activity"])
