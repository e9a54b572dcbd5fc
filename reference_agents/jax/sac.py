"""Soft actor-critic in JAX (Haarnoja et al. 2018), with automatic entropy tuning, in CleanRL's form."""

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
from reference_agents.jax.networks import Params, Trunk, dense, discover_layout, linear, network
from reference_agents.seeding import derive

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
LOSSES: Final = ("loss/critic", "loss/actor", "value", "entropy", "alpha")


@dataclass(frozen=True)
class Actor:
    """A Gaussian, squashed by tanh to actions from -1 to 1, whose mean and spread depend on the observation."""

    trunk: Trunk
    action_size: int

    def start(self, key: Array) -> Params:
        """Draw initial parameters."""
        trunk, mean, log_std = jax.random.split(key, 3)
        width = self.trunk.config.width
        heads = {"mean": linear(mean, width, self.action_size), "log_std": linear(log_std, width, self.action_size)}
        return self.trunk.start(trunk) | heads

    def __call__(self, params: Params, observations: Array, /) -> tuple[Array, Array]:
        """Return mean and log standard deviation before the squashing, each (batch, action)."""
        features = self.trunk(params, observations)  # (batch, width)
        position = (jnp.tanh(dense(params["log_std"], features)) + 1) / 2
        return dense(params["mean"], features), LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * position

    def sample(self, params: Params, observations: Array, key: Array) -> tuple[Array, Array]:
        """Draw actions, (batch, action), and return them with their log-densities, (batch, 1)."""
        mean, log_std = self(params, observations)
        noise = jax.random.normal(key, mean.shape)  # (batch, action)
        raw = mean + jnp.exp(log_std) * noise
        log_gaussian = -0.5 * jnp.square(noise) - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw))  # log(1 - tanh²), sound in saturation
        return jnp.tanh(raw), (log_gaussian - log_slope).sum(1, keepdims=True)


class State(NamedTuple):
    """All that changes as the agent learns."""

    actor: Trained
    critics: dict[str, Trained]
    targets: dict[str, Params]  # what the critics' parameters were, more or less, some time ago
    log_alpha: Trained
    losses: dict[str, Array]  # the latest of each
    key: Array  # of all noise to come


class SAC:
    """An actor and two critics, with an entropy bonus that keeps to a target.

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
        self.actor_learner = Learner.watched(self.activity, "actor", self.actor, layout, config.actor_lr)
        self.critic_learners = twin_critics(self.activity, self.critic, config.critic_lr)
        self.alpha_optimizer = optax.adam(config.critic_lr)
        self.state = self._start()
        self._choose_action = jax.jit(self._choose, static_argnames="explore")
        self._learn = jax.jit(self._update, donate_argnums=0)

    def _start(self) -> State:
        """Draw the initial weights."""
        keys = jax.random.split(jax.random.key(derive(self.config.seed, "weights")), 3)
        critics = {name: self.critic_learners[name].start(key) for name, key in zip(CRITICS, keys[1:], strict=True)}
        log_alpha = jnp.zeros(())
        return State(
            actor=self.actor_learner.start(keys[0]),
            critics=critics,
            targets=jax.tree.map(jnp.copy, parameters(critics)),
            log_alpha=Trained(log_alpha, self.alpha_optimizer.init(log_alpha)),
            losses={name: jnp.zeros(()) for name in LOSSES if name != "alpha"},
            key=jax.random.key(derive(self.config.seed, "noise")),
        )

    def act(self, observation: agent.Array, *, explore: bool) -> agent.Array:
        """Choose an action: a random one of the policy to explore, else the squashed mean."""
        action, key = self._choose_action(self.state.actor.params, observation, self.state.key, explore=explore)
        self.state = self.state._replace(key=key)
        return np.array(action)

    def _choose(self, params: Params, observation: Array, key: Array, *, explore: bool) -> tuple[Array, Array]:
        """Return an action, (action,), and the key of the noise to come."""
        if explore:
            key, noise = jax.random.split(key)
            actions, _ = self.actor.sample(params, observation[None], noise)  # (1, action)
        else:
            actions = jnp.tanh(self.actor(params, observation[None])[0])
        return actions[0], key

    def update(self, batch: Batch[agent.Array]) -> None:
        """Learn from one batch: the critics always, the actor and the entropy coefficient in every few updates."""
        self.updates += 1
        with_actor = self.updates % self.config.policy_every == 0
        self.state = self._learn(self.state, Batch(*map(jnp.array, batch)), with_actor)
        self.activity.after_update(self.state.critics, steps=1)
        self.activity.after_update({"actor": self.state.actor}, steps=with_actor * self.config.policy_every)

    def _update(self, state: State, batch: Batch[Array], with_actor: Array) -> State:
        """Take a step of the critics and, if the actor's turn has come, as many of the actor as updates went by."""
        state = self._update_critics(state, batch)
        steps = jnp.where(with_actor, self.config.policy_every, 0)
        learned: State = jax.lax.fori_loop(0, steps, lambda _, state: self._update_actor(state, batch), state)
        return learned

    def _update_critics(self, state: State, batch: Batch[Array]) -> State:
        """Take a step of both critics towards the soft value of what the policy would do next; targets follow."""
        key, noise = jax.random.split(state.key)
        actions, log_density = self.actor.sample(state.actor.params, batch.next_observations, noise)
        next_value = lowest(self.critic, state.targets, batch.next_observations, actions)  # (batch, 1)
        soft_value = next_value - jnp.exp(state.log_alpha.params) * log_density
        goal = batch.rewards + self.config.gamma * (1 - batch.terminated) * soft_value  # (batch, 1)
        inputs = pairs(batch.observations, batch.actions)  # (batch, observation + action)

        error = jax.value_and_grad(squared_error, argnums=1, has_aux=True)
        (loss, value), gradients = error(self.critic, parameters(state.critics), inputs, goal)
        critics = {
            name: learner.step(state.critics[name], gradients[name], inputs)
            for name, learner in self.critic_learners.items()
        }
        targets = optax.incremental_update(parameters(critics), state.targets, self.config.target_rate)
        losses = state.losses | {"loss/critic": loss, "value": value}
        return state._replace(critics=critics, targets=targets, losses=losses, key=key)

    def _update_actor(self, state: State, batch: Batch[Array]) -> State:
        """Take a step of the actor up the critics and the entropy, and one of the entropy's coefficient."""
        key, noise = jax.random.split(state.key)
        alpha = jnp.exp(state.log_alpha.params)

        def loss(params: Params) -> tuple[Array, Array]:
            actions, log_density = self.actor.sample(params, batch.observations, noise)
            value = lowest(self.critic, parameters(state.critics), batch.observations, actions)  # (batch, 1)
            return (alpha * log_density - value).mean(), -log_density.mean()

        (error, entropy), gradients = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
        actor = self.actor_learner.step(state.actor, gradients, batch.observations)
        losses = state.losses | {"loss/actor": error, "entropy": entropy}
        return state._replace(actor=actor, log_alpha=self._tuned(state.log_alpha, entropy), losses=losses, key=key)

    def _tuned(self, log_alpha: Trained, entropy: Array) -> Trained:
        """Take a step that raises the entropy's coefficient where the entropy is below its target."""
        gradient = jnp.exp(log_alpha.params) * (entropy - self.target_entropy)  # of itself
        update, state = self.alpha_optimizer.update(gradient, log_alpha.optimizer)
        return Trained(optax.apply_updates(log_alpha.params, update), state)

    def prune_actor(self, masks: Masks) -> None:
        """Remove neurons of the actor, masked by group, from what it computes."""
        actor = prune(self.state.actor, masks, self.activity.layouts["actor"])
        self.state = self.state._replace(actor=actor)

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with the mean value, the entropy and its coefficient; None before the first."""
        latest = self.state.losses | {"alpha": jnp.exp(self.state.log_alpha.params)}
        since = {"loss/actor": self.config.policy_every, "entropy": self.config.policy_every, "alpha": 0}  # else 1
        return {name: float(latest[name]) if self.updates >= since.get(name, 1) else None for name in LOSSES}

    def save(self) -> bytes:
        """Return everything that the agent's future depends on."""
        return pack(self.state, updates=self.updates, activity=self.activity.state())

    def load(self, state: bytes) -> None:
        """Take over what ``save`` returned."""
        self.state, values = unpack(state, self.state)
        self.updates = values["updates"]
        self.activity.load_state(values["activity"])
