"""Soft actor-critic in TensorFlow (Haarnoja et al. 2018), with automatic entropy tuning."""

import math
from typing import Final

import keras
import tensorflow as tf

from neuroactivity_tensorflow import layout_of
from reference_agents.agent import Array, Batch, Masks
from reference_agents.config import Config
from reference_agents.seeding import derive
from reference_agents.tensorflow.activity import Activity
from reference_agents.tensorflow.learning import (
    Variables,
    adam,
    critic_inputs,
    gradient_step,
    limit_threads,
    min_q,
    pack,
    polyak_update,
    prune,
    twin_critics,
    unpack,
    weights,
)
from reference_agents.tensorflow.networks import Tensor, linear, trunk

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
LOSSES: Final = ("loss/critic", "loss/actor", "value", "entropy", "alpha")


class Actor(keras.Model):  # type: ignore[misc]
    """A tanh-squashed Gaussian policy with state-dependent mean and standard deviation."""

    def __init__(self, config: Config, observation_size: int, action_size: int) -> None:
        super().__init__()
        seed = derive(config.seed, "weights", "actor")
        self.trunk = trunk(config, observation_size, config.actor_depth, seed)
        self.mean = linear("mean", config.width, action_size, seed)
        self.log_std = linear("log_std", config.width, action_size, seed)
        self.built = True

    def call(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation before tanh, each (batch, action)."""
        features = self.trunk(observations)  # (batch, width)
        position = (tf.tanh(self.log_std(features)) + 1) / 2
        return self.mean(features), LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * position

    def sample(self, observations: Tensor, generator: tf.random.Generator) -> tuple[Tensor, Tensor]:
        """Sample actions, (batch, action), with log-probabilities, (batch, 1), by the reparametrisation trick."""
        mean, log_std = self(observations)
        noise = generator.normal(mean.shape)  # (batch, action)
        raw = mean + tf.exp(log_std) * noise
        log_gaussian = -0.5 * tf.square(noise) - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - raw - tf.nn.softplus(-2 * raw))  # log(1 - tanh²), numerically stable
        return tf.tanh(raw), tf.reduce_sum(log_gaussian - log_slope, 1, keepdims=True)


class SAC:
    """SAC with twin critics under one optimizer and an automatically tuned entropy coefficient.

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
        self.noise = tf.random.Generator.from_seed(derive(config.seed, "noise"), alg="philox")

        self.actor = Actor(config, observation_size, action_size)
        self.critics = twin_critics(config, observation_size, action_size)
        self.targets = twin_critics(config, observation_size, action_size)  # same seeds, so the same initial weights
        self.log_alpha = keras.Variable(0.0)

        self.actor_optimizer = adam(config.actor_lr)
        self.critic_optimizer = adam(config.critic_lr)
        self.alpha_optimizer = adam(config.critic_lr)

        self.activity = Activity(config)
        self._batch: Batch[Tensor]
        self._losses: dict[str, Tensor] = {}
        self._wrap_optimizers(observation_size, action_size)
        self.actor_optimizer.build(weights(self.actor))
        self.critic_optimizer.build(weights(*self.critics))
        self.alpha_optimizer.build([self.log_alpha])
        self._compile()

    def _wrap_optimizers(self, observation_size: int, action_size: int) -> None:
        """Wrap the optimizer of each network; ReDo measures activations on the batch of the update."""
        wrap, actor = self.activity.wrap, self.actor
        layout = layout_of(actor, tf.zeros((8, observation_size)))
        self.actor_optimizer = wrap("actor", actor, self.actor_optimizer, layout, lambda: self._batch.observations)
        layout = layout_of(self.critics[0], tf.zeros((8, observation_size + action_size)))  # of both
        for number, critic in enumerate(self.critics, start=1):
            self.critic_optimizer = wrap(f"critic{number}", critic, self.critic_optimizer, layout, self._critic_probe)

    def _critic_probe(self) -> Tensor:
        """Return the critics' inputs for the current batch, (batch, observation + action)."""
        return critic_inputs(self._batch.observations, self._batch.actions)

    def _compile(self) -> None:
        """Compile the update, from graphs of its two steps, and action selection with ``tf.function``."""
        self._critics_step = tf.function(self._update_critics, autograph=False)
        self._actor_step = tf.function(self._update_actor, autograph=False)
        self._compiled_update = tf.function(self._update, autograph=False)
        self._compiled_act = tf.function(self._act, autograph=False)

    def act(self, observation: Array, *, explore: bool) -> Array:
        """Select an action: sampled from the policy to explore, else its mean."""
        action: Array = self._compiled_act(observation, explore).numpy()
        return action

    def _act(self, observation: Tensor, explore: bool) -> Tensor:
        observations = observation[tf.newaxis]  # (1, observation)
        actions = self.actor.sample(observations, self.noise)[0] if explore else tf.tanh(self.actor(observations)[0])
        return actions[0]  # (action,)

    def update(self, batch: Batch[Array]) -> None:
        """Update the critics and their targets; with policy delay, also the actor and the entropy coefficient."""
        self.updates += 1
        self._batch = Batch(*map(tf.constant, batch))
        self._losses |= self._compiled_update(self._batch, self.updates % self.config.policy_delay == 0)

    def _update(self, batch: Batch[Tensor], with_actor: bool) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self._critics_step(batch)
        if with_actor:
            for _ in range(self.config.policy_delay):
                losses = losses | self._actor_step(batch)
        polyak_update(weights(*self.targets), weights(*self.critics), self.config.polyak)
        return losses

    def _update_critics(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        actions, log_prob = self.actor.sample(batch.next_observations, self.noise)
        next_q = min_q(self.targets, batch.next_observations, actions)  # (batch, 1)
        soft_value = next_q - tf.exp(self.log_alpha) * log_prob  # (batch, 1)
        target_q = batch.rewards + self.config.gamma * (1 - batch.terminated) * soft_value  # (batch, 1)
        with tf.GradientTape() as tape:
            inputs = critic_inputs(batch.observations, batch.actions)  # (batch, observation + action)
            q_values = [critic(inputs) for critic in self.critics]  # two of (batch, 1)
            loss = tf.add_n([tf.reduce_mean(tf.square(q - target_q)) for q in q_values])
        gradient_step(tape, loss, self.critic_optimizer, weights(*self.critics))
        return {"loss/critic": loss, "value": tf.reduce_mean(q_values[0])}

    def _update_actor(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        with tf.GradientTape() as tape:
            actions, log_prob = self.actor.sample(batch.observations, self.noise)
            q = min_q(self.critics, batch.observations, actions)  # (batch, 1)
            loss = tf.reduce_mean(tf.exp(self.log_alpha) * log_prob - q)
        gradient_step(tape, loss, self.actor_optimizer, weights(self.actor))
        entropy = -log_prob  # (batch, 1)
        with tf.GradientTape() as tape:
            alpha_loss = tf.reduce_mean(tf.exp(self.log_alpha) * (entropy - self.target_entropy))
        gradient_step(tape, alpha_loss, self.alpha_optimizer, [self.log_alpha])
        return {"loss/actor": loss, "entropy": tf.reduce_mean(entropy)}

    def prune_actor(self, masks: Masks) -> None:
        """Remove masked neurons from the actor, for evaluation only."""
        prune(self.actor, masks, self.activity.layouts["actor"])

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with mean Q-value, entropy and entropy coefficient; None before the first."""
        latest = self._losses | {"alpha": tf.exp(self.log_alpha)}
        return {name: float(latest[name]) if name in latest else None for name in LOSSES}

    def save(self) -> bytes:
        """Return the full state of the agent."""
        losses = {name: float(value) for name, value in self._losses.items()}
        return pack(self._parts(), updates=self.updates, losses=losses, activity=self.activity.state())

    def load(self, state: bytes) -> None:
        """Restore what ``save`` returned."""
        values = unpack(state, self._parts())
        self.updates, self._losses = values["updates"], values["losses"]
        self.activity.load_state(values["activity"])

    def _parts(self) -> dict[str, Variables]:
        return {
            "actor": weights(self.actor),
            "critics": weights(*self.critics),
            "targets": weights(*self.targets),
            "log_alpha": [self.log_alpha],
            "actor_optimizer": self.actor_optimizer.variables,
            "critic_optimizer": self.critic_optimizer.variables,
            "alpha_optimizer": self.alpha_optimizer.variables,
            "noise": [self.noise.state],
        }
