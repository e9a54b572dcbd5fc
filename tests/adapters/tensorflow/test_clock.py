"""A reset neuron's own clock: steps are those of an optimizer with a count for each entry, written as formulas."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers
from packaging.version import Version

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa, clock
from tests.adapters.tensorflow.counts import (
    GRADS,
    KINDS,
    LAYOUT,
    RATE,
    Reference,
    adam,
    compiled,
    numpy,
    tensors,
    train,
    variables,
    wrapped,
)
from tests.adapters.tensorflow.models import fit, mlp, mlp_layout


@pytest.fixture(autouse=True)
def short_youth(monkeypatch):
    """So that few steps are enough to see its end."""
    monkeypatch.setattr(clock, "YOUNG", 50)


SLOW = ("schedule", "AdamW", "Adamax")  # much like others


@pytest.mark.sampled(1)
@pytest.mark.filterwarnings("ignore:.*were reset last are inactive again")
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in KINDS])
def test_steps_after_a_reset_are_those_of_a_count_for_each_entry(kind):
    make, rule = KINDS[kind]
    wrapper, held = wrapped(make, "float64")
    assert train(wrapper, held, compiled(wrapper, held), "float64", rule, 80) < 1e-10
    assert wrapper.resets == 4


MODES = {"eager": None, "graph": {}, "XLA": {"jit_compile": True}}


@pytest.mark.sampled(1)
@pytest.mark.filterwarnings("ignore:.*were reset last are inactive again")
@pytest.mark.parametrize(
    ("mode", "every", "steps"),
    [
        ("eager", 9, 20),
        ("graph", 5, 70),
        ("XLA", 20, 75),
        pytest.param("graph", 1, 60, marks=pytest.mark.slow),
        pytest.param("XLA", 1, 9, marks=pytest.mark.slow),
    ],
)
def test_several_resets_are_young_at_once(mode, every, steps):
    wrapper, held = wrapped(KINDS["Adam"][0], every=every)

    def eagerly(*grads):
        wrapper.apply(list(grads), list(held.values()))

    step = eagerly if MODES[mode] is None else compiled(wrapper, held, **MODES[mode])
    assert train(wrapper, held, step, "float32", adam, steps) < 1e-5
    assert wrapper.resets >= 2


@pytest.mark.skipif(
    Version(keras.__version__) < Version("3.12"), reason="LossScaleOptimizer.apply changes nothing before Keras 3.12"
)
@pytest.mark.filterwarnings("ignore:.*were reset last are inactive again")
def test_steps_that_a_loss_scale_calls_off_do_not_age():
    wrapper, held = wrapped(KINDS["Adam"][0], every=4)
    outer = optimizers.LossScaleOptimizer(wrapper, initial_scale=2.0**15)
    outer.build(list(held.values()))

    def step(*grads):
        if wrapper.steps % 3 == 2:
            outer.apply([np.inf * gradient for gradient in grads])
        outer.apply([gradient * outer.dynamic_scale for gradient in grads])

    assert train(wrapper, held, step, "float32", adam, 14) < 1e-5
    assert (wrapper.resets, wrapper.steps) == (3, 14)
    assert float(outer.dynamic_scale) == 2.0**11


@pytest.mark.slow
def test_entries_that_no_reset_wrote_keep_the_bits_of_a_run_without_resets():
    (wrapper, held), (plain, others) = wrapped(KINDS["AMSGrad"][0]), wrapped(KINDS["AMSGrad"][0], every=1000)
    steps = [compiled(optimizer, params) for optimizer, params in ((wrapper, held), (plain, others))]
    untouched = np.ones(6, bool)
    for grads in GRADS[:75]:
        for step in steps:
            step(*tensors(grads))
        if wrapper.steps % wrapper.every == 0:
            untouched &= ~np.array(wrapper.last_report["h"].mask[0])
    assert 0 < untouched.sum() < 6
    for name, value in numpy(held).items():
        mask = np.broadcast_to(untouched[:, None] if name == "w2" else untouched, value.shape)
        assert np.array_equal(value[mask], others[name].numpy()[mask])
        assert (value[~mask] != others[name].numpy()[~mask]).any()


def test_a_run_that_is_resumed_while_entries_are_young_is_the_uninterrupted_one():
    (whole, held), (part, others) = wrapped(KINDS["Nadam"][0], every=5), wrapped(KINDS["Nadam"][0], every=5)
    saved: dict[str, np.ndarray] = {}
    for grads in GRADS[:12]:
        whole.apply(tensors(grads), list(held.values()))
        if whole.steps == 7:
            whole.save_own_variables(saved)
            for name, variable in others.items():
                variable.assign(held[name])
            part.load_own_variables(saved)
        if whole.steps > 7:
            part.apply(tensors(grads), list(others.values()))
    assert part.resets == whole.resets == 2
    assert all(np.array_equal(value, others[name]) for name, value in numpy(held).items())


def test_the_clock_of_the_run_is_that_of_published_codes():
    wrapper, held = wrapped(KINDS["Adam"][0], "float64", clock="run", every=40)
    reference = Reference(adam, numpy(held))
    for grads in GRADS[:45]:
        wrapper.apply(tensors(grads, "float64"), list(held.values()))
        reference.step(grads)
        if reference.steps == 40:
            reference.reset(np.array(wrapper.last_report["h"].mask[0]), numpy(held))
            for x in reference.entries.values():
                x.t[:] = 40
    assert wrapper.neurons_reset > 0
    for name, x in reference.entries.items():
        np.testing.assert_allclose(held[name], x.p, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: optimizers.SGD(0.1, momentum=0.9), lambda: optimizers.RMSprop(0.1)])
def test_optimizers_without_a_correction_have_no_clock(make):
    wrapper, _ = wrapped(make)
    assert not wrapper._state.clocks


class Counting(optimizers.SGD):
    """An optimizer that nobody knows, whose steps grow shorter."""

    def update_step(self, gradient, variable, learning_rate):
        count = tf.cast(self.iterations + 1, variable.dtype)
        super().update_step(gradient, variable, learning_rate / count)


RUN = {
    "mixes all entries of a parameter in each step": lambda: optimizers.Lamb(RATE),
    "keeps a step count, and what that corrects is not known": lambda: Counting(RATE, momentum=0.9),
}
if hasattr(optimizers, "ScheduleFreeAdamW"):
    RUN["warms up by its step count"] = lambda: optimizers.ScheduleFreeAdamW(RATE, warmup_steps=9)


@pytest.mark.parametrize("why", RUN)
def test_what_cannot_have_a_clock_is_named(why):
    options = {"moments": {"momentum": lambda parameter, optimizer: tf.zeros_like(parameter)}}
    with pytest.warns(na.ActivityWarning, match=rf'{re.escape(why)}: reset neurons go by the .* with clock="run"'):
        wrapper, _ = wrapped(RUN[why], **options)
    assert not wrapper._state.clocks


def test_an_unknown_optimizer_whose_steps_do_not_depend_on_their_number_needs_no_clock():
    kind = type("Plain", (optimizers.SGD,), {})
    options = {"moments": {"momentum": lambda parameter, optimizer: tf.zeros_like(parameter)}}
    wrapper, _ = wrapped(lambda: kind(0.1, momentum=0.9), **options)
    assert not wrapper._state.clocks


def test_members_of_several_have_their_own_clocks():
    if not hasattr(optimizers, "MultiOptimizer"):
        pytest.skip("not in this version of Keras")
    model = mlp()
    adam, nadam = optimizers.Adam(0.01), optimizers.Nadam(0.01)
    inner = optimizers.MultiOptimizer(lambda v: adam if v.path.startswith(f"{model.layers[0].path}/") else nadam)
    wrapper = ReGraMa(inner, model, layout=mlp_layout(), tau=0.6, every=3)
    fit(model, wrapper, 2, run_eagerly=True, jit_compile=False)
    first, second = wrapper._state.clocks
    assert first.latest.numpy() == second.latest.numpy() == 3
    assert set(first._held) == {"0/kernel", "0/bias"}


def test_clock_and_outgoing_are_those_that_the_wrapper_was_built_with():
    wrapper, held = wrapped(KINDS["Adam"][0])
    wrapper.clock = "run"
    with pytest.raises(ValueError, match="this wrapper was built with clock='own', outgoing='zero'; make another one"):
        wrapper.apply(tensors(GRADS[0]), list(held.values()))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_reset_entries_step_bit_by_bit_as_with_an_optimizer_made_then(dtype):
    make, _ = KINDS["AMSGrad"]
    wrapper, held = wrapped(make, dtype, every=3)
    for grads in GRADS[:3]:
        wrapper.apply(tensors(grads, dtype), list(held.values()))
    mask = np.array(wrapper.last_report["h"].mask[0])
    assert 0 < mask.sum() < 6
    others, fresh = {name: tf.Variable(variable) for name, variable in held.items()}, make()
    for grads in GRADS[3:5]:
        wrapper.apply(tensors(grads, dtype), list(held.values()))
        fresh.apply(tensors(grads, dtype), list(others.values()))
    for name in ("w1", "b1"):
        assert np.array_equal(held[name].numpy()[..., mask], others[name].numpy()[..., mask])
        if dtype != "bfloat16":  # in which 0.999 is 1, and Adam stands still
            assert (held[name].numpy()[..., ~mask] != others[name].numpy()[..., ~mask]).any()


def test_sparse_gradients_are_dense_ones():
    outcomes = []
    for sparse in (False, True):
        wrapper, held = wrapped(KINDS["Adam"][0], every=2)
        for grads in GRADS[:4]:
            w1, *others = tensors(grads)
            rows = tf.IndexedSlices(w1[:2], [0, 1], (3, 6)) if sparse else tf.concat([w1[:2], tf.zeros((1, 6))], 0)
            wrapper.apply([rows, *others], list(held.values()))
        outcomes.append(numpy(held))
    assert all(np.array_equal(value, outcomes[1][name]) for name, value in outcomes[0].items())


def test_what_a_step_would_have_written_stands_if_the_second_fails(monkeypatch):
    wrapper, held = wrapped(KINDS["Adam"][0], every=2)
    for grads in GRADS[:2]:
        wrapper.apply(tensors(grads), list(held.values()))
    (clock,) = wrapper._state.clocks
    monkeypatch.setattr(clock, "_untouched", lambda *args: 1 / 0)
    before = numpy(held)
    with pytest.raises(ZeroDivisionError):
        wrapper.apply(tensors(GRADS[2]), list(held.values()))
    moved = numpy(held)["w1"] - before["w1"]
    assert (np.abs(moved) <= 10 * RATE).all()
    assert (moved != 0).all()
    assert wrapper.inner_optimizer._iterations.numpy() == 2


def test_wrappers_around_one_another_correct_each_their_own_entries():
    make, _ = KINDS["Nadam"]
    (first, one), (second, two) = wrapped(make, every=2), wrapped(make, every=3)
    both = variables(), variables()
    layouts = [{"layout": LAYOUT, "initializer": "snapshot", "tau": 0.3, "every": every} for every in (2, 3)]
    outer = ReGraMa(ReGraMa(make(), both[0], **layouts[0]), both[1], **layouts[1])
    together = [*both[0].values(), *both[1].values()]
    for grads in GRADS[:7]:
        first.apply(tensors(grads), list(one.values()))
        second.apply(tensors(grads), list(two.values()))
        outer.apply(tensors(grads) * 2, together)
    assert min(first.neurons_reset, second.neurons_reset) > 1
    for alone, held in ((one, both[0]), (two, both[1])):
        assert all(np.array_equal(value, held[name]) for name, value in numpy(alone).items())
    assert "_distributed_tf_update_step" not in vars(outer.inner_optimizer.inner_optimizer)


@pytest.mark.counts(faults=3)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("gap", [59, 60, 61])
def test_moments_are_handed_over_though_there_was_no_gradient_at_that_step(gap):
    """Neuron 0 is reset at step 10 and young for 50 more; its rate stays one afterwards, whichever step is missed."""
    w1, w2 = keras.Variable(np.ones((3, 6), "float32")), keras.Variable(np.ones((6, 2), "float32"))
    out = [("w2", "neuron out")]
    layout = na.Layout([na.dense("a", weight=("w1", "in neuron"), outgoing=out)])
    inner = optimizers.Adam(0.01)
    wrapper = ReGraMa(
        inner, {"w1": w1, "w2": w2}, layout=layout, tau=0.0, every=10, stop=10,
        initializer=lambda key: {"w1": np.ones((3, 6), "float32"), "w2": np.ones((6, 2), "float32")},
    )  # fmt: skip
    wrapper.build([w1, w2])
    inner._iterations.assign(5000)
    rates = {}
    for step in range(1, 66):
        dead = tf.tensor_scatter_nd_update(tf.ones((3, 6)), [[i, 0] for i in range(3)], tf.zeros(3))
        before = w2.numpy()
        wrapper.apply([dead if step <= 10 else tf.ones((3, 6)), None if step == gap else tf.ones((6, 2))], [w1, w2])
        rates[step] = abs(w2.numpy() - before)[0, 0] / 0.01
    assert wrapper.neurons_reset == 1
    assert rates[gap] == 0
    np.testing.assert_allclose([rate for step, rate in rates.items() if step > 57 and step != gap], 1, rtol=0.03)
