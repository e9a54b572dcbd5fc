"""A small GPT in PyTorch, trained on generated text and measured, without a search and without resets.

The text is made by a grammar of our own: sums such as ``12+30=42;``. The lines that were added to a plain training loop
are marked with ``# <- neuroactivity``. A minute on a CPU, in a checkout:

    pip install ".[torch,plot]"
    python examples/gpt_torch.py --steps 400 --out runs/gpt_torch
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import neuroactivity as na  # <- neuroactivity
import neuroactivity.plotting  # <- neuroactivity: needs matplotlib
from neuroactivity_torch import ReGraMa  # <- neuroactivity

CHARACTERS = "0123456789+=;"
CONTEXT = 48


class Attention(nn.Module):
    """Causal self-attention with a fused projection."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of shape ``(batch, time, width)``, as the input."""
        batch, time, width = x.shape
        q, k, v = self.qkv(x).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(batch, time, width))


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and beside a skip."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.ln1, self.attn = nn.LayerNorm(width), Attention(width, heads)
        self.ln2, self.fc, self.proj = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of shape ``(batch, time, width)``, as the input."""
        x = x + self.attn(self.ln1(x))
        return x + self.proj(F.relu(self.fc(self.ln2(x))))


class GPT(nn.Module):
    """Characters in, logits of the next character out."""

    def __init__(self, *, width: int, heads: int, blocks: int):
        super().__init__()
        self.wte = nn.Embedding(len(CHARACTERS), width)
        self.positions = nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(blocks)])
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, len(CHARACTERS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens of shape ``(batch, time)``, logits of shape ``(batch, time, characters)``."""
        return self.head(self.ln(self.blocks(self.wte(tokens) + self.positions[: tokens.shape[1]])))


def generate(length: int, largest: int, rng: np.random.Generator) -> torch.Tensor:
    """Sums of two numbers below ``largest``, one after another, as character codes."""
    text = ""
    while len(text) < length:
        first, second = rng.integers(largest, size=2)
        text += f"{first}+{second}={first + second};"
    return torch.tensor([CHARACTERS.index(character) for character in text[:length]])


def batches(text: torch.Tensor, size: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random windows of the text, and the same one character later."""
    starts = rng.integers(len(text) - CONTEXT - 1, size=size)
    windows = torch.stack([text[start : start + CONTEXT + 1] for start in starts])
    return windows[:, :-1], windows[:, 1:]


def main(arguments: list[str] | None = None) -> ReGraMa:
    """Train, print the last table, save two pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=25, help="optimizer steps between measurements")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/gpt_torch"))
    options = parser.parse_args(arguments)

    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    text = generate(50_000, 100, rng)
    model = GPT(width=options.width, heads=4, blocks=options.blocks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

    reports: list[na.ActivityReport] = []
    monitor = ReGraMa(  # <- neuroactivity: max_fraction=0 never resets, and needs no example inputs
        model, optimizer, every=options.every, batches=4, max_fraction=0, on_report=reports.append
    )

    for step in range(1, options.steps + 1):
        inputs, targets = batches(text, 32, rng)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # scores do not change: one factor for all gradients
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:5d}   loss {loss.item():.3f}")

    print(monitor.last_report)
    steps = [options.every * (place + 1) for place in range(len(reports))]
    options.out.mkdir(parents=True, exist_ok=True)
    names = [group.name for group in reports[0].groups]
    fractions = {name: [report[name].inactive_fraction for report in reports] for name in names}
    na.plotting.inactivity(steps, fractions).figure.savefig(options.out / "activity.png")
    scores = {"blocks.0.fc": [np.array(report["blocks.0.fc"].scores[0]) for report in reports]}
    na.plotting.score_map(steps, scores, tau=0.01).figure.savefig(options.out / "scores.png")
    return monitor


if __name__ == "__main__":
    main()
