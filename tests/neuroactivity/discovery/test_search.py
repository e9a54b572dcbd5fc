"""The rules of the search one by one, on networks whose gradients are written out by hand."""

from importlib import import_module
from typing import ClassVar, get_args

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.discovery import Status
from tests.neuroactivity.discovery.arrays import INPUTS, Chain, Gate, Skip, dense, draws, without_bias

FILES = {
    "listed": ("listed",),
    "exclusive": ("direct", "fused"),
    "through_norm": ("norms",),
    "shared": ("residual",),
    "partner": ("partners",),
    "head": ("heads",),
    "unproved": ("unproved",),
}


def discover(network, *, names=None, seed: int = 0, library: str = "numpy", group=dense, count: int = 16) -> na.Layout:
    layout = na.Layout([group(name) for name in names or network.sizes])
    return na.discover_outgoing(layout, network, draws(network.sizes, library=library, count=count), seed=seed)


@pytest.mark.parametrize("status", get_args(Status))
def test_every_status_has_its_file(status):
    for name in FILES[status]:
        module = import_module(f"neuroactivity.discovery.{name}")
        assert module.__doc__.startswith(f"Status ``{status}``")
        assert callable(module.list_layout if status == "listed" else module.claim)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("network", [Chain, Skip, Gate])
def test_every_array_library_gives_the_same_layout(network, library):
    found = discover(network(library), library=library)
    assert found == discover(network())
    assert [group.status for group in found.values()] == ["exclusive", "exclusive", "head"]


def test_a_concatenation_is_found_with_its_offset():
    found = discover(Skip())
    assert set(found["a"].outgoing) == {
        na.ParamView("b.weight", "out neuron"),
        na.ParamView("head.weight", "out neuron", index=(*[-1] * 5, *range(6))),
    }
    assert found["b"].outgoing == (na.ParamView("head.weight", "out neuron", index=(*range(5), *[-1] * 6)),)


def test_the_order_of_the_groups_does_not_matter():
    """Published faults 3 and 4."""
    found = discover(Chain(), names=["head", "b", "a"])
    first = discover(Chain())
    assert list(found) == ["head", "b", "a"]
    assert {name: (g.status, g.outgoing) for name, g in found.items()} == {
        name: (g.status, g.outgoing) for name, g in first.items()
    }


def test_a_head_of_one_output_is_a_head_and_nothing_else_is():
    class Single(Chain):
        sizes: ClassVar = {**Chain.sizes, "head": (1, 5)}

        def __init__(self):
            super().__init__()
            self.projection = self.projection[:, :1]

    assert [group.status for group in discover(Single()).values()] == ["exclusive", "exclusive", "head"]


def test_partners_are_mutual_and_are_never_outgoing():
    for sigmoid in (False, True):
        found = discover(Gate(sigmoid=sigmoid))
        assert (found["a"].partners, found["gate"].partners) == (("gate",), ("a",))
        for name in ("a", "gate"):
            assert found[name].outgoing == (na.ParamView("head.weight", "out neuron"),)


def test_a_sigmoid_needs_a_bias_to_be_silenced():
    class BiasFree(Chain):
        def __call__(self, p):
            grads = super().__call__({**p, "b.bias": 0.0})
            return {name: grad for name, grad in grads.items() if name != "b.bias"}

    assert discover(Chain(sigmoid=True))["b"].status == "exclusive"
    layout = na.Layout([dense("a"), without_bias("b"), dense("head")])
    values = [{name: value for name, value in draw.items() if name != "b.bias"} for draw in draws(Chain.sizes)]
    found = na.discover_outgoing(layout, BiasFree(sigmoid=True), values)
    assert [group.status for group in found.values()] == ["exclusive", "unproved", "head"]
    assert not found["b"].resettable


def test_a_gradient_of_rounding_errors_does_not_disturb():
    """The bias of an attention's keys has no gradient but noise."""

    class Noisy(Chain):
        sizes: ClassVar = {**Chain.sizes, "key": (6, INPUTS)}

        def __call__(self, p):
            grads = super().__call__(p)
            noise = 1e-9 * grads["a.bias"]
            return {**grads, "key.weight": np.zeros((6, INPUTS), "float32"), "key.bias": noise}

    found = discover(Noisy())
    assert [group.status for group in found.values()][:3] == ["exclusive", "exclusive", "head"]
    assert found["key"].outgoing == ()
    assert found["key"].status not in ("exclusive", "head")


def test_a_group_without_gradients_is_unproved():
    class Unused(Chain):
        sizes: ClassVar = {**Chain.sizes, "spare": (6, INPUTS), "zero": (4, 4)}

        def __call__(self, p):
            zeros = {name: np.zeros_like(p[name]) for name in ("zero.weight", "zero.bias")}
            return {**super().__call__(p), "spare.weight": None, **zeros}

    found = discover(Unused())
    for name in ("spare", "zero"):
        assert (found[name].status, found[name].reason) == ("unproved", "no gradient reaches it")
    assert found["a"].status == "exclusive"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_gradient_that_is_not_finite_proves_nothing():
    class Broken(Chain):
        def __call__(self, p):
            grads = super().__call__(p)
            return {**grads, "a.weight": grads["a.weight"] * np.nan, "a.bias": grads["a.bias"] * np.nan}

    found = discover(Broken())
    assert found["a"].status in ("unproved", "head")
    assert not found["a"].resettable
    assert found["b"].status == "exclusive"


def test_the_same_seed_asks_the_same_questions():
    def asked(seed: int) -> list[bytes]:
        def record(params):
            seen.append(b"".join(np.ascontiguousarray(params[name]).tobytes() for name in sorted(params)))
            return network(params)

        seen: list[bytes] = []
        network = Chain()
        na.discover_outgoing(na.Layout([dense(name) for name in Chain.sizes]), record, draws(Chain.sizes), seed=seed)
        return seen

    assert asked(3) == asked(3) != asked(4)


def test_the_draws_are_not_changed():
    values = draws(Chain.sizes)
    before = [{name: value.copy() for name, value in draw.items()} for draw in values]
    na.discover_outgoing(na.Layout([dense(name) for name in Chain.sizes]), Chain(), values)
    for draw, kept in zip(values, before, strict=True):
        assert all(np.array_equal(draw[name], kept[name]) for name in kept)


def test_draws_are_needed_and_must_fit():
    layout = na.Layout([dense(name) for name in Chain.sizes])
    with pytest.raises(na.LayoutError, match="draws: expected at least one parameter mapping, got none"):
        na.discover_outgoing(layout, Chain(), [])
    missing = draws({"a": (6, INPUTS), "b": (5, 6)})
    with pytest.raises(na.LayoutError, match=r"group 'head': parameter 'head\.weight' is missing"):
        na.discover_outgoing(layout, Chain(), missing)
    with pytest.raises(na.LayoutError, match=r"group 'b', parameter 'b\.bias'"):
        na.discover_outgoing(layout, Chain(), [{**draws(Chain.sizes)[0], "b.bias": np.ones(7)}])


def test_later_draws_must_fit_as_well():
    layout = na.Layout([dense(name) for name in Chain.sizes])
    values = draws(Chain.sizes)
    del values[5]["b.weight"]
    with pytest.raises(na.LayoutError, match=r"b\.weight"):
        na.discover_outgoing(layout, Chain(), values)
