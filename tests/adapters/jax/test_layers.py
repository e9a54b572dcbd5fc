"""Which axis counts neurons: by names and shapes, without probing."""

import re

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import neuroactivity as na
from neuroactivity_jax import gradients, layout_of, parameters
from neuroactivity_jax.layers import list_groups
from tests.adapters.jax.models import KEY, SEQUENCES, TOKENS, LinenRecurrent, LinenTwins, X, haiku_sequence

STACKED = "expected True, False, a number, paths or a mapping of paths to numbers"


def tree(**shapes):
    """Zeros of these shapes, at paths in which dots separate names."""
    made = {}
    for path, shape in shapes.items():
        *parents, leaf = path.split("__")
        inside = made
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[leaf] = np.zeros(shape, np.float32)
    return made


def patterns(params, **options):
    """Own patterns by group, in the shapes that discovery sees."""
    return {
        group.name: [view.pattern for view in group.incoming + group.unscored]
        for group in list_groups(params, **options)[0]
    }


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (tree(d__kernel=(3, 4), d__bias=(4,)), ["in neuron", "neuron"]),
        (tree(d__w=(3, 4)), ["in neuron"]),
        (tree(d__weight=(3, 4)), ["neuron in"]),
        (tree(d__kernel=(3, 2, 4), d__bias=(4,)), ["k in neuron", "neuron"]),
        (tree(d__kernel=(3, 3, 2, 4), d__bias=(4,)), ["h w in neuron", "neuron"]),
        (tree(d__kernel=(3, 3, 3, 2, 4)), ["d h w in neuron"]),
        (tree(d__kernel=(3, 3, 1, 4), d__bias=(4,)), ["h w one neuron", "neuron"]),
        (tree(d__weight=(4, 2, 3, 3), d__bias=(4, 1, 1)), ["neuron in h w", "neuron"]),
        (tree(d__kernel=(2, 3, 4), d__bias=(2, 4)), ["stack in neuron", "stack neuron"]),
        (tree(d__weight=(2, 4, 3), d__bias=(2, 4)), ["stack neuron in", "stack neuron"]),
        (tree(d__kernel=(2, 5, 5, 3, 4), d__bias=(2, 4)), ["stack h w in neuron", "stack neuron"]),
        (tree(d__kernel=(3, 2, 4), d__bias=(2, 4)), ["in neuron dim", "neuron dim"]),
        (tree(d__kernel=(5, 3, 2, 4), d__bias=(5, 2, 4)), ["stack in neuron dim", "stack neuron dim"]),
        (tree(d__scale=(4,), d__bias=(4,)), ["neuron", "neuron"]),
        (tree(d__scale=(2, 4), d__bias=(2, 4)), ["stack neuron", "stack neuron"]),
        (tree(d__scale=(1, 1, 4), d__offset=(1, 1, 4)), ["neuron", "neuron"]),
        (tree(d__weight=(4,), d__bias=(4,)), ["neuron", "neuron"]),
        (tree(d__embedding=(7, 4)), ["vocabulary neuron"]),
        (tree(d__embeddings=(2, 7, 4)), ["stack vocabulary neuron"]),
        (tree(conv_transpose__w=(3, 3, 4, 2), conv_transpose__b=(4,)), ["h w neuron in", "neuron"]),
        (tree(conv__w=(3, 3, 4, 4), conv__b=(4,)), ["h w in neuron", "neuron"]),
        (tree(conv_transpose__w=(3, 3, 4, 4), conv_transpose__b=(4,)), ["h w neuron in", "neuron"]),
    ],
)
def test_a_layer_is_read_by_its_names_and_shapes(params, expected):
    assert list(patterns(params).values()) == [expected]


@pytest.mark.parametrize(
    "params", [tree(d__bias=(4,)), tree(d__slope=(4, 4)), tree(d__kernel=(6, 6, 20, 3), d__bias=(6, 6, 3))]
)
def test_what_is_no_known_layer_is_not_listed(params):
    assert patterns(params) == {}


def test_layers_without_bias_are_read_like_those_next_to_them():
    params = tree(
        critics__a__kernel=(2, 3, 8), critics__a__bias=(2, 8), critics__b__kernel=(2, 8, 1), single__kernel=(8, 1)
    )
    assert patterns(params)["critics/b"] == ["stack in neuron"]
    square = tree(
        critics__a__kernel=(2, 3, 8), critics__a__bias=(2, 8), critics__b__kernel=(2, 2, 8), critics__b__bias=(2, 8)
    )
    assert patterns(square)["critics/b"] == ["stack in neuron", "stack neuron"]
    assert patterns(tree(Conv_0__kernel=(3, 2, 8), x__kernel=(3, 3)))["Conv_0"] == ["k in neuron"]


def test_what_shapes_do_not_tell_is_asked_for():
    """Guessed, two critics would be merged: published fault 10."""
    bare = tree(critics__a__kernel=(2, 3, 8), critics__b__kernel=(2, 8, 1), other__kernel=(3, 3))
    with pytest.raises(
        na.LayoutError,
        match=r"parameter 'critics/a/kernel' of shape \(2, 3, 8\): it can be read as 'k in neuron' or "
        r"'in neuron dim' or 'stack in neuron'; say which by stacked= or rule=",
    ):
        patterns(bare)
    assert patterns(bare, stacked=["critics"])["critics/a"] == ["stack in neuron"]
    assert patterns(bare, stacked=["critics"])["other"] == ["in neuron"]
    with pytest.raises(na.LayoutError, match=r"'other/kernel': expected a leading axis of copies, got shape \(3, 3\)"):
        patterns(bare, stacked=True)
    assert patterns(tree(a__kernel=(2, 2, 4), a__bias=(2, 4)), stacked=False)["a"] == ["in neuron dim", "neuron dim"]
    with pytest.raises(na.LayoutError, match="'in neuron dim' or 'stack in neuron'"):
        patterns(tree(a__kernel=(2, 2, 4), a__bias=(2, 4)))


def test_an_order_of_axes_that_names_contradict_is_asked_for():
    params = tree(d__w=(4, 3), d__b=(4,))
    with pytest.raises(
        na.LayoutError,
        match=r"parameter 'd/w' of shape \(4, 3\): expected the order of axes 'in neuron', as in haiku, got a bias of "
        r"shape \(4,\); give convention= or rule=",
    ):
        patterns(params)
    assert patterns(params, convention="equinox")["d"] == ["neuron in", "neuron"]


def test_a_rule_comes_first():
    params = tree(odd__theta=(3, 4), odd__beta=(4,), d__kernel=(4, 2), d__bias=(2,))

    def rule(name, value):
        if name == "odd/theta":
            return na.dense("odd", weight=(name, "in neuron"), bias="odd/beta")
        return na.dense("mine", weight=(name, "neuron out")) if name == "d/kernel" else None

    assert patterns(params, rule=rule) == {"mine": ["neuron out"], "odd": ["in neuron", "neuron"]}


@pytest.mark.parametrize(
    ("cell", "views"),
    [(nn.LSTMCell, 12), (nn.OptimizedLSTMCell, 12), (nn.GRUCell, 10), (nn.MGUCell, 7), (nn.SimpleCell, 3)],
)
def test_recurrent_cells_of_linen(cell, views):
    params = jax.eval_shape(LinenRecurrent(cell).init, KEY, SEQUENCES)
    (group,) = [group for group in list_groups(params)[0] if group.name == "params/cell"]
    assert len(group.incoming + group.unscored) == views
    assert {view.pattern for view in group.outgoing} == {"neuron other"}
    assert list(patterns(params)) == ["params/Dense_0", "params/Dense_1", "params/cell"]


@pytest.mark.parametrize("cell", [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell])
def test_recurrent_cells_of_nnx(cell):
    model = nnx.eval_shape(lambda: nnx.Dict(cell=cell(3, 6, rngs=nnx.Rngs(0))))
    ((group,), _) = list_groups(model)
    group.bind({name: value.shape for name, value in parameters(model).items()})
    assert group.name == "cell"


@pytest.mark.parametrize("cell", [hk.GRU, hk.LSTM, hk.VanillaRNN])
def test_recurrent_cells_of_haiku(cell):
    params = jax.eval_shape(hk.transform(haiku_sequence(cell)).init, KEY, TOKENS)
    names = {hk.GRU: "gru", hk.LSTM: "lstm", hk.VanillaRNN: "vanilla_rnn"}
    assert set(patterns(params)) == {"embed", "linear", names[cell]}
    both = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), params)
    assert all(group.stacks for group in list_groups(both)[0])


@pytest.mark.parametrize(("cell", "views"), [(eqx.nn.GRUCell, 4), (eqx.nn.LSTMCell, 3)])
def test_recurrent_cells_of_equinox(cell, views):
    ((group,), _) = list_groups({"cell": eqx.filter_eval_shape(cell, 3, 6, key=KEY)})
    assert len(group.incoming + group.unscored) == views
    assert group.outgoing[0].pattern == "(gate other) neuron"


def test_equinox_says_what_its_layers_are():
    shapes = eqx.filter_eval_shape
    model = {
        "embedding": shapes(eqx.nn.Embedding, 7, 4, key=KEY),
        "conv": shapes(eqx.nn.Conv1d, 2, 4, 3, use_bias=False, key=KEY),
        "norm": shapes(eqx.nn.LayerNorm, (4, 5)),
        "attn": shapes(eqx.nn.MultiheadAttention, 2, 8, use_query_bias=True, key=KEY),
    }
    assert patterns(model) == {
        "attn/query_proj": ["neuron in", "neuron"],
        "attn/key_proj": ["neuron in"],
        "attn/value_proj": ["neuron in"],
        "attn/output_proj": ["neuron in"],
        "conv": ["neuron in k"],
        "embedding": ["vocabulary neuron"],
        "norm": ["neuron axis1", "neuron axis1"],
    }
    assert patterns(model, attention="heads")["attn"] == ["(neuron dim) in"] * 3 + ["(neuron dim)"]
    frozen = eqx.filter(model, lambda leaf: getattr(leaf, "ndim", 0) == 3)
    assert patterns(frozen) == {"conv": ["neuron in k"]}


def twice(params):
    """The shapes of parameters of two members and three seeds."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((3, 2, *leaf.shape), leaf.dtype), params)


def test_two_axes_of_copies_are_told_by_the_layer_or_by_all_arrays():
    linear = eqx.filter_eval_shape(eqx.nn.Linear, 3, 4, key=KEY)
    assert patterns(twice(linear)) == {"weight": ["stack stack neuron in", "stack stack neuron"]}
    layers = tree(d__kernel=(3, 4), d__bias=(4,), c__kernel=(3, 3, 4, 6), c__bias=(6,), ln__scale=(6,), ln__bias=(6,))
    layers |= tree(e__embedding=(9, 4), bare__kernel=(6, 1))
    found = patterns(twice(layers))
    assert found == {name: [f"stack stack {own}" for own in views] for name, views in patterns(layers).items()}
    beside = twice(layers) | tree(other__kernel=(5, 4), other__bias=(4,))
    with pytest.warns(na.ActivityWarning, match=r"no neuron group has the trained weights of c \(bias .*; d \(bias"):
        assert list(patterns(beside)) == ["bare", "other"]
    assert patterns(tree(d__kernel=(5, 2, 3, 4), d__bias=(5, 2, 4))) == {}
    cell = jax.eval_shape(hk.transform(haiku_sequence(hk.GRU)).init, KEY, TOKENS)
    assert {group.stacks for group in list_groups(twice(cell))[0]} == {2}


def test_a_number_of_axes_of_copies_can_be_said():
    """Arrays without bias; two axes of copies beside arrays without any."""
    bare = twice(tree(critics__a__kernel=(5, 8), critics__b__kernel=(8, 1)))
    with pytest.raises(na.LayoutError, match="'stack in neuron dim' or 'stack stack in neuron'; say which by stacked="):
        patterns(bare)
    expected = {"critics/a": ["stack stack in neuron"], "critics/b": ["stack stack in neuron"]}
    assert patterns(bare, stacked=2) == expected
    beside = bare | tree(actor__kernel=(3, 5, 4), actor__bias=(3, 4), trunk__kernel=(5, 4), trunk__bias=(4,))
    expected |= {"actor": ["stack in neuron", "stack neuron"], "trunk": ["in neuron", "neuron"]}
    assert patterns(beside, stacked={"critics": 2, "actor": 1}) == expected
    inner = patterns({"net": beside}, stacked={"net": 0, "net/critics": 2, "net/actor": 1})
    assert inner == {f"net/{name}": views for name, views in expected.items()}
    with pytest.raises(
        na.LayoutError, match=r"'actor/kernel': expected 2 leading axes of copies, got shape \(3, 5, 4\)"
    ):
        patterns(beside, stacked=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "head"}, "attention: expected 'channels' or 'heads', got 'head'"),
        ({"convention": "pytorch"}, "convention: expected 'flax', 'haiku', 'equinox' or None, got 'pytorch'"),
        ({"convention": "Equinox"}, "convention: expected 'flax', 'haiku', 'equinox' or None, got 'Equinox'"),
        ({"stacked": "critics"}, f"stacked: {STACKED}, got 'critics'"),
        ({"stacked": ""}, f"stacked: {STACKED}, got ''"),
        ({"stacked": 1.5}, f"stacked: {STACKED}, got 1.5"),
        ({"stacked": -1}, f"stacked: {STACKED}, got -1"),
        ({"stacked": {"critics": True, "other": "2"}}, f"stacked: {STACKED}, got {{'critics': True, 'other': '2'}}"),
        (
            {"stacked": ["critic"]},
            "expected paths of layers or of what holds them, got 'critic'; there are critics/a, other",
        ),
        ({"stacked": {"critics": 1, "actor": 0}}, "got 'actor'; there are critics/a, other"),
        ({"stacked": ["critics/a/kernel"]}, "got 'critics/a/kernel'; there are critics/a, other"),
    ],
)
def test_an_option_that_is_a_typo_is_refused_before_anything_runs(options, message):
    params, calls = tree(critics__a__kernel=(2, 3, 8), other__kernel=(3, 3)), []
    with pytest.raises(ValueError, match=re.escape(message)):
        layout_of(params, calls.append, rule=lambda *_: calls.append(None), **options)
    assert calls == []


def test_paths_of_copies_lead_to_layers_or_to_what_holds_them():
    params = tree(critics__a__kernel=(2, 3, 8), other__kernel=(3, 3))
    expected = {"critics/a": ["stack in neuron"], "other": ["in neuron"]}
    assert patterns(params, stacked=["critics"]) == patterns(params, stacked={"critics/a": True}) == expected
    assert patterns(params, stacked=("critics", "critics/a")) == expected
    assert patterns(tree(a__kernel=(2, 3)), stacked=[]) == {"a": ["in neuron"]}


def test_attention_in_a_stack_is_one_of_heads():
    part = tree(kernel=(5, 8, 2, 4), bias=(5, 2, 4))
    params = {"attn": {"query": part, "key": part, "value": part, "out": tree(kernel=(5, 2, 4, 8), bias=(5, 8))}}
    assert patterns(params) == {
        "attn/out": ["stack head in neuron", "stack neuron"],
        "attn": ["stack in neuron dim"] * 3 + ["stack neuron dim"] * 3,
    }


def test_layouts_do_not_depend_on_what_is_not_floating_point():
    params = jax.eval_shape(LinenTwins().init, KEY, X)
    more = {**params, "steps": jnp.zeros((), int), "key": KEY, "name": "critic", "nothing": None}
    assert patterns(more) == patterns(params)
    assert gradients(more)["nothing"] is None


def test_the_order_of_axes_is_asked_for_where_nothing_tells_it():
    """Read backwards, a network without biases looks the same, and its inputs would be reset for its outputs."""
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = {"a": (5, 8), "b": (8, 6), "c": (6, 2)}
    params = {name: {"weight": jax.random.normal(key, sizes[name])} for name, key in zip(sizes, keys, strict=True)}

    def apply(params):
        x = jnp.ones((4, 5))
        for name in "ab":
            x = jnp.tanh(x @ params[name]["weight"])
        return x @ params["c"]["weight"]

    with pytest.raises(na.LayoutError, match=r"parameter 'a/weight' of shape .5, 8.: without any bias nothing tells"):
        layout_of(params, apply)
    layout = layout_of(params, apply, convention="flax")
    assert [layout[name].incoming[0].pattern for name in "abc"] == ["in neuron"] * 3
    assert layout["a"].outgoing[0].param == "b/weight"
    params["c"]["bias"] = jnp.zeros(2)
    with pytest.raises(na.LayoutError, match="expected the order of axes 'neuron in', as in equinox"):
        layout_of(params, apply)
