"""What the last measurement found, read from the state of regrama and redo: for people, and in compiled loops."""

import weakref

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import neuroactivity as na
from neuroactivity.report import build_report, warn_of_alerts
from neuroactivity.wrapping import warn_of_resets
from neuroactivity_jax.parameters import PyTree, unwrapped
from neuroactivity_jax.state import NOT_MEASURED, ActivityState, states_in


def report(state: PyTree, layout: na.Layout) -> na.ActivityReport | None:
    """Return the report of the last measurement.

    This copies the scores to the host, and warns of groups that are silent or not finite, and of resets that did not
    last: once for each layout object.

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
    state = find_state(state)
    _check_layout(state, layout)
    if state.steps.ndim:
        raise ValueError(
            f"state: expected that of one run, got that of {state.steps.shape} runs; take one: "
            "jax.tree.map(lambda x: x[0], state), or all with reports"
        )
    return read_report(state, layout)


def reports(states: PyTree, layout: na.Layout) -> list[na.ActivityReport | None]:
    """Return the report of the last measurement of each of several runs, as ``vmap`` makes them.

    Args:
        states: As for :func:`report`, but every array of it has leading axes that count runs.
        layout: The layout that the optimizer was made with.

    Returns:
        The reports, by run; ``None`` for a run without a measurement. Runs of several leading axes are in one list, the
        last axis fastest.

    Raises:
        ValueError: If there is no such state, more than one, one of a single run, or one of another layout.

    Example:
        >>> import optax
        >>> from neuroactivity_jax import regrama
        >>> layout = na.Layout([na.dense("fc", weight=("w", "in neuron"))])
        >>> params = {"w": jax.numpy.ones((3, 1, 4))}
        >>> states = jax.vmap(regrama(optax.sgd(0.1), layout).init)(params)
        >>> reports(states, layout)
        [None, None, None]
    """
    state = find_state(states)
    _check_layout(state, layout)
    if not state.steps.ndim:
        raise ValueError("states: expected those of several runs, got that of one; use report")
    state = jax.device_get(state._replace(inner_state=(), snapshot={}, born=state.steps, young={}, magnitudes={}))
    runs = [jax.tree.map(lambda leaf, run=run: leaf[run], state) for run in np.ndindex(state.steps.shape)]
    return [read_report(run, layout) for run in runs]


def summary(state: PyTree, prefix: str = "neuroactivity") -> dict[str, Array]:
    """Return the figures of the last measurement as scalars, for the metrics that a compiled loop gives back.

    It works inside ``jit``, ``scan`` and ``vmap``: the keys are the same before and after the first measurement, and
    all values are arrays without axes. For the states of several runs, map it: ``jax.vmap(summary)(states)``.

    Args:
        state: As for :func:`report`.
        prefix: What every key begins with.

    Returns:
        What :meth:`neuroactivity.ActivityReport.scalars` returns, ``{prefix}/{group}/inactive_fraction`` for every
        group (NaN where it was not measured or could not be judged) and the totals ``{prefix}/inactive_fraction``,
        ``/neurons``, ``/inactive``, ``/silent``, ``/nonfinite``, ``/reset`` and ``/reset_again``; and
        ``{prefix}/{group}/reset``, ``{prefix}/measurements`` and ``{prefix}/neurons_reset`` (in all measurements so
        far).

    Raises:
        ValueError: If there is no such state, or more than one.

    Example:
        >>> import optax
        >>> from neuroactivity_jax import regrama
        >>> layout = na.Layout([na.dense("fc", weight=("w", "in neuron"))])
        >>> params = {"w": jax.numpy.ones((1, 4))}
        >>> tx = regrama(optax.sgd(0.1), layout, every=1)
        >>> _, state = tx.update({"w": jax.numpy.array([[0.0, 2.0, 1.0, 1.0]])}, tx.init(params), params)
        >>> float(summary(state)["neuroactivity/fc/inactive_fraction"])
        0.25
    """
    state = find_state(state)
    values: dict[str, Array] = {}
    counts = {
        name: _counts(score, state.masks[name], state.reset_before[name], state.tau)
        for name, score in state.scores.items()
    }
    for name, of_group in counts.items():
        values[f"{prefix}/{name}/inactive_fraction"] = _fraction(of_group)
        values[f"{prefix}/{name}/reset"] = of_group["reset"]
    total = {key: sum([of_group[key] for of_group in counts.values()], jnp.int32(0)) for key in _COUNTED}
    values[f"{prefix}/inactive_fraction"] = _fraction(total)
    values |= {f"{prefix}/{key}": count for key, count in total.items()}
    return values | {f"{prefix}/{key}": getattr(state, key) for key in ("measurements", "neurons_reset")}


_COUNTED = ("neurons", "inactive", "silent", "nonfinite", "reset", "reset_again")


def _counts(scores: Array, mask: Array, before: Array, tau: Array) -> dict[str, Array]:
    """Count neurons by what their scores say, as reports do; all zero for a group that was not measured."""
    scores = jnp.atleast_2d(scores)
    measured = jnp.all(scores != NOT_MEASURED)
    sound = jnp.isfinite(scores).all(axis=-1, keepdims=True)
    whole = jnp.ones_like(scores, bool)
    found = {
        "neurons": whole,
        "inactive": sound & (scores <= tau),
        "silent": whole & (scores == 0).all(axis=-1, keepdims=True),
        "nonfinite": whole & ~sound,
        "reset": jnp.atleast_2d(mask),
        "reset_again": sound & (scores <= tau) & jnp.atleast_2d(before),
    }
    return {key: jnp.sum(neurons & measured, dtype=jnp.int32) for key, neurons in found.items()}


def _fraction(counts: dict[str, Array]) -> Array:
    """Inactive neurons over those that could be judged; NaN where none could."""
    judged = counts["neurons"] - counts["nonfinite"]
    return jnp.where(judged > 0, counts["inactive"] / jnp.maximum(judged, 1), jnp.nan)


def find_state(tree: PyTree) -> ActivityState:
    """Return the one state of regrama or redo in a tree.

    Raises:
        ValueError: If there is none, or more than one.
    """
    states = states_in(tree)
    if len(states) != 1:
        hint = "" if states else "; a host that makes its optimizer anew drops the wrapper: attach it again"
        raise ValueError(f"state: expected one state of regrama or redo in it, found {len(states)}{hint}")
    state: ActivityState = unwrapped(states[0])
    return state


def _check_layout(state: ActivityState, layout: na.Layout) -> None:
    if unknown := [name for name in state.scores if name not in layout]:
        raise ValueError(
            f"layout: expected that of the optimizer, with a group {unknown[0]!r}, got {', '.join(layout)}"
        )


def read_report(state: ActivityState, layout: na.Layout) -> na.ActivityReport | None:
    """Make the report of one run, and warn of what has not been warned of with this layout."""
    if not state.measurements:
        return None
    scores = {name: np.asarray(score) for name, score in state.scores.items()}
    scores = {name: score for name, score in scores.items() if not (score == NOT_MEASURED).any()}
    masks, before = ({name: np.asarray(of[name]) for name in scores} for of in (state.masks, state.reset_before))
    tau = float(str(np.asarray(state.tau)))
    found, warned = build_report(scores, layout, tau, masks=masks, reset_before=before), _warned(layout)
    warn_of_alerts(found, warned, stacklevel=3)
    warn_of_resets(found.total, warned, stacklevel=3)
    return found


_WARNED: dict[int, set[str]] = {}


def _warned(layout: na.Layout) -> set[str]:
    """Return what has been warned of with this layout, the one thing that stays the same while states come and go."""
    if id(layout) not in _WARNED:
        _WARNED[id(layout)] = set()
        weakref.finalize(layout, _WARNED.pop, id(layout))
    return _WARNED[id(layout)]
