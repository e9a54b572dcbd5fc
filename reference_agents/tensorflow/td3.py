"""Twin delayed deep deterministic policy gradients in TensorFlow (TD3, Fujimoto et al. 2018), in CleanRL's form."""

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
from reference_agents.tensorflow.networks import Tensor, network

LOSSES: Final = ("loss/critic", "loss/actor", "value")


class TD3:
    """A deterministic actor and two critics, the critics under one optimizer, each with a target network.

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
        self.noise = tf.random.Generator.from_seed(derive(config.seed, "noise"), alg="philox")
        seed = derive(config.seed, "weights", "actor")

        self.actor = network(config, observation_size, action_size, config.actor_depth, seed)
        self.critics = twin_critics(config, observation_size, action_size)
        self.target_actor = network(config, observation_size, action_size, config.actor_depth, seed)  # starts alike
        self.targets = twin_critics(config, observation_size, action_size)

        self.actor_optimizer = adam(config.actor_lr)
        self.critic_optimizer = adam(config.critic_lr)

        self.activity = Activity(config)
        self._batch: Batch[Tensor]
        self._losses: dict[str, Tensor] = {}
        self._watch_networks(observation_size, action_size)
        self.actor_optimizer.build(weights(self.actor))
        self.critic_optimizer.build(weights(*self.critics))
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
        """Choose the policy's action, with Gaussian noise added to explore."""
        action: Array = self._choose(observation, explore).numpy()
        return action

    def _action(self, observation: Tensor, explore: bool) -> Tensor:
        actions = tf.tanh(self.actor(observation[tf.newaxis]))  # (1, action)
        if explore:
            noise = self.noise.normal(actions.shape) * self.config.exploration_noise
            actions = tf.clip_by_value(actions + noise, -1, 1)
        return actions[0]  # (action,)

    def update(self, batch: Batch[Array]) -> None:
        """Learn from one batch: the critics always, the actor and all targets in every few updates."""
        self.updates += 1
        self._batch = Batch(*map(tf.constant, batch))
        self._losses |= self._learn(self._batch, self.updates % self.config.policy_every == 0)

    def _update(self, batch: Batch[Tensor], with_actor: bool) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self._critics_step(batch)
        if with_actor:
            losses = losses | self._actor_step(batch)
            follow(weights(self.target_actor), weights(self.actor), self.config.target_rate)
            follow(weights(*self.targets), weights(*self.critics), self.config.target_rate)
        return losses

    def _update_critics(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        actions = self._smoothed_actions(batch.next_observations)  # (batch, action)
        next_value = lowest(self.targets, batch.next_observations, actions)  # (batch, 1)
        goal = batch.rewards + self.config.gamma * (1 - batch.terminated) * next_value  # (batch, 1)
        with tf.GradientTape() as tape:
            inputs = pairs(batch.observations, batch.actions)  # (batch, observation + action)
            values = [critic(inputs) for critic in self.critics]  # two of (batch, 1)
            loss = tf.add_n([tf.reduce_mean(tf.square(value - goal)) for value in values])
        descend(tape, loss, self.critic_optimizer, weights(*self.critics))
        return {"loss/critic": loss, "value": tf.reduce_mean(values[0])}

    def _smoothed_actions(self, observations: Tensor) -> Tensor:
        """Return the target policy's actions with clipped noise added, (batch, action)."""
        actions = tf.tanh(self.target_actor(observations))  # (batch, action)
        noise = self.noise.normal(actions.shape) * self.config.policy_noise
        noise = tf.clip_by_value(noise, -self.config.noise_clip, self.config.noise_clip)
        return tf.clip_by_value(actions + noise, -1, 1)

    def _update_actor(self, batch: Batch[Tensor]) -> dict[str, Tensor]:
        with tf.GradientTape() as tape:
            actions = tf.tanh(self.actor(batch.observations))  # (batch, action)
            loss = -tf.reduce_mean(self.critics[0](pairs(batch.observations, actions)))
        descend(tape, loss, self.actor_optimizer, weights(self.actor))
        return {"loss/actor": loss}

    def prune_actor(self, masks: Masks) -> None:
        """Remove neurons of the actor, masked by group, from what it computes."""
        prune(self.actor, masks, self.activity.layouts["actor"])

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with the mean value; None before the first."""
        return {name: float(self._losses[name]) if name in self._losses else None for name in LOSSES}

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
            "target_actor": weights(self.target_actor),
            "targets": weights(*self.targets),
            "actor_optimizer": self.actor_optimizer.variables,
            "critic_optimizer": self.critic_optimizer.variables,
            "noise": [self.noise.state],
        }
