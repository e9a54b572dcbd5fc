"""Returns of the episodes in a phase."""

import itertools

import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["TWENTIETHS", "curve", "mean_return"]

TWENTIETHS = 20


def mean_return(rewards: Array, ended: Array) -> Array:
    """Return the mean return of the episodes that ended; rewards come at their ends only."""
    return rewards.sum() / ended.sum()


def curve(rewards: Array, ended: Array) -> Array:
    """Return the mean return in each twentieth of a phase; NaN where no episode ended."""
    edges = np.linspace(0, len(rewards), TWENTIETHS + 1).astype(int)
    return jnp.stack([mean_return(rewards[a:b], ended[a:b]) for a, b in itertools.pairwise(edges)])
