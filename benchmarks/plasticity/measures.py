"""What is measured of a network, beside what it gets."""

from typing import Any, Final, NamedTuple

import jax.numpy as jnp
from jax import Array

import neuroactivity as na
from benchmarks.plasticity.networks import Params
from neuroactivity_jax import gradients

__all__ = ["Measures", "measure"]

INACTIVE: Final = 0.01


class Measures(NamedTuple):
    """Those of an outcome, of one network or of several."""

    inactive: Any
    rank: Any
    norm: Any


def measure(layout: na.Layout, params: Params, grads: Params, outputs: dict[str, Array]) -> Measures:
    """Measure a network.

    Args:
        layout: Its neurons.
        params: Its parameters.
        grads: Their gradients.
        outputs: What its layers put out, (sample, neuron), on a batch.
    """
    scores = na.grama(gradients(grads), layout)
    low = jnp.concatenate([score <= INACTIVE for name, score in scores.items() if name != "out"])
    features = outputs["hidden2"].reshape(-1, outputs["hidden2"].shape[-1])
    ranks = na.analysis.effective_rank({"hidden2": features})
    return Measures(low.mean(), ranks["hidden2"], na.analysis.norm(gradients(params)))
