"""PPO (Schulman et al. 2017) on a world that changes from phase to phase, all seeds at once.

Policy and value are one network, whose last output is the value. Between phases only it and its optimizer live on.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import neuroactivity as na
from benchmarks.plasticity import catch
from benchmarks.plasticity.dqn import seed_keys
from benchmarks.plasticity.experiment import Experiment, Outcome
from benchmarks.plasticity.measures import Measures, measure
from benchmarks.plasticity.methods import counts, optimizer
from benchmarks.plasticity.networks import Params, apply, draw
from benchmarks.plasticity.returns import curve, mean_return
from neuroactivity_jax import layout_of

__all__ = ["Agent", "phases", "start"]

ENVIRONMENTS, ROLLOUT = 16, 20
DISCOUNT, LAMBDA, CLIP, VALUE_WEIGHT = 0.99, 0.95, 0.2, 0.5


class Agent(NamedTuple):
    """What lives on from phase to phase."""

    params: Params
    state: Any


class Sample(NamedTuple):
    """What a step of an environment gives to learn from."""

    observation: Array
    action: Array
    log_prob: Array
    advantage: Array
    goal: Array


class Scene(NamedTuple):
    """Where the environments are."""

    boards: catch.Board
    observations: Array


def start(experiment: Experiment) -> tuple[Agent, na.Layout]:
    """Draw a network for each seed; return the agents, with a leading axis of seeds, and the network's layout."""
    new, keys = _new(experiment), seed_keys(experiment)
    params = jax.vmap(new)(jax.vmap(jax.random.fold_in, (0, None))(keys, 0))
    examples = jax.random.normal(jax.random.key(0), (16, catch.pixels(experiment)))
    first = jax.tree.map(lambda leaf: leaf[0], params)
    layout = layout_of(first, lambda params: apply(experiment, params, examples)[0])

    def agent(params: Params, key: Array) -> Agent:
        return Agent(params, optimizer(experiment, layout, new, key).init(params))

    return jax.jit(jax.vmap(agent))(params, keys), layout


def _new(experiment: Experiment) -> Any:
    return partial(draw, experiment, inputs=catch.pixels(experiment), outputs=catch.ACTIONS + 1)


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
    experiment: Experiment, layout: na.Layout, agent: Agent, key: Array, phase: Array
) -> tuple[Agent, Outcome]:
    """Train one agent for one phase."""
    new = _new(experiment)
    tx = optimizer(experiment, layout, new, key)
    key = jax.random.fold_in(key, phase + 1)
    if experiment.reset == "new_network":
        params = new(jax.random.fold_in(key, 0))
        agent = Agent(params, tx.init(params))
    order = catch.order(experiment, jax.random.fold_in(key, 1))
    keys = jax.random.split(jax.random.fold_in(key, 3), (2, ENVIRONMENTS))
    boards = jax.vmap(partial(catch.begin, experiment))(keys[0])
    scene = Scene(boards, jax.vmap(partial(catch.observe, experiment), (0, None, 0))(boards, order, keys[1]))

    number = experiment.steps_per_phase // ROLLOUT

    def iterate(carry: tuple[Agent, Scene], rollout: tuple[Array, Array]) -> tuple[tuple[Agent, Scene], Any]:
        (agent, scene), (index, key) = carry, rollout
        play, learn = jax.random.split(key)
        scene, samples, rewards, ended = _play(experiment, order, agent.params, scene, play)
        measured = jax.lax.cond(
            index == number - 1,
            lambda: _measures(experiment, layout, agent, samples),
            lambda: Measures(*jnp.zeros(len(Measures._fields))),
        )
        agent, happened = _learn(experiment, tx, agent, samples, learn)
        return (agent, scene), (rewards, ended, happened, measured)

    rollouts = jnp.arange(number), jax.random.split(jax.random.fold_in(key, 2), number)
    (agent, _), (rewards, ended, happened, measured) = jax.lax.scan(iterate, (agent, scene), rollouts)
    rewards, ended = (values.reshape(-1, ENVIRONMENTS) for values in (rewards, ended))
    last = len(rewards) - len(rewards) // 4
    inactive, rank, norm = (one[-1] for one in measured)
    resets, measured_again, reset_again = (count.sum() for count in happened)
    returns = mean_return(rewards[last:], ended[last:])
    curves = curve(rewards, ended)
    return agent, Outcome(returns, inactive, rank, norm, resets, measured_again, reset_again, curves)


def _play(
    experiment: Experiment, order: Array, params: Params, scene: Scene, key: Array
) -> tuple[Scene, Sample, Array, Array]:
    """Take the steps of a rollout in every environment; return samples, (sample, ...), and rewards and ends by step."""
    move = jax.vmap(partial(catch.step, experiment))
    see = jax.vmap(partial(catch.observe, experiment), (0, None, 0))

    def step(scene: Scene, key: Array) -> tuple[Scene, tuple[Array, ...]]:
        act, fall, look = jax.random.split(key, 3)
        logits, value = _policy(experiment, params, scene.observations)
        action = jax.random.categorical(act, logits)
        log_prob = _chosen(jax.nn.log_softmax(logits), action)
        boards, reward, ended = move(scene.boards, action, jax.random.split(fall, ENVIRONMENTS))
        following = see(boards, order, jax.random.split(look, ENVIRONMENTS))
        return Scene(boards, following), (scene.observations, action, log_prob, value, reward, ended)

    after, played = jax.lax.scan(step, scene, jax.random.split(key, ROLLOUT))
    observations, actions, log_probs, values, rewards, ended = played
    advantages = _advantages(rewards, ended, values, _policy(experiment, params, after.observations)[1])
    samples = Sample(observations, actions, log_probs, advantages, advantages + values)
    flat = jax.tree.map(lambda values: values.reshape(-1, *values.shape[2:]), samples)
    return after, flat, rewards, ended


def _advantages(rewards: Array, ended: Array, values: Array, last: Array) -> Array:
    """Return the generalised advantage estimates, (step, environment); ``last`` are the values after the last step."""
    following = jnp.concatenate([values[1:], last[None]])

    def back(later: Array, now: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, ended, value, following = now
        goes_on = DISCOUNT * (1 - ended)
        advantage = reward + goes_on * following - value + goes_on * LAMBDA * later
        return advantage, advantage

    return jax.lax.scan(back, jnp.zeros_like(last), (rewards, ended, values, following), reverse=True)[1]


def _policy(experiment: Experiment, params: Params, observations: Array) -> tuple[Array, Array]:
    outputs = apply(experiment, params, observations)[0]
    return outputs[:, :-1], outputs[:, -1]


def _chosen(values: Array, actions: Array) -> Array:
    return jnp.take_along_axis(values, actions[:, None], 1)[:, 0]


def _learn(
    experiment: Experiment, tx: optax.GradientTransformationExtraArgs, agent: Agent, samples: Sample, key: Array
) -> tuple[Agent, tuple[Array, ...]]:
    """Update on minibatches of the samples, in a new order at each pass through them."""
    number = experiment.updates * ROLLOUT
    size = ENVIRONMENTS * ROLLOUT
    passes = jax.random.split(key, math.ceil(number * experiment.batch / size))
    orders = jax.vmap(lambda key: jax.random.permutation(key, size))(passes).ravel()

    def update(agent: Agent, chosen: Array) -> tuple[Agent, tuple[Array, ...]]:
        batch = jax.tree.map(lambda values: values[chosen], samples)
        grads, outputs = jax.grad(partial(_loss, experiment), has_aux=True)(agent.params, batch)
        updates, state = tx.update(grads, agent.state, agent.params, activations=outputs)
        return Agent(optax.apply_updates(agent.params, updates), state), counts(experiment, agent.state, state)

    batches = orders[: number * experiment.batch].reshape(number, experiment.batch)
    agent, happened = jax.lax.scan(update, agent, batches)
    return agent, tuple(count.sum() for count in happened)


def _loss(experiment: Experiment, params: Params, batch: Sample) -> tuple[Array, dict[str, Array]]:
    """Return PPO's loss with clipping, and the outputs of the layers."""
    values, outputs = apply(experiment, params, batch.observation)
    log_probs = jax.nn.log_softmax(values[:, :-1])
    ratio = jnp.exp(_chosen(log_probs, batch.action) - batch.log_prob)
    advantage = jax.nn.standardize(batch.advantage, epsilon=1e-8)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
    error = jnp.square(values[:, -1] - batch.goal).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(1).mean()
    return VALUE_WEIGHT * error - gain - experiment.entropy * entropy, outputs


def _measures(experiment: Experiment, layout: na.Layout, agent: Agent, samples: Sample) -> Measures:
    """Measure the network on a whole rollout, before it learns from it."""
    grads, outputs = jax.grad(partial(_loss, experiment), has_aux=True)(agent.params, samples)
    return measure(layout, agent.params, grads, outputs)
