"""The training loop, for any agent in any environment."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from neuroactivity import ActivityReport
from reference_agents.agent import Array, make_agent
from reference_agents.config import Config
from reference_agents.envs.environments import make
from reference_agents.envs.friction import ChangingFriction
from reference_agents.errors import UsageError
from reference_agents.running.evaluation import Policy, describe, evaluate
from reference_agents.running.folder import RunFolder
from reference_agents.running.progress import Progress
from reference_agents.running.recording import Recorder
from reference_agents.running.replay import ReplayBuffer
from reference_agents.seeding import derive

LASTING: Final = ("measured_again", "reset_again")
"""What is recorded of neurons that were reset: how many were measured once more, and how many were inactive then."""


class Training:
    """A training run: environment, agent, replay buffer, and records.

    Nothing is written before ``run``, so that errors in the settings show first.

    Args:
        config: Settings of the run.
        folder: Folder for its files.

    Raises:
        UsageError: If the environment does not exist, or cannot be rendered or changed as the settings require.
    """

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.config = config
        self.folder = folder
        envs = [make(config.env, image_size=config.image_size if config.from_pixels else None) for _ in range(2)]
        self.env, self.evaluation_env = envs
        every = config.friction_every
        self.ground_friction = ChangingFriction(envs, every=every, seed=config.seed) if every else None
        sizes = self.env.observation_size, self.env.action_size
        self.agent = make_agent(config, *sizes)
        self.replay = ReplayBuffer(
            config.buffer_size,
            *sizes,
            observation_dtype=self.env.dtype,
            n_step=config.n_step,
            gamma=config.gamma,
        )
        self.rng = np.random.default_rng(derive(config.seed, "loop"))  # samples random actions and batches
        self.recorder, self.scores = Recorder(folder.metrics), Recorder(folder.scores)
        if config.record_scores:
            self.agent.activity.on_report = self._record_scores
        self.progress = Progress()
        self.before_step: Callable[[], None] = lambda: None
        """Called before each step; raises where training is to end."""

    def run(self) -> None:
        """Train up to the last step, writing records and checkpoints."""
        config, progress = self.config, self.progress
        self.recorder.rewind(progress.records)
        if config.record_scores:
            self.scores.rewind(progress.scores)
        interval = 0.5 if sys.stderr.isatty() else 10
        started = time.perf_counter() - progress.seconds
        with tqdm(total=config.steps, initial=progress.step, unit=" steps", mininterval=interval) as bar:
            observation, episode_return = self._start_episode(), 0.0
            while progress.step < config.steps:
                self.before_step()
                observation, reward, done = self._step(observation)
                progress.seconds = time.perf_counter() - started
                episode_return += reward
                bar.update()
                if done:
                    progress.returns.append(episode_return)
                    bar.set_postfix({"return": f"{episode_return:.0f}"}, refresh=False)
                if self._record_is_due():
                    self._record()
                if done:
                    self._save_if_due()
                    observation, episode_return = self._start_episode(), 0.0
        if not self._record_is_due():
            self._record()

    def restore(self) -> None:
        """Load the checkpoint, and check the records; ``run`` then resumes there and drops later records.

        Raises:
            UsageError: If the checkpoint or a record is damaged, or of another run.
        """
        progress, agent, replay = self.folder.load_checkpoint()
        try:
            self._check_settings(progress.pop("settings", {}))
            self.rng.bit_generator.state = progress.pop("rng")
            self.progress = Progress.restored(progress)
            self.agent.load(agent)
            self.replay.load_state(replay)
        except Exception as error:  # nobody knows all that a framework raises at a damaged state
            file, reason = self.folder.checkpoint, str(error).partition("\n")[0] or type(error).__name__
            raise UsageError(f"out: expected the checkpoint of this run, got {file}: {reason}") from error
        self.recorder.check(self.progress.records, self.progress.step)
        if self.config.record_scores:
            self.scores.check(self.progress.scores, self.progress.step)
        if self.ground_friction:
            self.ground_friction.set(self.progress.step - 1)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raise unless a checkpoint is of this run, which may be longer now; those of older versions do not say."""
        for name, now in asdict(self.config).items():
            if name not in ("steps", "evaluation_episodes") and settings.get(name, now) != now:
                raise ValueError(f"{name}: expected {now!r}, got {settings[name]!r}")

    def summary(self) -> dict[str, Any]:
        """Return the final counts, and evaluations of the agent and of a random policy."""
        random = partial(self._random_action, np.random.default_rng(derive(self.config.seed, "random policy")))
        return {
            "step": self.progress.step,
            **self._counts(),
            "evaluation": describe(self.evaluate()),
            "random_policy": describe(self.evaluate(lambda _: random())),
            "seconds": round(self.progress.seconds, 3),
        }

    def _start_episode(self) -> Array:
        """Reset the environment, with a seed derived from the run's seed and the episode number."""
        self.progress.episode += 1
        observation, _ = self.env.reset(seed=derive(self.config.seed, "episode", self.progress.episode))
        return observation

    def _step(self, observation: Array) -> tuple[Array, float, bool]:
        """Take one environment step, store the transition, and update; return next observation, reward and done."""
        config, progress = self.config, self.progress
        if self.ground_friction:
            self.ground_friction.set(progress.step)
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
        """Return the evaluation returns of the greedy agent, or of another policy, on fixed episode seeds."""
        seeds = (derive(self.config.seed, "evaluation", k) for k in range(self.config.evaluation_episodes))
        return evaluate(policy or partial(self.agent.act, explore=False), self.evaluation_env, seeds)

    def _record(self) -> None:
        """Append a record to metrics.jsonl."""
        progress, activity = self.progress, self.agent.activity
        evaluated = self._is_due(self.config.evaluate_every)
        self.recorder.write(
            {
                "step": progress.step,
                "episode": progress.episode,
                "return": statistics.fmean(progress.returns) if progress.returns else None,
                "evaluation": statistics.fmean(self.evaluate()) if evaluated else None,
                **({"friction": self.ground_friction.at(progress.step - 1)} if self.ground_friction else {}),
                **self.agent.losses(),
                **self._counts(),
                **{f"neurons_reset/{network}": counts.neurons_reset for network, counts in activity.counts().items()},
                **{
                    f"{name}/{network}": getattr(lasting, name)
                    for network, lasting in activity.lasting().items()
                    for name in LASTING
                },
                **activity.fractions,
                "seconds": round(progress.seconds, 3),
            }
        )
        progress.returns = []

    def _record_scores(self, kind: str, network: str, report: ActivityReport) -> None:
        """Append the scores of a network's neurons, and the indices of those that were reset, to scores.jsonl."""
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
                    group.name: [[index for index, reset in enumerate(row) if reset] for row in group.mask or ()]
                    for group in report.groups
                },
            }
        )

    def _counts(self) -> dict[str, int]:
        """Return the number of updates, and of measurements and resets over all networks."""
        networks = self.agent.activity.counts().values()
        lasting = self.agent.activity.lasting().values()
        return {
            "updates": self.agent.updates,
            "measurements": sum(counts.measurements for counts in networks),
            "resets": sum(counts.resets for counts in networks),
            "neurons_reset": sum(counts.neurons_reset for counts in networks),
            **{name: sum(getattr(of, name) for of in lasting) for name in LASTING},
        }

    def _save_if_due(self) -> None:
        """Save a checkpoint at the end of an episode, if one is due."""
        progress = self.progress
        if progress.step - progress.checkpoint < self.config.checkpoint_every:
            return
        progress.checkpoint = progress.step
        progress.records, progress.scores = self.recorder.count, self.scores.count
        state = asdict(progress) | {"rng": self.rng.bit_generator.state, "settings": asdict(self.config)}
        self.folder.save_checkpoint(state, self.agent.save(), self.replay.state())
