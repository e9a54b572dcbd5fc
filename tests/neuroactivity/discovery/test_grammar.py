"""Random architectures against the truth that their grammar knows: nothing claimed is wrong, and most is found."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity_torch import layout_of
from tests.neuroactivity.discovery.architectures import grow
from tests.neuroactivity.discovery.grammar import Known
from tests.neuroactivity.discovery.truth import claimed_masks, differences, shapes_of


def wrong_claims(layout: na.Layout, known: dict[str, Known], shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Say which claims of a layout are not true."""
    wrong = [] if set(layout) == set(known) else [f"groups: {set(layout) ^ set(known)}"]
    for name, group in layout.items():
        uses = known[name].uses
        true = {
            "exclusive": known[name].can_be_exclusive,
            "head": "output" in uses,
            "through_norm": bool(uses & {"norm", "batch norm"})
            and not uses & {"read", "output", "detached"} - _behind(uses),
            "shared": "sum" in uses,
            "partner": "product" in uses,
            "unproved": True,
        }
        if not true[group.status]:
            wrong.append(f"{name}: {group.status} ({group.reason}), but its uses are {sorted(uses)}")
        elif group.status == "exclusive":
            wrong += wrong_entries(group, known[name], shapes)
        wrong += [f"{name}: partner {partner}" for partner in group.partners if "product" not in uses]
    return wrong


def _behind(uses: set[str]) -> set[str]:
    """What is read behind a batch normalisation is read through it."""
    return {"read", "output", "detached"} if "batch norm" in uses else set()


def wrong_entries(group: na.NeuronGroup, known: Known, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Name the neurons of which other entries are claimed than they feed."""
    neurons = group.bind(shapes).shape[-1]
    if neurons != known.neurons:
        return [f"{group.name}: {neurons} neurons, not {known.neurons}"]
    wrong = []
    for neuron in range(neurons):
        chosen = np.arange(neurons) == neuron
        params = differences(claimed_masks(group, shapes, chosen), known.masks(shapes, chosen))
        wrong += [f"{group.name}[{neuron}]: {', '.join(params)}"] if params else []
    return wrong[:3]


def examine(choose, found: Counter, **profile: bool) -> None:
    """Grow an architecture, discover it, and check every claim."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, known = grow(choose, **profile)
    images = any(name.startswith("layers.conv") for name in known)
    x = torch.zeros(8, 2, 5, 5) if images else torch.zeros(12, 5)
    layout = layout_of(model, x)
    for name, group in layout.items():
        if known[name].is_plain:
            found["plain"] += 1
            found["plain and exclusive"] += group.status == "exclusive"
        if known[name].uses == {"output"}:
            found["heads"] += 1
            found["heads found"] += group.status == "head"
    found["architectures"] += 1
    wrong = wrong_claims(layout, known, shapes_of(model))
    assert wrong == [], layout.describe()


def examine_many(count: int, **profile: bool) -> Counter:
    found: Counter = Counter()

    # To shrink would take minutes. Few architectures are always the same ones: of eight others all may be unusual.
    @settings(max_examples=count, phases=[Phase.explicit, Phase.generate], derandomize=count < 100)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        examine(lambda options: data.draw(st.sampled_from(list(options))), found, **profile)

    run()
    return found


ROUTED = """4, routing, 3, True, None, True, LeakyReLU(negative_slope=0.1), True, routing, 4, True, None, True,
Sigmoid(), True, routing, 8, False, None, True, Softsign(), True, target, 2, 1, 1, False"""
DEPTHWISE = """True, 3, True, ReLU(), 2, depthwise, True, Mish(), depthwise, True, Sigmoid(), True, 1, experts, 6,
Mish(), Softplus(beta=1.0; threshold=20.0), 2, 1, 2"""


@pytest.mark.parametrize(("choices", "profile"), [(ROUTED, {"hidden": True}), (DEPTHWISE, {})])
def test_nothing_claimed_is_wrong_where_it_was_once(choices, profile):
    """A choice that few probes change, and three channels that are read by way of others."""
    wanted = iter(choices.replace("\n", " ").split(", "))

    def choose(options):
        name = next(wanted).replace(";", ",")
        return next(option for option in options if name == getattr(option, "__name__", str(option)))

    examine(choose, Counter(), **profile)
    assert next(wanted, None) is None


def test_nothing_claimed_is_wrong_and_most_is_found():
    found = examine_many(8)
    assert found["architectures"] >= 6
    assert found["plain and exclusive"] >= 0.95 * found["plain"] > 8
    assert found["heads found"] == found["heads"]


def test_nothing_claimed_of_thin_networks_is_wrong():
    found = examine_many(8, thin=True)
    assert found["architectures"] >= 6
    assert found["heads found"] == found["heads"]


def test_nothing_claimed_of_networks_with_hidden_paths_is_wrong():
    found = examine_many(8, hidden=True)
    assert found["architectures"] >= 6
    assert found["plain and exclusive"] >= 0.95 * found["plain"] > 2
    assert found["heads found"] == found["heads"]


@pytest.mark.slow
def test_nothing_claimed_is_wrong_of_five_hundred_networks_with_hidden_paths():
    found = examine_many(500, hidden=True)
    assert found["architectures"] >= 500
    assert found["plain and exclusive"] >= 0.95 * found["plain"] > 200
    assert found["heads found"] == found["heads"]


@pytest.mark.slow
def test_nothing_claimed_is_wrong_of_five_hundred_thin_networks():
    found = examine_many(500, thin=True)
    assert found["architectures"] >= 500
    assert found["heads found"] == found["heads"]


@pytest.mark.slow
def test_nothing_claimed_is_wrong_of_five_hundred_architectures():
    found = examine_many(500)
    assert found["architectures"] >= 500
    assert found["plain and exclusive"] >= 0.95 * found["plain"] > 500
    assert found["heads found"] == found["heads"]
