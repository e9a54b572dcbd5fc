"""DrQ-v2 in PyTorch: RL from pixels (Yarats et al. 2021, "Mastering visual continuous control", arXiv:2107.09645).

A convolutional encoder, trained by the critic loss only, computes features for the actor and the critics. Images are
augmented by random shifts, and the critics learn n-step returns.
"""

from copy import deepcopy
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuroactivity_torch import layout_of
from reference_agents.agent import Array, Batch, Masks
from reference_agents.config import Config
from reference_agents.envs.images import CHANNELS
from reference_agents.seeding import derive
from reference_agents.torch.activity import Activity
from reference_agents.torch.learning import Stateful, critic_inputs, gradient_step, pack, polyak_update, prune, unpack
from reference_agents.torch.networks import convolution, linear, network

LOSSES: Final = ("loss/critic", "loss/actor", "value")
FEATURES: Final = 50  # feature dimension of actor and critics
FILTERS: Final = 32  # channels of each convolution
SHIFT: Final = 4 / 84  # largest random shift, relative to the image size


class Encoder(nn.Sequential):
    """Four convolutions, the first with stride 2: from (batch, channel, side, side) to (batch, size)."""

    def __init__(self, side: int, generator: torch.Generator) -> None:
        super().__init__()
        for number in range(1, 5):
            inputs, stride = (CHANNELS, 2) if number == 1 else (FILTERS, 1)
            self.add_module(f"conv{number}", convolution(inputs, FILTERS, generator, stride=stride))
            self.add_module(f"relu{number}", nn.ReLU())
        self.add_module("flatten", nn.Flatten())
        self.size = FILTERS * ((side - 1) // 2 - 6) ** 2
        """Size of the flattened output."""


class FeatureLayer(nn.Sequential):
    """Projection of an encoded image in an actor or a critic: from (batch, size) to (batch, FEATURES)."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.add_module("layer", linear(size, FEATURES, generator))
        self.add_module("norm", nn.LayerNorm(FEATURES))
        self.add_module("tanh", nn.Tanh())


class Actor(nn.Module):
    """A deterministic policy on encoded images."""

    def __init__(self, config: Config, size: int, action_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.features = FeatureLayer(size, generator)
        self.policy = network(config, FEATURES, action_size, config.actor_depth, generator)

    def forward(self, encoded: Tensor) -> Tensor:
        """Return actions, (batch, action), of encoded images, (batch, size)."""
        return torch.tanh(self.policy(self.features(encoded)))


class Critic(nn.Module):
    """The encoder, and two Q-functions on its features."""

    def __init__(self, config: Config, action_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = Encoder(config.image_size, generator)
        self.features = FeatureLayer(self.encoder.size, generator)
        self.value1 = network(config, FEATURES + action_size, 1, config.depth, generator)
        self.value2 = network(config, FEATURES + action_size, 1, config.depth, generator)

    def q_values(self, encoded: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return both Q-values, each (batch, 1), of encoded images, (batch, size), and actions."""
        inputs = critic_inputs(self.features(encoded), actions)  # (batch, FEATURES + action)
        return self.value1(inputs), self.value2(inputs)

    def forward(self, images: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return both Q-values, each (batch, 1), of images, (batch, channel, side, side), and actions."""
        return self.q_values(self.encoder(images), actions)


class DrQv2:
    """DrQ-v2: an actor and twin critics with a shared image encoder.

    Args:
        config: Settings of the run.
        observation_size: Length of an observation: images, flattened.
        action_size: Length of an action.
    """

    def __init__(self, config: Config, observation_size: int, action_size: int) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.updates = 0
        self.noise = torch.Generator().manual_seed(derive(config.seed, "noise"))
        weights = torch.Generator().manual_seed(derive(config.seed, "weights"))

        self.critic = Critic(config, action_size, weights)
        self.actor = Actor(config, self.critic.encoder.size, action_size, weights)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        del self.critic_target.encoder  # the target uses the online encoder

        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.critic_lr, fused=True)

        self.activity = Activity(config)
        self._images: Tensor  # augmented observations of the latest update, (batch, channel, side, side)
        self._encoded: Tensor  # the same, encoded, (batch, size)
        self._actions: Tensor  # (batch, action)
        self._losses: dict[str, Tensor] = {}
        self._wrap_optimizers(action_size)

    def _wrap_optimizers(self, action_size: int) -> None:
        """Wrap the optimizer of each network; ReDo measures activations on the batch of the update."""
        wrap, side = self.activity.wrap, self.config.image_size
        layout = layout_of(self.critic, torch.zeros(4, CHANNELS, side, side), torch.zeros(4, action_size))
        wrap("critic", self.critic, self.critic_optimizer, layout, lambda: (self._images, self._actions))
        layout = layout_of(self.actor, torch.zeros(8, self.critic.encoder.size))
        wrap("actor", self.actor, self.actor_optimizer, layout, lambda: self._encoded)

    def _to_images(self, observations: Tensor) -> Tensor:
        """Scale flat observations to images in [-0.5, 0.5], (batch, channel, side, side)."""
        side = self.config.image_size
        return observations.view(-1, CHANNELS, side, side) / 255 - 0.5

    def _add_noise(self, actions: Tensor, scale: float, clip: float | None = None) -> Tensor:
        """Add clipped noise to actions, with a straight-through gradient."""
        noise = torch.randn(actions.shape, generator=self.noise) * scale
        noisy = (actions + (noise if clip is None else noise.clamp(-clip, clip))).clamp(-1, 1)
        return actions + (noisy - actions).detach()

    @torch.no_grad()
    def act(self, observation: Array, *, explore: bool) -> Array:
        """Select the policy's action, with Gaussian noise to explore."""
        images = self._to_images(torch.from_numpy(observation).unsqueeze(0))
        actions = self.actor(self.critic.encoder(images))  # (1, action)
        if explore:
            actions = self._add_noise(actions, self.config.exploration_noise)
        action: Array = actions.squeeze(0).numpy()
        return action

    def update(self, batch: Batch[Array]) -> None:
        """Update the encoder and the critics, then the actor, then the target critics."""
        self.updates += 1
        tensors = Batch(*map(torch.from_numpy, batch))
        self._actions = tensors.actions
        self._images = random_shift(self._to_images(tensors.observations), self.noise)  # (batch, channel, side, side)
        self._update_critic(tensors)
        self._update_actor()
        for name, target in self.critic_target.named_children():
            polyak_update(target, self.critic.get_submodule(name), self.config.polyak)

    def _update_critic(self, batch: Batch[Tensor]) -> None:
        with torch.no_grad():
            next_images = random_shift(self._to_images(batch.next_observations), self.noise)
            next_encoded = self.critic.encoder(next_images)  # (batch, size)
            next_q = torch.minimum(*self.critic_target.q_values(next_encoded, self._policy(next_encoded)))  # (batch, 1)
            discount = self.config.gamma**self.config.n_step
            target_q = batch.rewards + discount * (1 - batch.terminated) * next_q  # (batch, 1)
        encoded = self.critic.encoder(self._images)  # (batch, size)
        q_values = self.critic.q_values(encoded, batch.actions)  # two of (batch, 1)
        loss = torch.stack([functional.mse_loss(q, target_q) for q in q_values]).sum()
        self._encoded = encoded.detach()
        gradient_step(loss, self.critic_optimizer)
        self._losses |= {"loss/critic": loss.detach(), "value": q_values[0].detach()}

    def _update_actor(self) -> None:
        loss = -torch.minimum(*self.critic.q_values(self._encoded, self._policy(self._encoded))).mean()
        gradient_step(loss, self.actor_optimizer)
        self._losses |= {"loss/actor": loss.detach()}

    def _policy(self, encoded: Tensor) -> Tensor:
        """Return the policy's actions with clipped noise, (batch, action), for encoded images."""
        return self._add_noise(self.actor(encoded), self.config.policy_noise, self.config.noise_clip)

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
            "critic": self.critic,
            "target": self.critic_target,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "activity": self.activity,
        }


def random_shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Augment images by random shifts of up to 4 in 84 pixels along each axis, with replicated edges."""
    (size, channels, side, _), padding = images.shape, max(round(SHIFT * images.shape[-1]), 1)
    padded = functional.pad(images, (padding,) * 4, mode="replicate")
    offsets = torch.randint(2 * padding + 1, (2, size, 1), generator=generator)
    rows, columns = offsets + torch.arange(side)  # each (batch, side)
    sample, channel = torch.arange(size)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
