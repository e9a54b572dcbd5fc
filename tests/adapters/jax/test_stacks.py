"""Twin critics of several seeds, mapped twice: all that is done to the whole is what is done to every copy alone."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import activations, layout_of, parameters, redo, regrama, report
from tests.adapters.jax.models import KEY, LinenMLP, X

SEEDS, MEMBERS, SIZES = 3, 2, (5, 8, 7, 1)
COPIES = [(seed, member) for seed in range(SEEDS) for member in range(MEMBERS)]
NAMES = ("a", "b", "out")
ADAM = optax.adam(0.1)
DEAD = {"a": [(0, 1, 2), (2, 0, 0), (2, 0, 5)], "b": [(1, 1, 3)]}


def initial(key):
    """One critic."""
    keys = jax.random.split(key, 6)
    kernels = [0.2 * jax.random.normal(keys[i], SIZES[i : i + 2]) for i in range(3)]
    biases = [1 + 0.1 * jax.random.normal(keys[3 + i], SIZES[i + 1 : i + 2]) for i in range(3)]
    return {name: {"w": w, "b": b} for name, w, b in zip(NAMES, kernels, biases, strict=True)}


def critic(params):
    hidden = X
    for name in NAMES[:2]:
        hidden = jax.nn.relu(hidden @ params[name]["w"] + params[name]["b"])
    return hidden @ params["out"]["w"] + params["out"]["b"]


@jax.jit
def all_initial(key):
    return jax.vmap(jax.vmap(initial))(jax.random.split(key, (SEEDS, MEMBERS)))


all_critics = jax.vmap(jax.vmap(critic))


def killed(params):
    """Let some neurons of some critics never fire."""
    for name, places in DEAD.items():
        for place in places:
            params[name]["b"][place] = -10.0
    return params


@functools.cache
def all_values():
    """Parameters and gradients of all critics."""
    params = killed(jax.tree.map(np.array, all_initial(KEY)))
    return params, jax.device_get(jax.jit(jax.grad(lambda params: (all_critics(params) ** 2).mean()))(params))


@pytest.fixture(scope="module")
def layouts():
    """Of all critics, and of one."""
    return layout_of(all_values()[0], all_critics), layout_of(initial(KEY), critic)


def assert_copies_equal(values, expected):
    """Values of a stack against a function from a place to those of one copy, to a rounding."""
    for number, place in enumerate(COPIES):
        for name, value in expected(place).items():
            np.testing.assert_allclose(values[name][number], value, rtol=2e-6, err_msg=f"{place} {name}")


def of_every_copy(function, *trees):
    """Do to each copy alone, with its part of a stack, what gives arrays by name; put the results into one."""
    flat = [{name: np.asarray(value).reshape(-1, *value.shape[2:]) for name, value in tree.items()} for tree in trees]
    made = [function(*[{name: v[i] for name, v in tree.items()} for tree in flat]) for i in range(len(COPIES))]
    return {
        name: np.stack([one[name] for one in made]).reshape(SEEDS, MEMBERS, *made[0][name].shape) for name in made[0]
    }


def by_copy(masks):
    """Masks of a stack, with its two axes apart."""
    return {name: np.asarray(mask).reshape(SEEDS, MEMBERS, -1) for name, mask in masks.items()}


def test_what_is_found_is_what_is_found_of_one_copy(layouts):
    whole, one = layouts
    assert [group.status for group in whole.values()] == ["exclusive", "exclusive", "head"]
    for name, group in whole.items():
        assert (group.status, group.reason, group.stacks) == (one[name].status, one[name].reason, 2)
        for (role, view), (own_role, own) in zip(group.views, one[name].views, strict=True):
            assert (role, view.param, view.pattern) == (own_role, own.param, f"stack stack {own.pattern}")
        assert group.activation == f"stack stack {one[name].activation}"
    whole.validate(parameters(all_values()[0]))
    assert na.Layout.from_dict(whole.to_dict()) == whole


def test_scores_masks_and_resets_are_those_of_every_copy(layouts):
    whole, one = layouts
    params, grads, fresh = map(parameters, (*all_values(), jax.device_get(all_initial(KEY))))
    scores = na.grama(grads, whole)
    assert scores["a"].shape == (SEEDS * MEMBERS, 8)
    for name, value in of_every_copy(lambda grads: na.grama(grads, one), grads).items():
        np.testing.assert_allclose(by_copy(scores)[name], value, rtol=1e-6)
    masks = na.reset_masks(scores, 0.0)
    for name, places in DEAD.items():
        assert list(zip(*np.nonzero(by_copy(masks)[name]), strict=True)) == places

    new, cleared = na.reset(params, fresh, masks, whole), na.reset_moments(params, masks, whole)
    own = of_every_copy(lambda *each: na.reset(*each, one), params, fresh, by_copy(masks))
    np.testing.assert_equal(new, own)
    own = of_every_copy(lambda *each: na.reset_moments(*each, one), params, by_copy(masks))
    np.testing.assert_equal(cleared, own)
    assert sum((value != params[name]).sum() for name, value in cleared.items()) == 3 * (5 + 1 + 7) + 8 + 1 + 1

    summary = na.summarize(scores, whole, 0.0, masks=masks)
    assert (summary["a"].neurons, summary["a"].inactive, summary["a"].reset) == (SEEDS * MEMBERS * 8, 3, 3)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [regrama, redo])
def test_a_wrapper_outside_of_both_maps_resets_every_copy_apart(layouts, wrap):
    (whole, one), (params, grads) = layouts, all_values()
    tx = wrap(ADAM, whole, initializer=all_initial, tau=0.0, every=1, seed=4)

    @jax.jit
    def step(params, grads, state):
        outputs = {} if wrap is regrama else {"activations": lambda: activations(params, all_critics, layout=whole)}
        updates, new = tx.update(grads, state, params, **outputs)
        plain, inner = ADAM.update(grads, state.inner_state, params)
        return updates, new, plain, inner

    updates, state, plain, inner = step(params, grads, tx.init(params))
    new, plain = optax.apply_updates(params, updates), optax.apply_updates(params, plain)
    for name, places in DEAD.items():
        assert list(zip(*np.nonzero(by_copy(state.masks)[name]), strict=True)) == places
    masks, plain = by_copy(state.masks), parameters(plain)
    fresh = parameters(all_initial(jax.random.fold_in(jax.random.key(4), 1)))
    expected = of_every_copy(lambda *each: na.reset(*each, one), plain, fresh, masks)
    for name, value in parameters(new).items():
        same = expected[name] == plain[name]
        np.testing.assert_array_equal(value[same], plain[name][same])
        np.testing.assert_array_equal(value == 0, expected[name] == 0)
        np.testing.assert_allclose(value, expected[name], atol=2e-6)
    for kind in ("mu", "nu"):
        before = parameters(getattr(inner[0], kind))
        own = of_every_copy(lambda *each: na.reset_moments(*each, one), before, masks)
        np.testing.assert_equal(jax.device_get(parameters(getattr(state.inner_state[0], kind))), own)
    assert report(state, whole)["a"].reset == 3


@pytest.mark.slow
def test_a_snapshot_is_drawn_from_by_copy(layouts):
    params, grads = all_values()
    tx = regrama(optax.sgd(0.0), layouts[0], tau=0.0, every=1)
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    new = optax.apply_updates(params, updates)["a"]["w"]
    for place in DEAD["a"]:
        columns = np.asarray(params["a"]["w"][place[:2]]).T
        assert any(np.allclose(new[place[0], place[1], :, place[2]], column, atol=1e-6) for column in columns)


def test_outputs_have_the_stacks_in_the_order_of_the_parameters(layouts):
    (whole, one), (params, _) = layouts, all_values()
    found = jax.jit(lambda params: activations(params, all_critics, layout=whole))(params)
    alone = jax.jit(lambda params: activations(params, critic, layout=one))
    assert [found[name].shape for name in ("a", "out")] == [(SEEDS, MEMBERS, len(X), 8), (SEEDS, MEMBERS, len(X), 1)]
    for place in COPIES:
        own = alone(jax.tree.map(lambda value, place=place: value[place], params))
        for name in NAMES:
            np.testing.assert_allclose(found[name][place], own[name], rtol=1e-5, atol=1e-5)


class Agent(nn.Module):
    """A policy and twin critics behind a trunk."""

    @nn.compact
    def __call__(self, x):
        critics = nn.vmap(
            LinenMLP,
            in_axes=None,
            out_axes=0,
            axis_size=MEMBERS,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        x = nn.relu(nn.Dense(9, name="trunk")(x))
        return critics(width=8, name="critics")(x), nn.Dense(4, name="policy")(x)


@pytest.mark.slow
def test_seeds_of_an_agent_with_one_stack_in_some_parameters_and_two_in_others():
    agent = Agent()
    params = jax.jit(jax.vmap(agent.init, (0, None)))(jax.random.split(KEY, SEEDS), X)
    layout = layout_of(params, lambda params: jax.vmap(agent.apply, (0, None))(params, X))
    layout.validate(parameters(params))
    trunk, hidden = layout["params/trunk"], layout["params/critics/Dense_0"]
    assert {view.param: view.pattern for view in trunk.outgoing} == {
        "params/critics/Dense_0/kernel": "stack copies neuron out",
        "params/policy/kernel": "stack neuron out",
    }
    assert (hidden.status, [view.pattern for view in hidden.outgoing]) == ("exclusive", ["stack stack neuron out"])
    found = activations(params, lambda params: jax.vmap(agent.apply, (0, None))(params, X), layout=layout)
    assert found[trunk.name].shape == (SEEDS, len(X), 9)
    assert found[hidden.name].shape == (SEEDS, MEMBERS, len(X), 8)


def test_neurons_that_one_layer_reads_through_several_copies_are_unproved():
    """Members whose mean a layer reads that knows of no members."""
    params = {"a": all_initial(KEY)["a"], "out": jax.vmap(initial)(jax.random.split(KEY, SEEDS))["b"]}

    def apply(params):
        hidden = jnp.einsum("bi,smin->smbn", X, params["a"]["w"]) + params["a"]["b"][:, :, None]
        return jnp.tanh(hidden).mean(1) @ params["out"]["w"] + params["out"]["b"][:, None]

    layout = layout_of(params, apply)
    assert (layout["a"].status, layout["a"].resettable, layout["a"].outgoing) == ("unproved", False, ())
    assert layout["a"].reason == "what it feeds reads several of its copies at once"
    assert layout["out"].status == "head"


class ResidualCritic(nn.Module):
    """A stream that two layers write, read by normalisations alone, as in SimBa."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        x = x + nn.Dense(8)(nn.relu(nn.Dense(12)(nn.LayerNorm()(x))))
        return nn.Dense(1)(nn.LayerNorm()(x))


class TwoStreams(nn.Module):
    """Two networks of one width, which must not be taken for one."""

    @nn.compact
    def __call__(self, x):
        return ResidualCritic()(x), ResidualCritic()(x)


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 3])
def test_streams_that_normalisations_read_are_those_of_one_copy(members):
    def found(module):
        params = module.init(KEY, X)
        layout = layout_of(params, lambda params: module.apply(params, X))
        return {name.replace("Vmap", ""): group.status for name, group in layout.items()}, layout

    expected, one = found(TwoStreams())
    stream = "params/ResidualCritic_0/Dense_0"
    assert expected[stream] == "shared"
    assert "ResidualCritic_1" not in one[stream].reason
    axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "axis_size": members}
    statuses, layout = found(nn.vmap(TwoStreams, in_axes=None, **axes)())
    assert statuses == expected
    assert {name: group.reason for name, group in layout.items()} == {n: g.reason for n, g in one.items()}
