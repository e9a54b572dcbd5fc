"""A layout written by hand is checked against the model's gradients."""

import re

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import parameters
from neuroactivity_torch.layouts import gradient_function
from tests.neuroactivity.discovery.models import EXAMPLES, discovered

HEADS = ("mean", "log_std")


def verify(name: str, layout: na.Layout) -> None:
    example = EXAMPLES[name]
    model = lively(example.model())
    na.verify_layout(layout, parameters(model), gradient_function(model, *example.inputs))


def lively(model: nn.Module) -> nn.Module:
    """Shift biases by 1, so that few neurons are dead and no layer is zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name and "norm" not in name:
                parameter += 1
    return model


def dense(name: str, *feeds: str | na.ParamView) -> na.NeuronGroup:
    """A linear layer, and the layers or views that it feeds."""
    outgoing = [na.ParamView(f"{view}.weight", "out neuron") if isinstance(view, str) else view for view in feeds]
    return na.dense(name, weight=(f"{name}.weight", "neuron in"), bias=f"{name}.bias", outgoing=outgoing)


def conv(name: str, pattern: str) -> na.NeuronGroup:
    weight, outgoing = (f"{name}.weight", "neuron in h w"), [("b.weight", pattern)]
    return na.conv(name, weight=weight, bias=f"{name}.bias", outgoing=outgoing)


def at(param: str, index: list[int]) -> na.ParamView:
    return na.ParamView(param, "out neuron", index=tuple(index))


OFFSET = [-1, -1, -1, *reversed(range(8))]
TRUE = {
    "modules in another order": [dense("first", "second"), dense("second", "last"), dense("last")],
    "sac actor": [dense("trunk.0", "trunk.2"), dense("trunk.2", *HEADS)],
    "flatten, channels last": [conv("a", "out (hw neuron)"), dense("b", "c")],
    "flatten, channels first": [conv("a", "out (neuron hw)"), dense("b", "c")],
    "concatenation, offset, flip": [dense("a", at("b.weight", OFFSET)), dense("b", "c")],
    "skips by concatenation": [
        dense("a", "b", at("d.weight", [*range(8), *[-1] * 8]), at("c.weight", [*range(8), *[-1] * 16]))
    ],
    "sigmoid with bias": [dense("a", "b")],
}
LIST_ORDER = [dense("third", "first"), dense("first", "second"), dense("second", "out"), dense("out")]
WRONG = [
    ("equal modules in another order", LIST_ORDER, "third", "first.weight"),
    ("equal modules in another order", [dense("first", "second"), dense("second", "first")], "second", "first.weight"),
    ("flatten, channels last", [conv("a", "out (neuron hw)")], "a", "b.weight"),
    ("flatten, channels first", [conv("a", "out (hw neuron)")], "a", "b.weight"),
    ("sac actor", [dense("trunk.0", "trunk.2"), dense("trunk.2", "mean")], "trunk.2", "mean.weight"),
    ("skips by concatenation", [dense("a", "b")], "a", "b.weight"),
    ("concatenation, offset, flip", [dense("a", at("b.weight", [*reversed(range(8)), -1, -1, -1]))], "a", "b.weight"),
    ("concatenation, offset, flip", [dense("a", at("b.weight", [-1, -1, -1, *range(8)]))], "a", "b.weight"),
    ("sigmoid with bias", [dense("a", at("b.weight", [1, 0, *range(2, 12)]))], "a", "b.weight"),
]


@pytest.mark.parametrize("name", TRUE)
def test_a_true_layout_passes(name):
    verify(name, na.Layout(TRUE[name]))


@pytest.mark.parametrize(
    ("name", "groups", "group", "param"),
    WRONG,
    ids=[
        *("list order taken for data flow", "a layer said to feed one before it", "channels first for last"),
        *("channels last for first", "a head forgotten", "the consumers of a skip forgotten", "wrong offset"),
        *("a flip forgotten", "two neurons swapped"),
    ],
)
def test_a_wrong_layout_is_refused_by_group_parameter_and_neurons(name, groups, group, param):
    """Published faults 3 and 5."""
    with pytest.raises(na.LayoutError) as caught:
        verify(name, na.Layout(groups))
    message = str(caught.value)
    assert message.startswith("the gradients contradict the layout: ")
    assert f"group {group!r}: " in message
    assert repr(param) in message
    assert re.search(rf"{re.escape(repr(param))}.*: \d+(, \d+)*( and \d+ more)?(;|$)", message)


def test_only_the_neurons_that_are_wrong_are_named():
    with pytest.raises(na.LayoutError, match=r"group 'a': neurons feed more than 'b\.weight': 0, 1$"):
        verify("sigmoid with bias", na.Layout([dense("a", at("b.weight", [-1, -1, *range(2, 12)]))]))


def test_right_groups_are_not_named_beside_wrong_ones():
    with pytest.raises(na.LayoutError) as caught:
        verify("sac actor", na.Layout([dense("trunk.0", "trunk.2"), dense("trunk.2", "mean")]))
    assert "trunk.0" not in str(caught.value)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "name", ["bro", "simba stacked critics", "impala", "lstm", "transformer, fused qkv", "rms norm"]
)
def test_what_discovery_finds_is_verified(name):
    found = discovered(name)
    model = lively(found.example.model())
    na.verify_layout(found.layout, parameters(model), gradient_function(model, *found.example.inputs))


def test_a_layout_that_does_not_fit_is_refused_before_any_gradient():
    def never(params):
        raise AssertionError("asked for a gradient")

    with pytest.raises(na.LayoutError, match=r"parameter 'x\.weight' is missing"):
        na.verify_layout(na.Layout([dense("x")]), {}, never)
