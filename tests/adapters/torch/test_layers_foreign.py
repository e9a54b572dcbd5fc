"""Layouts of networks that people write: writers of a stream are shared, inner layers exclusive, heads heads."""

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import layout_of
from tests.adapters.torch import foreign
from tests.adapters.torch.foreign import PIXELS, STATES, TOKENS

BLOCK = {
    "norm1": "exclusive", "attn.query": "partner", "attn.key": "partner", "attn.value": "exclusive",
    "attn.out": "shared", "norm2": "exclusive", "up": "exclusive", "down": "shared",
}  # fmt: skip


def inside(path, statuses):
    """Statuses with a path in front of each name."""
    return {f"{path}.{name}": status for name, status in statuses.items()}


KINDS = [
    pytest.param(
        foreign.GPT, (TOKENS,), {"wte": "shared", **inside("blocks.0", BLOCK), "norm": "exclusive", "head": "head"},
        id="a GPT with a bare position parameter",
    ),
    pytest.param(
        foreign.ViT, (PIXELS,), {"patch": "shared", **inside("block", BLOCK), "norm": "exclusive", "head": "head"},
        id="a ViT with class token and layer scale",
    ),
    pytest.param(
        foreign.Mixer, (PIXELS,),
        {"patch": "shared", "token_up": "exclusive", "norm2": "exclusive", "up": "exclusive", "down": "shared",
         "norm": "exclusive", "head": "head"},
        id="an MLP-Mixer",
    ),
    pytest.param(
        foreign.mappo, (STATES,),
        {"0": "exclusive", "1": "through_norm", "3": "exclusive", "4": "through_norm", "6": "exclusive", "7": "head"},
        id="MAPPO: activation, then LayerNorm",
    ),
    pytest.param(
        foreign.SimBa, (STATES,),
        {"embed": "shared", "norm": "exclusive", "up": "exclusive", "down": "shared", "post": "exclusive",
         "head": "head"},
        id="SimBa",
    ),
    pytest.param(
        foreign.SimbaV2, (STATES,),
        {"embed": "shared", "up": "exclusive", "down": "shared", "mid": "exclusive", "head": "head"},
        id="SimbaV2",
    ),
    pytest.param(
        foreign.Experts, (STATES,),
        {"embed": "exclusive", "router": "unproved", "experts.0.0": "exclusive", "experts.0.2": "shared",
         "experts.2.0": "exclusive", "experts.2.2": "shared", "head": "head"},
        id="experts, all of them",
    ),
    pytest.param(
        lambda: foreign.Experts(top1=True), (STATES,),
        {"embed": "exclusive", "router": "unproved", "experts.0.0": "exclusive", "experts.0.2": "shared",
         "experts.1.0": "exclusive", "experts.1.2": "shared", "experts.2.0": "exclusive", "experts.2.2": "shared",
         "head": "head"},
        id="experts, one for each sample",
    ),
    pytest.param(
        foreign.GPT2, (TOKENS,),
        {"wte": "shared", "wpe": "shared", "block.ln_1": "exclusive", "block.ln_2": "exclusive",
         "block.c_attn": "exclusive", "block.attn_proj": "shared", "block.c_fc": "exclusive", "block.c_proj": "shared",
         "ln_f": "exclusive", "lm_head": "head"},
        id="GPT-2 with Conv1D",
    ),
    pytest.param(
        foreign.Llama, (TOKENS,),
        {"embed": "shared", **BLOCK, "gate": "exclusive", "norm": "exclusive"},
        id="a LLaMA with its own RMSNorm",
    ),
    pytest.param(
        foreign.crossq, (STATES,),
        {"0": "exclusive", "1": "exclusive", "3": "exclusive", "4": "exclusive", "6": "exclusive", "7": "head"},
        id="CrossQ with BatchRenorm",
    ),
    pytest.param(
        lambda: foreign.noisy(foreign.NoisyLinear), (STATES,), {"0": "exclusive", "2": "exclusive", "4": "head"},
        id="NoisyNet",
    ),
    pytest.param(
        lambda: foreign.noisy(foreign.NoisySubclass), (STATES,), {"0": "exclusive", "2": "exclusive", "4": "head"},
        id="NoisyNet as a subclass of Linear",
    ),
    pytest.param(
        foreign.DreamerCell, (STATES,), {"inputs": "exclusive", "head": "head"},
        id="DreamerV3's cell",
    ),
    pytest.param(
        foreign.UNet, (PIXELS[:, :, :4, :4], STATES[:4, :4]),
        {"time1": "exclusive", "time2": "exclusive", "down.norm1": "exclusive", "down.conv1": "shared",
         "down.time": "shared", "down.norm2": "exclusive", "down.conv2": "shared", "down.skip": "shared",
         "up.norm1": "exclusive", "up.norm2": "exclusive", "up.conv2": "shared", "up.skip": "shared",
         "norm": "exclusive", "out": "head"},
        id="a diffusion U-Net",
    ),
]  # fmt: skip


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("make", "inputs", "expected"), KINDS)
def test_the_statuses_of_networks_that_people_write(make, inputs, expected):
    torch.manual_seed(0)
    layout = layout_of(make(), *inputs)
    assert {name: layout[name].status for name in expected} == expected


def test_a_head_without_biases_is_a_head():
    assert layout_of(foreign.Llama(), TOKENS)["head"].status == "head"


@pytest.mark.parametrize("layer", [foreign.NoisyLinear, foreign.NoisySubclass])
def test_noise_is_read_too(layer):
    layout = layout_of(foreign.noisy(layer), STATES)
    assert {view.param for view in layout["0"].outgoing} == {"2.weight_mu", "2.weight_sigma"}


def test_running_statistics_hide_nothing():
    model = foreign.crossq()
    for module in model:
        if isinstance(module, foreign.BatchRenorm):
            module.running_mean.normal_(generator=torch.Generator().manual_seed(0))
    assert [group.status for group in layout_of(model, STATES).values()] == ["exclusive"] * 5 + ["head"]


def test_experts_in_one_array_are_named_and_listed_by_a_rule():
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), foreign.StackedExperts(), nn.Linear(8, 2))
    with pytest.warns(na.ActivityWarning, match=r"trained weights of 2 \(StackedExperts: w1 \(3, 8, 12\), w2") as seen:
        layout = layout_of(model, STATES)
    assert [warning.filename for warning in seen] == [__file__]
    assert list(layout) == ["0", "3"]

    def rule(name, value):
        return na.dense(name, weight=(name, "stack in neuron")) if value.ndim == 3 else None

    layout = layout_of(model, STATES, rule=rule)
    assert [(view.param, view.pattern) for view in layout["2.w1"].outgoing] == [("2.w2", "stack neuron out")]
