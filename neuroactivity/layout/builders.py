"""Neuron groups of the usual layers, one call a layer.

Conveniences over :class:`neuroactivity.NeuronGroup`. A view is a :class:`neuroactivity.ParamView` or ``(param,
pattern)`` or ``(param, pattern, sizes)``; where the pattern is plain, the parameter's name alone will do. Every builder
takes further ``unscored`` and ``outgoing`` views, the pattern of the neuron outputs as ``activation``, and
``resettable``.
"""

from collections.abc import Sequence
from typing import TypedDict, Unpack

from neuroactivity.errors import LayoutError
from neuroactivity.layout.groups import NeuronGroup, accepts_restored
from neuroactivity.layout.patterns import NEURON, STACK
from neuroactivity.layout.views import ParamView, View, as_view

Views = Sequence[View]


class GroupOptions(TypedDict, total=False):
    """What every builder takes besides its own arguments."""

    unscored: Views
    outgoing: Views
    activation: str | None
    resettable: bool


def dense(name: str, *, weight: View, bias: View | str | None = None, **options: Unpack[GroupOptions]) -> NeuronGroup:
    """Describe a fully connected layer; a neuron is an output feature.

    Args:
        name: Name of the group.
        weight: Incoming weight: ``"neuron in"`` in PyTorch, ``"in neuron"`` in Flax and Keras.
        bias: Bias, which is not scored; its name alone means ``"neuron"`` (``"stack neuron"`` in a stack).
        unscored: Further parameters that belong to the neurons.
        outgoing: Entries of later parameters that multiply the neurons' outputs, for example ``"out neuron"``, or
            ``"out (neuron hw)"`` behind a flattened convolution.
        activation: Pattern of the outputs, by default ``"... neuron"`` (``"stack ... neuron"`` in a stack).
        resettable: False for an output head.

    Returns:
        The group.

    Example:
        >>> fc1 = dense("fc1", weight=("fc1.weight", "neuron in"), outgoing=[("fc2.weight", "out neuron")])
        >>> fc1.outgoing
        (ParamView('fc2.weight', 'out neuron'),)
    """
    return _group(name, [_view(name, weight)], [bias], **options)


def conv(name: str, *, weight: View, bias: View | str | None = None, **options: Unpack[GroupOptions]) -> NeuronGroup:
    """Describe a convolution; a neuron is an output channel.

    Args:
        name: Name of the group.
        weight: Incoming kernel: ``"neuron in h w"`` in PyTorch, ``"h w in neuron"`` in Flax and Keras.
        bias: As for :func:`dense`.
        unscored: Further parameters that belong to the neurons.
        outgoing: As for :func:`dense`.
        activation: Pattern of the outputs, by default channels last (``"... neuron"``) if ``neuron`` is the kernel's
            last axis, and channels first (``"batch neuron ..."``) otherwise.
        resettable: False for an output head.

    Returns:
        The group.

    Example:
        >>> conv("conv", weight=("conv.weight", "neuron in h w"), bias="conv.bias").activation
        'batch neuron ...'
    """
    kernel = _view(name, weight)
    channels_last = kernel.parsed.axes[-1] == (NEURON,)
    return _group(name, [kernel], [bias], "... neuron" if channels_last else "batch neuron ...", **options)


def residual(name: str, *, writers: Views, readers: Views, **options: Unpack[GroupOptions]) -> NeuronGroup:
    """Describe a residual stream; a neuron is a feature of the stream, written and read by many layers.

    Args:
        name: Name of the group.
        writers: Weights whose outputs are added into the stream: the embedding and the last layer of each block.
        readers: Weights that read the stream: the first layer of each block and the head.
        unscored: Biases of the writers, normalisation parameters of the stream.
        outgoing: Further readers.
        activation: Pattern of the stream, by default ``"... neuron"`` (``"stack ... neuron"`` in a stack).
        resettable: Whether a reset touches the stream.

    Returns:
        The group.

    Example:
        >>> group = residual("stream", writers=[("embed.weight", "neuron in")], readers=[("head.weight", "out neuron")])
        >>> group.incoming, group.outgoing
        ((ParamView('embed.weight', 'neuron in'),), (ParamView('head.weight', 'out neuron'),))
    """
    options["outgoing"] = [*readers, *options.get("outgoing", ())]
    return _group(name, [_view(name, view) for view in writers], **options)


def attention(
    name: str,
    *,
    heads: int,
    query: View | None = None,
    key: View | None = None,
    value: View | None = None,
    qkv: View | None = None,
    output: View | None = None,
    **options: Unpack[GroupOptions],
) -> NeuronGroup:
    """Describe multi-head attention; a neuron is a head.

    Args:
        name: Name of the group.
        heads: Number of heads.
        query: Query projection: ``"(neuron dim) in"`` in PyTorch, ``"in neuron dim"`` in Flax.
        key: Key projection.
        value: Value projection.
        qkv: One fused projection instead of the three, ``"(qkv neuron dim) in"`` with ``{"qkv": 3}``.
        output: Output projection, which the heads feed: ``"out (neuron dim)"`` in PyTorch, ``"neuron dim out"`` in
            Flax.
        unscored: Biases of the projections, for example ``("q.bias", "(neuron dim)")``.
        outgoing: Further views that the heads feed.
        activation: Pattern of the heads' outputs; by default the axes are shared as in ``output``.
        resettable: Whether a reset touches the heads.

    Returns:
        The group.

    Raises:
        LayoutError: If neither ``qkv`` nor all of ``query``, ``key`` and ``value`` are given, or both.

    Example:
        >>> fused = ("in_proj_weight", "(qkv neuron dim) in", {"qkv": 3})
        >>> attention("attn", heads=8, qkv=fused, output=("out_proj.weight", "out (neuron dim)")).neurons
        8
    """
    separate = [view for view in (query, key, value) if view is not None]
    if len(separate) != (0 if qkv is not None else 3):
        raise LayoutError(f"group {name!r}: expected query, key and value, or qkv alone")
    views = [_view(name, view) for view in ([qkv] if qkv is not None else separate)]
    read = [_view(name, view) for view in (output, *options.get("outgoing", ())) if view is not None]
    options["outgoing"] = read
    axes = read[0].parsed.axes if read else ((NEURON, "dim"),)
    shared = [f"... ({' '.join(axis)})" for axis in axes if NEURON in axis and len(axis) > 1]
    return _group(name, views, (), shared[0] if shared else "... neuron dim", neurons=heads, **options)


def norm(
    name: str, *, scale: View | str, shift: View | str | None = None, **options: Unpack[GroupOptions]
) -> NeuronGroup:
    """Describe a normalisation layer; a neuron is a feature with its own scale.

    Args:
        name: Name of the group.
        scale: The scale, whose gradient is read; its name alone means ``"neuron"``.
        shift: The shift, which is not scored.
        unscored: Further parameters that belong to the features.
        outgoing: Entries of later parameters that multiply the normalised features.
        activation: Pattern of the outputs, by default ``"... neuron"`` (``"stack ... neuron"`` in a stack).
        resettable: Whether a reset touches the features.

    Returns:
        The group.

    Example:
        >>> norm("ln", scale="ln.weight", shift="ln.bias").unscored
        (ParamView('ln.bias', 'neuron'),)
    """
    return _group(name, [_view(name, scale, NEURON)], [shift], **options)


def recurrent(
    name: str,
    *,
    input: View | str,  # noqa: A002  the layer's own word
    recurrent: View | str,
    biases: Sequence[View | str] = (),
    gates: int,
    **options: Unpack[GroupOptions],
) -> NeuronGroup:
    """Describe a recurrent layer; a neuron is a hidden unit with all its gates.

    Args:
        name: Name of the group.
        input: Input weight: its name alone means PyTorch's ``"(gate neuron) in"``; Keras has ``"in (gate neuron)"``.
        recurrent: Recurrent weight: its name alone means ``"(gate neuron) other"``; Keras has ``"other (gate
            neuron)"``. It is incoming along ``neuron`` and, since hidden units feed each other, outgoing along
            ``other``.
        biases: Biases, which are not scored; a name alone means ``"(gate neuron)"``.
        gates: Number of gates: 4 in an LSTM, 3 in a GRU, 1 in a plain recurrent layer.
        unscored: Further parameters that belong to the units.
        outgoing: Entries of later parameters that multiply the units' outputs.
        activation: Pattern of the outputs, by default ``"... neuron"`` (``"stack ... neuron"`` in a stack).
        resettable: Whether a reset touches the units.

    Returns:
        The group.

    Raises:
        LayoutError: If the recurrent weight's pattern has no axis called ``other``.

    Example:
        >>> recurrent("lstm", input="weight_ih_l0", recurrent="weight_hh_l0", gates=4).outgoing
        (ParamView('weight_hh_l0', '(gate other) neuron', {'gate': 4}),)
    """

    def gated(view: View | str, default: str) -> ParamView:
        read = _view(name, view, default)
        sizes = {"gate": gates} if "gate" in read.parsed.names else {}
        return ParamView(read.param, read.pattern, {**sizes, **read.sizes}, read.index)

    views = [gated(input, "(gate neuron) in"), gated(recurrent, "(gate neuron) other")]
    if "other" not in views[1].parsed.names:
        raise LayoutError(
            f"group {name!r}, parameter {views[1].param!r}: expected an axis called 'other' in the pattern"
        )
    swap = {NEURON: "other", "other": NEURON}
    axes = [" ".join(swap.get(part, part) for part in axis) for axis in views[1].parsed.axes]
    pattern = " ".join(f"({axis})" if " " in axis else axis for axis in axes)
    feeds = ParamView(views[1].param, pattern, views[1].sizes)
    options["outgoing"] = [feeds, *options.get("outgoing", ())]
    return _group(name, views, [gated(bias, "(gate neuron)") for bias in biases], **options)


@accepts_restored
def _group(
    name: str,
    views: Sequence[ParamView],
    vectors: Sequence[View | str | None] = (),
    default: str = "... neuron",
    *,
    neurons: int | None = None,
    unscored: Views = (),
    outgoing: Views = (),
    activation: str | None = None,
    resettable: bool = True,
) -> NeuronGroup:
    """Build a group; ``vectors`` are biases and shifts, whose name alone means one entry a neuron."""
    unscored = [*[_view(name, view, _stacked(NEURON, views)) for view in vectors if view is not None], *unscored]
    activation = activation or _stacked(default, views)
    return NeuronGroup(name, views, unscored, outgoing, (), activation, neurons, resettable)


def _stacked(pattern: str, views: Sequence[ParamView]) -> str:
    """Put as many stack axes in front of a pattern, and as many axes of neurons into it, as the layer has."""
    if not views:
        return pattern
    layer = views[0].parsed
    return " ".join([*[STACK] * layer.stacks, pattern.replace(NEURON, " ".join([NEURON] * layer.neurons))])


def _view(name: str, view: View | str, default: str | None = None) -> ParamView:
    """Read a view, of which a name alone means the ``default`` pattern; an error names the group."""
    try:
        if isinstance(view, str) and default is not None:
            return ParamView(view, default)
        return as_view(view)
    except LayoutError as error:
        raise LayoutError(f"group {name!r}: {error}") from None
