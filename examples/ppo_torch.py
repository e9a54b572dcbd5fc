"""Proximal policy optimisation in PyTorch on CartPole, with ReGraMa on scores of several minibatches.

PPO's minibatches are small, and one of them calls neurons inactive that are only rare. With ``batches=`` the gradients
of the last so many steps are scored together: here those of a whole epoch over the rollout. The lines that were added
to a plain PPO are marked with ``# <- neuroactivity``. A minute on a CPU, in a checkout:

    pip install ".[torch,plot]" gymnasium
    python examples/ppo_torch.py --updates 60 --out runs/ppo_torch
"""

import argparse
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import neuroactivity as na  # <- neuroactivity
import neuroactivity.plotting  # <- neuroactivity: needs matplotlib
from neuroactivity_torch import ReGraMa  # <- neuroactivity

ENVIRONMENTS, HORIZON, EPOCHS, MINIBATCH = 8, 64, 4, 64
GAMMA, LAMBDA, CLIP = 0.99, 0.95, 0.2


class Agent(nn.Module):
    """Policy and value, each a network of its own."""

    def __init__(self, observations: int, actions: int, width: int = 64):
        super().__init__()
        self.policy = nn.Sequential(
            nn.Linear(observations, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, actions)
        )
        self.value = nn.Sequential(
            nn.Linear(observations, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )
        for layer in (layer for layer in self.modules() if isinstance(layer, nn.Linear)):
            gain = 0.01 if layer.out_features == actions else 1 if layer.out_features == 1 else np.sqrt(2)
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the actions, and the value."""
        return self.policy(observation), self.value(observation).squeeze(-1)


class Rollout:
    """What one phase of acting leaves: arrays of shape ``(horizon, environments, ...)``."""

    def __init__(self, observations: int):
        self.observation = torch.zeros(HORIZON, ENVIRONMENTS, observations)
        self.action = torch.zeros(HORIZON, ENVIRONMENTS, dtype=torch.long)
        self.log_prob, self.value, self.reward, self.ended = torch.zeros(4, HORIZON, ENVIRONMENTS)

    def advantages(self, last_value: torch.Tensor) -> torch.Tensor:
        """Generalised advantage estimates."""
        advantage, following = torch.zeros_like(self.reward), torch.zeros(ENVIRONMENTS)
        for step in reversed(range(HORIZON)):
            alive = 1 - self.ended[step]
            next_value = last_value if step == HORIZON - 1 else self.value[step + 1]
            error = self.reward[step] + GAMMA * alive * next_value - self.value[step]
            following = advantage[step] = error + GAMMA * LAMBDA * alive * following
        return advantage


class Trainer:
    """Environments, agent and optimizer."""

    def __init__(self, options: argparse.Namespace):
        torch.manual_seed(options.seed)
        self.env = gym.make_vec(
            "CartPole-v1",
            num_envs=ENVIRONMENTS,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP},
        )
        self.observations = self.env.single_observation_space.shape[0]
        self.agent = Agent(self.observations, int(self.env.single_action_space.n))
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=1e-3, eps=1e-5)
        self.rng = torch.Generator().manual_seed(options.seed)
        self.observation, _ = self.env.reset(seed=options.seed)
        self.returns, self.finished = np.zeros(ENVIRONMENTS), []

        epoch = HORIZON * ENVIRONMENTS // MINIBATCH  # steps of the optimizer
        self.reports: list[na.ActivityReport] = []
        self.regrama = ReGraMa(  # <- neuroactivity
            self.agent,
            self.optimizer,
            example_inputs=torch.zeros(8, self.observations),
            tau=options.tau,
            every=options.every * EPOCHS * epoch,
            batches=epoch,
            initializer="snapshot",  # rows of the orthogonal weights above
            seed=options.seed,
            on_report=self.reports.append,
        )

    @torch.no_grad()
    def act(self) -> tuple[Rollout, torch.Tensor]:
        """Fill a rollout; return it and its advantages."""
        rollout = Rollout(self.observations)
        for step in range(HORIZON):
            observation = torch.as_tensor(self.observation, dtype=torch.float32)
            logits, rollout.value[step] = self.agent(observation)
            action = torch.multinomial(logits.softmax(-1), 1, generator=self.rng).squeeze(-1)
            rollout.observation[step], rollout.action[step] = observation, action
            rollout.log_prob[step] = Categorical(logits=logits).log_prob(action)
            self.observation, reward, terminated, truncated, _ = self.env.step(action.numpy())
            ended = terminated | truncated
            rollout.reward[step], rollout.ended[step] = torch.as_tensor(reward), torch.as_tensor(ended)
            self.returns += reward
            self.finished += self.returns[ended].tolist()
            self.returns[ended] = 0
        last_value = self.agent(torch.as_tensor(self.observation, dtype=torch.float32))[1]
        return rollout, rollout.advantages(last_value)

    def learn(self, rollout: Rollout, advantages: torch.Tensor) -> None:
        """Some epochs of minibatches."""
        observation, action = rollout.observation.flatten(0, 1), rollout.action.flatten()
        old, advantage = rollout.log_prob.flatten(), advantages.flatten()
        target = advantage + rollout.value.flatten()
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(action), generator=self.rng).split(MINIBATCH):
                logits, value = self.agent(observation[batch])
                policy = Categorical(logits=logits)
                ratio = (policy.log_prob(action[batch]) - old[batch]).exp()
                weight = (advantage[batch] - advantage[batch].mean()) / (advantage[batch].std() + 1e-8)
                gain = torch.minimum(ratio * weight, ratio.clamp(1 - CLIP, 1 + CLIP) * weight).mean()
                loss = -gain + 0.5 * (value - target[batch]).square().mean() - 0.01 * policy.entropy().mean()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.agent.parameters(), 0.5)
                self.optimizer.step()  # ReGraMa measures and resets in here, when it is due


def main(arguments: list[str] | None = None) -> Trainer:
    """Train, print the last table, save a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=60, help="rollouts, each followed by some epochs")
    parser.add_argument("--every", type=int, default=10, help="rollouts between measurements")
    parser.add_argument("--tau", type=float, default=0.01, help="reset neurons with a score of at most this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/ppo_torch"))
    options = parser.parse_args(arguments)

    trainer = Trainer(options)
    for update in range(1, options.updates + 1):
        trainer.learn(*trainer.act())
        if update % 10 == 0:
            recent = trainer.finished[-20:]
            print(f"update {update:4d}   return {np.mean(recent) if recent else float('nan'):6.1f}")

    regrama, reports = trainer.regrama, trainer.reports
    print(f"\n{regrama.neurons_reset} neurons reset in {regrama.resets} of {regrama.measurements} measurements")
    print(regrama.last_report)
    hidden = [group.name for group in reports[0].groups if group.status != "head"]
    fractions = {name: [report[name].inactive_fraction for report in reports] for name in hidden}
    steps = [regrama.every * (place + 1) for place in range(len(reports))]
    options.out.mkdir(parents=True, exist_ok=True)
    na.plotting.inactivity(steps, fractions).figure.savefig(options.out / "activity.png")
    return trainer


if __name__ == "__main__":
    main()
