"""TD3 in JAX (Flax and optax) on Pendulum, with regrama around the optimizers of critics and actor.

The two critics are one module under ``nn.vmap``, so their weights have a leading axis of two; each is measured and
reset by itself. The lines that were added to a plain TD3 are marked with ``# <- neuroactivity``. A minute on a
CPU, in a checkout:

    pip install ".[jax,plot]" flax gymnasium
    python examples/td3_jax.py --steps 6000 --out runs/td3_jax
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import optax

import neuroactivity as na  # <- neuroactivity
import neuroactivity.plotting  # <- neuroactivity: needs matplotlib
from neuroactivity_jax import layout_of, regrama, report  # <- neuroactivity

Params = Any  # a pytree of arrays
GAMMA, POLYAK, EXPLORATION, NOISE, NOISE_CLIP, DELAY = 0.99, 0.005, 0.1, 0.2, 0.5, 2


class MLP(nn.Module):
    """Two hidden layers."""

    outputs: int
    width: int = 128

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Of shape ``(batch, outputs)``."""
        x = nn.relu(nn.Dense(self.width)(x))
        x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(self.outputs)(x)


class Critics(nn.Module):
    """Two Q networks with their weights in one array for each layer."""

    @nn.compact
    def __call__(self, observation: jax.Array, action: jax.Array) -> jax.Array:
        """Of shape ``(2, batch)``."""
        twins = nn.vmap(
            MLP, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, out_axes=0, axis_size=2
        )
        return twins(1)(jnp.concatenate([observation, action], axis=-1)).squeeze(-1)


class Actor(nn.Module):
    """Actions in ``[-1, 1]``."""

    actions: int

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """Of shape ``(batch, actions)``."""
        return jnp.tanh(MLP(self.actions)(observation))


class State(NamedTuple):
    """All that an update changes."""

    actor: Params
    critic: Params
    actor_target: Params
    critic_target: Params
    actor_state: Any
    critic_state: Any


class TD3:
    """Networks and optimizers; updates are pure functions of the state."""

    def __init__(self, env: gym.Env, options: argparse.Namespace):
        observations, actions = env.observation_space.shape[0], env.action_space.shape[0]
        self.actor, self.critics = Actor(actions), Critics()
        observation, action = jnp.zeros((8, observations)), jnp.zeros((8, actions))
        keys = jax.random.split(jax.random.key(options.seed), 2)
        actor, critic = self.actor.init(keys[0], observation), self.critics.init(keys[1], observation, action)

        self.layouts = {  # <- neuroactivity: what each neuron feeds
            "actor": layout_of(actor, lambda params: self.actor.apply(params, observation)),
            "critic": layout_of(critic, lambda params: self.critics.apply(params, observation, action)),
        }
        how = {"tau": options.tau, "every": options.every, "batches": 16, "seed": options.seed}
        self.actor_tx = regrama(  # <- neuroactivity: around the optimizer
            optax.adam(3e-4),
            self.layouts["actor"],
            initializer=lambda key: self.actor.init(key, observation),
            **how,
        )
        self.critic_tx = regrama(  # <- neuroactivity: around the optimizer
            optax.adam(1e-3),
            self.layouts["critic"],
            initializer=lambda key: self.critics.init(key, observation, action),
            **how,
        )
        self.state = State(actor, critic, actor, critic, self.actor_tx.init(actor), self.critic_tx.init(critic))
        self.act = jax.jit(self.actor.apply)

    def critic_loss(self, params: Params, state: State, batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        """Squared error of both critics to the smaller target."""
        noise = jnp.clip(NOISE * jax.random.normal(key, batch["action"].shape), -NOISE_CLIP, NOISE_CLIP)
        action = jnp.clip(self.actor.apply(state.actor_target, batch["next"]) + noise, -1, 1)
        value = self.critics.apply(state.critic_target, batch["next"], action).min(0)
        target = batch["reward"] + GAMMA * (1 - batch["terminated"]) * value
        return jnp.square(self.critics.apply(params, batch["observation"], batch["action"]) - target).mean(1).sum()

    @partial(jax.jit, static_argnums=0)
    def update_critics(self, state: State, batch: dict[str, jax.Array], key: jax.Array) -> State:
        """One step of the critics."""
        grads = jax.grad(self.critic_loss)(state.critic, state, batch, key)
        updates, critic_state = self.critic_tx.update(grads, state.critic_state, state.critic)  # measures and resets
        return state._replace(critic=optax.apply_updates(state.critic, updates), critic_state=critic_state)

    @partial(jax.jit, static_argnums=0)
    def update_actor(self, state: State, batch: dict[str, jax.Array]) -> State:
        """One step of the actor and of all targets."""

        def loss(params: Params) -> jax.Array:
            action = self.actor.apply(params, batch["observation"])
            return -self.critics.apply(state.critic, batch["observation"], action)[0].mean()

        updates, actor_state = self.actor_tx.update(jax.grad(loss)(state.actor), state.actor_state, state.actor)
        actor = optax.apply_updates(state.actor, updates)
        return state._replace(
            actor=actor,
            actor_state=actor_state,
            actor_target=optax.incremental_update(actor, state.actor_target, POLYAK),
            critic_target=optax.incremental_update(state.critic, state.critic_target, POLYAK),
        )


def train(options: argparse.Namespace) -> tuple[TD3, list[na.ActivityReport]]:
    """Train an agent; return it, and the reports of its critics."""
    env = gym.make("Pendulum-v1")
    env.action_space.seed(options.seed)
    scale = float(env.action_space.high[0])
    agent, rng, reports = TD3(env, options), np.random.default_rng(options.seed), []
    sizes = {"observation": env.observation_space.shape, "action": env.action_space.shape, "reward": ()}
    sizes |= {"next": env.observation_space.shape, "terminated": ()}
    buffer = {name: np.zeros((options.steps, *shape), np.float32) for name, shape in sizes.items()}
    observation, _ = env.reset(seed=options.seed)
    returns = 0.0
    for step in range(options.steps):
        if step < options.learning_starts:
            action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        else:
            action = np.asarray(agent.act(agent.state.actor, observation))
            action = np.clip(action + EXPLORATION * rng.normal(size=action.shape), -1, 1).astype(np.float32)
        following, reward, terminated, truncated, _ = env.step(scale * action)
        transition = (observation, action, 0.1 * float(reward), following, terminated)
        for name, value in zip(buffer, transition, strict=True):
            buffer[name][step] = value
        observation, returns = following, returns + float(reward)
        if terminated or truncated:
            print(f"step {step + 1:6d}   return {returns:8.1f}")
            (observation, _), returns = env.reset(), 0.0
        if (update := step + 1 - options.learning_starts) > 0:
            places = rng.integers(step + 1, size=128)
            batch = {name: array[places] for name, array in buffer.items()}
            key = jax.random.fold_in(jax.random.key(options.seed), update)
            agent.state = agent.update_critics(agent.state, batch, key)
            if update % DELAY == 0:
                agent.state = agent.update_actor(agent.state, batch)
            if update % options.every == 0:  # <- neuroactivity
                reports.append(report(agent.state.critic_state, agent.layouts["critic"]))
    return agent, reports


def main(arguments: list[str] | None = None) -> TD3:
    """Train, print the last tables, save a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--learning-starts", type=int, default=500)
    parser.add_argument("--every", type=int, default=500, help="updates between measurements")
    parser.add_argument("--tau", type=float, default=0.01, help="reset neurons with a score of at most this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/td3_jax"))
    options = parser.parse_args(arguments)

    agent, reports = train(options)
    for name, state in {"actor": agent.state.actor_state, "critic": agent.state.critic_state}.items():
        print(f"\n{name}: {state.neurons_reset} neurons reset in {state.resets} of {state.measurements}")
        print(report(state, agent.layouts[name]))
    hidden = [group.name for group in reports[0].groups if group.status != "head"]
    fractions = {name: [found[name].inactive_fraction for found in reports] for name in hidden}
    steps = [options.every * (place + 1) for place in range(len(reports))]
    options.out.mkdir(parents=True, exist_ok=True)
    na.plotting.inactivity(steps, fractions).figure.savefig(options.out / "activity.png")
    return agent


if __name__ == "__main__":
    main()
