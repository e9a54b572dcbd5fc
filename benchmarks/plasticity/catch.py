"""Catch, as in bsuite: a ball falls through a board, and a paddle on the last row must be below it.

An episode takes ``rows - 1`` steps and returns 1 if the ball was caught and -1 if not. The observation is the board,
in the order of this phase, with pixels of noise behind it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.plasticity.experiment import Experiment

__all__ = ["ACTIONS", "Board", "begin", "episode_length", "observe", "order", "pixels", "step"]

ACTIONS = 3
"""Left, stay, right."""


class Board(NamedTuple):
    """Where ball and paddle are."""

    row: Array
    column: Array
    paddle: Array


def episode_length(experiment: Experiment) -> int:
    """Steps of an episode."""
    return experiment.rows - 1


def pixels(experiment: Experiment) -> int:
    """Size of an observation."""
    return experiment.rows * experiment.columns + experiment.distractors


def order(experiment: Experiment, key: Array) -> Array:
    """Draw the order of the pixels in a phase."""
    return jax.random.permutation(key, pixels(experiment))


def begin(experiment: Experiment, key: Array) -> Board:
    """Start an episode: the ball is somewhere in the first row, the paddle in the middle."""
    column = jax.random.randint(key, (), 0, experiment.columns)
    return Board(jnp.int32(0), column, jnp.int32(experiment.columns // 2))


def observe(experiment: Experiment, board: Board, order: Array, key: Array) -> Array:
    """Return the pixels: 1 at ball and paddle, 0 elsewhere, and noise of 0 and 1."""
    empty = jnp.zeros((experiment.rows, experiment.columns))
    picture = empty.at[board.row, board.column].set(1).at[experiment.rows - 1, board.paddle].set(1)
    noise = jax.random.bernoulli(key, shape=(experiment.distractors,)).astype(picture.dtype)
    return jnp.concatenate([picture.ravel(), noise])[order]


def step(experiment: Experiment, board: Board, action: Array, key: Array) -> tuple[Board, Array, Array]:
    """Move the paddle and let the ball fall; return the next board, the reward and whether the episode has ended.

    After an end the board is that of a new episode.
    """
    paddle = jnp.clip(board.paddle + action - 1, 0, experiment.columns - 1)
    moved = Board(board.row + 1, board.column, paddle)
    ended = moved.row == experiment.rows - 1
    reward = jnp.where(ended, jnp.where(moved.column == paddle, 1.0, -1.0), 0.0)
    new = begin(experiment, key)
    return jax.tree.map(lambda fresh, old: jnp.where(ended, fresh, old), new, moved), reward, ended
