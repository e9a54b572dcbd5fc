"""SAC of Stable-Baselines3 on Pendulum, with an ActivityCallback: the added lines are marked ``# <- neuroactivity``.

Records every neuron's scores besides, for ``neuroactivity plot``. A minute on a CPU, in a checkout:

    pip install ".[stable-baselines3]"
    python examples/sb3_callback.py --steps 3000 --out runs/sb3
"""

import argparse
from pathlib import Path

from stable_baselines3 import SAC

import neuroactivity as na  # <- neuroactivity
from neuroactivity.looking.commandline import main as commandline  # <- neuroactivity
from neuroactivity_torch.hosts.stable_baselines3 import ActivityCallback  # <- neuroactivity


def main(arguments: list[str] | None = None) -> SAC:
    """Train, print the last tables, write a page that shows the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--every", type=int, default=500, help="optimizer steps between measurements")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/sb3"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=200, seed=options.seed)
    file = options.out / "run.jsonl"
    logs = {  # <- neuroactivity: JSON lines of every neuron
        name: na.JsonLines(file, step=lambda: model.num_timesteps, network=name) for name in ("actor", "critic")
    }
    latest: dict[str, na.ActivityReport] = {}

    def on_report(network: str, report: na.ActivityReport) -> None:
        latest[network] = report
        logs[network](report)

    callback = ActivityCallback(every=options.every, batches=16, seed=options.seed, on_report=on_report)
    model.learn(options.steps, callback=callback, log_interval=4)  # <- neuroactivity: the callback

    for name, report in latest.items():
        print(f"\n{name}\n{report}")
    commandline(["plot", str(file), "--out", str(options.out / "page.html")])
    return model


if __name__ == "__main__":
    main()
