"""Hugging Face's GPT-2 and LLaMA of two layers, from a configuration: what resets can do, and what they leave alone."""

import pytest
import torch
from torch import nn

from neuroactivity_torch import layout_of

pytestmark = pytest.mark.filterwarnings("default")  # what a host warns of is its own affair
transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(0, 40, (4, 6), generator=torch.Generator().manual_seed(0))


class Logits(nn.Module):
    """The model as a function of tokens alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model(tokens, use_cache=False).logits


def statuses(model: nn.Module) -> dict[str, str]:
    layout = layout_of(Logits(model), TOKENS)
    return {name.removeprefix("model."): group.status for name, group in layout.items()}


def test_gpt2():
    size = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 8, "vocab_size": 40, "tie_word_embeddings": False}
    found = statuses(transformers.GPT2LMHeadModel(transformers.GPT2Config(**size)))
    for block in ("transformer.h.0", "transformer.h.1"):
        assert found[f"{block}.attn.c_attn"] == found[f"{block}.mlp.c_fc"] == "exclusive"
        assert found[f"{block}.attn.c_proj"] == found[f"{block}.mlp.c_proj"] == "shared"
    assert found["transformer.wte"] == found["transformer.wpe"] == "shared"
    assert found["transformer.ln_f"] == "exclusive"


def test_llama():
    size = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    found = statuses(transformers.LlamaForCausalLM(transformers.LlamaConfig(**size, vocab_size=40)))
    for block in ("model.layers.0", "model.layers.1"):
        assert found[f"{block}.mlp.up_proj"] == found[f"{block}.self_attn.v_proj"] == "exclusive"
        assert found[f"{block}.self_attn.o_proj"] == found[f"{block}.mlp.down_proj"] == "shared"
    assert found["model.embed_tokens"] == "shared"
    assert found["model.norm"] == "exclusive"
