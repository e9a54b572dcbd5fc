"""Independent random streams of a run, each named by its purpose."""

import numpy as np


def derive(seed: int, *path: str | int) -> int:
    """Derive the seed of one of a run's random streams.

    Equal paths give equal seeds and different paths unrelated ones, so no generator state has to be carried over:
    episode 12 starts the same whether or not the run was resumed before it.

    Args:
        seed: Seed of the run.
        path: Purpose of the stream, such as ``"episode", 12``.

    Returns:
        A 32-bit seed, which every library accepts.
    """
    words = [int.from_bytes(part.encode()) if isinstance(part, str) else part for part in path]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])
