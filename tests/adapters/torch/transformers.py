"""Tiny transformers of the kinds that people attach the library to, with layers of their own."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Attention(nn.Module):
    """Self-attention with two heads and separate projections."""

    def __init__(self, width: int, *, causal: bool = False, dense=nn.Linear) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (dense(width, width) for _ in range(4))
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer's block with the normalisation in front of attention and of the inner layers."""

    def __init__(self, width: int, *, causal: bool = False, scaled: bool = False) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), Attention(width, causal=causal)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 12), nn.Linear(12, width)
        self.scale1, self.scale2 = (nn.Parameter(torch.full((width,), 0.1)) if scaled else 1.0 for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale1 * self.attn(self.norm1(x))
        return x + self.scale2 * self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Token embeddings plus a bare parameter for positions, pre-norm blocks, a head."""

    def __init__(self, blocks: int = 1, width: int = 8) -> None:
        super().__init__()
        self.wte, self.pos = nn.Embedding(7, width), nn.Parameter(0.02 * torch.randn(1, 6, width))
        self.blocks = nn.Sequential(*[Block(width, causal=True) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.wte(tokens) + self.pos)))


class ViT(nn.Module):
    """Patches, a class token, positions and layer scale; the head reads the class token alone."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.cls, self.pos = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 5, width))
        self.block, self.norm, self.head = Block(width, scaled=True), nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.pos
        return self.head(self.norm(self.block(x))[:, 0])


class Mixer(nn.Module):
    """MLP-Mixer: one block that mixes the four patches, then the channels."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.norm1, self.token_up, self.token_down = nn.LayerNorm(width), nn.Linear(4, 12), nn.Linear(12, 4)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 12), nn.Linear(12, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.token_down(F.gelu(self.token_up(self.norm1(x).transpose(1, 2)))).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(self.norm(x).mean(1))


class Conv1D(nn.Module):
    """The dense layer of GPT-2: its weight lies the other way round."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(0.3 * torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class GPT2Block(nn.Module):
    """A block of GPT-2, with a fused projection."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.attn_proj = Conv1D(3 * width, width), Conv1D(width, width)
        self.c_fc, self.c_proj = Conv1D(4 * width, width), Conv1D(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.c_attn(self.ln_1(x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (2, -1)).transpose(1, 2) for part in qkv)
        x = x + self.attn_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x))))


class GPT2(nn.Module):
    """Embeddings for tokens and positions, a block of GPT-2, and a head that is not tied."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.wte, self.wpe, self.block = nn.Embedding(7, width), nn.Embedding(6, width), GPT2Block(width)
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, 7, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.lm_head(self.ln_f(self.block(self.wte(tokens) + self.wpe.weight[: tokens.shape[1]])))


class LlamaRMSNorm(nn.Module):
    """A scale and no mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Llama(nn.Module):
    """A decoder's block: no biases, a gated inner layer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        plain = {"bias": False}
        self.embed = nn.Embedding(7, width)
        self.norm1, self.attn = (
            LlamaRMSNorm(width),
            Attention(width, causal=True, dense=lambda a, b: nn.Linear(a, b, **plain)),
        )
        self.norm2, self.gate, self.up = (
            LlamaRMSNorm(width),
            nn.Linear(width, 12, **plain),
            nn.Linear(width, 12, **plain),
        )
        self.down, self.norm, self.head = (
            nn.Linear(12, width, **plain),
            LlamaRMSNorm(width),
            nn.Linear(width, 7, **plain),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.attn(self.norm1(x))
        y = self.norm2(x)
        return self.head(self.norm(x + self.down(F.silu(self.gate(y)) * self.up(y))))
