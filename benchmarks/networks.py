"""Networks whose layouts are searched for: BRO's agent, transformers and a small diffusion U-Net, in PyTorch."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class BroNet(nn.Module):
    """A stream behind a normalisation, to which each block adds a normalised update."""

    def __init__(self, inputs: int, width: int, blocks: int, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width), nn.ReLU())
        self.blocks = nn.ModuleList()
        for _ in range(blocks):
            first, second = (
                (nn.Linear(width, width), nn.LayerNorm(width)),
                (nn.Linear(width, width), nn.LayerNorm(width)),
            )
            self.blocks.append(nn.Sequential(*first, nn.ReLU(), *second))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map observations, and actions beside them, to values."""
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        out: Tensor = self.head(x)
        return out


class BroAgent(nn.Module):
    """Twin critics of 512 wide blocks and an actor of 256 wide ones: 2.5 million parameters."""

    def __init__(self, *, width: int = 512, observation: int = 67, action: int = 21, quantiles: int = 100) -> None:
        super().__init__()
        self.critics = nn.ModuleList(BroNet(observation + action, width, 2, quantiles) for _ in range(2))
        self.actor = BroNet(observation, width // 2, 1, 2 * action)

    def forward(self, observation: Tensor, action: Tensor) -> list[Tensor]:
        """Return both critics' quantiles and the actor's mean and standard deviation."""
        both = torch.cat([observation, action], dim=-1)
        return [*[critic(both) for critic in self.critics], self.actor(observation)]


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a normalisation and added to what it reads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map a sequence to one of its shape."""
        query, key, value = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        out: Tensor = x + self.narrow(functional.gelu(self.wide(self.norm2(x))))
        return out


class Gpt(nn.Module):
    """A decoder-only transformer with a bare parameter for positions: 4 blocks, 256 wide are 3.2 million parameters."""

    def __init__(self, *, blocks: int = 4, width: int = 256, heads: int = 4, vocabulary: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next token."""
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class ConvBlock(nn.Module):
    """Two convolutions behind normalisations, between them a shift by the time, and a skip around them."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 5, padding=2)
        self.norm1, self.norm2 = nn.GroupNorm(4, outputs), nn.GroupNorm(4, outputs)
        self.second = nn.Conv1d(outputs, outputs, 5, padding=2)
        self.time = nn.Linear(time, outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map a sequence of channels to one of as many steps."""
        hidden = functional.mish(self.norm1(self.first(x))) + self.time(functional.mish(time))[..., None]
        out: Tensor = functional.mish(self.norm2(self.second(hidden))) + self.skip(x)
        return out


class DiffusionUnet(nn.Module):
    """The U-Net of a diffusion policy over sequences of actions, small: 46 groups, 0.2 million parameters."""

    def __init__(self, *, observation: int = 17, action: int = 6, width: int = 32) -> None:
        super().__init__()
        wide, given = 2 * width, 64
        self.time = nn.Sequential(nn.Linear(16, 64), nn.Mish(), nn.Linear(64, 64), nn.Mish(), nn.Linear(64, given // 2))
        self.observation = nn.Sequential(nn.Linear(observation, 64), nn.Mish(), nn.Linear(64, given // 2))
        self.stem = nn.Conv1d(action, width, 3, padding=1)
        self.down = nn.ModuleList([ConvBlock(width, width, given), ConvBlock(width, wide, given)])
        self.shrink = nn.ModuleList([nn.Conv1d(width, width, 3, 2, 1), nn.Conv1d(wide, wide, 3, 2, 1)])
        self.middle = nn.ModuleList([ConvBlock(wide, wide, given), ConvBlock(wide, wide, given)])
        self.grow = nn.ModuleList([nn.ConvTranspose1d(wide, wide, 4, 2, 1), nn.ConvTranspose1d(width, width, 4, 2, 1)])
        self.up = nn.ModuleList([ConvBlock(2 * wide, width, given), ConvBlock(wide, width, given)])
        self.last = nn.Conv1d(width, width, 5, padding=2)
        self.norm, self.head = nn.GroupNorm(4, width), nn.Conv1d(width, action, 1)

    def forward(self, actions: Tensor, observation: Tensor, time: Tensor) -> Tensor:
        """Return the noise in the actions, of shape ``(batch, channels, steps)``."""
        given = torch.cat([self.time(time), self.observation(observation)], dim=-1)
        x, skips = self.stem(actions), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = block(x, given)
            skips.append(x)
            x = shrink(x)
        for block in self.middle:
            x = block(x, given)
        for block, grow in zip(self.up, self.grow, strict=True):
            x = block(torch.cat([grow(x), skips.pop()], dim=1), given)
        noise: Tensor = self.head(functional.mish(self.norm(self.last(x))))
        return noise
