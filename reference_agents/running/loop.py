"""The training loop, for any agent in any environment."""

import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from neuroactivity import ActivityReport
from reference_agents.agent import Array, make_agent
from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.running.evaluation import Policy, describe, evaluate
from reference_agents.running.folder import RunFolder
from reference_agents.running.recording import Recorder
from reference_agents.running.replay import ReplayBuffer
from reference_agents.seeding import derive
from reference_agents.world.environments import make
from reference_agents.world.friction import ChangingGround


@dataclass
class Progress:
    """How far a run has come, as of the end of an episode."""

    step: int = 0
    episode: int = 0
    """Episodes begun."""
    returns: list[float] = field(default_factory=list)
    """Returns of the training episodes that ended since the last record."""
    records: int = 0
    """Records written by the last checkpoint."""
    scores: int = 0
    """The same of the scores, if they are recorded."""
    checkpoint: int = 0
    """Step of the last checkpoint."""
    seconds: float = 0.0
    """Time taken so far."""


class Training:
    """One run: an agent acts, learns, is measured and evaluated; ``run`` goes on from wherever it has come to.

    Nothing is written before ``run``, so that whatever does not fit together shows first.

    Args:
        config: Settings of the run.
        folder: Where its files go.

    Raises:
        UsageError: If there is no such environment, or it cannot change or be drawn as the settings say.
    """

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.config = config
        self.folder = folder
        envs = [make(config.env, image_size=config.image_size if config.sees else None) for _ in range(2)]
        self.env, self.evaluation_env = envs
        every = config.friction_every
        self.ground = ChangingGround(envs, every=every, seed=config.seed) if every else None
        sizes = self.env.observation_size, self.env.action_size
        self.agent = make_agent(config, *sizes)
        self.replay = ReplayBuffer(
            config.buffer_size,
            *sizes,
            observation_dtype=self.env.dtype,
            n_step=config.n_step,
            gamma=config.gamma,
        )
        self.rng = np.random.default_rng(derive(config.seed, "loop"))  # draws random actions and batches
        self.recorder, self.scores = Recorder(folder.metrics), Recorder(folder.scores)
        if config.record_scores:
            self.agent.activity.on_report = self._record_scores
        self.progress = Progress()

    def run(self) -> None:
        """Train until all steps are taken, leaving records and checkpoints."""
        config, progress = self.config, self.progress
        self.recorder.rewind(progress.records)
        if config.record_scores:
            self.scores.rewind(progress.scores)
        interval = 0.5 if sys.stderr.isatty() else 10
        started = time.perf_counter() - progress.seconds
        with tqdm(total=config.steps, initial=progress.step, unit=" steps", mininterval=interval) as bar:
            observation, episode_return = self._begin_episode(), 0.0
            while progress.step < config.steps:
                observation, reward, over = self._step(observation)
                progress.seconds = time.perf_counter() - started
                episode_return += reward
                bar.update()
                if over:
                    progress.returns.append(episode_return)
                    bar.set_postfix({"return": f"{episode_return:.0f}"}, refresh=False)
                if self._record_is_due():
                    self._record()
                if over:
                    self._save_if_due()
                    observation, episode_return = self._begin_episode(), 0.0
        if not self._record_is_due():
            self._record()

    def restore(self) -> None:
        """Go back to the checkpoint, so that ``run`` goes on from there, dropping the records written after it."""
        progress, agent, replay = self.folder.load_checkpoint()
        self.rng.bit_generator.state = progress.pop("rng")
        self.progress = Progress(**progress)
        if self.ground:
            self.ground.change(self.progress.step - 1)
        self.agent.load(agent)
        self.replay.load_state(replay)

    def summary(self) -> dict[str, Any]:
        """Count what was done, and evaluate the agent beside a policy that acts at random."""
        random = partial(self._random_action, np.random.default_rng(derive(self.config.seed, "random policy")))
        return {
            "step": self.progress.step,
            **self._counts(),
            "evaluation": describe(self.evaluate()),
            "random_policy": describe(self.evaluate(lambda _: random())),
            "seconds": round(self.progress.seconds, 3),
        }

    def _begin_episode(self) -> Array:
        """Begin the next episode, from a seed made of the run's seed and the episode's number."""
        self.progress.episode += 1
        observation, _ = self.env.reset(seed=derive(self.config.seed, "episode", self.progress.episode))
        return observation

    def _step(self, observation: Array) -> tuple[Array, float, bool]:
        """Act once, remember it, and learn; return the next observation, the reward, and whether the episode ended."""
        config, progress = self.config, self.progress
        if self.ground:
            self.ground.change(progress.step)
        progress.step += 1
        learning = progress.step > config.learning_starts
        action = self.agent.act(observation, explore=True) if learning else self._random_action(self.rng)
        next_observation, reward, terminated, truncated, _ = self.env.step(action)
        self.replay.add(observation, action, reward, next_observation, terminated=terminated, truncated=truncated)
        if learning and not len(self.replay):
            needed = f"a whole transition of {config.n_step} steps, of one episode, before the first update"
            raise UsageError(f"n_step, learning_starts: expected {needed}, got none in {progress.step} steps")
        for _ in range(config.replay_ratio if learning else 0):
            self.agent.update(self.replay.sample(config.batch_size, self.rng))
        return next_observation, reward, terminated or truncated

    def _random_action(self, rng: np.random.Generator) -> Array:
        return rng.uniform(-1, 1, self.env.action_size).astype(np.float32)

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.progress.step % every == 0

    def _record_is_due(self) -> bool:
        return self._is_due(self.config.record_every) or self._is_due(self.config.evaluate_every)

    def evaluate(self, policy: Policy | None = None) -> list[float]:
        """Return what the agent's best guesses, or another policy, get in episodes that are always the same."""
        seeds = (derive(self.config.seed, "evaluation", k) for k in range(self.config.evaluation_episodes))
        return evaluate(policy or partial(self.agent.act, explore=False), self.evaluation_env, seeds)

    def _record(self) -> None:
        """Write one record of where the run stands."""
        progress, activity = self.progress, self.agent.activity
        evaluated = self._is_due(self.config.evaluate_every)
        self.recorder.write(
            {
                "step": progress.step,
                "episode": progress.episode,
                "return": statistics.fmean(progress.returns) if progress.returns else None,
                "evaluation": statistics.fmean(self.evaluate()) if evaluated else None,
                **({"friction": self.ground.friction(progress.step - 1)} if self.ground else {}),
                **self.agent.losses(),
                **self._counts(),
                **{f"neurons_reset/{network}": counts.neurons_reset for network, counts in activity.counts().items()},
                **activity.fractions,
                "seconds": round(progress.seconds, 3),
            }
        )
        progress.returns = []

    def _record_scores(self, kind: str, network: str, report: ActivityReport) -> None:
        """Write the scores of a network's neurons, and the places of those that were reset."""
        self.scores.write(
            {
                "step": self.progress.step,
                "network": network,
                "kind": kind,
                "tau": report.tau,
                "scores": {
                    group.name: [[float(f"{score:.6g}") for score in row] for row in group.scores]
                    for group in report.groups
                },
                "reset": {
                    group.name: [[place for place, reset in enumerate(row) if reset] for row in group.mask or ()]
                    for group in report.groups
                },
            }
        )

    def _counts(self) -> dict[str, int]:
        """Count updates, and measurements and resets over all networks."""
        networks = self.agent.activity.counts().values()
        return {
            "updates": self.agent.updates,
            "measurements": sum(counts.measurements for counts in networks),
            "resets": sum(counts.resets for counts in networks),
            "neurons_reset": sum(counts.neurons_reset for counts in networks),
        }

    def _save_if_due(self) -> None:
        """Write a checkpoint, if the last one is old enough; an episode has just ended."""
        progress = self.progress
        if progress.step - progress.checkpoint < self.config.checkpoint_every:
            return
        progress.checkpoint = progress.step
        progress.records, progress.scores = self.recorder.count, self.scores.count
        state = asdict(progress) | {"rng": self.rng.bit_generator.state}
        self.folder.save_checkpoint(state, self.agent.save(), self.replay.state())
