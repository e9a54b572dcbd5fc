"""DQN in Keras on CartPole, with ReGraMa around the optimizer, in a custom training loop.

The lines that were added to a plain DQN are marked with ``# <- neuroactivity``. A minute on a CPU, in a checkout:

    pip install ".[tensorflow,plot]" gymnasium
    python examples/dqn_keras.py --steps 10000 --out runs/dqn_keras
"""

import argparse
from pathlib import Path

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na  # <- neuroactivity
import neuroactivity.plotting  # <- neuroactivity: needs matplotlib
from neuroactivity_tensorflow import ReGraMa  # <- neuroactivity

GAMMA, BATCH, TARGET_EVERY = 0.99, 128, 500


def q_network(observations: int, actions: int, width: int = 128) -> keras.Model:
    """Two hidden layers, a value for each action."""
    return keras.Sequential(
        [
            keras.Input((observations,)),
            keras.layers.Dense(width, "relu", name="hidden1"),
            keras.layers.Dense(width, "relu", name="hidden2"),
            keras.layers.Dense(actions, name="values"),
        ]
    )


class ReplayBuffer:
    """The last transitions, sampled uniformly."""

    def __init__(self, size: int, observations: int):
        self.arrays = {
            "observation": np.zeros((size, observations), np.float32),
            "action": np.zeros(size, np.int32),
            "reward": np.zeros(size, np.float32),
            "following": np.zeros((size, observations), np.float32),
            "terminated": np.zeros(size, np.float32),
        }
        self.size, self.added = size, 0

    def add(self, **transition: object) -> None:
        """Keep a transition, in the place of the oldest when full."""
        for name, value in transition.items():
            self.arrays[name][self.added % self.size] = value
        self.added += 1

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A batch of transitions."""
        places = rng.integers(min(self.added, self.size), size=BATCH)
        return {name: array[places] for name, array in self.arrays.items()}


class DQN:
    """Network, target network, optimizer, and one update."""

    def __init__(self, env: gym.Env, options: argparse.Namespace):
        keras.utils.set_random_seed(options.seed)
        observations, actions = env.observation_space.shape[0], int(env.action_space.n)
        self.network, self.target = q_network(observations, actions), q_network(observations, actions)
        self.target.set_weights(self.network.get_weights())
        self.reports: list[na.ActivityReport] = []
        self.optimizer = ReGraMa(  # <- neuroactivity: around the optimizer
            keras.optimizers.Adam(5e-4),
            self.network,
            example_inputs=tf.zeros((8, observations)),
            tau=options.tau,
            every=options.every,
            batches=16,
            seed=options.seed,
            on_report=self.reports.append,
        )

    @tf.function
    def act(self, observation: tf.Tensor) -> tf.Tensor:
        """The action of the highest value."""
        return tf.argmax(self.network(observation[None])[0])

    @tf.function
    def update(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """One step of double Q-learning; returns the loss."""
        choice = tf.argmax(self.network(batch["following"]), axis=1, output_type=tf.int32)
        value = tf.gather(self.target(batch["following"]), choice, batch_dims=1)
        target = batch["reward"] + GAMMA * (1 - batch["terminated"]) * value
        with tf.GradientTape() as tape:
            taken = tf.gather(self.network(batch["observation"]), batch["action"], batch_dims=1)
            loss = tf.reduce_mean(keras.losses.huber(tf.stop_gradient(target)[:, None], taken[:, None]))
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))  # measures, resets
        return loss


def train(options: argparse.Namespace) -> DQN:
    """Train an agent."""
    env = gym.make("CartPole-v1")
    agent, rng = DQN(env, options), np.random.default_rng(options.seed)
    buffer = ReplayBuffer(options.steps, env.observation_space.shape[0])
    observation, _ = env.reset(seed=options.seed)
    returns, finished = 0.0, []
    for step in range(1, options.steps + 1):
        epsilon = max(0.05, 1 - step / (0.3 * options.steps))
        explore = rng.random() < epsilon
        action = int(rng.integers(env.action_space.n)) if explore else int(agent.act(observation))
        following, reward, terminated, truncated, _ = env.step(action)
        buffer.add(observation=observation, action=action, reward=reward, following=following, terminated=terminated)
        observation, returns = following, returns + float(reward)
        if terminated or truncated:
            finished.append(returns)
            (observation, _), returns = env.reset(), 0.0
        if step > options.learning_starts:
            agent.update(buffer.sample(rng))
        if step % TARGET_EVERY == 0:
            agent.target.set_weights(agent.network.get_weights())
        if step % 1000 == 0:
            print(f"step {step:6d}   return {np.mean(finished[-10:]):6.1f}")
    return agent


def main(arguments: list[str] | None = None) -> DQN:
    """Train, print the last table, save a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--learning-starts", type=int, default=500)
    parser.add_argument("--every", type=int, default=1000, help="optimizer steps between measurements")
    parser.add_argument("--tau", type=float, default=0.01, help="reset neurons with a score of at most this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/dqn_keras"))
    options = parser.parse_args(arguments)

    agent = train(options)
    optimizer, reports = agent.optimizer, agent.reports
    print(f"\n{int(optimizer.neurons_reset)} neurons reset in {int(optimizer.resets)} of {len(reports)} measurements")
    print(optimizer.last_report)
    hidden = [group.name for group in reports[0].groups if group.status != "head"]
    fractions = {name: [found[name].inactive_fraction for found in reports] for name in hidden}
    steps = [options.every * (place + 1) for place in range(len(reports))]
    options.out.mkdir(parents=True, exist_ok=True)
    na.plotting.inactivity(steps, fractions).figure.savefig(options.out / "activity.png")
    return agent


if __name__ == "__main__":
    main()
