"""regrama and redo: around an optax optimizer, they measure and reset a model while it trains."""

from collections.abc import Callable
from typing import Any

import optax
from jax import Array

import neuroactivity as na
from neuroactivity_jax.initializers import Initializer
from neuroactivity_jax.resetter import Resetter

__all__ = ["redo", "regrama"]


def regrama(
    inner: optax.GradientTransformation,
    layout: na.Layout,
    *,
    initializer: Initializer = "snapshot",
    tau: float = 0.01,
    every: int = 1000,
    max_fraction: float | None = None,
    reset_silent: bool = False,
    seed: int | Array = 0,
    on_report: Callable[[na.ActivityReport], None] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that it resets the neurons whose gradients have died, while the model trains.

    At every ``every``-th update the gradients that it is given are scored (:func:`neuroactivity.grama`), and neurons
    with a score of at most ``tau`` are reset: fresh incoming parameters, zero outgoing ones, moments as the optimizer
    starts with. The reset is part of the update, so the training loop does not change; everything works inside ``jit``,
    ``scan`` and ``vmap``.

    Args:
        inner: The optimizer: a chain, a schedule, ``inject_hyperparams``, ``multi_transform`` and so on. What stands
            outside of the wrapper must not change its updates.
        layout: The neuron groups, as :func:`layout_of` finds them. Groups of which the optimizer trains nothing,
            because their parameters are ``None`` or masked out, are left alone.
        initializer: Where fresh values come from: a function from a key to freshly initialised parameters, such as
            ``lambda key: model.init(key, x)``, or ``"snapshot"`` (rows of the values at ``init``, which are kept in the
            state).
        tau: Threshold on the score.
        every: Updates between two measurements.
        max_fraction: At most this part of a group is reset at once; with 0 the wrapper only measures.
        reset_silent: Whether a group without any gradient is reset as a whole.
        seed: Seed of all draws, a whole number or a key, which may be traced: ``init`` writes it into the state, and
            draws derive from that. Give networks with equal parameter names, and runs that are mapped over, different
            ones.
        on_report: Called with each report, on the host, by way of ``jax.debug.callback``.

    Returns:
        An optimizer; its state is an :class:`ActivityState`, which :func:`report` turns into a report. ``update`` needs
        the parameters. Its updates of parameters in bfloat16 or float16 are float32, so that a reset is rounded once.

    Raises:
        LayoutError: When ``init`` is given a tree that the layout does not fit.
        ValueError: If an option is out of range; from ``init``, if the optimizer's state is not known to belong to the
            parameters, a fresh value is missing, or a reset would write what the optimizer does not train.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> out = [("out/w", "neuron out")]
        >>> layout = na.Layout([na.dense("hidden", weight=("hidden/w", "in neuron"), outgoing=out)])
        >>> def initial(key):
        ...     return {"hidden": {"w": jax.random.normal(key, (3, 4))}, "out": {"w": jnp.ones((4, 1))}}
        >>> params, grads = initial(jax.random.key(0)), initial(jax.random.key(1))
        >>> grads["hidden"]["w"] = grads["hidden"]["w"].at[:, 2].set(0)  # a neuron without gradient
        >>> tx = regrama(optax.adam(1e-3), layout, initializer=initial, every=1)
        >>> updates, state = tx.update(grads, tx.init(params), params)
        >>> optax.apply_updates(params, updates)["out"]["w"][:, 0].round(2).tolist(), int(state.neurons_reset)
        ([1.0, 1.0, 0.0, 1.0], 1)

    References:
        Liu et al., "Measure gradients, not activations! Enhancing neuronal activity in deep reinforcement learning",
        NeurIPS 2025, arXiv:2505.24061, Algorithm 1.

    Notes:
        A reset entry lands on its fresh value to one rounding of the larger of the old and the fresh one, and an
        outgoing one exactly on zero, when the updates are applied by ``optax.apply_updates``. An update cannot lead
        away from NaN.
    """
    return _wrap(
        inner,
        layout=layout,
        by_activations=False,
        initializer=initializer,
        tau=tau,
        every=every,
        max_fraction=max_fraction,
        reset_silent=reset_silent,
        seed=seed,
        on_report=on_report,
    )


def redo(
    inner: optax.GradientTransformation,
    layout: na.Layout,
    *,
    initializer: Initializer = "snapshot",
    tau: float = 0.02,
    every: int = 1000,
    max_fraction: float | None = None,
    reset_silent: bool = False,
    seed: int | Array = 0,
    on_report: Callable[[na.ActivityReport], None] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that it resets the neurons whose activations have died, while the model trains.

    As :func:`regrama`, but scored by :func:`neuroactivity.tau_dormant` on what ``update(grads, state, params,
    activations=...)`` is given: neuron outputs by group name, or a function that computes them, such as ``lambda:
    activations(params, apply, layout=layout)``, which runs only when a measurement is due.

    Args:
        inner: The optimizer.
        layout: The neuron groups.
        initializer: Where fresh values come from, as for :func:`regrama`.
        tau: Threshold on the score.
        every: Updates between two measurements.
        max_fraction: At most this part of a group is reset at once; with 0 the wrapper only measures.
        reset_silent: Whether a group without any activation is reset as a whole.
        seed: Seed of all draws, as for :func:`regrama`.
        on_report: Called with each report.

    Returns:
        An optimizer, as :func:`regrama` does.

    References:
        Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023, arXiv:2302.12902.
    """
    return _wrap(
        inner,
        layout=layout,
        by_activations=True,
        initializer=initializer,
        tau=tau,
        every=every,
        max_fraction=max_fraction,
        reset_silent=reset_silent,
        seed=seed,
        on_report=on_report,
    )


def _wrap(inner: optax.GradientTransformation, **options: Any) -> optax.GradientTransformationExtraArgs:
    resetter = Resetter(optax.with_extra_args_support(inner), **options)
    return optax.GradientTransformationExtraArgs(resetter.init, resetter.update)
