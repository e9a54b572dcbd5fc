"""Twin delayed deep deterministic policy gradients in TensorFlow (TD3, Fujimoto et al. 2018)."""

from typing import Final

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
from reference_agents.tensorflow.networks import Tensor, network

LOSSES: Final = ("loss/critic", "loss/actor", "value")


class TD3:
    """TD3 with twin critics under one optimizer.

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
        self.noise = tf.random.Generator.from_seed(derive(config.seed, "noise"), alg="philox")
        seed = derive(config.seed, "weights", "actor")

        self.actor = network(config, observation_size, action_size, config.actor_depth, seed)
        self.critics = twin_critics(config, observation_size, action_size)
        self.target_actor = network(config, observation_size, action_size, config.actor_depth, seed)  # same seed
        self.targets = twin_critics(config, observation_size, action_size)

        self.actor_optimizer = adam(config.actor_lr)
        self.critic_optimizer = adam(config.critic_lr)

        self.activity = Activity(config)
        self._batch: Batch[Tensor]
        self._losses: dict[str, Tensor] = {}
        self._wrap_optimizers(observation_size, action_size)
        self.actor_optimizer.build(weights(self.actor))
        self.critic_optimizer.build(weights(*self.critics))
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
        """Select the policy's action, with Gaussian noise to explore."""
        action: Array = self._compiled_act(observation, explore).numpy()
        return action

    def _act(self, observation: Tensor, explore: bool) -> Tensor:
        actions = tf.tanh(self.actor(observation[tf.newaxis]))  # (1, action)
        if explore:
            noise = self.noise.normal(actions.shape) * self.config.exploration_noise
            actions = tf.clip_by_value(actions + noise, -1, 1)
        return actions[0]  # (action,)

    def update(self, batch: Batch[Array]) -> None:
        """Update the critics; with policy delay, also the actor and all targets."""
        self.updates += 1
        self._batch = Batch(*map(tf.constant, batch))
        self._losses |= self._compiled_update(self._batch, self.updates % self.config.policy_delay == 0)

    def _update(self, batch: Batch[Tensor], with_actor: bool) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self._critics_step(batch)
        if with_actor:
            losses = losses | self._actor_step(batch)
            polyak_update(weights(self.target_actor), weights(self.actor), self.config.polyak)
            polyak_update(weights(*self.targets), weights(*self.critics), self.config.polyak)
        return losses

    def _update_critics(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        actions = self._smoothed_actions(batch.next_observations)  # (batch, action)
        next_q = min_q(self.targets, batch.next_observations, actions)  # (batch, 1)
        target_q = batch.rewards + self.config.gamma * (1 - batch.terminated) * next_q  # (batch, 1)
        with tf.GradientTape() as tape:
            inputs = critic_inputs(batch.observations, batch.actions)  # (batch, observation + action)
            q_values = [critic(inputs) for critic in self.critics]  # two of (batch, 1)
            loss = tf.add_n([tf.reduce_mean(tf.square(q - target_q)) for q in q_values])
        gradient_step(tape, loss, self.critic_optimizer, weights(*self.critics))
        return {"loss/critic": loss, "value": tf.reduce_mean(q_values[0])}

    def _smoothed_actions(self, observations: Tensor) -> Tensor:
        """Return the target policy's actions with clipped noise, (batch, action)."""
        actions = tf.tanh(self.target_actor(observations))  # (batch, action)
        noise = self.noise.normal(actions.shape) * self.config.policy_noise
        noise = tf.clip_by_value(noise, -self.config.noise_clip, self.config.noise_clip)
        return tf.clip_by_value(actions + noise, -1, 1)

    def _update_actor(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        with tf.GradientTape() as tape:
            actions = tf.tanh(self.actor(batch.observations))  # (batch, action)
            loss = -tf.reduce_mean(self.critics[0](critic_inputs(batch.observations, actions)))
        gradient_step(tape, loss, self.actor_optimizer, weights(self.actor))
        return {"loss/actor": loss}

    def prune_actor(self, masks: Masks) -> None:
        """Remove masked neurons from the actor, for evaluation only."""
        prune(self.actor, masks, self.activity.layouts["actor"])

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with mean Q-value; None before the first."""
        return {name: float(self._losses[name]) if name in self._losses else None for name in LOSSES}

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
            "target_actor": weights(self.target_actor),
            "targets": weights(*self.targets),
            "actor_optimizer": self.actor_optimizer.variables,
            "critic_optimizer": self.critic_optimizer.variables,
            "noise": [self.noise.state],
        }
