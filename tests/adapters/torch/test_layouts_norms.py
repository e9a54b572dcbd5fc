"""Layouts of what normalisations without parameters, concatenations in front of them and tied matrices make hard."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from neuroactivity_torch import layout_of
from neuroactivity_torch.parameters import parameters
from tests.adapters.torch import foreign
from tests.adapters.torch.foreign import PIXELS, STATES, TOKENS

MIXED = "its neurons are mixed before they reach 3.weight, as by a normalisation without parameters"
SHIFTED = "cannot be silenced: a normalisation or softmax undoes what is added to all of its neurons alike"


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def on_a_sphere(x):
    return F.normalize(x, dim=-1)


def by_size(x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("norm", "reason"),
    [
        (Function(on_a_sphere), MIXED),
        (nn.RMSNorm(8, elementwise_affine=False), MIXED),
        (nn.LayerNorm(8, elementwise_affine=False), SHIFTED),
        (nn.Softmax(-1), SHIFTED),
    ],
    ids=["l2", "RMSNorm", "LayerNorm", "softmax"],
)
def test_what_a_norm_without_parameters_reads_is_unproved_and_the_reason_says_so(norm, reason, bias):
    model = nn.Sequential(nn.Linear(5, 8, bias=bias), norm, nn.ReLU(), nn.Linear(8, 3, bias=bias))
    layout = layout_of(model, STATES)
    assert (layout["0"].status, layout["0"].reason) == ("unproved", reason)
    assert layout["3"].status == "head"


@pytest.mark.parametrize(
    ("norm", "status"), [(nn.GroupNorm(2, 8, affine=False), "unproved"), (nn.BatchNorm2d(8, affine=False), "exclusive")]
)
def test_channels_in_front_of_a_norm_without_parameters(norm, status):
    model = nn.Sequential(nn.Conv2d(1, 8, 5), norm, nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
    group = layout_of(model, PIXELS)["0"]
    assert group.status == status
    assert ("normalisation" in group.reason) == (status == "unproved")


class Stream(nn.Module):
    """Residual blocks with a normalisation before or behind each."""

    def __init__(self, norm, *, post: bool, width: int = 8, blocks: int = 2, bias: bool = False) -> None:
        super().__init__()
        self.embed, self.norm, self.post = nn.Linear(5, width, bias=bias), norm, post
        self.ups = nn.ModuleList([nn.Linear(width, 12, bias=bias) for _ in range(blocks)])
        self.downs = nn.ModuleList([nn.Linear(12, width, bias=bias) for _ in range(blocks)])
        self.head = nn.Linear(width, 2, bias=bias)

    def forward(self, x):
        x = self.embed(x)
        x = self.norm(x) if self.post else x
        for up, down in zip(self.ups, self.downs, strict=True):
            inner = F.relu(up(x if self.post else self.norm(x)))
            x = self.norm(x + down(inner)) if self.post else x + down(inner)
        return self.head(x if self.post else self.norm(x))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("options", [{"width": 7}, {"blocks": 1}, {"bias": True}], ids=str)
@pytest.mark.parametrize("post", [False, True], ids=["pre", "post"])
@pytest.mark.parametrize("norm", [on_a_sphere, by_size])
def test_the_writers_of_a_stream_on_a_sphere_are_shared(norm, post, options):
    layout = layout_of(Stream(norm, post=post, **options), STATES)
    for name, group in layout.items():
        inner, head = name.startswith("ups"), name == "head"
        assert group.status == ("exclusive" if inner else "head" if head else "shared"), name
        assert len(group.outgoing) == inner


@pytest.mark.parametrize("post", [False, True], ids=["pre", "post"])
def test_a_stream_whose_mean_is_subtracted_is_unproved(post):
    layout = layout_of(Stream(lambda x: F.layer_norm(x, x.shape[-1:]), post=post), STATES)
    assert [layout[name].reason for name in ("embed", "downs.0", "downs.1")] == [SHIFTED] * 3
    assert layout["ups.0"].status == layout["ups.1"].status == "exclusive"


def test_layers_side_by_side_are_no_stream():
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(16, 2)

        def forward(self, x):
            return self.head(torch.cat([on_a_sphere(self.a(x)), on_a_sphere(self.b(x))], dim=-1))

    layout = layout_of(Beside(), STATES)
    assert [group.status for group in layout.values()] == ["unproved", "unproved", "head"]


def test_a_factor_for_each_feature_is_no_normalisation():
    layout = layout_of(foreign.SimbaV2(width=12), STATES)
    assert list(layout) == ["embed", "up", "down", "mid", "head"]


@pytest.mark.slow
def test_a_group_that_norms_and_weights_read_says_both():
    layout = layout_of(foreign.UNet(), PIXELS[:, :, :4, :4], STATES[:4, :4])
    assert layout["stem"].status == "unproved"
    assert layout["stem"].reason == (
        "takes part in the statistics of down.norm1, up.norm1, and feeds down.skip.weight, up.skip.weight too"
    )


@pytest.mark.parametrize("layers", [1, 2])
def test_a_head_without_biases_has_outputs_of_its_own(layers):
    hidden = [nn.Linear(5, 8, bias=False), nn.Sigmoid(), nn.Linear(8, 8, bias=False), nn.Sigmoid()][: 2 * layers]
    layout = layout_of(nn.Sequential(*hidden, nn.Linear(8 if layers else 5, 3, bias=False)), STATES)
    assert [group.status for group in layout.values()] == ["unproved"] * layers + ["head"]


def test_outputs_that_mix_the_neurons_of_a_layer_without_biases_leave_it_unproved():
    model = nn.Sequential(nn.Linear(5, 8, bias=False), nn.RMSNorm(8), nn.Linear(8, 3, bias=False), nn.Tanh())
    assert layout_of(model, STATES)["2"].status == "unproved"


def test_a_single_neuron_says_that_it_is_one():
    layout = layout_of(nn.Sequential(nn.Linear(5, 1), nn.ReLU(), nn.Linear(1, 3)), STATES)
    assert layout["0"].reason == "a single neuron: without it all is silent, what reads it and what lies behind"


class TiedGPT2(foreign.GPT2):
    """As GPT-2 is published: the embedding is the output matrix too."""

    def __init__(self) -> None:
        super().__init__()
        self.lm_head.weight = self.wte.weight


@pytest.mark.slow
def test_a_tied_output_matrix_hides_no_other_group():
    model = TiedGPT2()
    before = {name: value.clone() for name, value in parameters(model).items()}
    tied, untied = layout_of(model, TOKENS), layout_of(foreign.GPT2(), TOKENS)
    assert set(untied) - set(tied) == {"lm_head"}
    for name in set(tied) - {"wte", "ln_f"}:
        assert tied[name] == untied[name], name
    assert tied["block.c_proj"].status == "shared"
    assert tied["wte"].reason == "its wte.weight is lm_head.weight as well"
    assert tied["ln_f"].reason == "feeds lm_head.weight, which is wte.weight as well"
    assert not tied["wte"].resettable
    assert not tied["ln_f"].resettable
    assert model.lm_head.weight is model.wte.weight
    assert all(torch.equal(value, before[name]) for name, value in parameters(model).items())


def test_a_layer_that_is_tied_the_same_way_round_is_one_layer_used_twice():
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 2)
            self.two.weight, self.two.bias = self.one.weight, self.one.bias

        def forward(self, x):
            return self.head(torch.stack([F.relu(self.one(x)), F.relu(self.two(-x))]))

    layout = layout_of(Twins(), STATES)
    assert {name: group.status for name, group in layout.items()} == {"one": "exclusive", "head": "head"}


class NormedGate(nn.Module):
    """A fused gate with a normalisation over both of its halves."""

    def __init__(self, layer, norm) -> None:
        super().__init__()
        self.gate, self.norm = layer, norm
        self.out = nn.Conv2d(4, 2, 1) if isinstance(layer, nn.Conv2d) else nn.Linear(4, 2)

    def forward(self, x):
        return self.out(F.glu(self.norm(self.gate(x)), dim=1))


@pytest.mark.parametrize(
    ("layer", "norm", "x", "status"),
    [
        (nn.Linear(5, 8), nn.LayerNorm(8), STATES, "through_norm"),
        (nn.Linear(5, 8), nn.RMSNorm(8), STATES, "unproved"),
        (nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), PIXELS, "through_norm"),
    ],
    ids=["LayerNorm", "RMSNorm", "GroupNorm"],
)
def test_a_norm_over_a_fused_gate_has_coarser_neurons_than_the_layer_before_it(layer, norm, x, status):
    layout = layout_of(NormedGate(layer, norm), x)
    assert [group.status for group in layout.values()] == [status, "exclusive", "head"]
    assert layout["gate"].outgoing == ()
    assert layout["norm"].reason == "proved for (chunk neuron) as one neuron"


def test_what_one_matrix_reads_side_by_side_is_not_said_to_be_added():
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.asks, self.tells, self.out = nn.Linear(5, 8), nn.Linear(3, 8), nn.Linear(8, 2)
            self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x, context):
            told = F.relu(self.tells(context))
            return self.out(self.attn(F.relu(self.asks(x)), told, told)[0])

    layout = layout_of(Cross(), torch.zeros(6, 2, 5), torch.zeros(6, 4, 3))
    for name, other in (("asks", "tells"), ("tells", "asks")):
        assert layout[name].status == "shared"
        assert layout[name].reason == f"proved: read only by attn.in_proj_weight, which {other} feeds too"


def test_a_parameter_in_front_of_a_group_does_not_read_it():
    model = nn.Sequential(foreign.Scaler(5), nn.Linear(5, 8), nn.Softmax(-1), nn.Linear(8, 3))
    assert layout_of(model, STATES)["1"].reason == MIXED
