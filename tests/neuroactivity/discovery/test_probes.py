"""How many probes a search takes, and which neurons each silences."""

from collections import Counter

import numpy as np

import neuroactivity as na
from neuroactivity.discovery.decoding import AxisReaders
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.probes import _parts, _rivals, probe_independent, probe_zero_mean
from tests.neuroactivity.discovery.arrays import Chain, dense, draws


class Counted(Chain):
    """Counts its evaluations; ``b`` has a gradient in every second probe alone if it is ``rare``."""

    def __init__(self, *, rare: bool = False):
        super().__init__()
        self.rare, self.evaluations = rare, 0

    def __call__(self, p):
        self.evaluations += 1
        grads = super().__call__(p)
        if self.rare and self.evaluations % 2:
            grads["b.weight"] = np.zeros_like(grads["b.weight"])
        return grads


def prober_of(network) -> Prober:
    return Prober(na.Layout([dense(name) for name in network.sizes]), network, draws(network.sizes), seed=0)


UNITS = {name: [name] for name in Chain.sizes}


def test_a_round_silences_every_neuron_once_and_differs_from_the_next():
    prober = prober_of(Chain())
    widths = {"a": 6, "b": 5, "two": 2, "one": 1}
    rounds = [_parts(prober, widths, {}, number) for number in range(3)]
    for parts in rounds:
        for unit, count in widths.items():
            silenced = Counter(neuron for part in parts for neuron in part[unit])
            assert silenced == Counter(range(count) if count > 1 else ())
            assert max(len(part[unit]) for part in parts) <= -(-count // 4)
    assert rounds[0] != rounds[1] != rounds[2]


def test_neurons_of_a_narrow_unit_are_silent_in_all_parts_alike():
    prober = prober_of(Chain())
    rounds = [_parts(prober, {"two": 2}, {}, number) for number in range(200)]
    times = [sum(len(parts[part]["two"]) for parts in rounds) for part in range(4)]
    assert sum(times) == 400
    assert all(70 < count < 130 for count in times)


def test_candidates_of_the_same_position_are_silenced_apart():
    axes = {("w", 1): AxisReaders({"a": {0: (1,), 1: (4, 5)}, "b": {0: (2,)}}, frozenset())}
    prober, widths = prober_of(Chain()), {"a": 6, "b": 5}
    for number in range(20):
        for part in _parts(prober, widths, _rivals(axes), number):
            assert not (1 in part["a"] and 2 in part["b"])
            assert not part["a"] >= {4, 5}


def test_it_ends_when_every_position_is_decided():
    network = Counted()
    readers = probe_independent(prober_of(network), UNITS, 0.0)
    assert network.evaluations == 48
    assert readers["b.weight", 1].feeds("a") == {i: i for i in range(6)}
    assert readers["head.weight", 1].feeds("b") == {i: i for i in range(5)}
    assert not readers["a.weight", 1].candidates


def test_it_goes_on_for_what_is_seldom_live():
    network = Counted(rare=True)
    readers = probe_independent(prober_of(network), UNITS, 0.0)
    assert 48 < network.evaluations <= 128
    assert readers["b.weight", 1].feeds("a") == {i: i for i in range(6)}


def test_probes_without_a_bias_are_made_once():
    groups = [dense("a"), na.norm("b", scale="b.bias"), dense("head")]
    network = Counted()
    prober = Prober(na.Layout(groups), network, draws(network.sizes), seed=0)
    first = probe_zero_mean(prober, {"a": ["a"]}, 0.0)
    assert network.evaluations == 16
    assert probe_zero_mean(prober, {"a": ["a"]}, 0.0) is first
    assert network.evaluations == 16
