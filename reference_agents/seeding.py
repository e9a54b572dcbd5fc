"""Independent random streams of a run, each named by what it is for."""

import numpy as np


def derive(seed: int, *path: str | int) -> int:
    """Derive the seed of one of a run's random streams.

    The same path always gives the same seed, and different paths give unrelated ones, so that no stream needs to be
    carried on from where another one stopped: episode 12 starts alike whether or not the run was interrupted before.

    Args:
        seed: The run's seed.
        path: What the stream is for, such as ``"episode", 12``.

    Returns:
        A seed of 32 bits, which every library accepts.
    """
    words = [int.from_bytes(part.encode()) if isinstance(part, str) else part for part in path]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0])
