"""One actor-critic, its weights and its batches in three frameworks: the same layouts, scores, masks, resets, training.

All in float64, where nothing but rounding differs.
"""

import functools
import itertools

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.testing import assert_same_activity
from tests.adapters.jax.releases import enable_x64
from tests.frameworks.jax_side import JaxSide
from tests.frameworks.networks import NETWORKS
from tests.frameworks.tensorflow_side import TensorFlowSide
from tests.frameworks.torch_side import TorchSide

SIDES = {"torch": TorchSide, "jax": JaxSide, "tensorflow": TensorFlowSide}
OTHERS = ["jax", "tensorflow"]

TAU, EVERY, FRACTION = 0.2, 20, 0.2
STEPS = 100
ULPS = 256  # of 2e-16: what a hundred steps of Adam make of the rounding of one

QUICK = [("jax", "dense"), ("jax", "conv"), ("tensorflow", "dense"), ("tensorflow", "attention")]
TRAINED = [
    pytest.param(*pair, marks=[pytest.mark.slow] * (pair not in QUICK)) for pair in itertools.product(OTHERS, NETWORKS)
]

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
each_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True, scope="module")
def double():
    """JAX in float64, as long as this file runs."""
    with enable_x64(True):
        yield


@functools.cache
def drawn(framework: str, name: str):
    """A network as it was drawn; not to be trained."""
    return SIDES[framework](NETWORKS[name], NETWORKS[name].draw(0))


@functools.cache
def trained(framework: str, name: str):
    """A network after a hundred steps with resets, and its reports."""
    network = NETWORKS[name]
    side = SIDES[framework](network, network.draw(0))
    batches = [network.batch(seed) for seed in range(STEPS)]
    reports = side.train(batches, network.draw(1), tau=TAU, every=EVERY, max_fraction=FRACTION)
    return side, reports


def plain(layout: na.Layout) -> na.Layout:
    """A layout under the names of the program's layers, which Flax puts into a collection."""
    groups = [
        na.NeuronGroup(**{**vars(group), "name": own(name), "partners": [own(partner) for partner in group.partners]})
        for name, group in layout.items()
    ]
    return na.Layout(sorted(groups, key=lambda group: group.name))


def own(name: str) -> str:
    return name.removeprefix("params/")


def scores(side, batch: np.ndarray) -> dict:
    return {own(name): value for name, value in na.grama(side.gradients(batch), side.layout).items()}


@pytest.mark.sampled(4)
@each_network
@pytest.mark.parametrize("framework", OTHERS)
def test_discovery_finds_the_same_layout(framework, name):
    one, other = plain(drawn("torch", name).layout), plain(drawn(framework, name).layout)
    assert list(one) == list(other)
    for group in one:
        mine, theirs = one[group], other[group]
        assert (mine.status, mine.resettable) == (theirs.status, theirs.resettable)
        assert set(mine.partners) == set(theirs.partners)
        roles = [{role: len(getattr(g, role)) for role in ("incoming", "unscored", "outgoing")} for g in (mine, theirs)]
        assert roles[0] == roles[1]
    assert any(group.status == "exclusive" for group in one.values())


@pytest.mark.sampled(4)
@each_network
@pytest.mark.parametrize("framework", OTHERS)
def test_gradients_scores_masks_and_parameters_agree(framework, name):
    batch = NETWORKS[name].batch(5)
    sides = drawn("torch", name), drawn(framework, name)
    layouts = plain(sides[0].layout), plain(sides[1].layout)
    both = [{"scores": scores(side, batch), "params": side.params()} for side in sides]
    assert_same_activity(*both, layouts=layouts, tau=TAU, max_fraction=FRACTION)
    both = [{"scores": {}, "params": side.gradients(batch)} for side in sides]
    assert_same_activity(*both, layouts=layouts, ulps=ULPS)


@pytest.mark.sampled(4)
@each_network
@pytest.mark.parametrize("framework", OTHERS)
def test_activations_and_their_scores_agree(framework, name):
    """Of all groups: also of heads and of the writers of a residual stream, which no parameter reads alone."""
    batch, both, layouts = NETWORKS[name].batch(5), [], []
    for side in (drawn("torch", name), drawn(framework, name)):
        outputs = side.activations(batch)
        layouts.append(plain(side.layout))
        both.append({"scores": {own(n): value for n, value in na.tau_dormant(outputs, side.layout).items()}})
        assert set(both[-1]["scores"]) == set(layouts[-1])
    assert_same_activity(*both, layouts=layouts, tau=TAU, max_fraction=FRACTION, ulps=ULPS)


@pytest.mark.sampled(4)
@each_network
@pytest.mark.parametrize("framework", OTHERS)
def test_a_reset_writes_the_same_values(framework, name):
    """Of random neurons: fresh values in, zeros out, so that the outgoing entries are compared as well."""
    fresh = NETWORKS[name].draw(1)
    sides = drawn("torch", name), drawn(framework, name)
    layouts = plain(sides[0].layout), plain(sides[1].layout)
    rng = np.random.default_rng(3)
    chosen = {n: rng.random(value.shape) < 0.4 for n, value in scores(sides[0], NETWORKS[name].batch(5)).items()}
    both = [{"scores": {}, "params": side.reset(fresh, {n: chosen[own(n)] for n in side.layout})} for side in sides]
    assert_same_activity(*both, layouts=layouts, ulps=0)
    with pytest.raises(AssertionError):
        assert_same_activity(both[0], {"scores": {}, "params": sides[1].params()}, layouts=layouts)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("framework", "name"), TRAINED)
def test_a_hundred_steps_with_resets_stay_together(framework, name):
    (one, reports), (other, others) = trained("torch", name), trained(framework, name)
    counts = [
        [[group.reset for group in sorted(r.groups, key=lambda g: own(g.name))] for r in rs] for rs in (reports, others)
    ]
    assert counts[0] == counts[1]
    assert len(reports) == STEPS // EVERY
    assert sum(sum(report) for report in counts[0]) > 10
    batch = NETWORKS[name].batch(STEPS)
    both = [{"scores": scores(side, batch), "params": side.params()} for side in (one, other)]
    layouts = plain(one.layout), plain(other.layout)
    assert_same_activity(*both, layouts=layouts, tau=TAU, max_fraction=FRACTION, ulps=ULPS)
