"""Control from images in PyTorch: DrQ-v2 (Yarats et al. 2021, "Mastering visual continuous control", arXiv:2107.09645).

A convolutional encoder, trained by the critics' loss alone, turns images into features for actor and critics. Images
are shifted at random before anyone learns from them, and returns are counted over a few steps.
"""

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
from reference_agents.torch.learning import Stateful, descend, follow, pack, pairs, prune, unpack
from reference_agents.torch.networks import convolution, linear, network
from reference_agents.world.images import CHANNELS

LOSSES: Final = ("loss/critic", "loss/actor", "value")
FEATURES: Final = 50  # of an image, as the dense layers see it
FILTERS: Final = 32  # of each convolution
SHIFT: Final = 4 / 84  # largest shift of an image, relative to its side


class Encoder(nn.Sequential):
    """Four convolutions, of which the first halves the image: from (batch, colour, side, side) to (batch, size)."""

    def __init__(self, side: int, generator: torch.Generator) -> None:
        super().__init__()
        for number in range(1, 5):
            inputs, stride = (CHANNELS, 2) if number == 1 else (FILTERS, 1)
            self.add_module(f"conv{number}", convolution(inputs, FILTERS, generator, stride=stride))
            self.add_module(f"relu{number}", nn.ReLU())
        self.add_module("flatten", nn.Flatten())
        self.size = FILTERS * ((side - 1) // 2 - 6) ** 2
        """Length of what comes out."""


class Features(nn.Sequential):
    """What an actor or a critic makes of an encoded image before it judges: from (batch, size) to (batch, FEATURES)."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.add_module("layer", linear(size, FEATURES, generator))
        self.add_module("norm", nn.LayerNorm(FEATURES))
        self.add_module("tanh", nn.Tanh())


class Actor(nn.Module):
    """A deterministic policy of encoded images."""

    def __init__(self, config: Config, size: int, action_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.features = Features(size, generator)
        self.policy = network(config, FEATURES, action_size, config.actor_depth, generator)

    def forward(self, encoded: Tensor) -> Tensor:
        """Return actions, (batch, action), of encoded images, (batch, size)."""
        return torch.tanh(self.policy(self.features(encoded)))


class Critic(nn.Module):
    """The encoder, and two values of an image and an action that share its features."""

    def __init__(self, config: Config, action_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = Encoder(config.image_size, generator)
        self.features = Features(self.encoder.size, generator)
        self.value1 = network(config, FEATURES + action_size, 1, config.depth, generator)
        self.value2 = network(config, FEATURES + action_size, 1, config.depth, generator)

    def values(self, encoded: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return both values, each (batch, 1), of encoded images, (batch, size), and actions."""
        inputs = pairs(self.features(encoded), actions)  # (batch, FEATURES + action)
        return self.value1(inputs), self.value2(inputs)

    def forward(self, images: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return both values, each (batch, 1), of images, (batch, colour, side, side), and actions."""
        return self.values(self.encoder(images), actions)


class DrQv2:
    """An actor and two critics that see images through one encoder.

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
        self.target = deepcopy(self.critic).requires_grad_(False)
        del self.target.encoder  # the encoder that learns serves the target too

        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.critic_lr, fused=True)

        self.activity = Activity(config)
        self._seen: Tensor  # images that the latest update learned from
        self._encoded: Tensor
        self._taken: Tensor  # actions
        self._losses: dict[str, Tensor] = {}
        self._watch_networks(action_size)

    def _watch_networks(self, action_size: int) -> None:
        """Measure and reset each network at the steps of its optimizer; ReDo measures on what it has just learned."""
        watch, side = self.activity.watch, self.config.image_size
        layout = layout_of(self.critic, torch.zeros(4, CHANNELS, side, side), torch.zeros(4, action_size))
        watch("critic", self.critic, self.critic_optimizer, layout, lambda: (self._seen, self._taken))
        layout = layout_of(self.actor, torch.zeros(8, self.critic.encoder.size))
        watch("actor", self.actor, self.actor_optimizer, layout, lambda: self._encoded)

    def _images(self, observations: Tensor) -> Tensor:
        """Return images with values from -0.5 to 0.5, (batch, colour, side, side), of (batch, observation)."""
        side = self.config.image_size
        return observations.view(-1, CHANNELS, side, side) / 255 - 0.5

    def _noisy(self, actions: Tensor, scale: float, clip: float | None = None) -> Tensor:
        """Add noise to actions; their gradient passes as if nothing had been cut off."""
        noise = torch.randn(actions.shape, generator=self.noise) * scale
        noisy = (actions + (noise if clip is None else noise.clamp(-clip, clip))).clamp(-1, 1)
        return actions + (noisy - actions).detach()

    @torch.no_grad()
    def act(self, observation: Array, *, explore: bool) -> Array:
        """Choose the policy's action, with Gaussian noise added to explore."""
        images = self._images(torch.from_numpy(observation).unsqueeze(0))
        actions = self.actor(self.critic.encoder(images))  # (1, action)
        if explore:
            actions = self._noisy(actions, self.config.exploration_noise)
        action: Array = actions.squeeze(0).numpy()
        return action

    def update(self, batch: Batch[Array]) -> None:
        """Learn from one batch: first the encoder and the critics, then the actor; the target critics follow."""
        self.updates += 1
        learned = Batch(*map(torch.from_numpy, batch))
        self._taken = learned.actions
        self._seen = shifted(self._images(learned.observations), self.noise)  # (batch, colour, side, side)
        self._update_critic(learned)
        self._update_actor()
        for name, part in self.target.named_children():
            follow(part, self.critic.get_submodule(name), self.config.target_rate)

    def _update_critic(self, batch: Batch[Tensor]) -> None:
        with torch.no_grad():
            seen = self.critic.encoder(shifted(self._images(batch.next_observations), self.noise))  # (batch, size)
            next_value = torch.minimum(*self.target.values(seen, self._policy(seen)))  # (batch, 1)
            discount = self.config.gamma**self.config.n_step
            goal = batch.rewards + discount * (1 - batch.terminated) * next_value  # (batch, 1)
        encoded = self.critic.encoder(self._seen)  # (batch, size)
        values = self.critic.values(encoded, batch.actions)  # two of (batch, 1)
        loss = torch.stack([functional.mse_loss(value, goal) for value in values]).sum()
        self._encoded = encoded.detach()
        descend(loss, self.critic_optimizer)
        self._losses |= {"loss/critic": loss.detach(), "value": values[0].detach()}

    def _update_actor(self) -> None:
        loss = -torch.minimum(*self.critic.values(self._encoded, self._policy(self._encoded))).mean()
        descend(loss, self.actor_optimizer)
        self._losses |= {"loss/actor": loss.detach()}

    def _policy(self, encoded: Tensor) -> Tensor:
        """Return the policy's actions with clipped noise added, (batch, action), of encoded images."""
        return self._noisy(self.actor(encoded), self.config.policy_noise, self.config.noise_clip)

    def prune_actor(self, masks: Masks) -> None:
        """Remove neurons of the actor, masked by group, from what it computes."""
        prune(self.actor, masks, self.activity.layouts["actor"])

    def losses(self) -> dict[str, float | None]:
        """Losses of the latest update, with the mean value; None before the first."""
        return {name: self._losses[name].mean().item() if name in self._losses else None for name in LOSSES}

    def save(self) -> bytes:
        """Return everything that the agent's future depends on."""
        return pack(self._parts(), updates=self.updates, losses=self._losses, noise=self.noise.get_state())

    def load(self, state: bytes) -> None:
        """Take over what ``save`` returned."""
        values = unpack(state, self._parts())
        self.updates, self._losses = values["updates"], values["losses"]
        self.noise.set_state(values["noise"])

    def _parts(self) -> dict[str, Stateful]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "activity": self.activity,
        }


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to four of 84 points along each side, at random; its edges are drawn out."""
    (size, channels, side, _), reach = images.shape, max(round(SHIFT * images.shape[-1]), 1)
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    offsets = torch.randint(2 * reach + 1, (2, size, 1), generator=generator)
    rows, columns = offsets + torch.arange(side)  # each (batch, side)
    every, colour = torch.arange(size)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[every, colour, rows[:, None, :, None], columns[:, None, None, :]]
