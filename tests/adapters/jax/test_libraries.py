"""One line in a training loop of each library, with a layout that was discovered too, and what an import loads."""

import subprocess
import sys

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.training.train_state import TrainState

import neuroactivity as na
from neuroactivity_jax import activations, layout_of, parameters, redo, regrama, report, write
from tests.adapters.jax.models import KEY, X

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


def loaded_by(module):
    """The packages that a fresh interpreter has loaded after importing a module."""
    heavy = {"torch", "tensorflow", "keras", "flax", "equinox", "haiku", "numpy", "jax", "optax"}
    code = f"import {module}, sys; print(*sorted({heavy} & {{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_an_import_loads_jax_and_optax_and_no_other_framework():
    assert loaded_by("neuroactivity_jax") == ["jax", "numpy", "optax"]
    assert "flax" in loaded_by("neuroactivity_jax, flax.nnx")
