"""Soft actor-critic in TensorFlow (Haarnoja et al. 2018), with automatic entropy tuning, in CleanRL's form."""

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
    descend,
    follow,
    limit_threads,
    lowest,
    pack,
    pairs,
    prune,
    twin_critics,
    unpack,
    weights,
)
from reference_agents.tensorflow.networks import Tensor, linear, trunk

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
LOSSES: Final = ("loss/critic", "loss/actor", "value", "entropy", "alpha")


class Actor(keras.Model):  # type: ignore[misc]
    """A Gaussian, squashed by tanh to actions from -1 to 1, whose mean and spread depend on the observation."""

    def __init__(self, config: Config, observation_size: int, action_size: int) -> None:
        super().__init__()
        seed = derive(config.seed, "weights", "actor")
        self.trunk = trunk(config, observation_size, config.actor_depth, seed)
        self.mean = linear("mean", config.width, action_size, seed)
        self.log_std = linear("log_std", config.width, action_size, seed)
        self.built = True

    def call(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation before the squashing, each (batch, action)."""
        features = self.trunk(observations)  # (batch, width)
        position = (tf.tanh(self.log_std(features)) + 1) / 2
        return self.mean(features), LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * position

    def sample(self, observations: Tensor, generator: tf.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions, (batch, action), and return them with their log-densities, (batch, 1); both carry gradients."""
        mean, log_std = self(observations)
        noise = generator.normal(mean.shape)  # (batch, action)
        raw = mean + tf.exp(log_std) * noise
        log_gaussian = -0.5 * tf.square(noise) - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - raw - tf.nn.softplus(-2 * raw))  # log(1 - tanh²), sound in saturation
        return tf.tanh(raw), tf.reduce_sum(log_gaussian - log_slope, 1, keepdims=True)


class SAC:
    """An actor and two critics, the critics under one optimizer, with an entropy bonus that keeps to a target.

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
        self.targets = twin_critics(config, observation_size, action_size)  # from the same seeds, so the same weights
        self.log_alpha = keras.Variable(0.0)

        self.actor_optimizer = adam(config.actor_lr)
        self.critic_optimizer = adam(config.critic_lr)
        self.alpha_optimizer = adam(config.critic_lr)

        self.activity = Activity(config)
        self._batch: Batch[Tensor]
        self._losses: dict[str, Tensor] = {}
        self._watch_networks(observation_size, action_size)
        self.actor_optimizer.build(weights(self.actor))
        self.critic_optimizer.build(weights(*self.critics))
        self.alpha_optimizer.build([self.log_alpha])
        self._compile()

    def _watch_networks(self, observation_size: int, action_size: int) -> None:
        """Measure and reset each network at the steps of its optimizer; ReDo measures on the batch of that step."""
        watch, actor = self.activity.watch, self.actor
        layout = layout_of(actor, tf.zeros((8, observation_size)))
        self.actor_optimizer = watch("actor", actor, self.actor_optimizer, layout, lambda: self._batch.observations)
        layout = layout_of(self.critics[0], tf.zeros((8, observation_size + action_size)))  # of both
        for number, critic in enumerate(self.critics, start=1):
            self.critic_optimizer = watch(f"critic{number}", critic, self.critic_optimizer, layout, self._taken)

    def _taken(self) -> Tensor:
        """Return what the critics judge: observations with the actions taken, (batch, observation + action)."""
        return pairs(self._batch.observations, self._batch.actions)

    def _compile(self) -> None:
        """Make graphs of what is done often: an update is one graph, built from two smaller ones."""
        self._critics_step = tf.function(self._update_critics, autograph=False)
        self._actor_step = tf.function(self._update_actor, autograph=False)
        self._learn = tf.function(self._update, autograph=False)
        self._choose = tf.function(self._action, autograph=False)

    def act(self, observation: Array, *, explore: bool) -> Array:
        """Choose an action: a random one of the policy to explore, else the squashed mean."""
        action: Array = self._choose(observation, explore).numpy()
        return action

    def _action(self, observation: Tensor, explore: bool) -> Tensor:
        observations = observation[tf.newaxis]  # (1, observation)
        actions = self.actor.sample(observations, self.noise)[0] if explore else tf.tanh(self.actor(observations)[0])
        return actions[0]  # (action,)

    def update(self, batch: Batch[Array]) -> None:
        """Learn from one batch: the critics always, the actor and the entropy coefficient in every few updates."""
        self.updates += 1
        self._batch = Batch(*map(tf.constant, batch))
        self._losses |= self._learn(self._batch, self.updates % self.config.policy_every == 0)

    def _update(self, batch: Batch[Tensor], with_actor: bool) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self._critics_step(batch)
        if with_actor:
            for _ in range(self.config.policy_every):
                losses = losses | self._actor_step(batch)
        follow(weights(*self.targets), weights(*self.critics), self.config.target_rate)
        return losses

    def _update_critics(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        actions, log_density = self.actor.sample(batch.next_observations, self.noise)
        next_value = lowest(self.targets, batch.next_observations, actions)  # (batch, 1)
        soft_value = next_value - tf.exp(self.log_alpha) * log_density
        goal = batch.rewards + self.config.gamma * (1 - batch.terminated) * soft_value  # (batch, 1)
        with tf.GradientTape() as tape:
            inputs = pairs(batch.observations, batch.actions)  # (batch, observation + action)
            values = [critic(inputs) for critic in self.critics]  # two of (batch, 1)
            loss = tf.add_n([tf.reduce_mean(tf.square(value - goal)) for value in values])
        descend(tape, loss, self.critic_optimizer, weights(*self.critics))
        return {"loss/critic": loss, "value": tf.reduce_mean(values[0])}

    def _update_actor(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        with tf.GradientTape() as tape:
            actions, log_density = self.actor.sample(batch.observations, self.noise)
            value = lowest(self.critics, batch.observations, actions)  # (batch, 1)
            loss = tf.reduce_mean(tf.exp(self.log_alpha) * log_density - value)
        descend(tape, loss, self.actor_optimizer, weights(self.actor))
        entropy = -log_density  # (batch, 1)
        with tf.GradientTape() as tape:
            alpha_loss = tf.reduce_mean(tf.exp(self.log_alpha) * (entropy - self.target_entropy))
        descend(tape, alpha_loss, self.alpha_optimizer, [self.log_alpha])
        return {"loss/actor": loss, "entropy": tf.reduce_mean(entropy)}

    def prune_actor(self, masks: Masks) -> None:
        """Remove neurons of the actor, masked by group, from what it computes."""
        prune(self.actor, masks, self.activity.layouts["actor"])

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with the mean value, the entropy and its coefficient; None before the first."""
        latest = self._losses | {"alpha": tf.exp(self.log_alpha)}
        return {name: float(latest[name]) if name in latest else None for name in LOSSES}

    def save(self) -> bytes:
        """Return everything that the agent's future depends on."""
        losses = {name: float(value) for name, value in self._losses.items()}
        return pack(self._parts(), updates=self.updates, losses=losses, activity=self.activity.state())

    def load(self, state: bytes) -> None:
        """Take over what ``save`` returned."""
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
