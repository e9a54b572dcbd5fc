"""One line in a training loop of each library, ReDo's activations, and what an import loads."""

import subprocess
import sys

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import neuroactivity as na
from neuroactivity_jax import activations, layout_of, parameters, redo, regrama, report, write
from tests.adapters.jax.models import KEY, SEQUENCES, EquinoxImages, LinenAttention, LinenImages, X, equinox, linen

WIDTH, DEAD = 8, [2, 5]


class LinenTwo(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Dense(WIDTH, name="first")(x)))


class NNXTwo(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(5, WIDTH, rngs=rngs), nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


HAIKU_TWO = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([WIDTH, 2])(x)))


@pytest.fixture(autouse=True)
def unoptimized():
    """Compile sooner: nothing here is about speed."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def chain(weight, bias, reader, *, last=True):
    """The layout of a dense layer that another reads."""
    own, feeds = ("in neuron", "neuron out") if last else ("neuron in", "out neuron")
    return na.Layout([na.dense("first", weight=(weight, own), bias=bias, outgoing=[(reader, feeds)])])


def killed(params, layout):
    """Make neurons that a ReLU follows dead for good."""
    (weight,), (bias,), arrays = layout["first"].incoming, layout["first"].unscored, parameters(params)
    place = (slice(None), np.array(DEAD)) if weight.pattern == "in neuron" else np.array(DEAD)
    dead = {
        weight.param: arrays[weight.param].at[place].set(0.0),
        bias.param: arrays[bias.param].at[np.array(DEAD)].set(-1),
    }
    return write(params, dead)


def loss(output):
    return jnp.square(output - 1).mean()


def assert_reset(params, state, layout):
    """The dead neurons, and no others, were reset."""
    arrays, found, group = parameters(params), report(state, layout), layout["first"]
    assert found["first"].reset == len(DEAD)
    (own,), (feeds,) = group.incoming, group.outgoing
    incoming = arrays[own.param].T if own.pattern == "in neuron" else arrays[own.param]
    outgoing = arrays[feeds.param] if feeds.pattern == "neuron out" else arrays[feeds.param].T
    assert np.flatnonzero((outgoing == 0).all(axis=1)).tolist() == DEAD
    assert (incoming[np.array(DEAD)] != 0).all()


def test_flax_linen_with_a_train_state():
    model, layout = LinenTwo(), chain("params/first/kernel", "params/first/bias", "params/Dense_0/kernel")
    tx = regrama(optax.adam(1e-2), layout, initializer=lambda key: model.init(key, X), tau=0.0, every=2)
    params = killed(jax.jit(model.init)(KEY, X), layout)
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    @jax.jit
    def step(state):
        return state.apply_gradients(grads=jax.grad(lambda params: loss(state.apply_fn(params, X)))(state.params))

    state = step(step(state))
    assert_reset(state.params, state, layout)


def test_flax_nnx_with_its_optimizer():
    layout = chain("first/kernel", "first/bias", "second/kernel")
    model = NNXTwo(nnx.Rngs(0))
    nnx.update(model, killed(nnx.state(model, nnx.Param), layout))
    tx = regrama(optax.adam(1e-2), layout, initializer=lambda key: NNXTwo(nnx.Rngs(key)), tau=0.0, every=2)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: loss(model(X)))(model))

    step(model, optimizer)
    assert report(optimizer, layout) is None
    step(model, optimizer)
    assert_reset(model, optimizer.opt_state, layout)


def test_equinox_with_filtered_parameters():
    layout = chain("layers/0/weight", "layers/0/bias", "layers/1/weight", last=False)
    make = lambda key: eqx.nn.MLP(5, 2, WIDTH, 1, key=key)  # noqa: E731
    model = killed(make(KEY), layout)
    tx = regrama(optax.adam(1e-2), layout, initializer=make, tau=0.0, every=2)
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(lambda model: loss(jax.vmap(model)(X)))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state

    model, state = step(*step(model, state))
    assert isinstance(model, eqx.nn.MLP)
    assert_reset(model, state, layout)


def test_haiku_and_a_reset_that_computes_what_ablation_computes():
    layout = chain("mlp/~/linear_0/w", "mlp/~/linear_0/b", "mlp/~/linear_1/w")
    params = killed(jax.jit(HAIKU_TWO.init)(KEY, X), layout)
    inner = optax.sgd(0.1)
    tx = regrama(inner, layout, initializer=lambda key: HAIKU_TWO.init(key, X), tau=0.0, every=1)
    grads = jax.jit(jax.grad(lambda params: loss(HAIKU_TWO.apply(params, X))))(params)
    updates, state = jax.jit(tx.update)(grads, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    assert_reset(new, state, layout)
    ablated = optax.apply_updates(params, inner.update(grads, inner.init(params))[0])
    readers = parameters(ablated)["mlp/~/linear_1/w"].at[np.array(DEAD)].set(0.0)
    ablated = write(ablated, {"mlp/~/linear_1/w": readers})
    np.testing.assert_allclose(HAIKU_TWO.apply(new, X), HAIKU_TWO.apply(ablated, X), atol=1e-6)


def test_activations_are_what_the_readers_are_multiplied_with():
    params, apply = linen(LinenImages(), jnp.ones((3, 8, 8, 2)))
    feeds = [("params/Dense_1/kernel", "(hw neuron) out")]
    conv = na.conv("conv", weight=("params/Conv_0/kernel", "h w in neuron"), outgoing=feeds)
    hidden = na.dense(
        "hidden", weight=("params/Dense_1/kernel", "in neuron"), outgoing=[("params/Dense_0/kernel", "neuron out")]
    )
    head = na.dense("head", weight=("params/Dense_0/kernel", "in neuron"), bias="params/Dense_0/bias")
    layout = na.Layout([conv, hidden, head])
    found = jax.jit(lambda params: activations(params, apply, layout=layout))(params)
    kernel, bias = params["params"]["Conv_0"]["kernel"], params["params"]["Conv_0"]["bias"]
    numbers = ("NHWC", "HWIO", "NHWC")
    images = jax.lax.conv_general_dilated(jnp.ones((3, 8, 8, 2)), kernel, (1, 1), "VALID", dimension_numbers=numbers)
    pooled = nn.max_pool(nn.relu(images + bias), (2, 2), (2, 2))
    np.testing.assert_allclose(found["conv"], pooled.reshape(-1, 6), rtol=1e-4, atol=1e-5)
    dense = params["params"]["Dense_1"]
    expected = jnp.tanh(pooled.reshape(3, -1) @ dense["kernel"] + dense["bias"])
    np.testing.assert_allclose(found["hidden"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["head"], apply(params), rtol=1e-4, atol=1e-5)


def test_activations_have_the_form_that_the_layout_names():
    def shapes(params, apply, group):
        layout = na.Layout([group])
        found = jax.eval_shape(lambda params: activations(params, apply, layout=layout), params)
        scores = jax.eval_shape(lambda found: na.tau_dormant(found, layout), found)
        return found[group.name].shape, scores[group.name].shape

    params, apply = linen(LinenAttention(), SEQUENCES)
    attention = {
        "channels": ("in neuron neuron", "neuron neuron out", "... neuron neuron", ((12, 3, 4), (12,))),
        "heads": ("in neuron dim", "neuron in out", "... neuron dim", ((48, 3, 1), (3,))),
    }
    for own, feeds, activation, expected in attention.values():
        views = [("params/attn/value/kernel", own)], [], [("params/attn/out/kernel", feeds)]
        assert shapes(params, apply, na.NeuronGroup("value", *views, activation=activation)) == expected
    model, apply = equinox(EquinoxImages(KEY), jnp.ones((3, 8, 8, 2)))
    static, dynamic = eqx.partition(model, lambda leaf: not eqx.is_array(leaf))
    conv = na.conv("conv", weight=("conv/weight", "neuron in h w"), outgoing=[("layers/0/weight", "out (neuron hw)")])
    assert shapes(dynamic, lambda dynamic: apply(eqx.combine(static, dynamic)), conv) == ((27, 8), (8,))


def test_activations_of_stacks_concatenations_and_layers_used_twice():
    params = {"a": jnp.ones((2, 3, 4)), "b": jnp.ones((2, 4, 1)), "c": jnp.ones((3, 5)), "d": jnp.ones((7, 5))}
    x = jnp.arange(6.0).reshape(2, 3)

    def apply(params):
        hidden = jnp.einsum("bi,sin->sbn", x, params["a"])
        first = x @ params["c"]
        joined = jnp.concatenate([jnp.ones((2, 2)), first], axis=-1)
        return jnp.einsum("sbn,sno->sbo", hidden, params["b"]), joined @ params["d"], 2 * joined @ params["d"]

    index = (-1, -1, *range(5))
    layout = na.Layout(
        [
            na.dense("a", weight=("a", "stack in neuron"), outgoing=[("b", "stack neuron out")]),
            na.dense("c", weight=("c", "in neuron"), outgoing=[na.ParamView("d", "neuron out", index=index)]),
        ]
    )
    found = activations(params, apply, layout=layout)
    np.testing.assert_allclose(found["a"], jnp.einsum("bi,sin->sbn", x, params["a"]))
    first = x @ params["c"]
    np.testing.assert_allclose(found["c"], jnp.concatenate([first, 2 * first]))


def test_neurons_that_no_parameter_reads_are_seen_where_they_are_made():
    params = {"a": jnp.ones((3, 4)), "b": jnp.arange(4.0), "c": jnp.ones((3, 1)), "s": jnp.arange(1.0, 5.0)}
    x = jnp.arange(6.0).reshape(2, 3)

    def apply(params):
        stream = jnp.tanh(x @ params["a"] + params["b"]) + x @ params["c"]
        return jax.nn.standardize(stream) * params["s"]

    groups = [na.dense("a", weight=("a", "in neuron"), bias="b"), na.dense("c", weight=("c", "in neuron"))]
    layout = na.Layout([*groups, na.norm("s", scale="s")])
    found = jax.jit(lambda params: activations(params, apply, layout=layout))(params)
    np.testing.assert_allclose(found["a"], x @ params["a"] + params["b"])  # before the activation function
    np.testing.assert_allclose(found["c"], x @ params["c"])
    assert found["s"] is None  # some multiply by the scale in two steps


def test_what_is_not_seen_is_not_guessed():
    """A reader in a loop, a layer of two weights, a scale that something is added to: no activations, never others'."""
    x = jnp.arange(6.0).reshape(2, 3)
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones(4), "r": jnp.ones((4, 4)), "s": jnp.ones(4), "o": jnp.ones((3, 4))}

    def apply(params):
        hidden = jax.nn.relu(x @ params["a"] + params["b"])
        scanned, _ = jax.lax.scan(lambda carry, _: (carry + hidden @ params["r"], None), hidden, length=2)
        return jax.nn.standardize(scanned) * (1 + params["s"]) + x @ params["o"]

    groups = [
        na.dense("a", weight=("a", "in neuron"), bias="b", outgoing=[("r", "neuron out")]),
        na.NeuronGroup("two", [("o", "in neuron"), ("r", "other neuron")]),
        na.norm("s", scale="s"),
    ]
    for group in groups:
        assert activations(params, apply, layout=na.Layout([group])) == {group.name: None}


def test_heads_of_mapped_critics_are_seen():
    params = {"w": jnp.arange(8.0).reshape(2, 4, 1), "b": jnp.arange(2.0).reshape(2, 1)}
    x = jnp.ones((5, 4))
    apply = lambda params: jax.vmap(lambda own: x @ own["w"] + own["b"])(params)  # noqa: E731
    layout = na.Layout([na.dense("out", weight=("w", "stack in neuron"), bias="b")])
    np.testing.assert_allclose(activations(params, apply, layout=layout)["out"], apply(params))


def test_outputs_need_the_axes_of_the_layer():
    group = na.NeuronGroup("a", [("a", "in neuron")], [], [("b", "neuron out")], activation="... neuron neuron")
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
    with pytest.raises(na.LayoutError, match=r"group 'a', .* expected 1 axes called 'neuron', as in 'a'"):
        activations(params, lambda params: jnp.ones((2, 3)) @ params["a"] @ params["b"], layout=na.Layout([group]))


def test_weights_are_followed_through_casts_transposes_and_inner_functions():
    params = {"a": jnp.ones((3, 4)), "b": jnp.arange(8.0).reshape(2, 4)}
    group = na.dense("a", weight=("a", "in neuron"), outgoing=[("b", "out neuron")])
    x = jnp.arange(6.0).reshape(2, 3)

    @jax.checkpoint
    def reader(weight, hidden):
        return jax.jit(lambda weight: hidden @ weight.T.astype(jnp.bfloat16))(jax.lax.stop_gradient(weight))

    for apply in (
        lambda params: reader(params["b"], (x @ params["a"]).astype(jnp.bfloat16)),
        lambda params: jax.vmap(lambda row: params["b"] @ (row @ params["a"]))(x),
        lambda params: jnp.einsum("on,bn->ob", params["b"], x @ params["a"]),
    ):
        found = activations(params, apply, layout=na.Layout([group]))["a"]
        np.testing.assert_allclose(found.astype(jnp.float32), x @ params["a"])


def test_redo_in_a_loop_reads_the_model_when_due():
    model, layout = LinenTwo(), chain("params/first/kernel", "params/first/bias", "params/Dense_0/kernel")
    tx = redo(optax.sgd(0.0), layout, initializer=lambda key: model.init(key, X), tau=0.0, every=2)
    params = killed(jax.jit(model.init)(KEY, X), layout)
    apply = lambda params: model.apply(params, X)  # noqa: E731

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda params: loss(apply(params)))(params)
        outputs = lambda: activations(params, apply, layout=layout)  # noqa: E731
        updates, state = tx.update(grads, state, params, activations=outputs)
        return optax.apply_updates(params, updates), state

    params, state = step(*step(params, tx.init(params)))
    assert_reset(params, state, layout)


def test_regrama_and_activations_take_a_layout_that_was_found():
    model = LinenTwo()
    params = jax.jit(model.init)(KEY, X)
    apply = lambda params: model.apply(params, X)  # noqa: E731
    layout = layout_of(params, apply)
    tx = regrama(optax.adam(1e-2), layout, initializer=lambda key: model.init(key, X), tau=0.5, every=1)
    _, state = jax.jit(tx.update)(jax.grad(lambda params: loss(apply(params)))(params), tx.init(params), params)
    assert report(state, layout)["params/first"].status == "exclusive"
    assert [name for name, value in activations(params, apply).items() if value is not None] == list(layout)


def test_float64_stays_float64():
    layout, params = chain("w", "b", "r"), {"w": np.ones((3, 4)), "b": np.ones(4), "r": np.ones((4, 2))}
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, params)
        tx = regrama(optax.adam(0.1), layout, every=1, tau=0.5)
        grads = write(params, {"w": params["w"].at[:, 1].set(0.0)})
        updates, state = jax.jit(tx.update)(grads, tx.init(params), params)
        assert {value.dtype for value in jax.tree.leaves((updates, state.scores))} == {jnp.dtype("float64")}
        assert state.neurons_reset.dtype == jnp.int32
        assert int(state.neurons_reset) == 1


def test_parameters_of_one_shape_draw_different_values():
    """Published fault 13."""
    group = na.NeuronGroup("g", [("first", "in neuron"), ("second", "in neuron")])
    values = jnp.arange(64.0).reshape(1, 64)
    params = {"first": values, "second": values}
    tx = regrama(optax.sgd(0.0), na.Layout([group]), every=1, tau=10.0)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    assert (new["first"] != new["second"]).sum() > 32


def loaded_by(module):
    """The packages that a fresh interpreter has loaded after importing a module."""
    heavy = {"torch", "tensorflow", "keras", "flax", "equinox", "haiku", "numpy", "jax", "optax"}
    code = f"import {module}, sys; print(*sorted({heavy} & {{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_an_import_loads_jax_and_optax_and_no_other_framework():
    assert loaded_by("neuroactivity_jax") == ["jax", "numpy", "optax"]
    assert "flax" in loaded_by("neuroactivity_jax, flax.nnx")
