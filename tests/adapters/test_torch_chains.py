"""The layout of nn.Sequential chains."""

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import layout_of, parameters
from torch_models import TwoHeaded, convnet, mlp


def feeds(layout: na.Layout) -> dict[str, list[tuple[str, str]]]:
    return {name: [(view.param, view.pattern) for view in group.outgoing] for name, group in layout.items()}


def test_dense_chain():
    layout = layout_of(mlp())
    assert feeds(layout) == {"0": [("2.weight", "out neuron")], "2": [("4.weight", "out neuron")], "4": []}
    assert [group.status for group in layout.values()] == ["exclusive", "exclusive", "head"]
    assert [group.resettable for group in layout.values()] == [True, True, False]
    assert layout["0"].restored == (na.ParamView("0.bias", "neuron"),)


def test_layers_without_bias():
    layout = layout_of(nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False)))
    assert layout["0"].restored == ()


def test_nested_convolutions_and_flatten():
    layout = layout_of(convnet(), torch.zeros(1, 1, 8, 8))
    assert feeds(layout) == {
        "0.0": [("2.0.weight", "out (neuron hw)")],
        "2.0": [("2.2.weight", "out neuron")],
        "2.2": [],
    }
    assert layout["0.0"].activation == "batch neuron ..."


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_convolutions_of_every_dimension_feed_each_other(dimensions):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    model = nn.Sequential(conv(2, 3, 1), nn.ReLU(), conv(3, 4, 1))
    layout = layout_of(model)
    layout.validate(parameters(model))
    (view,) = layout["0"].outgoing
    assert view.pattern.startswith("out neuron ")


def test_normalisations_are_groups_and_mark_what_they_mix():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
    )
    layout = layout_of(model)
    assert [layout[name].status for name in "01345"] == ["through_norm", "exclusive", "exclusive", "exclusive", "head"]
    assert "'1'" in layout["0"].reason
    assert feeds(layout)["0"] == feeds(layout)["1"] == [("3.weight", "out neuron")]
    assert layout["1"].restored == (na.ParamView("1.bias", "neuron"),)


def test_normalised_channels_that_are_flattened():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 9, 2))
    layout = layout_of(model)
    assert feeds(layout)["1"] == [("3.weight", "out (neuron hw)")]
    assert layout["1"].activation == "batch neuron ..."


def test_a_norm_without_parameters_has_no_group_and_still_mixes():
    layout = layout_of(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 2)))
    assert list(layout) == ["0", "2"]
    assert layout["0"].status == "through_norm"


def test_a_norm_behind_a_flatten_normalises_features():
    layout = layout_of(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 2)))
    assert feeds(layout) == {"0": [("3.weight", "out (neuron hw)")], "2": [("3.weight", "out neuron")], "3": []}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (TwoHeaded(), r"module '' \(TwoHeaded\): .*give layout= for this model"),
        (nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1), nn.Linear(3, 1)), r"module '1' \(Softmax\)"),
        (nn.Sequential(nn.Linear(3, 4), nn.GLU(), nn.Linear(2, 1)), r"module '1' \(GLU\)"),
        (
            nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=2)),
            r"module '1' \(Conv2d\): it has channel groups",
        ),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Linear(3, 4)), r"reads the channels of layer '0' without a Flatten"),
        (
            nn.Sequential(nn.Linear(3, 4), nn.Conv2d(4, 4, 1)),
            r"module '1' \(Conv2d\): it reads layer '0', which has no",
        ),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.LayerNorm([4, 3, 3])), r"its scale does not lie along the neurons"),
        (nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 3)), r"module '1' \(LSTM\)"),
    ],
)
def test_what_cannot_be_read_is_refused(model, message):
    with pytest.raises(na.LayoutError, match=message):
        layout_of(model)


def test_a_layer_used_twice_is_refused():
    layer = nn.Linear(3, 3)
    with pytest.raises(na.LayoutError, match="stands in the chain twice"):
        layout_of(nn.Sequential(layer, nn.ReLU(), layer))


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(na.LayoutError, match=r"group '0', parameter '1\.weight', pattern 'out neuron'"):
        layout_of(nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2)))
