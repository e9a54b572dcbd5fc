"""Soft actor-critic in PyTorch (Haarnoja et al. 2018), with automatic entropy tuning."""

import math
from copy import deepcopy
from typing import Final

import torch
from torch import Tensor, nn
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
from reference_agents.torch.networks import linear, trunk

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
LOSSES: Final = ("loss/critic", "loss/actor", "value", "entropy", "alpha")


class Actor(nn.Module):
    """A tanh-squashed Gaussian policy with state-dependent mean and standard deviation."""

    def __init__(self, config: Config, observation_size: int, action_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.trunk = trunk(config, observation_size, config.actor_depth, generator)
        self.mean = linear(config.width, action_size, generator)
        self.log_std = linear(config.width, action_size, generator)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation before tanh, each (batch, action)."""
        features = self.trunk(observations)  # (batch, width)
        position = (torch.tanh(self.log_std(features)) + 1) / 2
        return self.mean(features), LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) * position

    def sample(self, observations: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample actions, (batch, action), with log-probabilities, (batch, 1), by the reparametrisation trick."""
        mean, log_std = self(observations)
        noise = torch.randn(mean.shape, generator=generator)  # (batch, action)
        raw = mean + log_std.exp() * noise
        log_gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - raw - functional.softplus(-2 * raw))  # log(1 - tanh²), numerically stable
        return torch.tanh(raw), (log_gaussian - log_slope).sum(1, keepdim=True)


class SAC:
    """SAC with twin critics under one optimizer and an automatically tuned entropy coefficient.

    Args:
        config: Settings of the run.
        observation_size: Length of an observation.
        action_size: Length of an action.
    """

    def __init__(self, config: Config, observation_size: int, action_size: int) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.updates = 0
        self.target_entropy = -float(action_size)
        self.noise = torch.Generator().manual_seed(derive(config.seed, "noise"))
        weights = torch.Generator().manual_seed(derive(config.seed, "weights"))

        self.actor = Actor(config, observation_size, action_size, weights)
        self.critics = twin_critics(config, observation_size, action_size, weights)
        self.targets = deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(1))

        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr, fused=True)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=config.critic_lr, fused=True)

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
        """Select an action: sampled from the policy to explore, else its mean."""
        observations = torch.from_numpy(observation).unsqueeze(0)  # (1, observation)
        if explore:
            actions, _ = self.actor.sample(observations, self.noise)
        else:
            actions = torch.tanh(self.actor(observations)[0])
        action: Array = actions.squeeze(0).numpy()
        return action

    def update(self, batch: Batch[Array]) -> None:
        """Update the critics and their targets; with policy delay, also the actor and the entropy coefficient."""
        self.updates += 1
        self._batch = Batch(*map(torch.from_numpy, batch))
        self._update_critics(self._batch)
        if self.updates % self.config.policy_delay == 0:
            for _ in range(self.config.policy_delay):
                self._update_actor(self._batch)
        polyak_update(self.targets, self.critics, self.config.polyak)

    def critic_loss(self, batch: Batch[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the critics' loss on a batch, and the first one's Q-values, (batch, 1)."""
        with torch.no_grad():
            actions, log_prob = self.actor.sample(batch.next_observations, self.noise)
            next_q = min_q(self.targets, batch.next_observations, actions)  # (batch, 1)
            soft_value = next_q - self.log_alpha.exp() * log_prob  # (batch, 1)
            target_q = batch.rewards + self.config.gamma * (1 - batch.terminated) * soft_value  # (batch, 1)
        inputs = critic_inputs(batch.observations, batch.actions)  # (batch, observation + action)
        q_values = [critic(inputs) for critic in self.critics]  # two of (batch, 1)
        return torch.stack([functional.mse_loss(q, target_q) for q in q_values]).sum(), q_values[0]

    def _update_critics(self, batch: Batch[Tensor]) -> None:
        loss, values = self.critic_loss(batch)
        gradient_step(loss, self.critic_optimizer)
        self._losses |= {"loss/critic": loss.detach(), "value": values.detach()}

    def _update_actor(self, batch: Batch[Tensor]) -> None:
        actions, log_prob = self.actor.sample(batch.observations, self.noise)
        q = min_q(self.critics, batch.observations, actions)  # (batch, 1)
        loss = (self.log_alpha.exp().detach() * log_prob - q).mean()
        gradient_step(loss, self.actor_optimizer)
        entropy = -log_prob.detach()  # (batch, 1)
        alpha_loss = (self.log_alpha.exp() * (entropy - self.target_entropy)).mean()
        gradient_step(alpha_loss, self.alpha_optimizer)
        self._losses |= {"loss/actor": loss.detach(), "entropy": entropy}

    def prune_actor(self, masks: Masks) -> None:
        """Remove masked neurons from the actor, for evaluation only."""
        prune(self.actor, masks, self.activity.layouts["actor"])

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with mean Q-value, entropy and entropy coefficient; None before the first."""
        latest = self._losses | {"alpha": self.log_alpha.detach().exp()}
        return {name: latest[name].mean().item() if name in latest else None for name in LOSSES}

    def save(self) -> bytes:
        """Return the full state of the agent."""
        noise = self.noise.get_state()
        return pack(self._parts(), updates=self.updates, losses=self._losses, noise=noise, log_alpha=self.log_alpha)

    def load(self, state: bytes) -> None:
        """Restore what ``save`` returned."""
        values = unpack(state, self._parts())
        self.updates, self._losses = values["updates"], values["losses"]
        self.noise.set_state(values["noise"])
        self.log_alpha.data.copy_(values["log_alpha"])

    def _parts(self) -> dict[str, Stateful]:
        return {
            "actor": self.actor,
            "critics": self.critics,
            "targets": self.targets,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "alpha_optimizer": self.alpha_optimizer,
            "activity": self.activity,
        }
