"""The networks in JAX, with the layers of Flax."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import neuroactivity as na
from neuroactivity_jax import activations, gradients, layout_of, parameters, regrama, report
from tests.frameworks.networks import BETAS, LEARNING_RATE, Layer, Network, Values


class _Twin(nn.Module):
    """Two dense layers in one array."""

    shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.zeros, self.shape, jnp.float64)
        bias = self.param("bias", nn.initializers.zeros, (self.shape[0], self.shape[2]), jnp.float64)
        return jnp.einsum("bi,sio->sbo" if x.ndim == 2 else "sbi,sio->sbo", x, kernel) + bias[:, None]


class JaxNet(nn.Module):
    """A program with layers of Flax."""

    network: Any
    relu, tanh, einsum, reshape, softmax = map(
        staticmethod, (jax.nn.relu, jnp.tanh, jnp.einsum, jnp.reshape, jax.nn.softmax)
    )

    @nn.compact
    def __call__(self, x):
        return self.network.run(self, x)

    def dense(self, name, x):
        return _make(self.network.layers[name], name)(x)

    conv = norm = twin = dense

    def flatten(self, x):
        return x.reshape(len(x), -1)


def _make(layer: Layer, name: str) -> nn.Module:
    double = {"dtype": jnp.float64, "param_dtype": jnp.float64}
    match layer.kind:
        case "dense":
            return nn.Dense(layer.shape[1], use_bias=layer.bias, name=name, **double)
        case "conv":
            return nn.Conv(layer.shape[3], layer.shape[:2], padding="VALID", name=name, **double)
        case "norm":
            return nn.LayerNorm(epsilon=1e-5, name=name, **double)
        case _:
            return _Twin(layer.shape, name=name)


def to_jax(values: Values) -> Any:
    """Bring weights into a tree of Flax's."""
    return {"params": jax.tree.map(jnp.asarray, {name: dict(arrays) for name, arrays in values.items()})}


class JaxSide:
    """A network in JAX, in float64."""

    def __init__(self, network: Network, values: Values) -> None:
        self.model, self.tree = JaxNet(network), to_jax(values)
        batch = self.inputs(network.batch(0))
        self.layout = layout_of(self.tree, lambda tree: self.model.apply(tree, batch))

    def inputs(self, batch: np.ndarray) -> jax.Array:
        return jnp.asarray(batch)

    def params(self) -> dict[str, jax.Array]:
        return parameters(self.tree)

    def loss(self, tree: Any, batch: jax.Array) -> jax.Array:
        return sum((output**2).mean() for output in self.model.apply(tree, batch))

    def gradients(self, batch: np.ndarray) -> dict[str, jax.Array]:
        return gradients(jax.jit(jax.grad(self.loss))(self.tree, self.inputs(batch)))

    def activations(self, batch: np.ndarray) -> dict[str, jax.Array | None]:
        inputs = self.inputs(batch)
        outputs = jax.jit(lambda tree: activations(tree, lambda own: self.model.apply(own, inputs), layout=self.layout))
        return outputs(self.tree)

    def reset(self, fresh: Values, masks: dict[str, np.ndarray]) -> dict:
        """Return the parameters with the masked neurons reset."""
        chosen = {name: jnp.asarray(mask) for name, mask in masks.items()}
        return na.reset(self.params(), parameters(to_jax(fresh)), chosen, self.layout)

    def train(self, batches, fresh: Values, **options) -> list[na.ActivityReport]:
        """Train with resets; returns the reports."""
        values = to_jax(fresh)
        tx = regrama(
            optax.adam(LEARNING_RATE, *BETAS, eps=1e-30), self.layout, initializer=lambda key: values, **options
        )

        @jax.jit
        def step(tree, state, batch):
            updates, state = tx.update(jax.grad(self.loss)(tree, batch), state, tree)
            return optax.apply_updates(tree, updates), state

        state, reports = tx.init(self.tree), []
        for number, batch in enumerate(batches, 1):
            self.tree, state = step(self.tree, state, self.inputs(batch))
            if number % options["every"] == 0:
                reports.append(report(state, self.layout))
        return reports
