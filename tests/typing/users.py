"""What a user's type checker sees: `make check` runs mypy on this file, strictly, and nothing runs the code."""

from typing import Any, assert_type

import jax
import keras
import numpy as np
import optax
import torch
from numpy.typing import NDArray

import neuroactivity as na
import neuroactivity_jax
import neuroactivity_tensorflow
import neuroactivity_torch


def core(weight: NDArray[np.float32]) -> na.ActivityReport:
    layout = na.Layout([na.dense("fc", weight=("w", "neuron in"), bias="b", outgoing=[("v", "out neuron")])])
    scores = na.grama({"w": weight}, layout)
    masks = na.reset_masks(scores, tau=0.01, max_fraction=0.05)
    na.reset({"w": weight}, {"w": weight}, masks, layout, outgoing="small")
    for name, group in layout.items():
        assert_type(name, str)
        assert_type(group, na.NeuronGroup)
    return na.summarize(scores, layout, 0.01, masks=masks)


def in_torch(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> dict[str, float]:
    layout = neuroactivity_torch.layout_of(model, x)
    regrama = neuroactivity_torch.ReGraMa(model, optimizer, layout=layout, every=100, batches=4, seed=0, clock="own")
    redo = neuroactivity_torch.ReDo(model, optimizer, example_inputs=(x,), probe=lambda: x, max_fraction=0)
    assert_type(regrama.last_report, na.ActivityReport | None)
    assert_type(redo.neurons_reset, int)
    neuroactivity_torch.write(model, neuroactivity_torch.parameters(model))
    return regrama.scalars("critic")


def in_jax(params: Any, x: jax.Array) -> na.ActivityReport | None:
    layout = neuroactivity_jax.layout_of(params, lambda params: params["w"] @ x)
    tx = neuroactivity_jax.regrama(optax.adam(1e-3), layout, initializer=lambda key: params, every=100, seed=0)
    state = tx.init(params)
    assert_type(neuroactivity_jax.reports(state, layout), list[na.ActivityReport | None])
    return neuroactivity_jax.report(state, layout)


def in_keras(model: keras.Model) -> na.ActivityReport | None:
    optimizer = neuroactivity_tensorflow.ReGraMa(keras.optimizers.Adam(1e-3), model, every=100, max_fraction=0)
    report: na.ActivityReport | None = optimizer.last_report
    return report
