"""The state of regrama and redo, and the report made from it."""

from typing import NamedTuple

import jax
import numpy as np
from jax import Array

import neuroactivity as na
from neuroactivity_jax.parameters import PyTree, unwrapped

NOT_MEASURED = -1.0
"""The score of a group that has not been measured; scores are zero or more, or NaN."""


class ActivityState(NamedTuple):
    """The state of :func:`regrama` and :func:`redo`; :func:`report` makes a report from it.

    Attributes:
        inner_state: State of the wrapped optimizer.
        steps: Updates so far.
        measurements: Measurements so far.
        resets: Measurements that reset at least one neuron.
        neurons_reset: Neurons reset so far.
        tau: Threshold on the score.
        scores: Scores at the last measurement by group name; -1 before the first.
        masks: The masks made from them by group name, all False where ``max_fraction`` is 0.
        key: Numbers of the key that all draws derive from.
        snapshot: The initial parameters by name, with ``initializer="snapshot"``.
    """

    inner_state: PyTree
    steps: Array
    measurements: Array
    resets: Array
    neurons_reset: Array
    tau: Array
    scores: dict[str, Array]
    masks: dict[str, Array]
    key: Array
    snapshot: dict[str, Array]


def report(state: PyTree, layout: na.Layout) -> na.ActivityReport | None:
    """Return the report of the last measurement.

    This copies the scores to the host, and warns of groups that are silent or not finite.

    Args:
        state: The state of an optimizer made by :func:`regrama` or :func:`redo`, or anything that contains exactly one
            such state: the state of a chain, a ``TrainState`` of Flax.
        layout: The layout that the optimizer was made with.

    Returns:
        The report; ``None`` before the first measurement.

    Raises:
        ValueError: If there is no such state, more than one, one of several runs at once, or one of another layout.

    Example:
        >>> import optax
        >>> from neuroactivity_jax import regrama
        >>> layout = na.Layout([na.dense("fc", weight=("w", "in neuron"))])
        >>> params = {"w": jax.numpy.ones((1, 4))}
        >>> tx = regrama(optax.sgd(0.1), layout, every=1)
        >>> _, state = tx.update({"w": jax.numpy.array([[0.0, 2.0, 1.0, 1.0]])}, tx.init(params), params)
        >>> report(state, layout)["fc"].inactive
        1
    """
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, ActivityState))
    states = [unwrapped(leaf) for leaf in leaves if isinstance(leaf, ActivityState)]
    if len(states) != 1:
        raise ValueError(f"state: expected one state of regrama or redo in it, found {len(states)}")
    (state,) = states
    if unknown := [name for name in state.scores if name not in layout]:
        raise ValueError(
            f"layout: expected that of the optimizer, with a group {unknown[0]!r}, got {', '.join(layout)}"
        )
    if state.steps.ndim:
        raise ValueError(
            f"state: expected that of one run, got that of {state.steps.shape} runs; take one: "
            "jax.tree.map(lambda x: x[0], state)"
        )
    if not state.measurements:
        return None
    scores = {name: np.asarray(score) for name, score in state.scores.items()}
    scores = {name: score for name, score in scores.items() if not (score == NOT_MEASURED).any()}
    masks = {name: np.asarray(state.masks[name]) for name in scores}
    return na.summarize(scores, layout, float(str(np.asarray(state.tau))), masks=masks)
