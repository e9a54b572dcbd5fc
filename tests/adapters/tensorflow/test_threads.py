"""Python on the host holds one of TensorFlow's threads and needs another: few threads are enough, or are refused."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys

import keras
import numpy as np
import tensorflow as tf

from neuroactivity_tensorflow import ReDo

tf.config.threading.set_inter_op_parallelism_threads(int(sys.argv[1]))
x = np.random.default_rng(0).normal(size=(16, 5)).astype("float32")


def wrapped():
    inputs = keras.Input((5,))
    hidden = keras.ops.relu(keras.layers.Dense(8)(inputs))  # which layer follows is read from a graph, on the host
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    return model, ReDo(keras.optimizers.Adam(), model, probe=lambda: x, example_inputs=x, every=1, tau=0.0)


several = [wrapped() for _ in range(3)]


@tf.function(autograph=False)
def step(x):
    for model, redo in several:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x) ** 2)
        redo.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


try:
    for _ in range(20):
        step(tf.constant(x))
except ValueError as error:
    print(str(error).strip().splitlines()[-1])
else:
    print(*[redo.measurements for _, redo in several])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "outcome"),
    [(2, "20 20 20"), (1, "probe: in tf.function TensorFlow would wait for its only inter-op thread for ever")],
)
def test_several_that_call_the_host_at_once_need_two_threads(threads, outcome):
    """Without turns, two calls held both threads, and a step never ended."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(threads)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert outcome in ended.stdout
