"""What a wrapper remembers of its measurements: scores of several batches, when neurons were reset, what is spared."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.optimizers import SGD

import neuroactivity as na
from neuroactivity_tensorflow import ReDo, ReGraMa
from tests.adapters.tensorflow.models import X, kill, mlp, mlp_layout, step, values

LAYOUT = na.Layout([na.dense("h", weight=("w", "in neuron"), outgoing=[("o", "neuron out")])])


def wrapped(sizes=None, **options):
    """SGD that does not move, around four neurons; gradients are given by their magnitudes."""
    held = {"w": tf.Variable(tf.ones((2, 4))), "o": tf.Variable(3 * tf.ones((4, 2)))}
    options = {"layout": LAYOUT, "initializer": "snapshot", "tau": 0.1, "every": 1, **options}
    wrapper = ReGraMa(SGD(0.0), held, **options)
    wrapper.build(list(held.values()))
    return wrapper, held


def see(wrapper, held, *batches):
    for sizes in batches:
        grads = [tf.constant([sizes, sizes], "float32"), tf.ones((4, 2))]
        wrapper.apply(grads, list(held.values()))


def mask(wrapper):
    return list(wrapper.last_report["h"].mask[0])


RARE = ([1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 3.0])


@pytest.mark.parametrize(("batches", "inactive"), [(1, 2), (2, 1), (4, 1)])
def test_a_score_is_that_of_several_batches(batches, inactive):
    wrapper, held = wrapped(every=4, batches=batches, max_fraction=0)
    see(wrapper, held, *RARE, *RARE)
    assert wrapper.last_report["h"].inactive == inactive
    see(wrapper, held, *RARE, *RARE[:1])
    assert wrapper.measurements == 1


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_batch_without_gradients_of_a_group_adds_nothing():
    wrapper, held = wrapped(every=2, batches=2, max_fraction=0)
    see(wrapper, held, [1.0, 0.0, 0.0, 3.0])
    wrapper.apply([None, tf.ones((4, 2))], list(held.values()))
    np.testing.assert_allclose(wrapper.last_report["h"].scores[0], [1, 0, 0, 3])


def test_sums_begin_anew_after_each_score_and_are_saved():
    (whole, held), (part, others) = wrapped(every=3, batches=2), wrapped(every=3, batches=2)
    batches = [[9.0, 0.0, 9.0, 9.0], *RARE, [9.0, 9.0, 9.0, 9.0], *RARE[::-1]]
    see(whole, held, *batches[:5])
    assert mask(whole) == [False, True, False, False]
    saved = {}
    whole.save_own_variables(saved)
    part.load_own_variables(saved)
    for wrapper, params in ((whole, held), (part, others)):
        see(wrapper, params, batches[5])
        np.testing.assert_allclose(wrapper.last_report["h"].scores[0], np.array([1, 0, 1, 4]) / 1.5)
    assert part.last_report == whole.last_report


def test_redo_adds_up_activations_of_its_probes():
    model = mlp()
    probes = iter([X, X[:8], X[8:16], X[16:24]])
    last = []

    def probe():
        last.append(next(probes))
        return last[-1]

    redo = ReDo(SGD(0.0), model, layout=mlp_layout(), probe=probe, every=3, batches=3, tau=0.1, max_fraction=0)
    for _ in range(3):
        step(model, redo)
    assert len(last) == 4
    hidden = np.maximum(X[:24] @ values(model)["0/kernel"] + values(model)["0/bias"], 0).mean(axis=0)
    np.testing.assert_allclose(redo.last_report["0"].scores[0], hidden / hidden.mean(), rtol=1e-5)


def test_a_report_says_which_neurons_are_reset_again():
    wrapper, held = wrapped()
    assert math.isnan(wrapper.scalars()["neuroactivity/reset_again"])
    see(wrapper, held, [1.0, 0.0, 0.0, 1.0])
    assert wrapper.last_report["h"].reset_again == 0
    see(wrapper, held, [1.0, 0.0, 1.0, 0.0])
    assert (wrapper.last_report["h"].reset, wrapper.last_report["h"].reset_again) == (2, 1)
    assert wrapper.scalars("critic")["critic/reset_again"] == 1


def test_resets_that_do_not_last_are_warned_of_once():
    model = mlp()
    kill(model.layers[0], [0, 1, 2, 3])
    freeze = lambda key: values(model)  # noqa: E731  what is drawn is as dead as what was there
    layout = na.Layout([mlp_layout()["0"]])
    wrapper = ReGraMa(SGD(0.0), model, layout=layout, tau=0.0, every=1, initializer=freeze)
    for _ in range(2):
        step(model, wrapper)
    with pytest.warns(na.ActivityWarning, match="4 of the neurons that were reset last are inactive again, of 4 that"):
        assert wrapper.last_report.total.reset_again == 4
    assert wrapper.last_report.total.reset_again == 4


def test_a_neuron_is_left_alone_for_some_measurements():
    wrapper, held = wrapped(protect=2)
    masks = []
    for _ in range(4):
        see(wrapper, held, [1.0, 0.0, 1.0, 1.0])
        masks.append(mask(wrapper)[1])
    assert masks == [True, False, False, True]


def test_neurons_are_reset_from_start_to_stop():
    wrapper, held = wrapped(start=2, stop=3)
    masks = []
    for _ in range(4):
        see(wrapper, held, [1.0, 0.0, 1.0, 1.0])
        masks.append((mask(wrapper)[1], wrapper.last_report["h"].inactive))
    assert masks == [(False, 1), (True, 1), (True, 1), (False, 1)]


def test_the_lowest_part_of_a_group_is_reset_whatever_the_threshold():
    wrapper, held = wrapped(tau=0.0, lowest=0.5)
    see(wrapper, held, [4.0, 3.0, 2.0, 1.0])
    assert mask(wrapper) == [False, False, True, True]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("initializer", ["snapshot", "layer", "function"])
@pytest.mark.parametrize(("outgoing", "size"), [("zero", 0.0), ("small", 0.02), ("fresh", 1.0), ("keep", 1.0)])
def test_outgoing_parameters_become_what_the_option_says(outgoing, size, initializer):
    model = mlp()
    kill(model.layers[0], [2])
    kinds = {"function": lambda key: values(mlp(seed=5))}
    layout = na.Layout([mlp_layout()["0"]])
    options = {"layout": layout, "tau": 0.0, "every": 1, "initializer": kinds.get(initializer, initializer)}
    wrapper = ReGraMa(keras.optimizers.Adam(0.0), model, outgoing=outgoing, seed=1, **options)
    wrapper.build(model.trainable_variables)
    wrapper.inner_optimizer._velocities[2].assign(tf.ones((16, 16)))
    before = values(model)["2/kernel"]
    step(model, wrapper)
    after = values(model)["2/kernel"]
    assert np.array_equal(np.delete(after, 2, axis=0), np.delete(before, 2, axis=0))
    assert (outgoing == "keep") == np.array_equal(after[2], before[2])
    living = np.sqrt((np.delete(before, 2, axis=0) ** 2).mean())
    np.testing.assert_allclose(np.sqrt((after[2] ** 2).mean()), size * living, rtol=0.5 if size == 1 else 1e-3)
    velocity = wrapper.inner_optimizer._velocities[2].numpy()
    assert (velocity[2] == 0).all() == (outgoing != "keep")


def test_new_options_are_in_the_configuration_and_old_ones_have_none():
    options = {"lowest": 0.25, "start": 2, "stop": 9, "batches": 2, "protect": 1, "outgoing": "small", "clock": "run"}
    model = mlp()
    wrapper = ReGraMa(SGD(0.1), model, layout=mlp_layout(), every=5, **options)
    config = json.loads(json.dumps(wrapper.get_config()))
    again = ReGraMa.from_config(config)
    assert {name: getattr(again, name) for name in options} == options
    old = ReGraMa.from_config({name: value for name, value in config.items() if name not in options})
    assert (old.clock, old.outgoing, old.batches) == ("own", "zero", 1)


def test_a_state_of_an_earlier_version_has_no_history():
    (old, held), (new, _) = wrapped(), wrapped()
    see(old, held, [1.0, 0.0, 0.0, 1.0])
    ids = set(old._state.newer)
    assert len(ids) == 4
    saved = {str(i): v.numpy() for i, v in enumerate([v for v in old.variables if id(v) not in ids])}
    new.load_own_variables(saved)
    assert (new.steps, new.neurons_reset, mask(new)) == (1, 2, [False, True, True, False])
    assert new.last_report.total.reset_again == 0
