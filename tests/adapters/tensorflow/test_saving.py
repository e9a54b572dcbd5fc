"""A configuration or a state that is wrong anywhere is refused, and nothing is set."""

import copy
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import Adam

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa
from tests.adapters.tensorflow.models import X, mlp, mlp_layout, step


def trained(initializer="snapshot", layout=None, **options):
    model = mlp()
    options = {"tau": 0.5, "every": 1, "layout": layout or mlp_layout(), **options}
    regrama = ReGraMa(Adam(0.01), model, initializer=initializer, **options)
    step(model, regrama)
    return regrama


def state_of(regrama):
    saved = {}
    regrama.save_own_variables(saved)
    return saved


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def wrapper():
    return trained()


@pytest.fixture(scope="module")
def good(wrapper):
    return copy.deepcopy(state_of(wrapper))


def place(wrapper, variable):
    return next(str(i) for i, one in enumerate(wrapper.variables) if one is variable)


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(v, second[k]) for k, v in first.items())


BAD_COUNTS = {"negative": [-5, 0, 0], "more than steps": [9, 1, 3], "more resets": [1, 4, 9], "no neuron": [1, 1, 0]}


@pytest.mark.parametrize("counts", BAD_COUNTS.values(), ids=BAD_COUNTS)
def test_counts_that_cannot_be_are_refused_and_nothing_is_set(wrapper, good, counts):
    changed = {key: value + 1 if value.dtype == "float32" else value for key, value in good.items()}
    with pytest.raises(ValueError, match=r"^state: .*(measurements|resets)"):
        wrapper.load_own_variables({**changed, place(wrapper, wrapper._counts): np.array(counts)})
    assert same(state_of(wrapper), good)


BAD_STATES = {
    "another shape": (lambda good: {"6": np.zeros((3, 3), "float32")}, r"state: variable '6' .* expected shape"),
    "another dtype": (lambda good: {"6": good["6"].astype("int32")}, r"state: variable '6' .* got .* and int32"),
    "one too many": (lambda good: {"99": np.zeros(2)}, r"state: expected \d+ variables, '0' to"),
    "another layout": (
        lambda good: {"layout": encoded(na.Layout([mlp_layout()["0"]]).to_dict())},
        r'state: its layout is not this wrapper\'s; make the wrapper with .*from_dict\(config\["layout"\]\)',
    ),
    "a damaged layout": (lambda good: {"layout": np.array([1, 2, 3], "uint8")}, "state: layout: expected JSON"),
    "no layout": (lambda good: {"layout": encoded({"groups": 3})}, "state: "),
}


def encoded(value):
    return np.frombuffer(json.dumps(value).encode(), "uint8")


@pytest.mark.counts(faults=2)
@pytest.mark.parametrize(("which", "wrong", "message"), [
    ("_snapshot", np.nan, r"state: variable .*_snapshot.*: expected finite values, got NaN or Inf"),
    ("_since", -3, r"state: variable .*since.*: expected no negative numbers, got -3"),
])  # fmt: skip
def test_numbers_that_would_be_written_later_are_refused(wrapper, good, which, wrong, message):
    found = getattr(wrapper, which)
    number = place(wrapper, found[0] if isinstance(found, list) else found)
    changed = good[number].copy()
    changed.flat[1] = wrong
    with pytest.raises(ValueError, match=message):
        wrapper.load_own_variables({**good, number: changed})
    assert same(state_of(wrapper), good)


@pytest.mark.parametrize(("change", "message"), BAD_STATES.values(), ids=BAD_STATES)
def test_a_state_that_is_wrong_anywhere_is_refused_and_nothing_is_set(wrapper, good, change, message):
    changed = {key: value + 1 if value.dtype == "float32" else value for key, value in good.items()}
    with pytest.raises(ValueError, match=message):
        wrapper.load_own_variables({**changed, **change(good)})
    assert same(state_of(wrapper), good)


def test_a_state_of_a_wrapper_with_other_options_is_refused(wrapper, good):
    with pytest.raises(ValueError, match=r"state: expected \d+ variables"):
        trained("layer").load_own_variables(good)
    with pytest.raises(ValueError, match="state: expected variables by number, got int"):
        wrapper.load_own_variables(5)


def test_a_state_for_a_wrapper_without_variables_is_refused(good):
    with pytest.raises(ValueError, match=r"state: expected a wrapper that has its variables; call optimizer\.build"):
        ReGraMa(Adam(0.01), mlp(), layout=mlp_layout()).load_own_variables(good)


def test_a_state_shares_no_memory_with_the_wrapper(wrapper, good):
    saved = state_of(wrapper)
    for value in saved.values():
        value[...] = 0
    assert same(state_of(wrapper), good)


def test_a_state_of_an_earlier_version_has_no_layout(good):
    again = trained()
    again.load_own_variables({key: value for key, value in good.items() if key != "layout"})
    assert same(state_of(again), good)


def test_a_write_that_fails_sets_nothing(wrapper, good, monkeypatch):
    last = wrapper.variables[-1].value
    monkeypatch.setattr(type(last), "assign", failing(type(last).assign, last))
    changed = {key: value + 1 if value.dtype == "float32" else value for key, value in good.items()}
    with pytest.raises(OSError, match="full"):
        wrapper.load_own_variables(changed)
    monkeypatch.undo()
    assert same(state_of(wrapper), good)


def failing(assign, last):
    def fails(variable, value, *args, **options):
        if variable is last:
            raise OSError("full")
        return assign(variable, value, *args, **options)

    return fails


def test_a_file_with_a_damaged_state_does_not_load(tmp_path):
    model = mlp()
    regrama = ReGraMa(Adam(), model, layout=mlp_layout(), every=1)
    model.compile(regrama, loss="mse")
    step(model, regrama)
    regrama._counts.assign([-3, 0, 0])
    model.save(tmp_path / "bad.keras")
    with pytest.raises(ValueError, match="state: measurements: expected a whole number of 0 or more, got -3"):
        keras.models.load_model(tmp_path / "bad.keras")


def test_a_loaded_wrapper_does_not_search(wrapper, monkeypatch):
    monkeypatch.setattr("neuroactivity_tensorflow.layouts.discover_layout", None)
    assert ReGraMa.from_config(wrapper.get_config()).layout == wrapper.layout


def broken(**changes):
    return lambda config: {**config, **changes}


BAD_CONFIGS = {
    "a key is missing": (lambda c: {k: v for k, v in c.items() if k != "tau"}, "config: 'tau' is missing; expected"),
    "a key is unknown": (broken(taus=0.1), "config: 'taus' is not known; expected the keys"),
    "no dictionary": (lambda c: [c], "config: expected a dictionary, got list"),
    "no layout": (broken(layout={"groups": [{"name": 3}]}), "config: "),
    "an option out of range": (broken(tau=-1.0), "tau: "),
    "another count": (broken(every="12"), "every: "),
    "no optimizer": (broken(optimizer="mse of nothing"), "optimizer: expected an optimizer"),
    "no model": (broken(model=None), r"config: model: expected the keys \['layers', 'parameters'\], got NoneType"),
    "no parameters": (broken(model={"parameters": [["a", "b"]], "layers": {}}), "config: model: parameters: expected"),
    "no layers": (broken(model={"parameters": [], "layers": {"0": {}}}), "config: model: layers: expected layers"),
    "another model": (
        broken(model={"parameters": [["x/kernel", [5, 16], "x/kernel"]], "layers": {}}),
        "config: layout: expected parameters of the saved model, x/kernel; it has none",
    ),
    "another shape": (
        broken(
            model={
                "parameters": [[n, [5, 5, 5], ""] for n in ("4/kernel", "4/bias")],
                "layers": {},
            }
        ),
        "config: layout: group '4'",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_a_configuration_that_is_wrong_anywhere_is_refused(wrapper, change, message):
    with pytest.raises(ValueError, match=message):
        ReGraMa.from_config(change(json.loads(json.dumps(wrapper.get_config()))))


def test_the_weights_stay_as_they_were(wrapper, good):
    model = wrapper._state.record.model
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(ValueError, match="state: "):
        wrapper.load_own_variables({**good, "0": np.zeros(3)})
    assert all(np.array_equal(v, old) for v, old in zip(model.variables, before, strict=True))
    assert tf.reduce_all(tf.math.is_finite(model(X)))


@pytest.mark.counts(faults=2)
def test_weights_that_are_set_are_those_of_the_inner_optimizer_too(wrapper, good):
    other = trained("snapshot")
    other.set_weights([variable.numpy() for variable in wrapper.variables])
    assert same(state_of(other), good)
    with pytest.raises(ValueError, match=r"state: expected \d+ variables, got 3"):
        other.set_weights([variable.numpy() for variable in wrapper.variables][:3])
    counts = place(wrapper, wrapper._counts)
    wrong = [variable.numpy() for variable in wrapper.variables]
    wrong[int(counts)] = np.array([-5, 0, 0])
    with pytest.raises(ValueError, match=r"^state: "):
        other.set_weights(wrong)
    assert same(state_of(other), good)
