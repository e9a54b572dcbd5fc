"""DQN on a world that changes from phase to phase, all seeds at once.

Between phases only the network and its optimizer live on: replay and episodes start anew, as does exploration, and the
target network is the present one.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import neuroactivity as na
from benchmarks.plasticity import catch
from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.measures import Measures, measure
from benchmarks.plasticity.methods import counts, optimizer
from benchmarks.plasticity.networks import Params, apply, draw
from benchmarks.plasticity.returns import curve, mean_return
from neuroactivity_jax import layout_of

__all__ = ["Agent", "phases", "start"]

ENVIRONMENTS, BATCH, REPLAY, TARGET_EVERY, DISCOUNT = 8, 64, 4096, 75, 0.99
EXPLORATION: Final = (1.0, 0.05)
"""Share of random actions at the start of a phase, and from its first fifth on."""


class Agent(NamedTuple):
    """What lives on from phase to phase."""

    params: Params
    state: Any


class Replay(NamedTuple):
    """Transitions, the oldest of which are overwritten."""

    observations: Array
    actions: Array
    rewards: Array
    ended: Array
    following: Array


class Phase(NamedTuple):
    """What changes in a phase."""

    agent: Agent
    target: Params
    boards: catch.Board
    observations: Array
    replay: Replay
    before: tuple[Params, Params]
    """Parameters of the network and the target network before the last step."""


def start(experiment: Experiment) -> tuple[Agent, na.Layout]:
    """Draw a network for each seed; return the agents, with a leading axis of seeds, and the network's layout."""
    new = partial(draw, experiment, inputs=catch.pixels(experiment), outputs=catch.ACTIONS)
    keys = seed_keys(experiment)
    params = jax.vmap(new)(jax.vmap(jax.random.fold_in, (0, None))(keys, 0))
    examples = jax.random.normal(jax.random.key(0), (16, catch.pixels(experiment)))
    first = jax.tree.map(lambda leaf: leaf[0], params)
    layout = layout_of(first, lambda params: apply(experiment, params, examples)[0])

    def agent(params: Params, key: Array) -> Agent:
        return Agent(params, optimizer(experiment, layout, new, key).init(params))

    return jax.jit(jax.vmap(agent))(params, keys), layout


def seed_keys(experiment: Experiment) -> Array:
    """Return a key for each seed."""
    return jax.vmap(jax.random.key)(jnp.arange(experiment.seed, experiment.seed + experiment.seeds))


def phases(experiment: Experiment, agent: Agent, layout: na.Layout, first: int) -> Iterator[tuple[Agent, Outcome]]:
    """Train from phase ``first`` on; yield the agents after each phase, and its outcome by seed."""
    keys = seed_keys(experiment)
    for number in range(first, experiment.phases):
        agent, outcome = _train(experiment, layout, agent, keys, jnp.int32(number))
        yield agent, Outcome(*map(np.asarray, outcome))


@partial(jax.jit, static_argnums=(0, 1))
def _train(
    experiment: Experiment, layout: na.Layout, agents: Agent, keys: Array, number: Array
) -> tuple[Agent, Outcome]:
    return jax.vmap(partial(one_phase, experiment, layout), (0, 0, None))(agents, keys, number)


def one_phase(
    experiment: Experiment, layout: na.Layout, agent: Agent, key: Array, number: Array
) -> tuple[Agent, Outcome]:
    """Train one agent for one phase."""
    new = partial(draw, experiment, inputs=catch.pixels(experiment), outputs=catch.ACTIONS)
    tx = optimizer(experiment, layout, new, key)
    key = jax.random.fold_in(key, number + 1)
    if experiment.reset == "new_network":
        params = new(jax.random.fold_in(key, 0))
        agent = Agent(params, tx.init(params))
    order, look = catch.order(experiment, jax.random.fold_in(key, 1)), jax.random.fold_in(key, 2)
    keys = jax.random.split(look, (2, ENVIRONMENTS))
    boards = jax.vmap(partial(catch.begin, experiment))(keys[0])
    observations = jax.vmap(partial(catch.observe, experiment), (0, None, 0))(boards, order, keys[1])
    step = partial(_step, experiment, tx, order, jax.random.fold_in(key, 3))
    phase = Phase(agent, agent.params, boards, observations, _empty(observations), (agent.params, agent.params))
    phase, (rewards, ended, happened) = jax.lax.scan(step, phase, jnp.arange(experiment.steps_per_phase))
    steps = experiment.steps_per_phase
    last = slice(steps - steps // 4, None)
    measured = _measures(experiment, layout, phase, jax.random.fold_in(key, 4))
    resets, measured_again, reset_again = (count.sum() for count in happened)
    returns = mean_return(rewards[last], ended[last])
    return phase.agent, Outcome(returns, *measured, resets, measured_again, reset_again, curve(rewards, ended))


def _empty(observations: Array) -> Replay:
    pixels = jnp.zeros((REPLAY, observations.shape[-1]))
    return Replay(pixels, jnp.zeros(REPLAY, int), jnp.zeros(REPLAY), jnp.zeros(REPLAY, bool), pixels)


def _step(
    experiment: Experiment,
    tx: optax.GradientTransformationExtraArgs,
    order: Array,
    key: Array,
    phase: Phase,
    number: Array,
) -> tuple[Phase, tuple[Array, Array, tuple[Array, ...]]]:
    """Act once in every environment, and update."""
    act, fall, look, learn = jax.random.split(jax.random.fold_in(key, number), 4)
    actions = _act(experiment, phase, number, act)
    move = jax.vmap(partial(catch.step, experiment))
    boards, rewards, ended = move(phase.boards, actions, jax.random.split(fall, ENVIRONMENTS))
    see = jax.vmap(partial(catch.observe, experiment), (0, None, 0))
    following = see(boards, order, jax.random.split(look, ENVIRONMENTS))
    new = Replay(phase.observations, actions, rewards, ended, following)
    place = number * ENVIRONMENTS % REPLAY
    replay = jax.tree.map(
        lambda all_, some: jax.lax.dynamic_update_slice_in_dim(all_, some, place, 0), phase.replay, new
    )
    filled = jnp.minimum((number + 1) * ENVIRONMENTS, REPLAY)

    def update(agent: Agent, key: Array) -> tuple[Agent, tuple[Array, Array, Array]]:
        return _update(experiment, tx, replay, filled, agent, phase.target, key)

    agent, happened = jax.lax.scan(update, phase.agent, jax.random.split(learn, experiment.updates))
    copy = (number + 1) % TARGET_EVERY == 0
    target = jax.tree.map(lambda new, old: jnp.where(copy, new, old), agent.params, phase.target)
    counted = tuple(count.sum() for count in happened)
    before = phase.agent.params, phase.target
    return Phase(agent, target, boards, following, replay, before), (rewards, ended, counted)


def _act(experiment: Experiment, phase: Phase, number: Array, key: Array) -> Array:
    """Choose an action in each environment."""
    share = jnp.interp(number / experiment.steps_per_phase, jnp.array([0, 0.2]), jnp.array(EXPLORATION))
    which, random = jax.random.split(key)
    best = apply(experiment, phase.agent.params, phase.observations)[0].argmax(1)
    explore = jax.random.uniform(which, best.shape) < share
    return jnp.where(explore, jax.random.randint(random, best.shape, 0, catch.ACTIONS), best)


def _update(
    experiment: Experiment,
    tx: optax.GradientTransformationExtraArgs,
    replay: Replay,
    filled: Array,
    agent: Agent,
    target: Params,
    key: Array,
) -> tuple[Agent, tuple[Array, Array, Array]]:
    """Update the network on one batch."""
    grads, outputs = _gradients(experiment, replay, filled, agent.params, target, key)
    updates, state = tx.update(grads, agent.state, agent.params, activations=outputs)
    happened = counts(experiment, agent.state, state)
    return Agent(optax.apply_updates(agent.params, updates), state), happened


def _gradients(
    experiment: Experiment, replay: Replay, filled: Array, params: Params, target: Params, key: Array
) -> tuple[Params, dict[str, Array]]:
    """Return the gradients of the squared temporal differences of a batch, and the outputs of the layers."""
    batch = jax.tree.map(lambda values: values[jax.random.randint(key, (BATCH,), 0, filled)], replay)
    best = apply(experiment, target, batch.following)[0].max(1)
    goal = batch.rewards + DISCOUNT * jnp.where(batch.ended, 0.0, best)

    def loss(params: Params) -> tuple[Array, dict[str, Array]]:
        values, outputs = apply(experiment, params, batch.observations)
        chosen = jnp.take_along_axis(values, batch.actions[:, None], 1)[:, 0]
        return jnp.square(chosen - goal).mean(), outputs

    grads, outputs = jax.grad(loss, has_aux=True)(params)
    return grads, outputs


def _measures(experiment: Experiment, layout: na.Layout, phase: Phase, key: Array) -> Measures:
    """Measure the network as it was before the last step, on one batch."""
    filled = jnp.minimum(experiment.steps_per_phase * ENVIRONMENTS, REPLAY)
    grads, outputs = _gradients(experiment, phase.replay, filled, *phase.before, key)
    return measure(layout, phase.before[0], grads, outputs)
