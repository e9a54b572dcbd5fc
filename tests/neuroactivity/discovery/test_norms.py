"""What normalisations read, and what only multiplies what they put out."""

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.discovery.norms import _multiplies
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.proof import read_only_by
from tests.neuroactivity.discovery.arrays import INPUTS, OUTPUTS, Chain, dense, draws


class Scaled(Chain):
    """A layer, its values over their size or beside others', times a scale, and a head."""

    sizes = {"a": (6, INPUTS), "head": (OUTPUTS, 6)}  # noqa: RUF012

    def __init__(self, *, reads: bool) -> None:
        super().__init__()
        self.reads, self.beside = reads, np.random.default_rng(2).standard_normal((len(self.x), 6))

    def __call__(self, p):
        a = self.x @ p["a.weight"].T + p["a.bias"]
        size = np.sqrt((a**2).mean(1, keepdims=True))
        y = a / size if self.reads else a * self.beside
        d = (self.projection @ p["head.weight"]) * p["norm.scale"]
        da = (d - y * (d * y).mean(1, keepdims=True)) / size if self.reads else d * self.beside
        head = self.projection.T @ (y * p["norm.scale"])
        scale = (self.projection @ p["head.weight"] * y).sum(0)
        return {"a.weight": da.T @ self.x, "a.bias": da.sum(0), "norm.scale": scale, "head.weight": head}


@pytest.mark.parametrize("reads", [True, False])
def test_neurons_beside_a_norm_without_shifts_are_not_read_by_it(reads):
    drawn = [{**params, "norm.scale": np.linspace(0.5, 1, 6)} for params in draws(Scaled.sizes)]
    layout = na.Layout([dense("a"), na.norm("norm", scale="norm.scale"), dense("head")])
    prober = Prober(layout, Scaled(reads=reads), drawn, seed=0)
    assert read_only_by(prober, ["a"], ["norm"]) == {"a"}  # so it is for both
    assert _multiplies(prober, "a", ["norm"]) == (not reads)
