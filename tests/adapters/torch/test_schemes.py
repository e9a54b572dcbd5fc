"""How layers draw is found without drawing, or not at all; rows are drawn from it, each by itself."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import nn

from neuroactivity_torch.schemes import Draw, Scheme, draw_rows, random_bits, schemes
from neuroactivity_torch.skeletons import initialiser_of, skeleton


def initialiser(module):
    return getattr(module, initialiser_of(module))


def schemes_of(module):
    copy = skeleton(module, device="meta")
    return schemes(copy, initialiser(copy))


def uniform(bound):
    return "uniform", pytest.approx((-bound, bound))


ONE, ZERO = ("constant", (1.0,)), ("constant", (0.0,))
LAYERS = [
    (nn.Linear(16, 4), {"weight": uniform(0.25), "bias": uniform(0.25)}),
    (nn.Bilinear(16, 3, 4), {"weight": uniform(0.25), "bias": uniform(0.25)}),
    (nn.Conv1d(4, 8, 4), {"weight": uniform(0.25), "bias": uniform(0.25)}),
    (nn.Conv2d(4, 8, 2, groups=2), {"weight": uniform(8**-0.5), "bias": uniform(8**-0.5)}),
    (nn.ConvTranspose2d(4, 8, 2), {"weight": uniform(32**-0.5), "bias": uniform(32**-0.5)}),
    (nn.LayerNorm(4), {"weight": ONE, "bias": ZERO}),
    (nn.GroupNorm(2, 4), {"weight": ONE, "bias": ZERO}),
    (nn.BatchNorm1d(4), {"weight": ONE, "bias": ZERO}),
    (nn.PReLU(), {"weight": ("constant", (0.25,))}),
    (nn.Embedding(5, 3), {"weight": ("normal", (0.0, 1.0))}),
    (nn.GRU(3, 4), dict.fromkeys(["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"], uniform(0.5))),
    (nn.LSTM(3, 4), dict.fromkeys(["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"], uniform(0.5))),
]


@pytest.mark.parametrize(("layer", "expected"), LAYERS, ids=lambda value: type(value).__name__)
def test_the_schemes_of_torchs_layers(layer, expected):
    assert {name: tuple(scheme) for name, scheme in schemes_of(layer).items()} == expected


class Own(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.weight, self._draw = nn.Parameter(torch.ones(4, 4)), draw

    def reset_parameters(self):
        self._draw(self)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda module: module.weight.uniform_(), ("uniform", (0.0, 1.0))),
        (lambda module: module.weight.normal_(std=2.0), ("normal", (0.0, 2.0))),
        (lambda module: module.weight.fill_(True), ("constant", (1.0,))),
    ],
)
def test_what_is_not_given_is_the_default(draw, expected):
    assert schemes_of(Own(draw)) == {"weight": expected}


def with_an_identity(module):
    torch.eye(4, out=torch.empty(4, 4, device="meta"))
    module.weight.uniform_()


def test_what_is_written_elsewhere_does_not_matter():
    assert schemes_of(Own(with_an_identity)) == {"weight": ("uniform", (0.0, 1.0))}


def by_parts(module):
    module.weight[:2].uniform_(-1, 1)
    module.weight[2:].zero_()


def assigned(module):
    module.weight.data = torch.zeros(4, 4)


def replaced(module):
    module.weight.fill_(1.0)
    module.weight = nn.Parameter(torch.eye(4))


def by_values(module):
    nn.init.normal_(module.weight)
    module.weight.mul_(1 / float(module.weight.std()))


def scaled(module):
    nn.init.normal_(module.weight)
    module.weight.mul_(2.0)


def together(module):
    torch._foreach_zero_([module.weight])


def scaled_and_assigned(module):
    nn.init.normal_(module.weight)
    module.weight.data = 0.1 * module.weight.data


def by_identity(module):
    nn.init.normal_(module.weight)
    nn.init.eye_(module.weight)  # which writes by out=


@pytest.mark.parametrize(
    "layer",
    [
        nn.Embedding(5, 3, padding_idx=0),
        Own(lambda module: nn.init.orthogonal_(module.weight)),
        Own(lambda module: nn.init.trunc_normal_(module.weight)),
        Own(lambda module: nn.init.eye_(module.weight)),
        *map(Own, (by_parts, assigned, replaced, by_values, scaled, together, by_identity, scaled_and_assigned)),
    ],
)
def test_what_is_no_scheme_is_not_taken_for_one(layer):
    assert schemes_of(layer) == {}


LIKE = torch.empty(0)
UNIFORM, NORMAL = Scheme("uniform", (-2.0, 1.0)), Scheme("normal", (1.0, 3.0))


def drawn(scheme=UNIFORM, key=1, rows=(0, 1, 2), shape=(4,), like=LIKE):
    size = math.prod(shape)
    return draw_rows([Draw(scheme, key, torch.tensor(rows) * size, torch.arange(size), shape, like)])[0]


def test_the_distribution():
    values = drawn(shape=(3, 40_000))
    assert values.shape == (3, 3, 40_000)
    assert -2.0 <= values.min() < -1.99 < 0.99 < values.max() <= 1.0
    assert float(values.mean()) == pytest.approx(-0.5, abs=0.01)
    assert float(values.std()) == pytest.approx(3 / math.sqrt(12), abs=0.01)
    values = drawn(NORMAL, shape=(120_000,))
    assert values.isfinite().all()
    assert float(values.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(values.std()) == pytest.approx(3.0, abs=0.03)
    assert float((values < 1.0 - 3.0 * 1.96).float().mean()) == pytest.approx(0.025, abs=0.002)
    rows = drawn(NORMAL, rows=range(200), shape=(200,)).double()
    for other in (rows, rows.T):
        correlations = torch.corrcoef(other) - torch.eye(200)
        assert float(correlations.abs().max()) < 6 / math.sqrt(200)
    assert drawn(Scheme("constant", (0.25,))).unique().tolist() == [0.25]


@pytest.mark.parametrize("scheme", [UNIFORM, NORMAL])
def test_what_is_drawn_depends_on_key_and_place_alone(scheme):
    whole = drawn(scheme, rows=range(9), shape=(30_000,))  # more than is drawn at once
    assert torch.equal(drawn(scheme, rows=(7, 2), shape=(30_000,)), whole[[7, 2]])
    row = Draw(scheme, 1, torch.tensor([120_000]), torch.arange(30_000), (30_000,), LIKE)
    both = draw_rows([Draw(NORMAL, 8, torch.tensor([1]), torch.arange(3), (3,), LIKE), row])
    assert torch.equal(both[1][0], whole[4])
    columns = draw_rows([Draw(scheme, 1, torch.tensor([5, 3]), 30_000 * torch.arange(9), (9,), LIKE)])[0]
    assert torch.equal(columns, whole[:, [5, 3]].T)
    assert not torch.isin(drawn(scheme, key=2**40, rows=(4,), shape=(300,)), whole[:, :300]).any()
    assert len(whole.unique()) > 0.98 * whole.numel()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_round_the_same_values(dtype):
    wide, own = drawn(like=LIKE.double()), drawn(like=LIKE.to(dtype))
    assert own.dtype == dtype
    assert torch.equal(own, wide.to(dtype))


def splitmix(place):
    """The published generator, in Python's whole numbers."""
    z = place * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_the_bits_are_those_of_splitmix64():
    assert splitmix(1) == 0xE220A8397B1DCDAF
    places = [1, 2, 3, 2**40 + 7, 2**62, 0]
    assert [bits % 2**64 for bits in random_bits(torch.tensor(places)).tolist()] == [*map(splitmix, places)]


def test_a_number_is_made_of_the_upper_53_bits():
    upper = [((splitmix(place + 5) >> 11) + 0.5) / 2**53 for place in range(40)]
    uniform = drawn(Scheme("uniform", (0.0, 1.0)), key=5, rows=range(10), like=LIKE.double())
    assert uniform.flatten().tolist() == upper
    normal = drawn(NORMAL, key=5, rows=range(10), like=LIKE.double())
    assert normal.flatten().tolist() == pytest.approx([NormalDist(1.0, 3.0).inv_cdf(part) for part in upper])


def batches(monkeypatch, *shapes, devices=()):
    """How many entries of each parameter, of so many rows of a size each, are drawn together."""
    seen, together = [], lambda batch: seen.append([values.numel() for _, values, _ in batch])
    monkeypatch.setattr("neuroactivity_torch.schemes._draw_batch", together)
    likes = [LIKE.to(device) for device in devices] or [LIKE] * len(shapes)
    found = zip(shapes, likes, strict=True)
    draw_rows([Draw(UNIFORM, 1, torch.arange(n), torch.arange(size), (size,), like) for (n, size), like in found])
    return seen


def test_what_is_drawn_together_is_no_more_than_a_chunk_or_a_row(monkeypatch):
    most, half = 2**16, 2**15
    assert batches(monkeypatch, (1, most - 9), (1, 9), (1, 1)) == [[most - 9, 9], [1]]
    assert batches(monkeypatch, (2, half), (1, 1), (1, most - 1), (1, 1)) == [[most], [1, most - 1], [1]]
    assert batches(monkeypatch, (3, half), (2, most + 1)) == [[most], [half], [most + 1], [most + 1]]
    assert batches(monkeypatch, (most, 1)) == [[most]]
    assert batches(monkeypatch, (2, 0), (1, 3)) == [[0, 3]]
    assert batches(monkeypatch, (1, 3), (1, 3), (1, 3), devices=["cpu", "meta", "meta"]) == [[3], [3, 3]]
