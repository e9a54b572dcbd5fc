"""Soft actor-critic in PyTorch on Pendulum, with ReGraMa around the optimizers of critics and actor.

The lines that were added to a plain SAC are marked with ``# <- neuroactivity``. Half a minute on a CPU, in a checkout:

    pip install ".[torch,plot]" gymnasium
    python examples/sac_torch.py --steps 6000 --out runs/sac_torch
"""

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import neuroactivity as na  # <- neuroactivity
import neuroactivity.plotting  # <- neuroactivity: needs matplotlib
from neuroactivity_torch import ReGraMa  # <- neuroactivity


def mlp(inputs: int, outputs: int, width: int = 128) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


class Critics(nn.Module):
    """Two Q networks, trained by one optimizer."""

    def __init__(self, observations: int, actions: int):
        super().__init__()
        self.first, self.second = mlp(observations + actions, 1), mlp(observations + actions, 1)

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both values of a batch, each of shape ``(batch,)``."""
        x = torch.cat([observation, action], dim=-1)
        return self.first(x).squeeze(-1), self.second(x).squeeze(-1)


class Actor(nn.Module):
    """A squashed Gaussian."""

    def __init__(self, observations: int, actions: int, scale: float):
        super().__init__()
        self.net, self.scale = mlp(observations, 2 * actions), scale

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log standard deviation, before squashing."""
        mean, log_std = self.net(observation).chunk(2, dim=-1)
        return mean, -2 + 3.5 * torch.tanh(log_std)  # from -5.5 to 1.5

    def sample(self, observation: torch.Tensor, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """An action for each observation, and its log probability."""
        mean, log_std = self(observation)
        noise = torch.randn(mean.shape, generator=draws)
        raw = mean + log_std.exp() * noise
        log_prob = -(0.5 * noise**2 + log_std + 0.5 * np.log(2 * np.pi)).sum(-1)
        log_prob -= (2 * (np.log(2) - raw - F.softplus(-2 * raw)) + np.log(self.scale)).sum(-1)
        return self.scale * torch.tanh(raw), log_prob


class ReplayBuffer:
    """The last transitions, sampled uniformly."""

    def __init__(self, size: int, observations: int, actions: int):
        shapes = {"observation": observations, "action": actions, "next": observations}
        self.arrays = {name: np.zeros((size, width), np.float32) for name, width in shapes.items()}
        self.arrays |= {name: np.zeros(size, np.float32) for name in ("reward", "terminated")}
        self.size, self.added = size, 0

    def add(self, **transition: object) -> None:
        """Keep a transition, in the place of the oldest when full."""
        for name, value in transition.items():
            self.arrays[name][self.added % self.size] = value
        self.added += 1

    def sample(self, batch: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """A batch of transitions."""
        places = rng.integers(min(self.added, self.size), size=batch)
        return {name: torch.from_numpy(array[places]) for name, array in self.arrays.items()}


class SAC:
    """The agent: networks, optimizers, and one update."""

    def __init__(self, env: gym.Env, options: argparse.Namespace):
        observations, actions = env.observation_space.shape[0], env.action_space.shape[0]
        torch.manual_seed(options.seed)
        self.critics = Critics(observations, actions)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.actor = Actor(observations, actions, float(env.action_space.high[0]))
        self.log_alpha = torch.zeros((), requires_grad=True)
        self.target_entropy = -actions
        self.draws = torch.Generator().manual_seed(options.seed)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=1e-3)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=1e-3)

        observation, action = torch.zeros(8, observations), torch.zeros(8, actions)
        how = {"tau": options.tau, "every": options.every, "batches": options.batches, "seed": options.seed}
        self.regrama = {  # <- neuroactivity
            "critic": ReGraMa(self.critics, self.critic_optimizer, example_inputs=(observation, action), **how),
            "actor": ReGraMa(self.actor, self.actor_optimizer, example_inputs=observation, **how),
        }

    def update(self, batch: dict[str, torch.Tensor]) -> None:
        """One step of critics, actor and temperature."""
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            action, log_prob = self.actor.sample(batch["next"], self.draws)
            value = torch.minimum(*self.targets(batch["next"], action)) - alpha * log_prob
            target = batch["reward"] + 0.99 * (1 - batch["terminated"]) * value
        first, second = self.critics(batch["observation"], batch["action"])
        self.step(self.critic_optimizer, F.mse_loss(first, target) + F.mse_loss(second, target))

        action, log_prob = self.actor.sample(batch["observation"], self.draws)
        value = torch.minimum(*self.critics(batch["observation"], action))
        self.step(self.actor_optimizer, (alpha * log_prob - value).mean())
        self.step(self.alpha_optimizer, -self.log_alpha * (log_prob.detach().mean() + self.target_entropy))

        with torch.no_grad():
            for target_weight, weight in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                target_weight.lerp_(weight, 0.005)

    @staticmethod
    def step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        """Follow a loss."""
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # ReGraMa measures and resets in here, when it is due


def train(options: argparse.Namespace) -> tuple[SAC, list[dict[str, na.ActivityReport]]]:
    """Train an agent; return it, and the reports of each measurement."""
    env = gym.make("Pendulum-v1")
    env.action_space.seed(options.seed)
    agent, rng, reports = SAC(env, options), np.random.default_rng(options.seed), []
    buffer = ReplayBuffer(options.steps, env.observation_space.shape[0], env.action_space.shape[0])
    observation, _ = env.reset(seed=options.seed)
    returns = 0.0
    for step in range(1, options.steps + 1):
        if step <= options.learning_starts:
            action = env.action_space.sample()
        else:
            with torch.no_grad():
                action = agent.actor.sample(torch.from_numpy(observation)[None], agent.draws)[0][0].numpy()
        following, reward, terminated, truncated, _ = env.step(action)
        buffer.add(
            observation=observation, action=action, next=following, reward=0.1 * float(reward), terminated=terminated
        )
        observation, returns = following, returns + float(reward)
        if terminated or truncated:
            print(f"step {step:6d}   return {returns:8.1f}")
            (observation, _), returns = env.reset(), 0.0
        if step > options.learning_starts:
            agent.update(buffer.sample(128, rng))
            if agent.regrama["critic"].steps % options.every == 0:  # <- neuroactivity
                reports.append({name: regrama.last_report for name, regrama in agent.regrama.items()})
    return agent, reports


def curves(reports: list[dict[str, na.ActivityReport]]) -> Iterator[tuple[str, list[float]]]:
    """The inactive fraction of each hidden layer at each measurement."""
    for network, report in reports[0].items():
        for group in (group.name for group in report.groups if group.status != "head"):
            yield f"{network} {group}", [entry[network][group].inactive_fraction for entry in reports]


def main(arguments: list[str] | None = None) -> SAC:
    """Train, print the last tables, save a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--learning-starts", type=int, default=500)
    parser.add_argument("--every", type=int, default=1000, help="optimizer steps between measurements")
    parser.add_argument("--tau", type=float, default=0.01, help="reset neurons with a score of at most this")
    parser.add_argument("--batches", type=int, default=16, help="score the gradients of so many steps together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/sac_torch"))
    options = parser.parse_args(arguments)

    agent, reports = train(options)
    for name, regrama in agent.regrama.items():
        print(f"\n{name}: {regrama.neurons_reset} neurons reset in {regrama.resets} of {regrama.measurements}")
        print(regrama.last_report)
    steps = [options.every * (place + 1) for place in range(len(reports))]
    options.out.mkdir(parents=True, exist_ok=True)
    na.plotting.inactivity(steps, dict(curves(reports))).figure.savefig(options.out / "activity.png")
    return agent


if __name__ == "__main__":
    main()
