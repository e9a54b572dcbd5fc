"""SAC (Haarnoja et al. 2018) on a MuJoCo task that changes from phase to phase, with many updates a step.

The environments of the seeds are stepped one after another; the updates are those of all seeds at once. Between phases
only the networks and their optimizers live on: replay, episodes and entropy coefficient start anew.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import neuroactivity as na
from benchmarks.plasticity.bodies import Worlds
from benchmarks.plasticity.dqn import seed_keys
from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.measures import Measures, measure
from benchmarks.plasticity.methods import counts, optimizer
from benchmarks.plasticity.networks import Params, apply, draw
from benchmarks.plasticity.returns import TWENTIETHS
from neuroactivity_jax import layout_of

__all__ = ["Agent", "phases", "start"]

DISCOUNT, POLYAK, FIRST_ALPHA = 0.99, 5e-3, 0.1
LOG_STD = (-5.0, 2.0)
NETWORKS = ("actor", "critic1", "critic2")
METHOD = 2**31 - 1
"""Marks the keys of what methods draw, as phases are marked by their numbers."""


Draw = Callable[[Array], Params]


class Agent(NamedTuple):
    """What lives on from phase to phase, each by network."""

    params: dict[str, Params]
    target: dict[str, Params]
    states: dict[str, Any]


class Replay(NamedTuple):
    """Transitions of a phase."""

    observations: Array
    actions: Array
    rewards: Array
    lost: Array
    following: Array


class Learning(NamedTuple):
    """What changes in a phase."""

    agent: Agent
    log_alpha: Array
    alpha_state: Any
    replay: Replay
    counted: Array


@dataclass(frozen=True)
class SAC:
    """The pure functions of an agent."""

    experiment: Experiment
    observation_size: int
    action_size: int

    actor_layout: na.Layout
    critic_layout: na.Layout

    @property
    def draws(self) -> dict[str, Draw]:
        """Functions that draw the parameters of a network, by network."""
        return _draws(self.experiment, self.observation_size, self.action_size)

    @property
    def layouts(self) -> dict[str, na.Layout]:
        """Layouts, by network."""
        return dict(zip(NETWORKS, (self.actor_layout, self.critic_layout, self.critic_layout), strict=True))

    @property
    def alpha(self) -> optax.GradientTransformation:
        """Optimizer of the entropy coefficient."""
        return optax.adam(self.experiment.learning_rate)

    def settings(self, name: str) -> Experiment:
        """Return the experiment as a network has it: without the method where that does not act."""
        acted_on = {"all": NETWORKS, "actor": NETWORKS[:1], "critics": NETWORKS[1:]}[self.experiment.reset_in]
        if name in acted_on:
            return self.experiment
        return replace(self.experiment, reset="none", reset_in="all", tau=None, strength=None)

    def optimizers(self, key: Array) -> dict[str, optax.GradientTransformationExtraArgs]:
        """Make the optimizers of a seed, by network."""
        keys = jax.random.split(jax.random.fold_in(key, METHOD), len(NETWORKS))
        return {
            name: optimizer(self.settings(name), self.layouts[name], self.draws[name], own)
            for name, own in zip(NETWORKS, keys, strict=True)
        }

    def new(self, key: Array, draws: Array) -> Agent:
        """Draw an agent; ``key`` is that of all that the method draws."""
        params = {
            name: self.draws[name](own)
            for name, own in zip(NETWORKS, jax.random.split(draws, len(NETWORKS)), strict=True)
        }
        states = {name: tx.init(params[name]) for name, tx in self.optimizers(key).items()}
        return Agent(params, {name: params[name] for name in NETWORKS[1:]}, states)

    def begin(self, agent: Agent, key: Array, number: Array) -> Learning:
        """Begin a phase."""
        if self.experiment.reset == "new_network":
            agent = self.new(key, jax.random.fold_in(key, number + 1))
        size, log_alpha = self.experiment.steps_per_phase, jnp.log(FIRST_ALPHA)
        seen = jnp.zeros((size, self.observation_size))
        replay = Replay(seen, jnp.zeros((size, self.action_size)), jnp.zeros(size), jnp.zeros(size), seen)
        return Learning(agent, log_alpha, self.alpha.init(log_alpha), replay, jnp.zeros(3, jnp.int32))

    def act(self, params: Params, observations: Array, key: Array) -> tuple[Array, Array]:
        """Sample actions, (sample, action), with their log-probabilities, (sample,)."""
        mean, log_std = jnp.split(apply(self.experiment, params, observations)[0], 2, axis=1)
        log_std = LOG_STD[0] + (LOG_STD[1] - LOG_STD[0]) * (jnp.tanh(log_std) + 1) / 2
        noise = jax.random.normal(key, mean.shape)
        raw = mean + jnp.exp(log_std) * noise
        log_gaussian = -0.5 * jnp.square(noise) - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw))  # log(1 - tanh²), numerically stable
        return jnp.tanh(raw), (log_gaussian - log_slope).sum(1)

    def step(
        self, learning: Learning, key: Array, phase: Array, number: Array, new: Replay, observation: Array
    ) -> tuple[Learning, Array]:
        """Store the transition of a step, update, and return the next action; in the first episode it is random."""
        now = jax.random.fold_in(jax.random.fold_in(key, phase), number)
        random, sample, learn = jax.random.split(now, 3)
        replay = jax.tree.map(lambda all_, one: all_.at[number].set(one), learning.replay, new)
        keys = jax.random.split(learn, self.experiment.updates)
        tx = self.optimizers(key)

        def update(learning: Learning, key: Array) -> tuple[Learning, None]:
            return self.update(tx, learning, number + 1, key), None

        learning = jax.lax.cond(
            number >= self.experiment.episode,
            lambda: jax.lax.scan(update, learning._replace(replay=replay), keys)[0],
            lambda: learning._replace(replay=replay),
        )
        chosen = self.act(learning.agent.params["actor"], observation[None], sample)[0][0]
        drawn = jax.random.uniform(random, chosen.shape, minval=-1, maxval=1)
        return learning, jnp.where(number + 1 < self.experiment.episode, drawn, chosen)

    def update(self, tx: dict[str, Any], learning: Learning, filled: Array, key: Array) -> Learning:
        """Update critics, targets, actor and entropy coefficient on one batch."""
        agent, alpha = learning.agent, jnp.exp(learning.log_alpha)
        keys = jax.random.split(key, 3)
        batch = self.batch(learning.replay, filled, keys[0])
        grads, outputs = self.critic_gradients(agent, batch, alpha, keys[1])
        params, states = dict(agent.params), dict(agent.states)

        def apply_to(name: str, grads: Params, outputs: dict[str, Array]) -> Array:
            updates, state = tx[name].update(grads, states[name], params[name], activations=outputs)
            happened = counts(self.settings(name), states[name], state)
            params[name], states[name] = optax.apply_updates(params[name], updates), state
            return jnp.stack(happened)

        counted = sum((apply_to(name, grads[name], outputs[name]) for name in NETWORKS[1:]), learning.counted)
        actor_grads, (actor_outputs, log_prob) = self.actor_gradients(params, batch, alpha, keys[2])
        counted = counted + apply_to("actor", actor_grads, actor_outputs)
        target = {name: optax.incremental_update(params[name], old, POLYAK) for name, old in agent.target.items()}
        excess = -log_prob.mean() + self.action_size  # of the entropy over its target
        change, alpha_state = self.alpha.update(alpha * excess, learning.alpha_state)
        log_alpha = optax.apply_updates(learning.log_alpha, change)
        return Learning(Agent(params, target, states), log_alpha, alpha_state, learning.replay, counted)

    def batch(self, replay: Replay, filled: Array, key: Array) -> Replay:
        """Draw transitions, with replacement."""
        places = jax.random.randint(key, (self.experiment.batch,), 0, filled)
        return Replay(*(values[places] for values in replay))

    def critic_gradients(
        self, agent: Agent, batch: Replay, alpha: Array, key: Array
    ) -> tuple[dict[str, Params], dict[str, dict[str, Array]]]:
        """Return the gradients of the squared temporal differences, and the outputs of the layers, by critic."""
        actions, log_prob = self.act(agent.params["actor"], batch.following, key)
        following = self.lowest(agent.target, batch.following, actions)
        goal = batch.rewards + DISCOUNT * (1 - batch.lost) * (following - alpha * log_prob)
        inputs = jnp.concatenate([batch.observations, batch.actions], axis=1)

        def loss(critics: dict[str, Params]) -> tuple[Array, dict[str, dict[str, Array]]]:
            found = {name: apply(self.experiment, params, inputs) for name, params in critics.items()}
            errors = [jnp.square(values[:, 0] - goal).mean() for values, _ in found.values()]
            return jnp.stack(errors).sum(), {name: outputs for name, (_, outputs) in found.items()}

        found: tuple[dict[str, Params], dict[str, dict[str, Array]]]
        found = jax.grad(loss, has_aux=True)({name: agent.params[name] for name in NETWORKS[1:]})
        return found

    def actor_gradients(self, params: dict[str, Params], batch: Replay, alpha: Array, key: Array) -> tuple[Params, Any]:
        """Return the gradients of the actor's loss, and the outputs of its layers with the log-probabilities."""

        def loss(actor: Params) -> tuple[Array, Any]:
            actions, log_prob = self.act(actor, batch.observations, key)
            outputs = apply(self.experiment, actor, batch.observations)[1]
            critics = {name: params[name] for name in NETWORKS[1:]}
            return (alpha * log_prob - self.lowest(critics, batch.observations, actions)).mean(), (outputs, log_prob)

        found: tuple[Params, Any] = jax.grad(loss, has_aux=True)(params["actor"])
        return found

    def lowest(self, critics: dict[str, Params], observations: Array, actions: Array) -> Array:
        """Return the smaller of the critics' values, (sample,)."""
        inputs = jnp.concatenate([observations, actions], axis=1)
        return jnp.stack([apply(self.experiment, params, inputs)[0][:, 0] for params in critics.values()]).min(0)

    def measures(self, learning: Learning, key: Array) -> Measures:
        """Measure all networks on one batch, before the last step of the phase: means, and the norm of all."""
        keys, alpha = jax.random.split(key, 3), jnp.exp(learning.log_alpha)
        batch = self.batch(learning.replay, jnp.int32(self.experiment.steps_per_phase - 1), keys[0])
        params = learning.agent.params
        grads, outputs = self.critic_gradients(learning.agent, batch, alpha, keys[1])
        grads["actor"], (outputs["actor"], _) = self.actor_gradients(params, batch, alpha, keys[2])
        found = [measure(self.layouts[name], params[name], grads[name], outputs[name]) for name in NETWORKS]
        inactive, rank, norm = (jnp.stack(values) for values in zip(*found, strict=True))
        return Measures(inactive.mean(), rank.mean(), jnp.linalg.norm(norm))


def _draws(experiment: Experiment, observation_size: int, action_size: int) -> dict[str, Draw]:
    actor = partial(draw, experiment, inputs=observation_size, outputs=2 * action_size)
    critic = partial(draw, experiment, inputs=observation_size + action_size, outputs=1)
    return dict(zip(NETWORKS, (actor, critic, critic), strict=True))


def start(experiment: Experiment) -> tuple[Agent, SAC]:
    """Draw the networks of each seed; return the agents, with a leading axis of seeds, and their functions."""
    worlds = Worlds(experiment)
    observation, action = worlds.observation_size, worlds.action_size
    draws = _draws(experiment, observation, action)

    def layout(name: str, inputs: int) -> na.Layout:
        examples, params = jax.random.normal(jax.random.key(0), (16, inputs)), draws[name](jax.random.key(0))
        return layout_of(params, lambda params: apply(experiment, params, examples)[0])

    layouts = layout("actor", observation), layout("critic1", observation + action)
    agent = SAC(experiment, observation, action, *layouts)
    keys = seed_keys(experiment)
    return jax.jit(jax.vmap(agent.new))(keys, jax.vmap(jax.random.fold_in, (0, None))(keys, 0)), agent


@partial(jax.jit, static_argnums=0)
def _begin(sac: SAC, agents: Agent, keys: Array, number: Array) -> Learning:
    return jax.vmap(sac.begin, (0, 0, None))(agents, keys, number)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(sac: SAC, learning: Learning, keys: Array, *rest: Any) -> tuple[Learning, Array]:
    return jax.vmap(sac.step, (0, 0, None, None, 0, 0))(learning, keys, *rest)


@partial(jax.jit, static_argnums=0)
def _measures(sac: SAC, learning: Learning, keys: Array) -> Measures:
    return jax.vmap(sac.measures)(learning, keys)


def phases(experiment: Experiment, agent: Agent, sac: SAC, first: int) -> Iterator[tuple[Agent, Outcome]]:
    """Train from phase ``first`` on; yield the agents after each phase, and its outcome by seed."""
    worlds, keys = Worlds(experiment), seed_keys(experiment)
    edges = np.linspace(0, experiment.steps_per_phase, TWENTIETHS + 1).astype(int)
    for number in range(first, experiment.phases):
        learning, observations = _begin(sac, agent, keys, jnp.int32(number)), worlds.begin(number)
        rng = np.random.default_rng((experiment.seed, number))
        actions = rng.uniform(-1, 1, (experiment.seeds, worlds.action_size)).astype(np.float32)
        for moment in range(experiment.steps_per_phase):
            rewards, lost, following, next_ = worlds.step(moment, actions)
            if moment == experiment.steps_per_phase - 1:
                measured = _measures(sac, learning, keys)
            new = Replay(*map(jnp.asarray, (observations, actions, rewards, lost, following)))
            learning, chosen = _step(sac, learning, keys, jnp.int32(number), jnp.int32(moment), new, next_)
            observations, actions = next_, np.asarray(chosen)
        agent = learning.agent
        last = experiment.steps_per_phase - experiment.steps_per_phase // 4
        returns = worlds.mean_returns(last, experiment.steps_per_phase)
        curves = np.stack([worlds.mean_returns(a, b) for a, b in itertools.pairwise(edges)], axis=1)
        inactive, rank, norm = map(np.asarray, measured)
        resets, measured_again, reset_again = np.asarray(learning.counted).T
        yield agent, Outcome(returns, inactive, rank, norm, resets, measured_again, reset_again, curves)
