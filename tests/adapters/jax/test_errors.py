"""What regrama and redo refuse, and how they say it."""

import jax
import jax.numpy as jnp
import optax
import pytest

import neuroactivity as na
from neuroactivity_jax import redo, regrama
from tests.adapters.jax.optimizers import LAYOUT, gradients_for, initial

GRADS = jax.tree.map(lambda gradient: gradient[0], jax.device_get(gradients_for(1)))
PARAMS = jax.device_get(initial(jax.random.key(0)))
ADAM = optax.adam(0.1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every: expected a whole number of steps of 1 or more, got 0"),
        ({"tau": -1.0}, ValueError, "tau: expected a finite number of 0 or more, got -1.0"),
        ({"max_fraction": 1.5}, ValueError, r"max_fraction: expected a number in \[0, 1\] or None, got 1.5"),
        ({"seed": "zero"}, TypeError, "seed: expected a whole number or one key of jax.random, got 'zero'"),
        ({"seed": jax.random.split(jax.random.key(0))}, TypeError, "seed: expected a whole number or one key of jax"),
        ({"seed": 0.5}, TypeError, "seed: expected a whole number or one key of jax.random, got 0.5"),
        ({"layout": {}}, TypeError, "layout: expected a neuroactivity.Layout, got {}"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        regrama(ADAM, options.pop("layout", LAYOUT), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initializer": "orthogonal"}, "initializer: expected 'snapshot' or a function from a key, got 'orthogonal'"),
        (
            {"initializer": lambda key: {"a": {"kernel": jnp.ones((3, 7))}}},
            "initializer: expected a fresh value for parameter 'a/bias', got a/kernel",
        ),
        (
            {"initializer": lambda key: jax.tree.map(lambda x: x.T, initial(key))},
            r"initializer, parameter 'a/kernel': expected shape \(3, 7\) and dtype float32, got \(7, 3\)",
        ),
        (
            {"layout": na.Layout([na.dense("a", weight=("nope", "in neuron"))])},
            "group 'a': parameter 'nope' is missing; there are a/bias, a/kernel, out/kernel",
        ),
        (
            {"layout": na.Layout([na.dense("a", weight=("a/bias", "in neuron"))])},
            r"group 'a', parameter 'a/bias', pattern 'in neuron': expected 2 axes, got shape \(7,\)",
        ),
    ],
)
def test_what_does_not_fit_the_parameters_is_refused_at_the_start(options, message):
    tx = regrama(ADAM, options.pop("layout", LAYOUT), **options)
    with pytest.raises(ValueError, match=message):
        tx.init(PARAMS)


def test_an_update_needs_the_parameters():
    tx = regrama(ADAM, LAYOUT)
    with pytest.raises(ValueError, match=r"params: a reset needs the parameters; call update\(grads, state, params\)"):
        tx.update(GRADS, tx.init(PARAMS))


def test_redo_without_activations_says_so():
    tx = redo(ADAM, LAYOUT)
    with pytest.raises(
        ValueError, match=r"activations: redo needs them; call update\(grads, state, params, activations"
    ):
        tx.update(GRADS, tx.init(PARAMS), PARAMS)
    missing = redo(ADAM, LAYOUT, every=1)
    with pytest.raises(na.LayoutError, match="group 'out' is missing; there are a"):
        jax.eval_shape(lambda: missing.update(GRADS, tx.init(PARAMS), PARAMS, activations={"a": jnp.ones((5, 7))}))
