"""What a user's type checker sees in JAX: mypy runs on this file, strictly, and nothing runs the code."""

from typing import Any, assert_type

import jax
import optax

import neuroactivity as na
import neuroactivity_jax


def train(params: Any, x: jax.Array) -> na.ActivityReport | None:
    layout = neuroactivity_jax.layout_of(params, lambda params: params["w"] @ x)
    tx = neuroactivity_jax.regrama(optax.adam(1e-3), layout, initializer=lambda key: params, every=100, seed=0)
    state = tx.init(params)
    assert_type(neuroactivity_jax.reports(state, layout), list[na.ActivityReport | None])
    return neuroactivity_jax.report(state, layout)
