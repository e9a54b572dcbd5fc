"""Diffusion actor-critic with entropy regulator in JAX (DACER, Wang et al. 2024, arXiv:2405.15177).

The diffusion policy denoises a random action in a few steps and is trained by backpropagation through all of them. The
scale of the exploration noise is adapted by an estimate of the policy's entropy. The critics are distributional, as in
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
from reference_agents.jax.activity import Activity, TrainState
from reference_agents.jax.diffusion import Denoiser, denoise, variance_preserving
from reference_agents.jax.entropy import entropy
from reference_agents.jax.learning import (
    CRITICS,
    Learner,
    critic_inputs,
    limit_threads,
    pack,
    params_of,
    prune,
    twin_critics,
    unpack,
)
from reference_agents.jax.networks import NetworkWithHead, Params, discover_layout, network
from reference_agents.seeding import derive

LOSSES: Final = ("loss/critic", "loss/actor", "value", "spread", "entropy", "alpha")
INITIAL_ALPHA: Final = 3.0  # entropy coefficient
ENTROPY_SAMPLES: Final = 200  # actions per observation for the entropy estimate
CLIP_STDS: Final = 3.0  # sampled returns are clipped this many standard deviations from the mean
EPSILON: Final = 0.1  # avoids division by zero
STD_POLYAK: Final = 5e-3  # Polyak coefficient of the mean standard deviation


class ReturnDistribution(NamedTuple):
    """Gaussian distributions of returns."""

    mean: Array  # (batch, 1)
    std: Array  # (batch, 1)


class CriticMetrics(NamedTuple):
    """Metrics of a critic on a batch."""

    loss: Array  # mean squared TD error of the means
    value: Array  # mean Q-value
    mean_std: Array  # mean standard deviation, a running average over updates


def predict(critic: NetworkWithHead, params: Params, observations: Array, actions: Array) -> ReturnDistribution:
    """Predict the distribution of returns."""
    outputs = critic(params, critic_inputs(observations, actions))  # (batch, 2)
    return ReturnDistribution(outputs[:, :1], jax.nn.softplus(outputs[:, 1:]))


def min_q(
    critic: NetworkWithHead, params: Mapping[str, Params], observations: Array, actions: Array
) -> ReturnDistribution:
    """Return the prediction of the critic with the lower mean, per sample."""
    first, second = (predict(critic, params[name], observations, actions) for name in CRITICS)
    lower = first.mean < second.mean  # (batch, 1)
    return ReturnDistribution(*(jnp.where(lower, *both) for both in zip(first, second, strict=True)))


def dsac_t_loss(
    params: Params, critic: NetworkWithHead, batch: Batch[Array], target_q: Array, target_sample: Array, mean_std: Array
) -> tuple[Array, CriticMetrics]:
    """Return a surrogate loss with the gradient of DSAC-T; its value has no meaning.

    The mean is trained on the expected target instead of a sample; the standard deviation on the distance of a sample,
    clipped by the running mean of the standard deviation, whose square scales the whole gradient (expected value
    substituting and variance-based gradient adjusting, Duan et al. 2025).

    Args:
        params: Parameters of the critic.
        critic: The critic.
        batch: Batch of transitions.
        target_q: Mean of the target distribution, (batch, 1).
        target_sample: Sample of the target distribution, (batch, 1).
        mean_std: Running mean of the critic's standard deviation, 0 before the first update.

    Returns:
        The loss, differentiable in ``params`` only, and metrics.
    """
    predicted = predict(critic, params, batch.observations, batch.actions)
    mean, std = stop_gradient(predicted)  # each (batch, 1)
    mean_std = jnp.where(mean_std > 0, mean_std + STD_POLYAK * (std.mean() - mean_std), std.mean())
    clipped = mean + jnp.clip(target_sample - mean, -CLIP_STDS * mean_std, CLIP_STDS * mean_std)  # (batch, 1)
    mean_term = predicted.mean * (target_q - mean) / (jnp.square(std) + EPSILON)  # (batch, 1)
    std_term = predicted.std * (jnp.square(clipped - mean) - jnp.square(std)) / (std**3 + EPSILON)  # (batch, 1)
    loss = -(jnp.square(mean_std) + EPSILON) * (mean_term + std_term).mean()
    return loss, CriticMetrics(jnp.square(target_q - mean).mean(), mean.mean(), mean_std)


class State(NamedTuple):
    """Training state."""

    actor: TrainState
    critics: dict[str, TrainState]
    targets: dict[str, Params]  # of the critics
    spreads: dict[str, Array]  # running mean of each critic's standard deviation, 0 before the first update
    log_alpha: TrainState
    losses: dict[str, Array]  # the latest of each
    key: Array  # random key


class DACER:
    """DACER: a diffusion policy, distributional twin critics, and exploration noise tuned to a target entropy.

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
        layout = discover_layout(self.actor, self.actor.inputs)  # of one denoising step: all share the weights
        self.actor_learner = Learner.create(self.activity, "actor", self.actor, layout, config.actor_lr)
        self.critic_learners = twin_critics(self.activity, self.critic, config.critic_lr)
        self.alpha_optimizer = optax.adam(config.alpha_lr)
        self.state = self._init_state()
        self._compiled_act = jax.jit(self._act, static_argnames="explore")
        self._compiled_update = jax.jit(self._update, donate_argnums=0)

    def _init_state(self) -> State:
        """Initialise the training state."""
        keys = jax.random.split(jax.random.key(derive(self.config.seed, "weights")), 3)
        critics = {name: self.critic_learners[name].init(key) for name, key in zip(CRITICS, keys[1:], strict=True)}
        log_alpha = jnp.full((), math.log(INITIAL_ALPHA), jnp.float32)
        return State(
            actor=self.actor_learner.init(keys[0]),
            critics=critics,
            targets=jax.tree.map(jnp.copy, params_of(critics)),
            spreads={name: jnp.zeros(()) for name in CRITICS},
            log_alpha=TrainState(log_alpha, self.alpha_optimizer.init(log_alpha)),
            losses={name: jnp.zeros(()) for name in LOSSES if name != "alpha"},
            key=jax.random.key(derive(self.config.seed, "noise")),
        )

    def act(self, observation: agent.Array, *, explore: bool) -> agent.Array:
        """Select an action, with noise to explore; without, it is a deterministic function of the observation."""
        params, log_alpha = self.state.actor.params, self.state.log_alpha.params
        action, key = self._compiled_act(params, log_alpha, observation, self.state.key, explore=explore)
        self.state = self.state._replace(key=key)
        return np.array(action)

    def _act(
        self, params: Params, log_alpha: Array, observation: Array, key: Array, *, explore: bool
    ) -> tuple[Array, Array]:
        """Return an action, (action,), and the next random key."""
        if explore:
            key, noise = jax.random.split(key)
            actions, _ = self._explore(params, log_alpha, observation[None], noise)  # (1, action)
        else:
            bits = jax.lax.bitcast_convert_type(observation, jnp.uint32)
            actions, _ = self._sample(params, observation[None], jax.random.key(bits.sum()))
        return actions[0], key

    def _sample(self, params: Params, observations: Array, key: Array) -> tuple[Array, Array]:
        """Sample actions, (batch, action), and the network's inputs at one denoising step of each sample.

        ReDo measures activations on these inputs: the last step for the first sample, the one before for the second,
        and so on through all steps. As the batch is random, so is the assignment of steps to samples.
        """
        size, steps = len(observations), self.config.diffusion_steps
        noise = jax.random.normal(key, (1 + steps, size, self.actor.action_size))

        def inputs(noisy: Array, step: Array) -> Array:
            return jnp.concatenate([observations, noisy, jnp.broadcast_to(step, (size, 1))], axis=1)

        def predict(noisy: Array, step: Array) -> Array:
            return self.actor(params, inputs(noisy, step))

        actions, path = denoise(predict, self.schedule, noise[0], noise[1:])
        row = jnp.arange(size)
        chosen = row % steps  # (batch,); 0 is the last denoising step
        return actions, inputs(path[chosen, row], chosen[:, None])

    def _explore(self, params: Params, log_alpha: Array, observations: Array, key: Array) -> tuple[Array, Array]:
        """Sample actions as ``_sample`` does, and add noise proportional to alpha."""
        chain, noise = jax.random.split(key)
        actions, inputs = self._sample(params, observations, chain)  # (batch, action)
        scale = self.config.exploration_noise * jnp.exp(log_alpha)
        return jnp.clip(actions + scale * jax.random.normal(noise, actions.shape), -1, 1), inputs

    def update(self, batch: Batch[agent.Array]) -> None:
        """Update the critics; with their delays, also the actor with the targets, and alpha."""
        self.updates += 1
        with_actor = self.updates % self.config.policy_delay == 0
        with_alpha = self.updates % self.config.alpha_delay == 0
        self.state = self._compiled_update(self.state, Batch(*map(jnp.array, batch)), with_actor, with_alpha)
        self.activity.after_update(self.state.critics, steps=1)
        self.activity.after_update({"actor": self.state.actor}, steps=int(with_actor))

    def _update(self, state: State, batch: Batch[Array], with_actor: Array, with_alpha: Array) -> State:
        """Update the critics and, if they are due, the actor and alpha."""

        def unchanged(state: State, _: Batch[Array]) -> State:
            return state

        state = self._update_critics(state, batch)
        state = jax.lax.cond(with_actor, self._update_actor, unchanged, state, batch)
        updated: State = jax.lax.cond(with_alpha, self._update_alpha, unchanged, state, batch)
        return updated

    def _update_critics(self, state: State, batch: Batch[Array]) -> State:
        """Take a gradient step of both critics towards the distributional TD target."""
        key, noise, sample = jax.random.split(state.key, 3)
        actions, _ = self._explore(state.actor.params, state.log_alpha.params, batch.next_observations, noise)
        next_return = min_q(self.critic, state.targets, batch.next_observations, actions)  # (batch, 1)
        discount = self.config.gamma * (1 - batch.terminated)
        target_q = batch.rewards + discount * next_return.mean  # (batch, 1)
        offset = next_return.std * jnp.clip(jax.random.normal(sample, target_q.shape), -CLIP_STDS, CLIP_STDS)
        target_sample = target_q + discount * offset  # (batch, 1)

        grad = jax.grad(dsac_t_loss, has_aux=True)
        metrics: dict[str, CriticMetrics] = {}
        critics: dict[str, TrainState] = {}
        for name, learner in self.critic_learners.items():
            trained = state.critics[name]
            mean_std = state.spreads[name]
            gradients, metrics[name] = grad(trained.params, self.critic, batch, target_q, target_sample, mean_std)
            critics[name] = learner.step(trained, gradients, critic_inputs(batch.observations, batch.actions))
        first, second = (metrics[name] for name in CRITICS)
        latest = {"loss/critic": first.loss + second.loss, "value": first.value, "spread": first.mean_std}
        spreads = {name: metrics[name].mean_std for name in CRITICS}
        return state._replace(critics=critics, spreads=spreads, losses=state.losses | latest, key=key)

    def _update_actor(self, state: State, batch: Batch[Array]) -> State:
        """Take a gradient step of the actor through the whole denoising chain, and update the target critics."""
        key, noise = jax.random.split(state.key)

        def loss(params: Params) -> tuple[Array, Array]:
            actions, inputs = self._explore(params, state.log_alpha.params, batch.observations, noise)
            return -min_q(self.critic, params_of(state.critics), batch.observations, actions).mean.mean(), inputs

        (actor_loss, inputs), gradients = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
        return state._replace(
            actor=self.actor_learner.step(state.actor, gradients, inputs),
            targets=optax.incremental_update(params_of(state.critics), state.targets, self.config.polyak),
            losses=state.losses | {"loss/actor": actor_loss},
            key=key,
        )

    def _update_alpha(self, state: State, batch: Batch[Array]) -> State:
        """Estimate the policy's entropy and take a gradient step of alpha, which rises if it is below the target."""
        key, noise = jax.random.split(state.key)
        params, log_alpha = state.actor.params, state.log_alpha.params

        def policy_entropy(observation: Array, key: Array) -> Array:
            repeated = jnp.broadcast_to(observation, (ENTROPY_SAMPLES, *observation.shape))
            return entropy(self._explore(params, log_alpha, repeated, key)[0])

        samples = batch.observations, jax.random.split(noise, len(batch.observations))
        mean_entropy = jax.lax.map(lambda sample: policy_entropy(*sample), samples, batch_size=16).mean()
        update, optimizer = self.alpha_optimizer.update(mean_entropy - self.target_entropy, state.log_alpha.optimizer)
        updated = TrainState(optax.apply_updates(log_alpha, update), optimizer)
        return state._replace(log_alpha=updated, losses=state.losses | {"entropy": mean_entropy}, key=key)

    def prune_actor(self, masks: Masks) -> None:
        """Remove masked neurons from the actor, for evaluation only."""
        actor = prune(self.state.actor, masks, self.activity.layouts["actor"])
        self.state = self.state._replace(actor=actor)

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with mean Q-value and standard deviation, entropy and alpha."""
        latest = self.state.losses | {"alpha": jnp.exp(self.state.log_alpha.params)}
        since = {"loss/actor": self.config.policy_delay, "entropy": self.config.alpha_delay, "alpha": 0}  # else 1
        return {name: float(latest[name]) if self.updates >= since.get(name, 1) else None for name in LOSSES}

    def save(self) -> bytes:
        """Return the full state of the agent."""
        return pack(self.state, updates=self.updates, activity=self.activity.state())

    def load(self, state: bytes) -> None:
        """Restore what ``save`` returned."""
        self.state, values = unpack(state, self.state)
        self.updates = values["updates"]
        self.activity.load_state(values["activity"])
