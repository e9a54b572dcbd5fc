"""Sizes and batches that the tests of the agents share, in every framework."""

import numpy as np

from reference_agents.agent import Batch

OBSERVATION, ACTION = 5, 2


def batch(seed, *, size=32):
    rng = np.random.default_rng(seed)
    return Batch(
        observations=rng.normal(size=(size, OBSERVATION)).astype(np.float32),
        actions=rng.uniform(-1, 1, (size, ACTION)).astype(np.float32),
        rewards=rng.normal(size=(size, 1)).astype(np.float32),
        next_observations=rng.normal(size=(size, OBSERVATION)).astype(np.float32),
        terminated=(rng.random((size, 1)) < 0.2).astype(np.float32),
    )
