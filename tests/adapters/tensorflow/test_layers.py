"""Which layers have which neuron groups, and that a user's rule is asked before what is known of layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812

import neuroactivity as na
from neuroactivity_tensorflow import layout_of
from neuroactivity_tensorflow.layers import list_groups
from tests.adapters.tensorflow.architectures import SEQUENCE, attention
from tests.adapters.tensorflow.models import X, mlp


def test_a_layer_of_an_unknown_type_makes_a_group_by_rule():
    class Scaled(keras.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(shape[-1], 12))

        def call(self, x):
            return tf.nn.tanh(x @ self.table)

    model = keras.Sequential([Scaled(name="own"), L.Dense(2, name="b")])
    rule = {"own/table": na.dense("own", weight=("own/table", "in neuron"))}
    with pytest.warns(na.ActivityWarning, match=r"trained weights of own \(Scaled: table \(5, 12\)\)"):
        assert set(layout_of(model, X)) == {"b"}
    assert layout_of(model, X, rule=lambda name, variable: rule.get(name))["own"].outgoing[0].param == "b/kernel"


def test_a_rule_is_asked_first_for_every_parameter_and_overrides_a_known_layer():
    asked = []

    def rule(name, variable):
        asked.append((name, tuple(variable.shape)))
        mine = na.dense("mine", weight=(name, "in neuron"), bias="2/bias", activation="batch neuron")
        return mine if name == "2/kernel" else None

    layout = layout_of(mlp(), X, rule=rule)
    assert {name: group.activation for name, group in layout.items()} == {
        "mine": "batch neuron", "0": "... neuron", "4": "... neuron",
    }  # fmt: skip
    assert asked == [
        ("0/kernel", (5, 16)), ("0/bias", (16,)), ("2/kernel", (16, 16)), ("4/kernel", (16, 2)), ("4/bias", (2,)),
    ]  # fmt: skip
    assert layout["mine"].outgoing == layout_of(mlp(), X)["2"].outgoing


@pytest.mark.slow
def test_a_rule_takes_over_a_part_of_an_attention_layer():
    """It sees the parameter's own axes, though discovery sees the heads of the others merged."""

    def rule(name, variable):
        return na.NeuronGroup("mine", [(name, "in neuron dim")]) if name == "attn/query_dense/kernel" else None

    layout = layout_of(attention(bias=False), SEQUENCE, rule=rule)
    assert list(layout) == ["embed", "mine", "attn/key", "attn/value", "attn/output_dense", "head"]
    plain = layout_of(attention(bias=False), SEQUENCE)
    assert layout["attn/value"] == plain["attn/value"]
    assert layout["mine"].status in ("partner", "unproved")


def test_the_heads_and_channels_of_attention_are_one_axis_for_discovery():
    model = attention()
    merged = {param: axes.shape for _, merged in list_groups(model) for param, axes in merged.items()}
    assert merged == {
        "attn/query_dense/kernel": (16, 12), "attn/key_dense/kernel": (16, 12), "attn/value_dense/kernel": (16, 12),
        "attn/query_dense/bias": (12,), "attn/key_dense/bias": (12,), "attn/value_dense/bias": (12,),
        "attn/output_dense/kernel": (12, 16),
    }  # fmt: skip
    assert not any(merged for _, merged in list_groups(model, attention="heads"))


def behind_a_projection(output_shape=None):
    """Attention on what a dense layer puts out, and nothing else reads."""
    x = keras.Input((6, 8))
    hidden = L.Dense(10, name="embed")(x)
    hidden = L.MultiHeadAttention(2, 3, value_dim=4, output_shape=output_shape, name="attn")(hidden, hidden)
    return keras.Model(x, L.Dense(3, name="head")(L.Flatten()(hidden)))


def test_views_of_attention_name_the_parameters_own_axes():
    layout = layout_of(behind_a_projection(), SEQUENCE)
    views = {name: [(view.param, view.pattern) for _, view in group.views] for name, group in layout.items()}
    parts = ("query", "key", "value")
    assert views["embed"][2:] == [(f"attn/{part}_dense/kernel", "neuron head out") for part in parts]
    for part in parts:
        assert views[f"attn/{part}"][:2] == [
            (f"attn/{part}_dense/kernel", "in neuron neuron"), (f"attn/{part}_dense/bias", "neuron neuron"),
        ]  # fmt: skip
    assert views["attn/value"][2:] == [("attn/output_dense/kernel", "neuron neuron out")]
    assert views["attn/output_dense"][:2] == [
        ("attn/output_dense/kernel", "head dim neuron"), ("attn/output_dense/bias", "neuron"),
    ]  # fmt: skip
    assert layout["attn/value"].activation == "... neuron neuron"
    assert layout["attn/output_dense"].activation == "... neuron"


def test_attention_whose_output_has_several_axes_has_no_group_for_it():
    with pytest.warns(na.ActivityWarning, match=r"trained weights of attn/output_dense \(EinsumDense: kernel"):
        layout = layout_of(behind_a_projection((2, 5)), SEQUENCE)
    assert list(layout) == ["embed", "attn/query", "attn/key", "attn/value", "head"]
    value = layout["attn/value"]
    reason = "read, directly or not, by what is in no group: attn/output_dense/kernel"
    assert (value.status, value.reason) == ("unproved", reason)
    assert layout["attn/value"].incoming == (na.ParamView("attn/value_dense/kernel", "in neuron neuron"),)


def test_layers_under_spectral_normalization_are_left_out_with_a_warning():
    model = keras.Sequential([L.SpectralNormalization(L.Dense(8, "relu"), name="s"), L.Dense(2, name="b")])
    with pytest.warns(na.ActivityWarning, match="the weights of s are computed from other parameters"):
        assert set(layout_of(model, X)) == {"b"}


def test_what_a_neuron_of_attention_is_has_one_of_two_names():
    with pytest.raises(ValueError, match="attention: expected 'channels' or 'heads', got 'head'"):
        layout_of(mlp(), np.ones((2, 5), "float32"), attention="head")


def layer_of(name, **shapes):
    """A layer of a class of this name, with variables of these shapes."""
    layer = type(name, (keras.Layer,), {"call": lambda self, x: x})(name="own")
    for label, shape in shapes.items():
        layer.add_weight(shape=shape, name=label)
    layer.built = True
    return layer


@pytest.mark.parametrize(
    ("name", "shapes", "patterns"),
    [
        ("BatchRenorm", {"scale": (8,), "bias": (8,)}, ["neuron", "neuron"]),
        ("RMSNormalization2", {"gamma": (8,)}, None),
        ("LlamaRMSNorm", {"weight": (8,)}, ["neuron"]),
        (
            "NoisyDense",
            {"mu_kernel": (4, 8), "sigma_kernel": (4, 8), "mu_bias": (8,), "sigma_bias": (8,)},
            ["in neuron", "in neuron", "neuron", "neuron"],
        ),
        ("LayerScale", {"gamma": (8,)}, None),
        ("Tokens", {"cls": (1, 1, 8), "pos_embed": (6, 8)}, None),
    ],
)
def test_layers_of_any_library_are_known_by_names_and_shapes(name, shapes, patterns):
    listed = [group for group, _ in list_groups(layer_of(name, **shapes))]
    found = [[view.pattern for view in group.incoming + group.unscored] for group in listed]
    assert found == ([] if patterns is None else [patterns])


def test_a_layer_without_neurons_is_one_clear_error():
    with pytest.raises(
        na.LayoutError, match=r"group 'own': expected neurons, got parameter 'own/scale' of shape \(0,\)"
    ):
        list_groups(keras.Sequential([keras.Input((0,)), L.RMSNormalization(name="own")]))
