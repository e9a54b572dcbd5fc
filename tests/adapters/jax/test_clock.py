"""A reset neuron's own clock: its entries take the steps of an optimizer that counts the steps of each entry."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neuroactivity.wrapping import YOUNG
from neuroactivity_jax import parameters, regrama
from tests.adapters.jax.entries import FORMULAS
from tests.adapters.jax.optimizers import LAYOUT, PARAMS

NAMES = sorted(parameters(PARAMS))
STEPS = 90


def gradients(every, seed=0, steps=STEPS):
    """Draw a gradient for each step; where a measurement is due, some neurons, another time none, have none."""
    rng = np.random.default_rng(seed)
    drawn = []
    for step in range(1, steps + 1):
        grads = jax.tree.map(lambda value: rng.normal(size=value.shape), PARAMS)
        if step % every == 0:
            dead = rng.choice(7, 1 + step // every % 2, replace=False)
            grads["a"]["kernel"][:, dead] = 0.0
            grads["a"]["bias"][dead] = 0.0
        drawn.append(grads)
    return drawn


def written(mask):
    """Return where a reset of neurons of ``a`` writes."""
    where = {name: np.zeros(value.shape, bool) for name, value in parameters(PARAMS).items()}
    where["a/kernel"][:, mask], where["a/bias"][mask], where["out/kernel"][mask] = True, True, True
    return where


class Reference:
    """The optimizer with a count for each entry; where a reset writes it takes over what was written."""

    def __init__(self, formula, start):
        self.formula = formula
        self.params = {name: np.asarray(value, np.float64) for name, value in parameters(start).items()}
        self.counts = {name: np.zeros(value.shape) for name, value in self.params.items()}
        self.moments = {name: {} for name in self.params}

    def step(self, grads):
        for name, gradient in parameters(grads).items():
            self.counts[name] = self.counts[name] + 1
            update = self.formula(self.moments[name], gradient, self.counts[name], self.params[name])
            self.params[name] = self.params[name] + update

    def reset(self, mask, params):
        for name, where in written(mask).items():
            self.params[name] = np.where(where, parameters(params)[name], self.params[name])
            self.counts[name] = np.where(where, 0, self.counts[name])
            self.moments[name] = {key: np.where(where, 0.0, value) for key, value in self.moments[name].items()}


def compare(name, every, dtype, jit=True):
    """Return the largest difference from the reference, over the corrected steps, in learning rates."""
    make, formula = FORMULAS[name]
    start = jax.tree.map(lambda value: jnp.asarray(value, dtype), PARAMS)
    tx, worst, resets = regrama(make(), LAYOUT, tau=0.0, every=every), 0.0, 0
    update = jax.jit(tx.update) if jit else tx.update
    params, state, reference = start, tx.init(start), Reference(formula, start)
    for grads in gradients(every):
        grads = jax.tree.map(lambda value: jnp.asarray(value, dtype), grads)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        reference.step(jax.tree.map(lambda value: np.asarray(value, np.float64), grads))
        mine = {key: np.asarray(value, np.float64) for key, value in parameters(params).items()}
        if int(state.neurons_reset) > resets:
            reference.reset(np.asarray(state.masks["a"]), mine_tree(mine))
            resets = int(state.neurons_reset)
        for key in NAMES:
            followed = (reference.counts[key] <= YOUNG) | (reference.counts[key] == state.steps)
            worst = max(worst, np.abs(np.where(followed, mine[key] - reference.params[key], 0)).max() / 0.1)
    assert resets > 3
    return worst


def mine_tree(values):
    tree = {}
    for name, value in values.items():
        layer, kind = name.split("/")
        tree.setdefault(layer, {})[kind] = value
    return tree
