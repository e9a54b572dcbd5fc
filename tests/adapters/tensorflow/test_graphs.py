"""Every way of training gives the same numbers: fit, tf.function, XLA, scaled losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from keras.optimizers import SGD, Adam

from neuroactivity_tensorflow import ReGraMa, parameters
from tests.adapters.tensorflow.models import (
    X,
    Y,
    equal,
    fit,
    mlp,
    mlp_layout,
    step,
    values,
)


def loop(model, optimizer, epochs: int, *, graph: bool) -> None:
    """Train as ``fit`` does, in a loop of one's own."""
    train = (
        tf.function(lambda x, y: step(model, optimizer, x, y)) if graph else lambda x, y: step(model, optimizer, x, y)
    )
    for _ in range(epochs):
        for start in (0, 32):
            train(X[start : start + 32], Y[start : start + 32])


WAYS = {
    "fit": lambda model, optimizer, epochs: fit(model, optimizer, epochs, ahead=False, jit_compile=False),
    "fit eagerly": lambda model, optimizer, epochs: fit(model, optimizer, epochs, run_eagerly=True),
    "tf.function": lambda model, optimizer, epochs: loop(model, optimizer, epochs, graph=True),
    "eager loop": lambda model, optimizer, epochs: loop(model, optimizer, epochs, graph=False),
}


@pytest.mark.filterwarnings("ignore:.*were reset last are inactive again")
def test_every_way_of_training_gives_the_same_numbers():
    outcomes = {}
    for way, train in WAYS.items():
        model = mlp()
        regrama = ReGraMa(Adam(0.01), model, layout=mlp_layout(), tau=0.5, every=2, seed=3)
        train(model, regrama, 4)
        outcomes[way] = (values(model), regrama.neurons_reset, regrama.last_report.to_dict())
        assert regrama.resets == 4
    reference, *others = outcomes.values()
    for found in others:
        assert equal(found[0], reference[0])
        assert found[1:] == reference[1:]


@pytest.mark.slow
def test_under_xla_the_same_neurons_are_reset():
    """XLA draws other random floats than TensorFlow's kernels from the same seed; a snapshot's rows are the same."""
    outcomes = []
    for compiled in (False, True):
        model = mlp()
        regrama = ReGraMa(Adam(0.01), model, layout=mlp_layout(), tau=0.5, every=2, initializer="snapshot")
        fit(model, regrama, 3, jit_compile=compiled)
        outcomes.append((values(model), regrama.neurons_reset))
    assert outcomes[0][1] == outcomes[1][1] > 10
    for name, value in outcomes[0][0].items():
        np.testing.assert_allclose(outcomes[1][0][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_every_reset_draws_anew_in_a_compiled_step_and_nothing_is_traced_again(compiled):
    """Every neuron is reset at every step; no two steps draw a value alike."""
    model, traces, drawn = mlp(), [], []
    regrama = ReGraMa(SGD(0.0), model, layout=mlp_layout(), tau=100.0, every=1, reset_silent=True, seed=4)
    regrama.build(model.trainable_variables)

    @tf.function(jit_compile=compiled)
    def train(x):
        traces.append(1)
        step(model, regrama, x)

    for number in range(1, 4):
        train(X)
        drawn.append(values(model)["0/kernel"])
        assert (regrama.resets, regrama.neurons_reset) == (number, 32 * number)
    assert len(traces) == 1
    assert np.unique(drawn).size == sum(block.size for block in drawn)


def test_python_inside_xla_is_refused_in_one_line():
    model = mlp()
    for option in ({"on_report": print}, {"initializer": lambda key: parameters(mlp())}):
        regrama = ReGraMa(SGD(0.1), model, layout=mlp_layout(), every=1, **option)
        with pytest.raises(ValueError, match=f"{next(iter(option))} is a Python function, which code compiled by XLA"):
            fit(model, regrama, jit_compile=True)


@pytest.mark.slow
def test_the_sparse_gradient_of_an_embedding_is_measured_under_xla():
    keras.utils.set_random_seed(0)
    pooled = L.GlobalAveragePooling1D()
    model = keras.Sequential(
        [keras.Input((6,), dtype="int32"), L.Embedding(20, 8), pooled, L.Dense(8, "relu"), L.Dense(1)]
    )
    tokens = np.random.default_rng(0).integers(0, 20, (64, 6))
    regrama = ReGraMa(Adam(0.01), model, example_inputs=tokens, tau=0.6, every=2)
    model.compile(regrama, loss="mse", jit_compile=True)
    model.fit(tokens, X[:, :1], batch_size=32, epochs=1, verbose=0)
    assert regrama.last_report["0"].reset + regrama.last_report["2"].reset == regrama.neurons_reset > 0
    assert regrama.last_report["0"].reset > 0


@pytest.mark.slow
def test_loss_scaling_goes_around_it():
    outcomes = []
    for around in (keras.optimizers.LossScaleOptimizer, lambda optimizer: optimizer):
        model = mlp()
        regrama = ReGraMa(Adam(0.01), model, layout=mlp_layout(), tau=0.5, every=2)
        fit(model, around(regrama), 2, jit_compile=False)
        outcomes.append((values(model), regrama.steps, regrama.neurons_reset))
    assert outcomes[0][1:] == outcomes[1][1:]
    assert outcomes[0][2] > 5
    for name, value in outcomes[0][0].items():
        np.testing.assert_allclose(outcomes[1][0][name], value, rtol=1e-5, atol=1e-6)
