"""The two scores: GraMa, from gradients, and the tau-dormant score, from activations.

Both are magnitudes divided by their group's mean, so 1 is average and 0 is dead. Both are pure functions of arrays: no
state, no randomness, no data-dependent shapes.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from neuroactivity.arrays import (
    Array,
    Arrays,
    accumulation_dtype,
    asarray_like,
    cache_outside_compile,
    check_array,
    map_batched,
    namespace,
    no_autograph,
    shape_of,
    to_dense,
)
from neuroactivity.errors import LayoutError
from neuroactivity.layout import Layout, lookup
from neuroactivity.layout.groups import NeuronGroup, stack_axes
from neuroactivity.layout.patterns import NEURON, BoundPattern, NeuronIndex, bind, neuron_sums, parse

Sums: TypeAlias = tuple[Array, int | tuple[int, ...]]
"""Sums of magnitudes, one for each neuron, and the numbers of entries behind them: one for all neurons, or one each."""


@no_autograph
def grama(
    grads: Arrays, /, layout: Layout, *, signal: Literal["weights", "activations"] = "weights"
) -> dict[str, Array]:
    r"""Score every neuron by the magnitude of its gradients (GraMa).

    With :math:`g` the gradients of neuron :math:`i`'s :math:`N_i` incoming parameter entries,

    .. math:: m_i = \frac{1}{N_i} \sum |g|, \qquad G_i = \frac{m_i}{\frac{1}{H} \sum_{k=1}^{H} m_k}

    where :math:`k` runs over the :math:`H` neurons of the group, and of one member where the group is a stack. A neuron
    is inactive at :math:`G_i \le \tau`.

    Args:
        grads: Gradients by parameter name, real floating arrays of the parameters' shapes. ``None`` leaves a parameter
            out (frozen or unused), and a group with no parameter left. With ``signal="activations"``: gradients of the
            neuron outputs for each sample, by group name, of the shape that the group's ``activation`` pattern names.
        layout: The neuron groups.
        signal: What was differentiated: the weights, as the paper's own code does, or the neuron outputs, Eq. 2 to the
            letter. Take the outputs before the activation function: gradients of what a ReLU returns find no dead
            neuron, since they do not pass the ReLU.

    Returns:
        Scores by group name, shape ``(neurons,)`` or ``(stack, neurons)``, in ``[0, neurons]`` with mean 1; float32, or
        float64 where the gradients are. All 0 in a group whose gradients are all zero; all NaN where any is NaN or
        infinite.

    Raises:
        LayoutError: If a parameter is missing, or has another shape or dtype than the layout expects.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> layout = na.Layout([na.dense("fc", weight=("fc.weight", "neuron in"))])
        >>> na.grama({"fc.weight": np.array([[3.0, -3.0], [0.0, 0.0], [1.0, 5.0]])}, layout)
        {'fc': array([1.5, 0. , 1.5])}

    References:
        Liu, Wu, Obando-Ceron, Castro, Courville, Pan, "Measure gradients, not activations! Enhancing neuronal activity
        in deep reinforcement learning", NeurIPS 2025, arXiv:2505.24061, Eq. 2.

    Notes:
        The paper's code adds 1e-9 to the denominator and then depends on the loss scale; here the score does not change
        when all gradients are multiplied by a positive factor, as long as they and their sums are finite and normal
        numbers. The magnitude of a neuron with several incoming parameters is the mean over all their entries together.
    """
    return _scores(_sums(grads, layout, signal), layout)


@no_autograph
def tau_dormant(activations: Arrays, /, layout: Layout) -> dict[str, Array]:
    r"""Score every neuron by the magnitude of its activations (the tau-dormant, or dormant-neuron, score).

    With :math:`h_i(x)` the output of neuron :math:`i` on sample :math:`x`,

    .. math:: s_i = \frac{E_x |h_i(x)|}{\frac{1}{H} \sum_{k=1}^{H} E_x |h_k(x)|}

    where :math:`k` runs over the :math:`H` neurons of the group, and of one member where the group is a stack. A neuron
    is :math:`\tau`-dormant at :math:`s_i \le \tau`.

    Args:
        activations: Neuron outputs by group name, as the layers behind read them (after the activation function), of
            the shape that the group's ``activation`` pattern names. Averaged over every axis but ``neuron`` and
            ``stack``. ``None`` leaves a group out.
        layout: The neuron groups.

    Returns:
        Scores by group name, as :func:`grama` returns them.

    Raises:
        LayoutError: If a group is missing, or has another shape or dtype than the layout expects.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> layout = na.Layout([na.dense("fc", weight=("fc.weight", "neuron in"))])
        >>> na.tau_dormant({"fc": np.array([[1.0, 0.0], [3.0, 0.0]])}, layout)
        {'fc': array([2., 0.])}

    References:
        Sokar, Agarwal, Castro, Evci, "The dormant neuron phenomenon in deep reinforcement learning", ICML 2023,
        arXiv:2302.12902, Eq. 1.
    """
    return _scores(_output_sums(activations, layout), layout)


@no_autograph
def magnitudes(
    arrays: Arrays, /, layout: Layout, *, signal: Literal["weights", "activations"] = "weights"
) -> dict[str, Array]:
    r"""Return every neuron's mean magnitude, :math:`m_i` of :func:`grama`, before it is divided by its group's mean.

    Magnitudes of several batches may be added; :func:`scores` turns the sum into the score of all of them. One small
    batch calls neurons inactive that are only rare.

    Args:
        arrays: Gradients, or neuron outputs, as given to :func:`grama` and :func:`tau_dormant`.
        layout: The neuron groups.
        signal: ``"activations"`` for arrays of neuron outputs, or of their gradients.

    Returns:
        Magnitudes by group name, shape ``(neurons,)`` or ``(stack, neurons)``; float32, or float64 where the arrays
        are.

    Raises:
        LayoutError: If a parameter is missing, or has another shape or dtype than the layout expects.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> layout = na.Layout([na.dense("fc", weight=("fc.weight", "neuron in"))])
        >>> grads = [np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 1.0]])]
        >>> first, second = [na.magnitudes({"fc.weight": batch}, layout) for batch in grads]
        >>> first, na.scores({"fc": first["fc"] + second["fc"]})
        ({'fc': array([1., 0.])}, {'fc': array([1., 1.])})
    """
    sums = _sums(arrays, layout, signal)
    return {name: _means(total, entries, layout[name]) for name, (total, entries) in sums.items()}


@no_autograph
def scores(magnitudes: Arrays, /) -> dict[str, Array]:
    """Divide magnitudes by their mean over each group (and stack member): the last step of both scores.

    Args:
        magnitudes: By group name, of one batch or added up over several.

    Returns:
        Scores by group name, as :func:`grama` returns them.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> na.scores({"fc": np.array([3.0, 0.0, 3.0])})
        {'fc': array([1.5, 0. , 1.5])}
    """
    wide = {}
    for name, value in magnitudes.items():
        xp = namespace(value)
        wide[name] = xp.astype(value, accumulation_dtype(xp, value.dtype), copy=False)
    return map_batched(_normalise, wide)


def _sums(arrays: Arrays, layout: Layout, signal: str) -> dict[str, Sums]:
    """Sum the magnitudes of what the signal names."""
    if signal == "activations":
        return _output_sums(arrays, layout)
    if signal != "weights":
        raise ValueError(f"signal: expected 'weights' or 'activations', got {signal!r}")
    return _weight_sums(arrays, layout)


def _weight_sums(grads: Arrays, layout: Layout) -> dict[str, Sums]:
    """Sum the magnitudes of the gradients of each neuron's incoming parameters."""
    named = [(group, param, to_dense(lookup(grads, param, group))) for group, param in _incoming(layout)]
    present = [entry for entry in named if entry[2] is not None]
    where = "group {!r}, parameter {!r}: "
    shapes = tuple([(group, param, shape_of(x, where, group, param)) for group, param, x in present])
    sums: dict[str, Sums] = {}
    for (group, param, gradient), (bound, owners, neurons) in zip(present, _terms(layout, shapes), strict=True):
        try:
            added = neuron_sums(gradient, bound, owners, neurons)
        except (LayoutError, TypeError) as error:
            raise type(error)(where.format(group, param) + str(error)) from None
        sums[group] = _add(sums[group], added, neurons) if group in sums else added
    return sums


@cache_outside_compile
def _incoming(layout: Layout) -> tuple[tuple[str, str], ...]:
    """List the incoming parameters of all groups."""
    return tuple([(name, view.param) for name, group in layout.items() for view in group.incoming])


@cache_outside_compile
def _terms(
    layout: Layout, shapes: tuple[tuple[str, str, tuple[int, ...]], ...]
) -> tuple[tuple[BoundPattern, NeuronIndex | None, int], ...]:
    """Bind incoming parameters, given by group, name and shape, and say how many neurons their groups have."""
    present: dict[str, dict[str, tuple[int, ...]]] = {}
    for group, param, shape in shapes:
        present.setdefault(group, {})[param] = shape
    groups = {name: layout[name].bind(arrays) for name, arrays in present.items()}
    return tuple(
        [
            (bound, view.owners, group.shape[-1])
            for group in groups.values()
            for role, view, bound in group.views
            if role == "incoming"
        ]
    )


def _output_sums(outputs: Arrays, layout: Layout) -> dict[str, Sums]:
    """Sum the magnitudes of arrays of the shape of the groups' outputs."""
    sums: dict[str, Sums] = {}
    for name, group in layout.items():
        if name not in outputs:
            raise LayoutError(f"group {name!r} is missing; there are {', '.join(list(outputs)[:8]) or 'no groups'}")
        if outputs[name] is None:
            continue
        pattern = parse(group.activation)
        where = f"group {name!r}, activation {group.activation!r}"
        try:
            check_array(outputs[name])
            shape = shape_of(outputs[name], "")
            if pattern.stacks != group.stacks:
                raise LayoutError(f"expected {stack_axes(group.stacks)}, like the incoming parameters")
            if group.neurons is None and pattern.neurons not in [view.parsed.neurons for view in group.incoming]:
                raise LayoutError("expected as many axes called 'neuron' as in the incoming parameters, or neurons=")
            bound = bind(pattern, shape, {} if group.neurons is None else {NEURON: group.neurons})
            sums[name] = neuron_sums(outputs[name], bound, None, bound.size(NEURON))
        except (LayoutError, TypeError) as error:
            raise type(error)(f"{where}: {error}") from None
    return sums


def _add(a: Sums, b: Sums, neurons: int) -> Sums:
    """Add two sums, in the wider of their dtypes."""
    (sums, entries), (more, further) = a, b
    xp = namespace(sums, more)
    dtype = xp.result_type(sums.dtype, more.dtype)
    total = xp.astype(sums, dtype, copy=False) + xp.astype(more, dtype, copy=False)
    if isinstance(entries, int) and isinstance(further, int):
        return total, entries + further
    each = [count if isinstance(count, tuple) else (count,) * neurons for count in (entries, further)]
    return total, tuple([x + y for x, y in zip(*each, strict=True)])


def _scores(sums: Mapping[str, Sums], layout: Layout) -> dict[str, Array]:
    """Divide each neuron's mean magnitude by its group's; a number of entries that all neurons share cancels."""
    totals = {}
    for name, (total, entries) in sums.items():
        totals[name] = total if isinstance(entries, int) else _means(total, entries, layout[name])
    return map_batched(_normalise, totals)


def _means(sums: Array, entries: int | tuple[int, ...], group: NeuronGroup) -> Array:
    """Divide sums by the numbers of entries behind them."""
    if isinstance(entries, int):
        return sums / max(entries, 1)
    if 0 in entries and max(entries) > 0:
        without = f"neuron {entries.index(0)} has no entry in any parameter that is left"
        raise LayoutError(f"group {group.name!r}: {without}")
    return sums / asarray_like(tuple([max(count, 1) for count in entries]), like=sums, dtype=sums.dtype)


def _normalise(sums: Array) -> Array:
    """Divide each neuron's sum by its group's mean: 0 where all are zero, NaN where any is not finite.

    What is divided is never smaller than a sum: JAX and TensorFlow take what is smaller than a normal number for zero.
    """
    xp = namespace(sums)
    sums = xp.abs(sums)  # which they are already, but without it XLA sums all entries of an array a second time
    total = xp.sum(sums, axis=-1, keepdims=True)
    divisor = xp.where(total < xp.inf, total, xp.nan)
    return sums / xp.where(divisor != 0, divisor, 1.0) * sums.shape[-1]
