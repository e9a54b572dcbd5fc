"""Measure with the installed package and one framework, or none: `make package` runs it away from the sources.

python alone.py torch
"""

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import neuroactivity as na

FRAMEWORKS = ("torch", "jax", "tensorflow")


def in_none():
    """The core, on lists of the standard library's numbers, needs no array library to make a layout and a report."""
    layout = na.Layout([na.dense("fc", weight=("w", "neuron in"), bias="b", outgoing=[("v", "out neuron")])])
    assert "fc" in layout.describe()
    return na.ActivityReport(tau=0.01, groups=(na.GroupActivity("fc", neurons=4, inactive=1),))


def in_torch():
    import torch

    from neuroactivity_torch import ReGraMa

    model = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=torch.zeros(2, 3), every=1)
    model(torch.randn(32, 3)).square().mean().backward()
    optimizer.step()
    return regrama.last_report


def in_jax():
    import jax
    import jax.numpy as jnp
    import optax

    from neuroactivity_jax import layout_of, regrama, report

    params = {"fc": {"kernel": jnp.ones((3, 16)), "bias": jnp.ones(16)}, "out": {"kernel": jnp.ones((16, 1))}}

    def apply(params):
        return jax.nn.relu(jnp.ones((2, 3)) @ params["fc"]["kernel"] + params["fc"]["bias"]) @ params["out"]["kernel"]

    layout = layout_of(params, apply)
    tx = regrama(optax.adam(1e-3), layout, initializer=lambda key: params, every=1, seed=0)
    grads = jax.grad(lambda p: jnp.square(apply(p)).mean())(params)
    _, state = jax.jit(tx.update)(grads, tx.init(params), params)
    return report(state, layout)


def in_tensorflow():
    import keras
    import tensorflow as tf

    from neuroactivity_tensorflow import ReGraMa

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
    regrama = ReGraMa(keras.optimizers.Adam(), model, example_inputs=tf.zeros((2, 3)), every=1)
    model.compile(regrama, loss="mse")
    model.fit(tf.random.normal((32, 3)), tf.ones((32, 1)), verbose=0)
    return regrama.last_report


def missing(module):
    """Return which module keeps this one from being imported."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return error.name
    return None


def check(framework):
    """Measure with this framework, where there is no other and the sources are not in reach."""
    others = [name for name in FRAMEWORKS if name != framework]
    assert not list(filter(importlib.util.find_spec, others)), f"{others} should not be installed"
    assert "site-packages" in Path(na.__file__).parts, na.__file__
    report = {"none": in_none, "torch": in_torch, "jax": in_jax, "tensorflow": in_tensorflow}[framework]()
    assert report.total.neurons, report
    for name in others:
        assert missing(f"neuroactivity_{name}") in (name, "keras", "optax", "numpy"), name
    command = [Path(sys.executable).with_name("neuroactivity"), "--version"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert importlib.metadata.version("neuroactivity") == na.__version__ == said.split()[-1], said
    print(f"{framework} alone: {report.total.neurons} neurons measured, {said.strip()}")


if __name__ == "__main__":
    check(sys.argv[1])
