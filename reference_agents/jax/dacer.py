"""Diffusion actor-critic with entropy regulator in JAX (DACER, Wang et al. 2024, arXiv:2405.15177).

The policy takes the noise away from a random action in a few steps. It learns by the gradient through all of them, and
the noise with which it explores follows an estimate of its entropy. The critics predict distributions of returns, as in
DSAC-T (Duan et al. 2025, "Distributional soft actor-critic with three refinements", arXiv:2310.05858).
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.lax import stop_gradient

from reference_agents import agent
from reference_agents.agent import Batch, Masks
from reference_agents.config import Config
from reference_agents.jax.activity import Activity, Trained
from reference_agents.jax.diffusion import Denoiser, denoise, variance_preserving
from reference_agents.jax.entropy import entropy
from reference_agents.jax.learning import (
    CRITICS,
    Learner,
    limit_threads,
    pack,
    pairs,
    parameters,
    prune,
    twin_critics,
    unpack,
)
from reference_agents.jax.networks import Headed, Params, discover_layout, network
from reference_agents.seeding import derive

LOSSES: Final = ("loss/critic", "loss/actor", "value", "spread", "entropy", "alpha")
ALPHA: Final = 3.0  # at the start: the entropy's coefficient
SAMPLES: Final = 200  # actions for each observation from which the entropy is estimated
LIMIT: Final = 3.0  # spreads from the mean: beyond it returns are clipped
MARGIN: Final = 0.1  # keeps divisions by a spread finite
SPREAD_RATE: Final = 5e-3  # fraction of the way that the mean spread moves towards the latest one


class Returns(NamedTuple):
    """Gaussians that returns are predicted to follow."""

    mean: Array  # (batch, 1)
    spread: Array  # (batch, 1), the standard deviation


class Outcome(NamedTuple):
    """How well a critic predicts a batch."""

    loss: Array  # mean squared error of the means
    value: Array  # mean of the means
    spread: Array  # mean spread, averaged over the latest updates


def predict(critic: Headed, params: Params, observations: Array, actions: Array) -> Returns:
    """Predict returns."""
    outputs = critic(params, pairs(observations, actions))  # (batch, 2)
    return Returns(outputs[:, :1], jax.nn.softplus(outputs[:, 1:]))


def lowest(critic: Headed, params: Mapping[str, Params], observations: Array, actions: Array) -> Returns:
    """Return, of two critics' predictions, the one with the lower mean."""
    first, second = (predict(critic, params[name], observations, actions) for name in CRITICS)
    lower = first.mean < second.mean  # (batch, 1)
    return Returns(*(jnp.where(lower, *both) for both in zip(first, second, strict=True)))


def distribution_error(
    params: Params, critic: Headed, batch: Batch[Array], goal: Array, drawn: Array, latest: Array
) -> tuple[Array, Outcome]:
    """Return an error that has the gradient of DSAC-T; its value means nothing.

    The mean moves towards the goal, not towards a draw; the spread towards the distance of a draw that is bounded by
    the spreads of late; and the squares of these scale the whole (expected value substituting and variance-based
    gradient adjusting, Duan et al. 2025).

    Args:
        params: Parameters of the critic.
        critic: The critic.
        batch: What it judges.
        goal: Mean of the returns that it is to predict, (batch, 1).
        drawn: One of those returns for each pair, (batch, 1).
        latest: Its mean spread of late, 0 if there is none yet.

    Returns:
        The error, and what the update reports; nothing but ``params`` receives a gradient.
    """
    found = predict(critic, params, batch.observations, batch.actions)
    mean, spread = stop_gradient(found)  # each (batch, 1)
    latest = jnp.where(latest > 0, latest + SPREAD_RATE * (spread.mean() - latest), spread.mean())
    bounded = mean + jnp.clip(drawn - mean, -LIMIT * latest, LIMIT * latest)  # (batch, 1)
    of_mean = found.mean * (goal - mean) / (jnp.square(spread) + MARGIN)
    of_spread = found.spread * (jnp.square(bounded - mean) - jnp.square(spread)) / (spread**3 + MARGIN)
    error = -(jnp.square(latest) + MARGIN) * (of_mean + of_spread).mean()
    return error, Outcome(jnp.square(goal - mean).mean(), mean.mean(), latest)


class State(NamedTuple):
    """All that changes as the agent learns."""

    actor: Trained
    critics: dict[str, Trained]
    targets: dict[str, Params]  # what the critics' parameters were, more or less, some time ago
    spreads: dict[str, Array]  # what each critic's spread has been of late on average, 0 before the first update
    log_alpha: Trained
    losses: dict[str, Array]  # the latest of each
    key: Array  # of all noise to come


class DACER:
    """A diffusion policy and two critics of distributions, with exploration that keeps the entropy to a target.

    Args:
        config: Settings of the run.
        observation_size: Length of an observation.
        action_size: Length of an action.
    """

    def __init__(self, config: Config, observation_size: int, action_size: int) -> None:
        limit_threads(config.threads)
        self.config = config
        self.updates = 0
        self.target_entropy = -0.9 * action_size

        self.schedule = variance_preserving(config.diffusion_steps)
        self.actor = Denoiser(config, observation_size, action_size)
        self.critic = network(config, observation_size + action_size, 2, config.depth)
        self.activity = Activity(config)
        layout = discover_layout(self.actor, self.actor.inputs)  # of one step: all steps share the weights
        self.actor_learner = Learner.watched(self.activity, "actor", self.actor, layout, config.actor_lr)
        self.critic_learners = twin_critics(self.activity, self.critic, config.critic_lr)
        self.alpha_optimizer = optax.adam(config.alpha_lr)
        self.state = self._start()
        self._choose_action = jax.jit(self._choose, static_argnames="explore")
        self._learn = jax.jit(self._update, donate_argnums=0)

    def _start(self) -> State:
        """Draw the initial weights."""
        keys = jax.random.split(jax.random.key(derive(self.config.seed, "weights")), 3)
        critics = {name: self.critic_learners[name].start(key) for name, key in zip(CRITICS, keys[1:], strict=True)}
        log_alpha = jnp.full((), math.log(ALPHA), jnp.float32)
        return State(
            actor=self.actor_learner.start(keys[0]),
            critics=critics,
            targets=jax.tree.map(jnp.copy, parameters(critics)),
            spreads={name: jnp.zeros(()) for name in CRITICS},
            log_alpha=Trained(log_alpha, self.alpha_optimizer.init(log_alpha)),
            losses={name: jnp.zeros(()) for name in LOSSES if name != "alpha"},
            key=jax.random.key(derive(self.config.seed, "noise")),
        )

    def act(self, observation: agent.Array, *, explore: bool) -> agent.Array:
        """Choose an action: to explore with added noise, else without, and always the same for an observation."""
        params, log_alpha = self.state.actor.params, self.state.log_alpha.params
        action, key = self._choose_action(params, log_alpha, observation, self.state.key, explore=explore)
        self.state = self.state._replace(key=key)
        return np.array(action)

    def _choose(
        self, params: Params, log_alpha: Array, observation: Array, key: Array, *, explore: bool
    ) -> tuple[Array, Array]:
        """Return an action, (action,), and the key of the noise to come."""
        if explore:
            key, noise = jax.random.split(key)
            actions, _ = self._explore(params, log_alpha, observation[None], noise)  # (1, action)
        else:
            bits = jax.lax.bitcast_convert_type(observation, jnp.uint32)
            actions, _ = self._sample(params, observation[None], jax.random.key(bits.sum()))
        return actions[0], key

    def _sample(self, params: Params, observations: Array, key: Array) -> tuple[Array, Array]:
        """Draw actions, (batch, action), and return with each what the network reads in one step of its chain.

        Where activations are measured, they are those for these inputs: the first from the last step, the second from
        the one before and so on, all steps in turn. Since a batch is random, so is who shows which step.
        """
        size, steps = len(observations), self.config.diffusion_steps
        noise = jax.random.normal(key, (1 + steps, size, self.actor.action_size))

        def inputs(noisy: Array, step: Array) -> Array:
            return jnp.concatenate([observations, noisy, jnp.broadcast_to(step, (size, 1))], axis=1)

        def predict(noisy: Array, step: Array) -> Array:
            return self.actor(params, inputs(noisy, step))

        actions, path = denoise(predict, self.schedule, noise[0], noise[1:])
        row = jnp.arange(size)
        shown = row % steps  # (batch,); 0 is the step that is undone last
        return actions, inputs(path[shown, row], shown[:, None])

    def _explore(self, params: Params, log_alpha: Array, observations: Array, key: Array) -> tuple[Array, Array]:
        """Draw actions as ``_sample`` does, and add noise in proportion to alpha."""
        chain, noise = jax.random.split(key)
        actions, inputs = self._sample(params, observations, chain)  # (batch, action)
        scale = self.config.exploration_noise * jnp.exp(log_alpha)
        return jnp.clip(actions + scale * jax.random.normal(noise, actions.shape), -1, 1), inputs

    def update(self, batch: Batch[agent.Array]) -> None:
        """Learn from one batch: the critics always, actor and targets in every few updates, alpha in every many."""
        self.updates += 1
        with_actor = self.updates % self.config.policy_every == 0
        with_alpha = self.updates % self.config.entropy_every == 0
        self.state = self._learn(self.state, Batch(*map(jnp.array, batch)), with_actor, with_alpha)
        self.activity.after_update(self.state.critics, steps=1)
        self.activity.after_update({"actor": self.state.actor}, steps=int(with_actor))

    def _update(self, state: State, batch: Batch[Array], with_actor: Array, with_alpha: Array) -> State:
        """Take a step of the critics and, if their turn has come, one of the actor and one of alpha."""

        def unchanged(state: State, _: Batch[Array]) -> State:
            return state

        state = self._update_critics(state, batch)
        state = jax.lax.cond(with_actor, self._update_actor, unchanged, state, batch)
        learned: State = jax.lax.cond(with_alpha, self._update_alpha, unchanged, state, batch)
        return learned

    def _update_critics(self, state: State, batch: Batch[Array]) -> State:
        """Take a step of both critics towards the lower of their targets' predictions for the policy's next actions."""
        key, noise, draw = jax.random.split(state.key, 3)
        actions, _ = self._explore(state.actor.params, state.log_alpha.params, batch.next_observations, noise)
        following = lowest(self.critic, state.targets, batch.next_observations, actions)  # (batch, 1)
        discount = self.config.gamma * (1 - batch.terminated)
        goal = batch.rewards + discount * following.mean  # (batch, 1)
        offset = following.spread * jnp.clip(jax.random.normal(draw, goal.shape), -LIMIT, LIMIT)
        drawn = goal + discount * offset  # (batch, 1)

        error = jax.grad(distribution_error, has_aux=True)
        found: dict[str, Outcome] = {}
        critics: dict[str, Trained] = {}
        for name, learner in self.critic_learners.items():
            own = state.critics[name]
            gradients, found[name] = error(own.params, self.critic, batch, goal, drawn, state.spreads[name])
            critics[name] = learner.step(own, gradients, pairs(batch.observations, batch.actions))
        first, second = (found[name] for name in CRITICS)
        latest = {"loss/critic": first.loss + second.loss, "value": first.value, "spread": first.spread}
        spreads = {name: outcome.spread for name, outcome in found.items()}
        return state._replace(critics=critics, spreads=spreads, losses=state.losses | latest, key=key)

    def _update_actor(self, state: State, batch: Batch[Array]) -> State:
        """Take a step of the actor up the critics, by way of the whole chain, and let the targets follow."""
        key, noise = jax.random.split(state.key)

        def loss(params: Params) -> tuple[Array, Array]:
            actions, inputs = self._explore(params, state.log_alpha.params, batch.observations, noise)
            return -lowest(self.critic, parameters(state.critics), batch.observations, actions).mean.mean(), inputs

        (error, inputs), gradients = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
        return state._replace(
            actor=self.actor_learner.step(state.actor, gradients, inputs),
            targets=optax.incremental_update(parameters(state.critics), state.targets, self.config.target_rate),
            losses=state.losses | {"loss/actor": error},
            key=key,
        )

    def _update_alpha(self, state: State, batch: Batch[Array]) -> State:
        """Estimate the policy's entropy, and take a step of alpha up if it is below its target, else down."""
        key, noise = jax.random.split(state.key)
        params, log_alpha = state.actor.params, state.log_alpha.params

        def of_one(observation: Array, key: Array) -> Array:
            alike = jnp.broadcast_to(observation, (SAMPLES, *observation.shape))
            return entropy(self._explore(params, log_alpha, alike, key)[0])

        each = batch.observations, jax.random.split(noise, len(batch.observations))
        found = jax.lax.map(lambda one: of_one(*one), each, batch_size=16).mean()
        update, optimizer = self.alpha_optimizer.update(found - self.target_entropy, state.log_alpha.optimizer)
        tuned = Trained(optax.apply_updates(log_alpha, update), optimizer)
        return state._replace(log_alpha=tuned, losses=state.losses | {"entropy": found}, key=key)

    def prune_actor(self, masks: Masks) -> None:
        """Remove neurons of the actor, masked by group, from what it computes."""
        actor = prune(self.state.actor, masks, self.activity.layouts["actor"])
        self.state = self.state._replace(actor=actor)

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with mean value and spread, the entropy and alpha; None before the first."""
        latest = self.state.losses | {"alpha": jnp.exp(self.state.log_alpha.params)}
        since = {"loss/actor": self.config.policy_every, "entropy": self.config.entropy_every, "alpha": 0}  # else 1
        return {name: float(latest[name]) if self.updates >= since.get(name, 1) else None for name in LOSSES}

    def save(self) -> bytes:
        """Return everything that the agent's future depends on."""
        return pack(self.state, updates=self.updates, activity=self.activity.state())

    def load(self, state: bytes) -> None:
        """Take over what ``save`` returned."""
        self.state, values = unpack(state, self.state)
        self.updates = values["updates"]
        self.activity.load_state(values["activity"])
