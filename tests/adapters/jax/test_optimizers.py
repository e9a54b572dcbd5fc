"""A reset clears an optax state to what the optimizer itself starts with, where it wrote, and only there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import clear_moments, parameters, regrama, write
from neuroactivity_jax.optimizers import state_owners
from tests.adapters.jax.optimizers import LAYOUT, OPTIMIZERS, PARAMS, at, initial

EVERY = 3
OPTIONS = {"initializer": initial, "tau": 0.05, "every": EVERY}


SLOW = ("adamw with a schedule", "rprop", "adabelief", "nadam", "radam", "clipped adam", "masked", "lion")
"""Much like others."""


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in OPTIMIZERS])
def make_optimizer(request):
    return OPTIMIZERS[request.param]


def compiled(function):
    """Compile a function, count how often it is traced, and return NumPy's arrays, which need no compiling."""
    traces = []

    def traced(*args):
        traces.append(args)
        return function(*args)

    jitted = jax.jit(traced)
    return lambda *args: jax.device_get(jitted(*args)), traces


def masks_at(step):
    return na.reset_masks(na.grama(parameters(at(step)), LAYOUT), OPTIONS["tau"])


def written(masks):
    """Where a reset writes, by the shape of the parameter: a reset of ones to twos."""
    ones = {name: np.ones(value.shape) for name, value in parameters(PARAMS).items()}
    twos = {name: 2 * one for name, one in ones.items()}
    reset = na.reset(ones, twos, {name: np.asarray(mask) for name, mask in masks.items()}, LAYOUT)
    return {value.shape: value != 1 for value in reset.values()}


def assert_equal_trees(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.sampled(4)
@pytest.mark.usefixtures("optimized")
def test_written_entries_are_fresh_and_all_others_those_of_the_plain_optimizer(make_optimizer):
    inner = make_optimizer()
    tx = regrama(inner, LAYOUT, **OPTIONS)
    (update, traces), (plain_update, _) = compiled(tx.update), compiled(inner.update)
    params, state, plain_state = PARAMS, tx.init(PARAMS), inner.init(PARAMS)
    for step in range(EVERY):
        old = params
        updates, state = update(at(step), state, params)
        plain_updates, plain_state = plain_update(at(step), plain_state, params)
        params = jax.tree.map(np.add, params, updates)
        if step < EVERY - 1:
            assert_equal_trees((updates, state.inner_state), (plain_updates, plain_state))

    masks = masks_at(EVERY - 1)
    where = written(masks)
    assert masks["a"].nonzero()[0].tolist() == [1, 4]
    assert_equal_trees(state.masks, masks)
    assert (int(state.measurements), int(state.resets), int(state.neurons_reset)) == (1, 1, 2)

    fresh = parameters(jax.device_get(initial(jax.random.fold_in(jax.random.key(0), 1))))
    target = na.reset(parameters(old), fresh, masks, LAYOUT)
    for name, new in parameters(params).items():
        entries = where[new.shape]
        assert_equal_trees(parameters(updates)[name][~entries], parameters(plain_updates)[name][~entries])
        larger = np.maximum(np.abs(parameters(old)[name]), np.abs(target[name]))
        assert (np.abs(new - target[name]) <= np.spacing(larger))[entries].all()
        assert (new[entries & (target[name] == 0)] == 0).all()
    assert (params["out"]["kernel"][[1, 4]] == 0).all()

    start = jax.tree.leaves(inner.init(write(params, target)))
    for mine, plain, first in zip(*map(jax.tree.leaves, (state.inner_state, plain_state)), start, strict=True):
        entries = where.get(jnp.shape(mine), False)
        np.testing.assert_array_equal(mine, np.where(entries, np.asarray(first, plain.dtype), plain))
    for step in range(EVERY, 2 * EVERY):
        updates, state = update(at(step), state, params)
        params = jax.tree.map(np.add, params, updates)
    assert (int(state.measurements), int(state.resets)) == (2, 2)
    assert len(traces) == 1


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["adam", "MultiSteps"])
def test_a_scan_mapped_over_seeds_equals_loops_and_draws_independently(name):
    def start(seed):
        return regrama(OPTIMIZERS[name](), LAYOUT, seed=seed, **OPTIONS).init(PARAMS)

    def step(carry, grads):
        params, state = carry
        updates, state = regrama(OPTIMIZERS[name](), LAYOUT, **OPTIONS).update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    mapped = jax.jit(jax.vmap(lambda seed: jax.lax.scan(step, (PARAMS, start(seed)), at(slice(8)))[0]))(jnp.arange(2))
    (jitted, traces), runs = compiled(step), []
    for seed in range(2):
        run = (PARAMS, start(seed))
        for number in range(8):
            run, _ = jitted(run, at(number))
        runs.append(run)
    stacked = jax.tree.map(lambda *values: np.stack(values), *runs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), mapped, stacked)
    assert_equal_trees(mapped[1].masks, stacked[1].masks)
    assert mapped[1].resets.tolist() == [2, 2]
    kernels = mapped[0]["a"]["kernel"]
    assert (kernels[0][:, 1] != kernels[1][:, 1]).all()
    assert_equal_trees(kernels[0][:, 0], kernels[1][:, 0])
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (
            optax.adafactor(0.1, min_dim_size_to_factor=2),
            r"state '0/v_row/a/kernel' of the optimizer: expected it to belong",
        ),
        (optax.lbfgs(0.1), r"belong to parameter 'a/bias' of shape \(7,\), got shape \(10, 7\)"),
        (optax.sm3(0.1), r"state '0/mu/a/bias/0' of the optimizer: expected it to belong to a parameter, got shape"),
        (optax.flatten(optax.adam(0.1)), r"expected it to belong to a parameter, got shape \(42,\); what it remembers"),
    ],
    ids=["adafactor", "lbfgs", "sm3", "flatten"],
)
def test_a_state_that_belongs_to_no_parameter_is_refused_at_the_start(inner, message):
    with pytest.raises(ValueError, match=message):
        regrama(inner, LAYOUT, **OPTIONS).init(PARAMS)
    measuring = regrama(inner, LAYOUT, every=1, max_fraction=0.0)
    state = measuring.init(PARAMS)
    assert int(state.neurons_reset) == 0


def test_each_leaf_of_a_state_belongs_to_a_parameter_or_to_all():
    key = jax.random.key(0)
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3), "one": jnp.ones(1)}
    shared = {
        "count": jnp.int32(0),
        "rate": jnp.ones(1),
        "key": jax.random.PRNGKey(0),
        "keys": jnp.zeros((5, 2), jnp.uint32),
        "rbg": jnp.zeros(4, jnp.uint32),
        "typed": jax.random.split(key, 5),
        "ns_coeffs": jnp.ones(3),
    }
    owners = state_owners({"mu": params, "rest": shared}, params)
    assert owners == ["b", "one", "w", *[None] * len(shared)]


@pytest.mark.parametrize(
    "leaf", [jnp.ones(2), jnp.ones((3, 4)), jnp.zeros(3, jnp.uint32), jnp.zeros((2, 5), jnp.uint32), jnp.ones(4)]
)
def test_what_may_be_of_neurons_is_not_taken_for_shared(leaf):
    with pytest.raises(ValueError, match=r"^state 'odd/w' of the optimizer: expected it to belong to parameter 'w' of"):
        state_owners({"odd": {"w": leaf}}, {"w": jnp.ones((4, 3))})


def test_names_of_parameters_that_are_names_of_states_are_not_confused():
    """Published fault 8, in optax's form: a policy's ``mu`` beside Adam's."""
    params = {
        "mu": {"kernel": jnp.ones((2, 3))},
        "kernel": jnp.ones((2, 3)),
        "nu": {"mu": {"kernel": jnp.ones((2, 3))}},
    }
    layout = na.Layout([na.dense("policy", weight=("mu/kernel", "in neuron"))])
    adam = optax.adam(0.1)
    _, state = adam.update(jax.tree.map(jnp.ones_like, params), adam.init(params), params)
    cleared = clear_moments(adam, state, params, {"policy": jnp.array([True, False, True])}, layout)
    for moment in (cleared[0].mu, cleared[0].nu):
        assert ((moment["mu"]["kernel"] == 0) == jnp.array([True, False, True])).all()
        assert (moment["kernel"] != 0).all()
        assert (moment["nu"]["mu"]["kernel"] != 0).all()
    assert int(cleared[0].count) == 1


def test_what_cannot_be_told_apart_is_refused():
    params = {"mu": {"kernel": jnp.ones((2, 3))}, "kernel": jnp.ones((2, 3))}
    state = {"mu": {"kernel": jnp.ones((2, 3))}}
    odd = optax.GradientTransformation(lambda params: state, lambda updates, state, params: (updates, state))
    with pytest.raises(ValueError, match=r"belong to parameter 'mu/kernel' of shape .* or 'kernel' of shape"):
        clear_moments(odd, state, params, {}, na.Layout([na.dense("policy", weight=("mu/kernel", "in neuron"))]))


def test_averaged_copies_and_step_sizes_start_as_the_optimizer_starts():
    inner = optax.chain(optax.rprop(0.07), optax.contrib.schedule_free_sgd(0.1))
    masks = masks_at(0)
    state = inner.init(jax.tree.map(jnp.zeros_like, PARAMS))
    cleared = clear_moments(inner, state, PARAMS, masks, LAYOUT)
    entries = written(masks)
    for name, value in parameters(cleared[1].z).items():
        expected = np.where(entries[value.shape], parameters(PARAMS)[name], 0.0)
        np.testing.assert_array_equal(value, expected)
    with pytest.raises(ValueError, match="the optimizer's state is not of the form that its init gives"):
        clear_moments(optax.adam(0.1), state, PARAMS, masks, LAYOUT)
    with pytest.raises(na.LayoutError, match="group 'nope' of the masks is not in the layout; there are a, out"):
        clear_moments(inner, state, PARAMS, {"nope": masks["a"]}, LAYOUT)
