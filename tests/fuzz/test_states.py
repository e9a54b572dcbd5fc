"""States of wrappers that are wrong in any way: loaded, or refused with a ``ValueError``, and then nothing is set."""

import contextlib
import copy
import functools
import io

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity_jax import ActivityState, parameters, regrama
from neuroactivity_jax.state import check_form
from neuroactivity_tensorflow import ReGraMa as KerasReGraMa
from neuroactivity_torch import ReGraMa
from reference_agents.jax import learning as jax_learning
from reference_agents.tensorflow import learning as keras_learning
from reference_agents.torch import learning as torch_learning
from tests.adapters.jax.optimizers import LAYOUT, PARAMS
from tests.adapters.tensorflow import models as keras_models
from tests.adapters.torch import models as torch_models
from tests.fuzz.material import bounded, damaged, fuzzed_slowly, mutated, values

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Skipping variable loading"),  # of a state from before the first step
]
wholes = st.integers(-5, 2**70) | st.sampled_from([2.5, "3", None, True, float("nan")])


@functools.cache
def of_torch():
    model = torch_models.mlp()
    optimizer = torch.optim.Adam(model.parameters())
    found = ReGraMa(model, optimizer, example_inputs=torch_models.X, initializer="snapshot", every=1, tau=0.5)
    torch_models.step(model, optimizer, torch_models.X)
    return found


arrays = st.sampled_from(
    [torch.zeros(3), torch.zeros(16, dtype=torch.int32), torch.full((16,), -7), torch.zeros(0), [1]]
)


def same(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(st.data())
def test_any_state_of_torch(data):
    wrapper = of_torch()
    good = wrapper.state_dict()
    state = copy.copy(good)
    for _ in range(data.draw(st.integers(1, 2))):
        key = data.draw(st.sampled_from([*good, "more"]))
        if key in ("layout", "clock") and data.draw(st.booleans()):
            state[key] = data.draw(mutated(good[key])) if key == "layout" else data.draw(values)
        elif isinstance(good.get(key), dict) and good[key] and data.draw(st.booleans()):
            state[key] = good[key] | {data.draw(st.sampled_from([*good[key], "x"])): data.draw(arrays | values)}
        else:
            state[key] = data.draw(wholes | values | arrays)
    try:
        with bounded():
            wrapper.load_state_dict(state)
    except ValueError:
        assert same(wrapper.state_dict(), good)
    else:
        wrapper.load_state_dict(wrapper.state_dict())
        wrapper.load_state_dict(good)


@functools.cache
def of_jax():
    tx = regrama(optax.adam(0.1), LAYOUT, every=1)
    return tx, tx.init(PARAMS)


leaves = st.sampled_from([jnp.zeros(7), jnp.zeros(7, int), jnp.zeros((2, 7)), jnp.array(-1), 2.5, None, "x", {}, ()])


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(st.data())
def test_any_state_of_jax(data):
    tx, good = of_jax()
    fields = set(ActivityState._fields) - {"inner_state"}
    field = data.draw(st.sampled_from(sorted(fields)))
    value = getattr(good, field)
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        changed = value | {data.draw(st.sampled_from([*value, "x"])): data.draw(leaves)}
    else:
        changed = data.draw(leaves)
    with bounded(), contextlib.suppress(ValueError):
        state = good._replace(**{field: changed})
        check_form(state, LAYOUT, parameters(PARAMS), tx.update.__self__.options, len(good.born))
        assert state.scores.keys() == state.masks.keys() == set(LAYOUT)


@functools.cache
def of_keras():
    model = keras_models.mlp()
    found = KerasReGraMa(keras.optimizers.Adam(0.01), model, layout=keras_models.mlp_layout(), initializer="snapshot")
    keras_models.step(model, found)
    saved = {}
    found.save_own_variables(saved)
    return found, copy.deepcopy(saved)


stored = st.sampled_from(
    [np.zeros(3), np.int64(-5), np.array([1, 4, 9]), np.zeros(0), np.frombuffer(b"{", "uint8"), "x"]
)


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(st.data())
def test_any_state_of_keras(data):
    wrapper, good = of_keras()
    store = dict(good)
    for _ in range(data.draw(st.integers(1, 2))):
        key = data.draw(st.sampled_from([*good, "99", "x"]))
        store.pop(key, None)
        if data.draw(st.integers(0, 3)):
            store[key] = data.draw(stored)
    try:
        with bounded():
            wrapper.load_own_variables(store)
    except ValueError:
        now = {}
        wrapper.save_own_variables(now)
        assert all(np.array_equal(now[key], value) for key, value in good.items())
    else:
        wrapper.load_own_variables(good)


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(st.data())
def test_any_configuration_of_keras(data):
    wrapper, _ = of_keras()
    config = {key: value for key, value in wrapper.get_config().items() if key != "optimizer"}
    changed = data.draw(mutated(config) | mutated({"layout": config["layout"]}).map(lambda new: config | new))
    with bounded(), contextlib.suppress(ValueError):
        KerasReGraMa.from_config({"optimizer": wrapper.get_config()["optimizer"], **changed})


def packed(framework):
    if framework == "torch":
        return torch_learning.pack({"net": torch.nn.Linear(3, 2)}, updates=3)
    if framework == "jax":
        return jax_learning.pack({"w": jnp.ones((3, 2)), "key": jax.random.key(0)}, updates=3)
    return keras_learning.pack({"net": [keras.Variable(np.ones((3, 2), "float32"))]}, updates=3)


def unpacked(framework, state):
    if framework == "torch":
        return torch_learning.unpack(state, {"net": torch.nn.Linear(3, 2)})
    if framework == "jax":
        return jax_learning.unpack(state, {"w": jnp.zeros((3, 2)), "key": jax.random.key(1)})
    return keras_learning.unpack(state, {"net": [keras.Variable(np.zeros((3, 2), "float32"))]})


@pytest.mark.counts(targets=1)
@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_any_agent_of_a_checkpoint_runs_no_code(framework):
    """Whatever it raises is told in one line by the command; nothing of it is run."""
    good = packed(framework)

    @fuzzed_slowly
    @given(damaged(good))
    def any_bytes(state):
        with bounded(), contextlib.suppress(Exception):
            unpacked(framework, state)

    any_bytes()
    assert unpacked(framework, good)


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_a_pickle_in_an_agents_state_is_refused():
    file = io.BytesIO()
    torch.save({"parts": {}, "evil": Evil()}, file)
    with pytest.raises(Exception, match=r"(?i)weights"):
        torch_learning.unpack(file.getvalue(), {})
    file = io.BytesIO()
    np.savez(file, values=np.array([Evil()], dtype=object), allow_pickle=True)
    for framework in ("jax", "tensorflow"):
        with pytest.raises((ValueError, KeyError)):
            unpacked(framework, file.getvalue())


def test_the_states_as_they_are_are_loaded():
    of_torch().load_state_dict(of_torch().state_dict())
    wrapper, good = of_keras()
    wrapper.load_own_variables(good)
    assert isinstance(KerasReGraMa.from_config(wrapper.get_config()).layout, na.Layout)
