"""SAC of SBX (Stable-Baselines3 in JAX) on Pendulum, attached by hand: added lines are marked ``# <- neuroactivity``.

A callback does the same in one line (``neuroactivity_jax.hosts.sbx.ActivityCallback``); attached by hand, the reports
are at hand at any time. A minute on a CPU, in a checkout:

    pip install ".[sbx]"
    python examples/sbx_attach.py --steps 3000
"""

import argparse

from sbx import SAC

from neuroactivity_jax.hosts.sbx import attach, detach, reports  # <- neuroactivity


def main(arguments: list[str] | None = None) -> SAC:
    """Train in three parts, and print the reports after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--every", type=int, default=500, help="optimizer steps between measurements")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=200, seed=options.seed)
    attach(model, every=options.every, batches=16, seed=options.seed)  # <- neuroactivity
    for part in range(3):
        model.learn(options.steps // 3, reset_num_timesteps=part == 0)
        for name, report in reports(model).items():  # <- neuroactivity
            print(f"\n{model.num_timesteps} steps, {name}\n{report}")
    detach(model)  # <- neuroactivity: the optimizers are the model's own again
    return model


if __name__ == "__main__":
    main()
