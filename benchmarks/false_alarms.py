"""How many of the neurons that small batches call inactive are active on many samples.

A trained network stays as it is. Magnitudes of gradients are added up over 1, 4 or 16 batches and scored, as wrappers
do with ``batches=``; a neuron at or below the threshold would be reset. It is a false alarm if its score on all samples
at once is above the threshold. Three networks, trained without resets: the first critic of SAC on HalfCheetah, on
batches from its replay buffer, a small PPO on CartPole, on minibatches of its last rollout, and the ReLU network of the
continual-digits study after five tasks.

    python -m benchmarks.false_alarms
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

import neuroactivity as na
from benchmarks.continual_digits.study import GRAMA_TAU, Study, draw_tasks
from benchmarks.continual_digits.torch_runs import Network, draw_weights
from neuroactivity.tables import format_table
from neuroactivity_torch import gradients, layout_of, write
from reference_agents.agent import Batch
from reference_agents.commandline import parse, tell
from reference_agents.config import Config
from reference_agents.running.folder import RunFolder
from reference_agents.running.loop import Training
from reference_agents.torch.sac import SAC


@dataclass(frozen=True, kw_only=True)
class Command:
    """Measure false alarms, and print a table."""

    steps: int = 12_000
    """Environment steps of SAC."""
    updates: int = 40
    """Rollouts of PPO, of 1,024 steps each."""
    tasks: int = 5
    """Tasks of the digits network."""
    samples: int = 10_000
    """Transitions on which SAC's critic and PPO are judged; the digits network is judged on all its images."""
    trials: int = 20
    """Draws of batches for each row of the table."""
    sizes: tuple[int, ...] = (32, 256)
    """Samples in a batch."""
    batches: tuple[int, ...] = (1, 4, 16)
    """Batches that a score is made of."""


@dataclass(frozen=True)
class Subject:
    """A trained network."""

    name: str
    layout: na.Layout
    tau: float
    truth: dict[str, Tensor]
    """Scores on all samples at once."""
    draw: Callable[[int], dict[str, Tensor | None]]
    """Draws a batch of so many samples and returns the gradients of the loss on it."""


def critic(steps: int, samples: int) -> Subject:
    """Train SAC on HalfCheetah; its first critic, judged by tau 0."""
    config = Config(env="HalfCheetah-v5", steps=steps, reset="none", evaluate_every=0, evaluation_episodes=1)
    with TemporaryDirectory() as folder:
        training = Training(config, RunFolder(Path(folder)))
        training.run()
    agent, rng = training.agent, np.random.default_rng(0)
    assert isinstance(agent, SAC)
    layout = agent.activity.layouts["critic1"]

    def draw(size: int) -> dict[str, Tensor | None]:
        batch = Batch(*map(torch.from_numpy, training.replay.sample(size, rng)))
        agent.critics.zero_grad()
        agent.critic_loss(batch)[0].backward()  # type: ignore[no-untyped-call]
        return gradients(agent.critics[0])

    return Subject("SAC critic", layout, 0.0, na.grama(draw(samples), layout), draw)


def ppo(updates: int, samples: int) -> Subject:
    """Train PPO on CartPole with one ReLU network for the policy and the value; judged by tau 0.01."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer, rng = torch.optim.Adam(network.parameters(), lr=1e-3), np.random.default_rng(0)
    envs = gymnasium.make_vec("CartPole-v1", 8)
    first, _ = envs.reset(seed=0)

    def backward(batch: Sequence[Tensor]) -> dict[str, Tensor | None]:
        states, actions, before, advantages, returns = batch
        outputs = network(states)
        logs, values = outputs[:, :2].log_softmax(-1), outputs[:, 2]
        ratio = (logs.gather(1, actions[:, None])[:, 0] - before).exp()
        entropy = -(logs.exp() * logs).sum(-1).mean()
        gain = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        optimizer.zero_grad()
        loss = 0.5 * (values - returns).square().mean() - gain.mean() - 0.01 * entropy
        loss.backward()
        return gradients(network)

    for _ in range(updates):
        data, first = rollout(network, envs, first, 128)
        for _ in range(4):
            for index in torch.from_numpy(rng.permutation(1024)).reshape(-1, 256):
                backward([column[index] for column in data])
                optimizer.step()
    data, _ = rollout(network, envs, first, -(-samples // 8))
    layout = layout_of(network, data[0][:16])

    def draw(size: int) -> dict[str, Tensor | None]:
        index = torch.from_numpy(rng.integers(len(data[0]), size=size))
        return backward([column[index] for column in data])

    return Subject("PPO", layout, GRAMA_TAU, na.grama(backward(data), layout), draw)


@torch.no_grad()
def rollout(
    network: nn.Module, envs: gymnasium.vector.VectorEnv, first: np.ndarray, steps: int
) -> tuple[list[Tensor], np.ndarray]:
    """Return states, actions, their log-probabilities, normalised advantages (GAE) and returns; and the next states."""
    found = []
    for _ in range(steps):
        states = torch.as_tensor(first, dtype=torch.float32)
        outputs = network(states)
        logs, values = outputs[:, :2].log_softmax(-1), outputs[:, 2]
        actions = torch.multinomial(logs.exp(), 1)
        first, rewards, over, cut, _ = envs.step(actions[:, 0].numpy())
        ends = torch.as_tensor(over | cut, dtype=torch.float32)
        found.append(
            (states, actions[:, 0], logs.gather(1, actions)[:, 0], values, torch.as_tensor(rewards).float(), ends)
        )
    states, actions, before, values, rewards, ends = map(torch.stack, zip(*found, strict=True))
    after = torch.cat([values[1:], network(torch.as_tensor(first, dtype=torch.float32))[None, :, -1]])
    errors = rewards + 0.99 * (1 - ends) * after - values
    advantages, running = torch.zeros_like(errors), torch.zeros(errors.shape[1])
    for step in reversed(range(steps)):
        running = advantages[step] = errors[step] + 0.99 * 0.95 * (1 - ends[step]) * running
    columns = [column.flatten(0, 1) for column in (states, actions, before, advantages, advantages + values)]
    columns[3] = (columns[3] - columns[3].mean()) / columns[3].std()
    return columns, first


def digits(tasks: int) -> Subject:
    """Train the ReLU network of the continual-digits study."""
    study = Study(framework="torch", reset="none", seeds=1, tasks=tasks)
    data, network, rng = draw_tasks(study), Network(study), np.random.default_rng(0)
    write(network, draw_weights(study, 0))
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels[0]).long()
    optimizer = torch.optim.Adam(network.parameters(), lr=study.learning_rate)

    def backward(batch: Tensor, task: int) -> dict[str, Tensor | None]:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images[batch]), labels[task][batch])
        loss.backward()  # type: ignore[no-untyped-call]
        return gradients(network)

    for task in range(tasks):
        for batch in torch.from_numpy(data.batches[0, task]).long():
            backward(batch, task)
            optimizer.step()
    layout = layout_of(network, images[:16])
    truth = na.grama(backward(torch.arange(len(images)), tasks - 1), layout)

    def draw(size: int) -> dict[str, Tensor | None]:
        return backward(torch.from_numpy(rng.integers(len(images), size=size)), tasks - 1)

    return Subject("digits", layout, GRAMA_TAU, truth, draw)


def false_alarms(subject: Subject, *, size: int, batches: int) -> tuple[int, int]:
    """Return how many neurons would be reset, and how many of them are active on all samples."""
    total: dict[str, Tensor] = {}
    for _ in range(batches):
        for name, found in na.magnitudes(subject.draw(size), subject.layout).items():
            total[name] = total[name] + found if name in total else found
    masks = na.reset_masks(na.scores(total), subject.tau)
    hidden = [name for name in masks if subject.layout[name].resettable]
    found = sum(int(masks[name].sum()) for name in hidden)
    return found, sum(int((masks[name] & (subject.truth[name] > subject.tau)).sum()) for name in hidden)


def table(subjects: Sequence[Subject], command: Command) -> Iterator[str]:
    """Yield the lines of the table."""
    rows = []
    for subject in subjects:
        hidden = [scores for name, scores in subject.truth.items() if subject.layout[name].resettable]
        dead = sum(int((scores <= subject.tau).sum()) for scores in hidden)
        neurons = sum(scores.numel() for scores in hidden)
        rows.append((subject.name, "all", "", f"{dead / neurons:.1%}", ""))
        for size in command.sizes:
            for batches in command.batches:
                trials = [false_alarms(subject, size=size, batches=batches) for _ in range(command.trials)]
                found, wrong = np.sum(trials, axis=0)
                share = f"{wrong / found:.1%}" if found else "n/a"
                inactive = f"{found / command.trials / neurons:.1%}"
                rows.append((subject.name, str(size), str(batches), inactive, share))
    header = ("network", "batch size", "batches", "inactive", "of these active on all samples")
    yield from format_table(header, rows, words=("network",))


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: _run(parse(Command, args, prog="python -m benchmarks.false_alarms")))


def _run(command: Command) -> None:
    subjects = [critic(command.steps, command.samples), ppo(command.updates, command.samples), digits(command.tasks)]
    print("\n".join(table(subjects, command)))


if __name__ == "__main__":
    sys.exit(main())
