"""What each builder makes: groups of the one general form, nothing else."""

import pytest

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView

GATES = {"gate": 4}


def test_dense():
    assert na.dense("fc", weight=("w", "neuron in")) == NeuronGroup("fc", [("w", "neuron in")])
    assert na.dense(
        "fc",
        weight=("w", "neuron in"),
        bias="b",
        unscored=[("mask", "neuron in")],
        outgoing=[("next", "out neuron")],
        activation="time ... neuron",
        resettable=False,
    ) == NeuronGroup(
        "fc",
        [("w", "neuron in")],
        [("b", "neuron"), ("mask", "neuron in")],
        [("next", "out neuron")],
        activation="time ... neuron",
        resettable=False,
    )


def test_dense_in_a_stack():
    group = na.dense("fc", weight=("w", "stack in neuron"), bias="b", outgoing=[("next", "stack neuron out")])
    assert group.unscored == (ParamView("b", "stack neuron"),)
    assert group.activation == "stack ... neuron"


def test_a_bias_may_be_a_view():
    group = na.dense("fc", weight=("w", "neuron in"), bias=ParamView("b", "neuron", index=(1, 0)))
    assert group.unscored == (ParamView("b", "neuron", index=(1, 0)),)


@pytest.mark.parametrize(
    ("pattern", "activation"),
    [
        ("neuron in h w", "batch neuron ..."),
        ("neuron in w", "batch neuron ..."),
        ("in neuron h w", "batch neuron ..."),
        ("h w in neuron", "... neuron"),
        ("h w in (neuron)", "... neuron"),
        ("stack neuron in h w", "stack batch neuron ..."),
        ("stack h w in neuron", "stack ... neuron"),
    ],
)
def test_conv_outputs_follow_the_kernel(pattern, activation):
    """Channels first where the kernel is, last where ``neuron`` is its last axis."""
    group = na.conv("c", weight=("w", pattern), bias="b")
    stack = "stack " if "stack" in pattern else ""
    assert group == NeuronGroup("c", [("w", pattern)], [("b", f"{stack}neuron")], activation=activation)
    assert na.conv("c", weight=("w", pattern), activation=f"{stack}... neuron").activation == f"{stack}... neuron"


def test_two_stacks_are_in_front_of_biases_and_outputs():
    twins = na.dense("fc", weight=("w", "stack stack in neuron"), bias="b")
    assert (twins.unscored[0].pattern, twins.activation) == ("stack stack neuron", "stack stack ... neuron")
    assert twins.stacks == 2
    assert na.conv("c", weight=("w", "stack stack neuron in h w")).activation == "stack stack batch neuron ..."


def test_residual():
    group = na.residual(
        "stream",
        writers=[("embed", "neuron in"), ("block", "neuron in")],
        readers=[("head", "out neuron")],
        unscored=[("embed.b", "neuron")],
        outgoing=[("skip", "neuron out")],
    )
    assert group == NeuronGroup(
        "stream",
        [("embed", "neuron in"), ("block", "neuron in")],
        [("embed.b", "neuron")],
        [("head", "out neuron"), ("skip", "neuron out")],
    )
    assert na.residual("s", writers=[("w", "stack neuron in")], readers=[]).activation == "stack ... neuron"
    heads = [("a", "in neuron"), ("b", "in neuron neuron")]  # the outputs are those of the first
    assert na.residual("s", writers=heads, readers=[]).activation == "... neuron"
    assert na.residual("s", writers=heads[::-1], readers=[]).activation == "... neuron neuron"


def test_attention():
    views = {name: (name, "(neuron dim) in") for name in ("query", "key", "value")}
    group = na.attention("attn", heads=8, **views, output=("o", "out (neuron dim)"))
    assert group == NeuronGroup(
        "attn", list(views.values()), (), [("o", "out (neuron dim)")], activation="... (neuron dim)", neurons=8
    )


@pytest.mark.parametrize(
    ("output", "activation"),
    [
        (("o", "out (neuron dim)"), "... (neuron dim)"),
        (("o", "(dim neuron) out"), "... (dim neuron)"),
        (("o", "neuron dim out"), "... neuron dim"),
        (None, "... (neuron dim)"),
    ],
)
def test_outputs_of_heads_are_laid_out_as_their_projection_reads_them(output, activation):
    fused = ("qkv", "(qkv neuron dim) in", {"qkv": 3})
    group = na.attention("attn", heads=2, qkv=fused, output=output)
    assert group.incoming == (ParamView(*fused),)
    assert group.activation == activation
    assert group.outgoing == (() if output is None else (ParamView(*output),))


def test_outputs_of_heads_follow_their_projection_and_no_other_reader():
    fused, other = ("qkv", "(qkv neuron dim) in", {"qkv": 3}), ("gate", "neuron dim out")
    group = na.attention("attn", heads=2, qkv=fused, output=("o", "(dim neuron) out"), outgoing=[other])
    assert group.activation == "... (dim neuron)"


def test_norm():
    assert na.norm("ln", scale="g") == NeuronGroup("ln", [("g", "neuron")])
    group = na.norm("ln", scale="g", shift="b", outgoing=[("next", "out neuron")], resettable=False)
    expected = NeuronGroup("ln", [("g", "neuron")], [("b", "neuron")], [("next", "out neuron")], resettable=False)
    assert group == expected
    stacked = na.norm("ln", scale=("g", "stack neuron"), shift="b")
    assert stacked.unscored == (ParamView("b", "stack neuron"),)
    assert stacked.activation == "stack ... neuron"


def test_recurrent_in_pytorch():
    group = na.recurrent(
        "lstm", input="ih", recurrent="hh", biases=("bi", "bh"), gates=4, outgoing=[("head", "out neuron")]
    )
    assert group == NeuronGroup(
        "lstm",
        [("ih", "(gate neuron) in", GATES), ("hh", "(gate neuron) other", GATES)],
        [("bi", "(gate neuron)", GATES), ("bh", "(gate neuron)", GATES)],
        [("hh", "(gate other) neuron", GATES), ("head", "out neuron")],
    )


def test_recurrent_in_keras():
    group = na.recurrent(
        "lstm",
        input=("k", "in (gate neuron)"),
        recurrent=("r", "other (gate neuron)"),
        biases=[("b", "(gate neuron)")],
        gates=4,
        unscored=[("h0", "neuron")],
        resettable=False,
    )
    assert group == NeuronGroup(
        "lstm",
        [("k", "in (gate neuron)", GATES), ("r", "other (gate neuron)", GATES)],
        [("b", "(gate neuron)", GATES), ("h0", "neuron")],
        [("r", "neuron (gate other)", GATES)],
        resettable=False,
    )


def test_recurrent_with_an_axis_of_gates_or_one_array_a_gate():
    """A gate that has its own axis needs no size; a view without gates gets none."""
    group = na.recurrent(
        "gru", input=("i", "in gate neuron"), recurrent=("r", "other neuron"), biases=[("b", "neuron")], gates=3
    )
    assert group.incoming == (ParamView("i", "in gate neuron", {"gate": 3}), ParamView("r", "other neuron"))
    assert group.unscored == (ParamView("b", "neuron"),)
    assert group.outgoing == (ParamView("r", "neuron other"),)


@pytest.mark.parametrize("builder", [na.dense, na.conv, na.residual, na.attention, na.norm, na.recurrent])
def test_everything_but_the_name_is_given_by_name(builder):
    with pytest.raises(TypeError, match="positional argument"):
        builder("g", ("w", "neuron in"))


def test_the_layout_of_the_design_page():
    """The example of the documentation, whole: it builds, in order."""
    layout = na.Layout(
        [
            na.dense(
                "fc1", weight=("fc1.weight", "neuron in"), bias="fc1.bias", outgoing=[("fc2.weight", "out neuron")]
            ),
            na.conv("conv", weight=("conv.weight", "neuron in h w"), outgoing=[("fc1.weight", "out (neuron hw)")]),
            na.residual(
                "stream",
                writers=[("embed.weight", "neuron in"), ("block0.fc2.weight", "neuron in")],
                readers=[("block0.fc1.weight", "out neuron"), ("head.weight", "out neuron")],
            ),
            na.attention(
                "attn",
                heads=8,
                query=("q.weight", "(neuron dim) in"),
                key=("k.weight", "(neuron dim) in"),
                value=("v.weight", "(neuron dim) in"),
                output=("o.weight", "out (neuron dim)"),
            ),
            na.norm("ln", scale="ln.weight", shift="ln.bias"),
        ]
    )
    assert list(layout) == ["fc1", "conv", "stream", "attn", "ln"]


def test_channels_of_several_heads():
    """Two axes that count neurons together: in the bias and the outputs too."""
    group = na.dense("value", weight=("w", "in neuron neuron"), bias="b", outgoing=[("out", "neuron neuron o")])
    assert group.unscored == (ParamView("b", "neuron neuron"),)
    assert group.activation == "... neuron neuron"
