"""SAC with BRO-nets on dog-walk, for as long as there is time.

``python -m benchmarks.scale --minutes 12 --out runs/scale``: no resets, ReGraMa with its own clock and ReGraMa as
published share the time. The seeds of a method are updated at once, on the device that JAX finds; meanwhile their
environments are stepped, in processes of their own. The same command goes on where it stopped, for as long again.
"""

import dataclasses
import json
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from gymnasium.spaces import flatdim
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from jax import Array

from neuroactivity_jax import summary
from reference_agents.agent import Batch
from reference_agents.commandline import parse, tell
from reference_agents.config import Config
from reference_agents.envs.environments import make
from reference_agents.errors import UsageError
from reference_agents.jax.learning import pack, unpack
from reference_agents.jax.sac import SAC
from reference_agents.running.files import replacing, write_text
from reference_agents.seeding import derive

METHODS: Final[Mapping[str, Mapping[str, Any]]] = {
    "none": {"reset": "none"},
    "regrama": {"reset": "regrama", "clock": "own"},
    "published": {"reset": "regrama", "clock": "run"},
}
SAVE_EVERY: Final = 10  # rounds


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the numbers depend on, but for the time."""

    task: str = "dm_control/dog-walk-v0"
    """Environment id of Gymnasium or of the Control Suite."""
    seeds: int = 4
    """Runs of each method."""
    seed: int = 0
    """The first run's seed; the others follow."""
    width: int = 256
    """Width of the residual stream."""
    replay_ratio: int = 2
    """Updates per environment step."""
    batch_size: int = 128
    """Transitions per update."""
    every: int = 1000
    """Updates between two resets."""
    batches: int = 1
    """Batches that a score is made of."""
    round_steps: int = 1000
    """Environment steps of a round, after which all environments start anew: the length of an episode of dog-walk."""
    random_steps: int = 2000
    """Environment steps with random actions before the first update."""
    capacity: int = 50_000
    """Transitions that a replay buffer holds, the oldest of which are overwritten."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "seed" else 1
            if field.type is int and value < least:
                raise UsageError(f"{field.name}: expected at least {least}, got {value}")

    def config(self, method: str, seed: int) -> Config:
        """Return the settings of one run of a method."""
        return Config(
            framework="jax",
            network="bronet",
            env=self.task,
            seed=seed,
            width=self.width,
            batch_size=self.batch_size,
            reset_every=self.every,
            batches=self.batches,
            **METHODS[method],
        )


@dataclass(frozen=True, kw_only=True)
class Command:
    """Train SAC with BRO-nets without resets and with ReGraMa, its own clock and the published one."""

    settings: tyro.conf.OmitArgPrefixes[Settings]
    minutes: float = 12.0
    """Time for all methods together."""
    parallel: bool = True
    """Whether each environment has a process of its own."""
    out: Path
    """Folder of scale.json and of the checkpoints."""


class Run(NamedTuple):
    """What the seeds of a method are at the end of a round; every array has a leading axis of seeds."""

    states: Any
    replay: Batch[Array]


class Method:
    """The seeds of one method, and what their rounds have given so far."""

    def __init__(self, settings: Settings, name: str, envs: VectorEnv[Any, Any, Any]) -> None:
        self.settings, self.name = settings, name
        self.envs: Any = envs
        self.rounds: list[dict[str, Any]] = []
        observation, action = map(flatdim, (envs.single_observation_space, envs.single_action_space))
        seeds = range(settings.seed, settings.seed + settings.seeds)
        agents = [SAC(settings.config(name, seed), observation, action) for seed in seeds]
        self.agent = agents[0]
        states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(agent.state for agent in agents))
        sizes = Batch(observation, action, 1, observation, 1)
        replay = Batch(*(jnp.zeros((settings.seeds, settings.capacity, size)) for size in sizes))
        self.run = Run(states, replay)
        self._act = jax.jit(jax.vmap(partial(self.agent._act, explore=True)))
        self._store = jax.jit(self._stored, donate_argnums=0)
        self._learn = jax.jit(self._learned, donate_argnums=(0, 1))

    def flop_per_update(self) -> int:
        """Return the arithmetic of one update of one seed, from the sizes of its matrices.

        For each sample: the actor forward and the target critics, 2 N for N weights each; both critics forward and
        backward, 6 N; the actor likewise; and both critics forward and back to their inputs, 4 N.
        """
        trained = self.run.states.actor, self.run.states.critics["critic1"]
        actor, critic = (
            sum(leaf[0].size for leaf in jax.tree.leaves(of.params) if leaf[0].ndim == 2) for of in trained
        )
        return int(self.settings.batch_size * (8 * actor + 24 * critic))

    def _stored(self, replay: Batch[Array], new: Batch[Array], place: Array) -> Batch[Array]:
        stored: Batch[Array] = jax.tree.map(lambda all_, one: all_.at[:, place].set(one), replay, new)
        return stored

    def _learned(self, states: Any, replay: Batch[Array], new: Batch[Array], step: Array) -> tuple[Any, Batch[Array]]:
        """Store the transitions of a step, and update ``replay_ratio`` times."""
        settings, delay = self.settings, self.agent.config.policy_delay
        replay = self._stored(replay, new, step % settings.capacity)
        filled = jnp.minimum(step + 1, settings.capacity)

        def update(states: Any, number: Array) -> tuple[Any, None]:
            key = jax.random.fold_in(jax.random.key(derive(settings.seed, "batches")), number)
            places = jax.random.randint(key, (settings.seeds, settings.batch_size), 0, filled)
            batch = jax.tree.map(lambda all_: jax.vmap(lambda of, at: of[at])(all_, places), replay)
            with_actor = (number + 1) % delay == 0
            return jax.vmap(self.agent._update, (0, 0, None))(states, batch, with_actor), None

        numbers = step * settings.replay_ratio + jnp.arange(settings.replay_ratio)
        return jax.lax.scan(update, states, numbers)[0], replay

    def round(self) -> dict[str, Any]:
        """Train for one round; return its record."""
        settings, number = self.settings, len(self.rounds)
        first, began = number * settings.round_steps, time.perf_counter()
        seeds = [derive(settings.seed + index, "round", number) for index in range(settings.seeds)]
        observations = self.envs.reset(seed=seeds)[0].copy()
        drawn, returns = np.random.default_rng(seeds), np.zeros(settings.seeds)
        new: Batch[Any] | None = None
        for step in range(first, first + settings.round_steps):
            actions = self._actions(observations, drawn, random=step < settings.random_steps)
            if new is not None:
                self._learn_from(new, step - 1)  # on the device, while the environments are stepped
            next_, rewards, terminated, truncated, infos = self.envs.step(actions)
            following = next_.copy()
            for index in np.flatnonzero(terminated | truncated):
                following[index] = infos["final_obs"][index]
            reward, lost = (values.astype(np.float32)[:, None] for values in (rewards, terminated))
            new = Batch(observations, actions, reward, following, lost)
            observations, returns = next_.copy(), returns + rewards
        assert new is not None
        self._learn_from(new, step)
        for leaf in jax.tree.leaves(self.run):
            leaf.block_until_ready()
        steps = np.arange(first, first + settings.round_steps)
        updates = int((steps >= settings.random_steps).sum()) * settings.replay_ratio
        self.rounds.append(self._record(returns, updates, time.perf_counter() - began))
        return self.rounds[-1]

    def _actions(self, observations: Any, drawn: np.random.Generator, *, random: bool) -> Any:
        if random:
            return drawn.uniform(-1, 1, self.envs.action_space.shape).astype(np.float32)
        states = self.run.states
        actions, keys = self._act(states.actor.params, observations, states.key)
        self.run = self.run._replace(states=states._replace(key=keys))
        return np.asarray(actions)

    def _learn_from(self, new: Batch[Any], step: int) -> None:
        """Store the transitions of a step and, after the random ones, update; the device goes on after the return."""
        states, replay = self.run
        if step < self.settings.random_steps:
            self.run = Run(states, self._store(replay, new, jnp.int32(step % self.settings.capacity)))
        else:
            self.run = Run(*self._learn(states, replay, new, jnp.int32(step)))

    def _record(self, returns: Any, updates: int, seconds: float) -> dict[str, Any]:
        states = self.run.states
        optimizers = {"actor": states.actor.optimizer} | {name: of.optimizer for name, of in states.critics.items()}
        record = {"return": returns.round(3).tolist(), "updates": updates, "seconds": round(seconds, 3)}
        for name, optimizer in optimizers.items():
            figures = jax.vmap(partial(summary, prefix=""))(optimizer)
            for key in ("inactive_fraction", "neurons_reset"):
                record[f"{name}/{key}"] = [None if np.isnan(v) else round(float(v), 4) for v in figures[f"/{key}"]]
        return record

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        with replacing(path) as file:
            file.write(pack(self.run, settings=dataclasses.asdict(self.settings), rounds=self.rounds))

    def restore(self, path: Path) -> None:
        """Read a checkpoint.

        Raises:
            UsageError: If the file is not a checkpoint with these settings.
        """
        try:
            run, values = unpack(path.read_bytes(), self.run)
            if values["settings"] != dataclasses.asdict(self.settings):
                raise ValueError("other settings")
            self.run, self.rounds = run, values["rounds"]
        except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise UsageError(f"{path}: expected a checkpoint with these settings, got {error}") from error


def make_environments(settings: Settings, *, parallel: bool) -> VectorEnv[Any, Any, Any]:
    """Make an environment for each seed."""
    makers = [partial(make, settings.task)] * settings.seeds
    if parallel:
        return AsyncVectorEnv(makers, context="spawn", autoreset_mode=AutoresetMode.SAME_STEP)
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def train(method: Method, path: Path, seconds: float) -> None:
    """Train a method for so many seconds, to the end of a round and for one at least, from its checkpoint on."""
    if path.exists():
        method.restore(path)
    began, done = time.perf_counter(), len(method.rounds)
    while len(method.rounds) == done or time.perf_counter() - began < seconds:
        last = method.round()
        rate = last["updates"] / last["seconds"]  # each is of all seeds
        speed = rate * method.settings.seeds * method.flop_per_update() / 1e9
        print(
            f"{method.name}, round {len(method.rounds)}: return {np.mean(last['return']):.2f}, "
            f"{rate:.1f} updates/s of {method.settings.seeds} seeds, {speed:.1f} GFLOP/s",
            flush=True,
        )
        if len(method.rounds) % SAVE_EVERY == 0:
            method.save(path)
    method.save(path)


def run(command: Command) -> None:
    """Train all methods, and write what their rounds have given."""
    if not 0 < command.minutes < 1e6:
        raise UsageError(f"minutes: expected a positive number, got {command.minutes}")
    command.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"config": dataclasses.asdict(command.settings), "device": str(jax.devices()[0])}
    with closing(make_environments(command.settings, parallel=command.parallel)) as envs:
        for name in METHODS:
            method = Method(command.settings, name, envs)
            train(method, command.out / f"{name}.npz", command.minutes * 60 / len(METHODS))
            results |= {name: method.rounds, "flop_per_update": method.flop_per_update()}
            write_text(command.out / "scale.json", json.dumps(results) + "\n")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return tell(lambda: run(parse(Command, args, prog="python -m benchmarks.scale")))


if __name__ == "__main__":
    sys.exit(main())
