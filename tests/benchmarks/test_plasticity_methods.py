"""The methods of the plasticity benchmark, each on a case small enough to work out by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.plasticity.experiment import Experiment
from benchmarks.plasticity.methods import by_layer, new_layers, optimizer
from benchmarks.plasticity.networks import apply, draw
from benchmarks.plasticity.partial import part, partial_resets
from benchmarks.plasticity.reborn import reborn
from neuroactivity_jax import layout_of
from reference_agents.errors import UsageError

RATE = 1e-3


def experiment(reset, **options):
    return Experiment(reset=reset, width=4, every=2, rows=2, columns=3, learning_rate=RATE, **options)


def after(chosen, updates, grads=1.0):
    """Parameters and Adam's state after some updates with equal gradients, and the parameters before."""

    def new(key):
        return draw(chosen, key, 6, 3)

    params = start = new(jax.random.key(0))
    layout = layout_of(params, lambda params: apply(chosen, params, jnp.ones((2, 6)))[0])
    tx = optimizer(chosen, layout, new, jax.random.key(1))
    state, step = tx.init(params), jax.jit(tx.update)
    for _ in range(updates):
        gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, grads), params)
        moves, state = step(
            gradients, state, params, activations={name: jnp.ones((2, 4)) for name in ("hidden1", "hidden2")}
        )
        params = optax.apply_updates(params, moves)
    return params, state, start


def ones():
    return {name: {"kernel": jnp.ones(2)} for name in ("hidden1", "hidden2", "out")}


@pytest.mark.parametrize(
    ("number", "turns", "written"),
    [
        (0, [["out"]], {"out"}),
        (1, [["out"]], {"out"}),
        (0, [["hidden1", "norm1"], ["hidden2"]], {"hidden1"}),
        (1, [["hidden1", "norm1"], ["hidden2"]], {"hidden2"}),
        (2, [["hidden1", "norm1"], ["hidden2"]], {"hidden1"}),
        (5, [["hidden1", "hidden2", "out"]], {"hidden1", "hidden2", "out"}),
    ],
)
def test_layers_are_drawn_anew_in_turn_with_new_optimizers(number, turns, written):
    fresh = jax.tree.map(lambda leaf: 7 * leaf, ones())
    layered = by_layer(optax.scale_by_adam())
    _, state = layered.update(ones(), layered.init(ones()))
    params, state = new_layers(lambda _: fresh, layered, turns)(ones(), state, jax.random.key(0), jnp.int32(number))
    for name, layer in params.items():
        new = name in written
        assert float(layer["kernel"][1]) == (7 if new else 1)
        assert int(state[name].count) == (0 if new else 1)
        np.testing.assert_allclose(state[name].mu["kernel"], 0 if new else 0.1, rtol=1e-6)
        np.testing.assert_allclose(state[name].nu["kernel"], 0 if new else 1e-3, rtol=1e-6)


def test_optimizers_by_layer_do_what_one_does():
    found, expected = by_layer(optax.adam(RATE)), optax.adam(RATE)
    states = [tx.init(ones()) for tx in (found, expected)]
    for _ in range(2):
        both = [tx.update(ones(), state) for tx, state in zip((found, expected), states, strict=True)]
        moves, states = zip(*both, strict=True)
        assert jax.tree.all(jax.tree.map(np.array_equal, *moves))


@pytest.mark.slow
def test_adam_is_restarted_whole_or_its_count_alone():
    whole, count = (after(experiment(name), 2)[1].inner[0] for name in ("restart_adam", "adam_rel"))
    assert whole.count == count.count == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves((whole.mu, whole.nu)))
    np.testing.assert_allclose(count.mu["out"]["bias"], 1 - 0.9**2, rtol=1e-5)
    np.testing.assert_allclose(count.nu["out"]["bias"], 1 - 0.999**2, rtol=1e-5)


@pytest.mark.slow
def test_adam_with_a_larger_epsilon_takes_smaller_steps():
    params, _, start = after(experiment("large_eps", strength=1.0), 1)
    np.testing.assert_allclose(start["out"]["bias"] - params["out"]["bias"], RATE / 2, rtol=1e-4)


def test_both_of_adams_decays_are_one():
    chosen = experiment("equal_betas", strength=0.75)
    _, (state, *_), _ = after(chosen, 1)
    assert float(state.mu["out"]["bias"][0]) == float(state.nu["out"]["bias"][0]) == 0.25
    with pytest.raises(UsageError, match="strength: expected a decay below 1"):
        experiment("equal_betas", strength=1.0)


def test_with_l2_init_a_reset_neuron_is_drawn_towards_its_fresh_values_from_then_on():
    params, state, start = after(experiment("regrama_l2_init", tau=1.0), 2)
    toward = state.inner_state[0]
    np.testing.assert_allclose(toward["hidden1"]["kernel"], params["hidden1"]["kernel"], rtol=1e-5)
    assert (toward["hidden1"]["kernel"] != start["hidden1"]["kernel"]).all()
    np.testing.assert_array_equal(toward["out"]["bias"], start["out"]["bias"])


@pytest.mark.slow
def test_resets_and_weight_decay_together_are_both():
    decaying, plain = (after(experiment(name, strength=value), 1) for name, value in
                       (("regrama_weight_decay", 0.5), ("regrama", None)))  # fmt: skip
    for layer, own in plain[0].items():
        expected = own["kernel"] - 0.5 * RATE * plain[2][layer]["kernel"]
        np.testing.assert_allclose(decaying[0][layer]["kernel"], expected, rtol=1e-4, atol=1e-6)


def test_a_neuron_that_does_not_learn_moves_the_whole_part_and_others_less():
    found = part(jnp.array([0.0, 1.0, 2.0]), 0.5)
    np.testing.assert_allclose(found, [0.5, 0.25, 0.0], atol=1e-6)


def test_partial_resets_move_a_neuron_towards_a_new_one():
    params = {
        "hidden1": {"kernel": jnp.ones((1, 2)), "bias": jnp.ones(2)},
        "hidden2": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "out": {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)},
    }
    grads = jax.tree.map(jnp.ones_like, params)
    new = jax.tree.map(lambda leaf: jnp.full_like(leaf, 3.0), params)
    tx = partial_resets(optax.sgd(0.0), initializer=lambda _: new, every=1, rate=0.5, key=jax.random.key(0))
    moves, state = tx.update(grads, tx.init(params), params)
    moved = optax.apply_updates(params, moves)
    part_ = 0.25  # of all neurons: each learns as much as the mean
    np.testing.assert_allclose(moved["hidden1"]["kernel"], 1 + part_ * 2)
    np.testing.assert_allclose(moved["hidden1"]["bias"], 1 - part_)
    np.testing.assert_allclose(moved["hidden2"]["kernel"], (1 - part_) + part_ * (3 - (1 - part_)))
    np.testing.assert_allclose(moved["out"]["kernel"], 1 - part_)
    np.testing.assert_allclose(moved["out"]["bias"], 1)
    np.testing.assert_allclose(state.utility["hidden1"], 1)


def test_partial_resets_wait_for_their_turn():
    params, _, start = after(experiment("ccbp"), 1)
    plain, _, _ = after(experiment("none"), 1)
    np.testing.assert_allclose(params["hidden1"]["kernel"], plain["hidden1"]["kernel"])
    assert not np.array_equal(params["hidden1"]["kernel"], start["hidden1"]["kernel"])


@pytest.mark.parametrize("method", ["continual", "ccbp", "reborn"])
def test_with_a_skip_the_weights_that_both_layers_lead_to_are_left_alone(method):
    options = {"reborn": {"tau": 9.0}, "continual": {"strength": 0.5}, "ccbp": {"strength": 1.0}}[method]
    moved = {}
    for network in ("mlp", "residual"):
        chosen = replace(experiment(method, **options), network=network)
        params, _, _ = after(chosen, 200, grads=0.0)
        moved[network] = {name: params[name]["kernel"] for name in ("hidden2", "out")}
    assert not np.array_equal(moved["mlp"]["out"], moved["residual"]["out"])
    start = draw(experiment(method), jax.random.key(0), 6, 3)
    np.testing.assert_array_equal(moved["residual"]["out"], start["out"]["kernel"])
    assert not np.array_equal(moved["residual"]["hidden2"], start["hidden2"]["kernel"])


WIDTH = 40


def reborn_once(outputs):
    """Parameters of a network of two layers of 40 before and after its dormant neurons are reborn."""
    rng = np.random.default_rng(0)
    shapes = {"hidden1": (3, WIDTH), "hidden2": (WIDTH, WIDTH), "out": (WIDTH, 2)}
    params = {
        name: {"kernel": jnp.asarray(rng.normal(size=shape)), "bias": jnp.asarray(rng.normal(size=shape[-1]))}
        for name, shape in shapes.items()
    }
    fresh = jax.tree.map(lambda leaf: jnp.full_like(leaf, 5.0), params)
    tx = reborn(optax.sgd(0.0), initializer=lambda _: fresh, every=1, tau=0.1, shared=(), key=jax.random.key(0))
    moves, state = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params, activations=outputs)
    return params, optax.apply_updates(params, moves), state


def values(params, inputs, without=()):
    hidden = jax.nn.relu(inputs @ params["hidden1"]["kernel"] + params["hidden1"]["bias"])
    hidden = hidden * (1 - np.isin(np.arange(WIDTH), without))
    hidden = jax.nn.relu(hidden @ params["hidden2"]["kernel"] + params["hidden2"]["bias"])
    return hidden @ params["out"]["kernel"] + params["out"]["bias"]


def test_dormant_neurons_are_reborn_as_parts_of_over_active_ones():
    """Two neurons are over-active and twelve dormant: ten become copies, two are drawn anew, and all else is as was."""
    scores = np.full(WIDTH, 1.0)
    scores[:2], scores[2:14] = 8.0, 0.0
    params, new, state = reborn_once({"hidden1": jnp.asarray(scores)[None], "hidden2": jnp.ones((1, WIDTH))})
    assert int(state.neurons_reset) == 12
    incoming = np.concatenate([new["hidden1"]["kernel"], new["hidden1"]["bias"][None]])
    old = np.concatenate([params["hidden1"]["kernel"], params["hidden1"]["bias"][None]])
    scales = incoming[:, 2:14, None] / old[:, None, :2]
    copies = np.isclose(scales.min(0), scales.max(0), rtol=1e-4)
    assert copies.sum(0).tolist() == [5, 5]
    found = scales.mean(0)[copies]
    assert 0.3 <= found.min() < found.max() <= 0.8
    anew = 2 + np.flatnonzero(~copies.any(1))
    np.testing.assert_allclose(incoming[:, anew], 5, rtol=1e-6)
    np.testing.assert_allclose(new["hidden2"]["kernel"][anew], 0, atol=1e-6)
    np.testing.assert_array_equal(incoming[:, :2], old[:, :2])
    np.testing.assert_allclose(new["hidden2"]["kernel"][14:], params["hidden2"]["kernel"][14:], rtol=1e-6)
    inputs = np.random.default_rng(1).normal(size=(9, 3))
    np.testing.assert_allclose(values(new, inputs), values(params, inputs, range(2, 14)), rtol=1e-3, atol=1e-4)


def test_dormant_neurons_that_were_reborn_are_counted_at_the_next_time():
    chosen = experiment("reborn", tau=9.0)
    _, state, _ = after(chosen, 4)
    assert (int(state.neurons_reset), int(state.measured_again), int(state.reset_again)) == (16, 8, 8)
