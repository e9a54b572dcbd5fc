"""What the callback for Stable-Baselines3 costs: processor time of SAC's updates with it, in parts of the time without.

SAC learns Pendulum with its default networks. The runs take turns, each kind first and last in its round, in one
thread; the search for layouts is part of them. The medians of the ratios within a round are printed.

    python -m benchmarks.hosts --updates 400 --rounds 4
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

KINDS: dict[str, dict[str, Any] | None] = {
    "without": None,
    "measuring every 100 updates": {"method": "measure", "every": 100},
    "resetting every 100 updates": {"every": 100},
}


def seconds(updates: int, options: dict[str, Any] | None) -> float:
    """Return the processor time of so many updates."""
    from stable_baselines3 import SAC

    from neuroactivity_torch.hosts.stable_baselines3 import ActivityCallback

    model = SAC("MlpPolicy", "Pendulum-v1", seed=0, device="cpu")
    model.learn(110)  # past what comes before learning
    begun = time.process_time()
    callback = None if options is None else ActivityCallback(**options)
    model.learn(updates, callback=callback, reset_num_timesteps=False)
    return time.process_time() - begun


def ratios(rounds: int, measure: Callable[[dict[str, Any] | None], float]) -> dict[str, float]:
    """Return each kind's time by the time without, every other round in the reverse order."""
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    for number in range(rounds):
        order = list(KINDS)[:: -1 if number % 2 else 1]
        times = {name: measure(KINDS[name]) for name in order}
        for name, value in times.items():
            found[name].append(value / times["without"])
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name, ratio in ratios(args.rounds, lambda options: seconds(args.updates, options)).items():
        print(f"{name:32}{ratio:.2f}")


if __name__ == "__main__":
    main()
