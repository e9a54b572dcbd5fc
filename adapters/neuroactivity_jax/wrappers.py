"""regrama and redo: wrapped around an optax optimizer, they measure and reset a model while it trains."""

from collections.abc import Callable
from typing import Any, SupportsIndex, Unpack

import optax
from jax import Array

import neuroactivity as na
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping import Clock, Options, ResetOptions, Score
from neuroactivity_jax.initializers import FreshValues, Initializer
from neuroactivity_jax.nesting import check_apart
from neuroactivity_jax.resetter import Resetter


def regrama(
    inner: optax.GradientTransformation,
    layout: na.Layout,
    *,
    initializer: Initializer = "snapshot",
    tau: float = 0.01,
    every: SupportsIndex = 1000,
    max_fraction: float | None = None,
    reset_silent: bool = False,
    lowest: float | None = None,
    start: SupportsIndex = 0,
    stop: SupportsIndex | None = None,
    batches: SupportsIndex = 1,
    protect: SupportsIndex = 0,
    outgoing: Outgoing = "zero",
    clock: Clock = "own",
    score: Score | None = na.grama,
    seed: int | Array = 0,
    on_report: Callable[[na.ActivityReport], None] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that it resets the neurons whose gradients have vanished, while the model trains.

    At every ``every``-th update the gradients of this update are scored (:func:`neuroactivity.grama`), and neurons with
    a score of at most ``tau`` are reset: fresh incoming parameters, zero outgoing ones, moments as the optimizer starts
    with, and for its next 200 steps a step count of their own. The reset is part of the update, so the training loop
    does not change; everything works inside ``jit``, ``scan`` and ``vmap``.

    Args:
        inner: The optimizer: a chain, a schedule, ``inject_hyperparams``, ``multi_transform`` and so on. Keep the
            wrapper outermost: transformations outside of it must not change its updates.
        layout: The neuron groups, as :func:`layout_of` discovers them. Groups of which the optimizer trains nothing,
            because their parameters are ``None`` or masked out, are left alone.
        initializer: Where fresh values come from: a function from a key to freshly initialised parameters, such as
            ``lambda key: model.init(key, x)``, or ``"snapshot"`` (rows of the values at ``init``, which are kept in the
            state). Where a function returns NaN or Inf, an error is raised; in compiled code nothing is reset then.
        tau: Threshold on the score.
        every: Updates between two measurements.
        max_fraction: At most this part of a group is reset at once; with 0 the wrapper only measures.
        reset_silent: Whether a group without any gradient is reset as a whole.
        lowest: Reset this part of each group at every measurement, those of the lowest scores, whatever ``tau`` says.
        start: The first update at which neurons may be reset; measurements begin at once.
        stop: The last update at which neurons may be reset.
        batches: A score is that of the last so many updates together. One small batch calls neurons inactive that are
            only rare. With ``redo``, activations are computed at each of them.
        protect: For so many measurements after its reset a neuron is not reset again.
        outgoing: What outgoing parameters become, as :func:`neuroactivity.reset` says: with ``"zero"`` the network
            computes what it would without the neuron; ``"small"`` changes it little, and gradients reach the neuron at
            once; ``"fresh"`` and ``"keep"`` change it.
        clock: ``"own"``: where a reset writes, the optimizer goes on as one made at that moment; needed by optimizers
            that correct the bias of moments by a step count, such as Adam, and without effect on others. ``"run"``: the
            step count goes on, as in published codes, and Adam's first steps there are several times too long. So it
            does, with a warning, where an own clock cannot be right, as with LAMB and Muon.
        score: A function to score neurons by instead of :func:`neuroactivity.grama`, called with what that is called
            with: gradients by parameter name, and the layout; and with the parameters by name, as they are before this
            update, if it takes ``params``. It returns non-negative scores by group name; the lower, the less active. It
            has to work wherever ``update`` does, as in ``jit``; a score below zero counts as NaN there. With
            ``batches`` the mean of its scores counts. ``init`` calls it once with zeros.
        seed: Seed of all draws, a whole number or a key, which may be traced: ``init`` writes it into the state, and
            draws derive from that. Give networks with equal parameter names different seeds, and runs under ``vmap``
            too.
        on_report: Called with each report on the host, by ``jax.debug.callback``.

    Returns:
        An optimizer; its state is an :class:`ActivityState`, from which :func:`report` makes a report. ``update`` needs
        the parameters. Its updates of parameters in bfloat16 or float16 are float32, so that a reset is rounded once.

    Raises:
        LayoutError: From ``init``, if the layout does not fit the parameters.
        TypeError: From ``init``, if a ``score`` returns something else than arrays by name.
        ValueError: If an option is out of range, a ``score`` returns something else than scores of all groups, or
            ``inner`` is a wrapper that resets the same parameters; from ``init``, if an array of the optimizer's state
            belongs to no parameter, if a fresh value is missing, or if a reset would write a parameter that the
            optimizer does not train.

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
        Applied by ``optax.apply_updates``, an update brings a reset entry to its fresh value up to one rounding of the
        larger of the old and the fresh value, and an outgoing entry exactly to zero. No update leads away from NaN.
    """
    return _wrap(
        inner,
        layout,
        by_activations=False,
        initializer=initializer,
        tau=tau,
        every=every,
        max_fraction=max_fraction,
        reset_silent=reset_silent,
        lowest=lowest,
        start=start,
        stop=stop,
        batches=batches,
        protect=protect,
        outgoing=outgoing,
        clock=clock,
        score=score,
        seed=seed,
        on_report=on_report,
    )


def redo(
    inner: optax.GradientTransformation, layout: na.Layout, *, tau: float = 0.02, **options: Unpack[Options]
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that it resets the neurons whose activations have vanished, while the model trains.

    Like :func:`regrama`, but neurons are scored by :func:`neuroactivity.tau_dormant` on the activations that ``update``
    gets, ``update(grads, state, params, activations=...)``: neuron outputs by group name, or a function that computes
    them, such as ``lambda: activations(params, apply, layout=layout)``, called only when a measurement is due.

    Args:
        inner: The optimizer.
        layout: The neuron groups.
        tau: Threshold on the score.
        options: All other options of :func:`regrama`, with the same defaults. A ``score`` takes the place of
            :func:`neuroactivity.tau_dormant` and gets activations by group name; ``update`` calls it first.

    Returns:
        An optimizer, as from :func:`regrama`.

    References:
        Sokar et al., "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023, arXiv:2302.12902.
    """
    return _wrap(inner, layout, by_activations=True, tau=tau, **options)


def _wrap(
    inner: optax.GradientTransformation,
    layout: na.Layout,
    *,
    by_activations: bool,
    initializer: Initializer = "snapshot",
    seed: int | Array = 0,
    score: Score | None = None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    options["score"] = None if score is (na.tau_dormant if by_activations else na.grama) else score
    inner, fresh = optax.with_extra_args_support(inner), FreshValues(initializer, seed)
    inside = getattr(inner.update, "__self__", None)
    resetter = Resetter(inner, layout, ResetOptions(**options), fresh, by_activations=by_activations)
    if isinstance(inside, Resetter):
        check_apart(inside.written(), resetter.written())
    return optax.GradientTransformationExtraArgs(resetter.init, resetter.update)
