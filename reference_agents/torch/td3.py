"""Twin delayed deep deterministic policy gradients in PyTorch (TD3, Fujimoto et al. 2018)."""

from copy import deepcopy
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from neuroactivity_torch import layout_of
from reference_agents.agent import Array, Batch, Masks
from reference_agents.config import Config
from reference_agents.seeding import derive
from reference_agents.torch.activity import Activity
from reference_agents.torch.learning import (
    Stateful,
    critic_inputs,
    gradient_step,
    min_q,
    pack,
    polyak_update,
    prune,
    twin_critics,
    unpack,
)
from reference_agents.torch.networks import network

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
        torch.set_num_threads(config.threads)
        self.config = config
        self.updates = 0
        self.noise = torch.Generator().manual_seed(derive(config.seed, "noise"))
        weights = torch.Generator().manual_seed(derive(config.seed, "weights"))

        self.actor = network(config, observation_size, action_size, config.actor_depth, weights)
        self.critics = twin_critics(config, observation_size, action_size, weights)
        self.target_actor = deepcopy(self.actor).requires_grad_(False)
        self.targets = deepcopy(self.critics).requires_grad_(False)

        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr, fused=True)

        self.activity = Activity(config)
        self._batch: Batch[Tensor]
        self._losses: dict[str, Tensor] = {}
        self._wrap_optimizers(observation_size, action_size)

    def _wrap_optimizers(self, observation_size: int, action_size: int) -> None:
        """Wrap the optimizer of each network; ReDo measures activations on the batch of the update."""
        wrap = self.activity.wrap
        layout = layout_of(self.actor, torch.zeros(8, observation_size))
        wrap("actor", self.actor, self.actor_optimizer, layout, lambda: self._batch.observations)
        layout = layout_of(self.critics[0], torch.zeros(8, observation_size + action_size))  # of both
        for number, critic in enumerate(self.critics, start=1):
            wrap(f"critic{number}", critic, self.critic_optimizer, layout, self._critic_probe)

    def _critic_probe(self) -> Tensor:
        """Return the critics' inputs for the current batch, (batch, observation + action)."""
        return critic_inputs(self._batch.observations, self._batch.actions)

    @torch.no_grad()
    def act(self, observation: Array, *, explore: bool) -> Array:
        """Select the policy's action, with Gaussian noise to explore."""
        actions = torch.tanh(self.actor(torch.from_numpy(observation).unsqueeze(0)))  # (1, action)
        if explore:
            noise = torch.randn(actions.shape, generator=self.noise) * self.config.exploration_noise
            actions = (actions + noise).clamp(-1, 1)
        action: Array = actions.squeeze(0).numpy()
        return action

    def update(self, batch: Batch[Array]) -> None:
        """Update the critics; with policy delay, also the actor and all targets."""
        self.updates += 1
        self._batch = Batch(*map(torch.from_numpy, batch))
        self._update_critics(self._batch)
        if self.updates % self.config.policy_delay == 0:
            self._update_actor(self._batch)
            polyak_update(self.target_actor, self.actor, self.config.polyak)
            polyak_update(self.targets, self.critics, self.config.polyak)

    def _update_critics(self, batch: Batch[Tensor]) -> None:
        with torch.no_grad():
            actions = self._smoothed_actions(batch.next_observations)  # (batch, action)
            next_q = min_q(self.targets, batch.next_observations, actions)  # (batch, 1)
            target_q = batch.rewards + self.config.gamma * (1 - batch.terminated) * next_q  # (batch, 1)
        inputs = critic_inputs(batch.observations, batch.actions)  # (batch, observation + action)
        q_values = [critic(inputs) for critic in self.critics]  # two of (batch, 1)
        loss = torch.stack([functional.mse_loss(q, target_q) for q in q_values]).sum()
        gradient_step(loss, self.critic_optimizer)
        self._losses |= {"loss/critic": loss.detach(), "value": q_values[0].detach()}

    def _smoothed_actions(self, observations: Tensor) -> Tensor:
        """Return the target policy's actions with clipped noise, (batch, action)."""
        actions = torch.tanh(self.target_actor(observations))  # (batch, action)
        noise = torch.randn(actions.shape, generator=self.noise) * self.config.policy_noise
        return (actions + noise.clamp(-self.config.noise_clip, self.config.noise_clip)).clamp(-1, 1)

    def _update_actor(self, batch: Batch[Tensor]) -> None:
        actions = torch.tanh(self.actor(batch.observations))  # (batch, action)
        loss = -self.critics[0](critic_inputs(batch.observations, actions)).mean()
        gradient_step(loss, self.actor_optimizer)
        self._losses |= {"loss/actor": loss.detach()}

    def prune_actor(self, masks: Masks) -> None:
        """Remove masked neurons from the actor, for evaluation only."""
        prune(self.actor, masks, self.activity.layouts["actor"])

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with mean Q-value; None before the first."""
        return {name: self._losses[name].mean().item() if name in self._losses else None for name in LOSSES}

    def save(self) -> bytes:
        """Return the full state of the agent."""
        return pack(self._parts(), updates=self.updates, losses=self._losses, noise=self.noise.get_state())

    def load(self, state: bytes) -> None:
        """Restore what ``save`` returned."""
        values = unpack(state, self._parts())
        self.updates, self._losses = values["updates"], values["losses"]
        self.noise.set_state(values["noise"])

    def _parts(self) -> dict[str, Stateful]:
        return {
            "actor": self.actor,
            "critics": self.critics,
            "target_actor": self.target_actor,
            "targets": self.targets,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "activity": self.activity,
        }
