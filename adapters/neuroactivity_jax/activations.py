"""Neuron outputs, as the parameters that read them see them."""

import warnings
from collections import Counter

from jax import Array

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from neuroactivity.wrapping import read_by_norms
from neuroactivity_jax.arranging import makers, put_together
from neuroactivity_jax.layouts import Apply, layout_of
from neuroactivity_jax.parameters import PyTree, parameters, replace, shapes_of
from neuroactivity_jax.tracing import Trace, trace
from neuroactivity_jax.tracks import Value


def activations(params: PyTree, apply: Apply, *, layout: na.Layout | None = None) -> dict[str, Array | None]:
    """Run a model and return its neurons' outputs as the next layers read them, after the activation function.

    The model runs operation by operation, and what its weights are multiplied with is recorded; no hooks or names are
    needed. Inside ``jit`` it is compiled like any other function.

    Args:
        params: The parameters.
        apply: From parameters to what the model returns for the inputs that the neurons are judged on.
        layout: The neuron groups, by default those that ``layout_of`` discovers. A group is read where the first
            parameter that it feeds is multiplied with it. What no parameter reads alone, as a head, a layer that writes
            to a residual stream, or one that a normalisation reads, is followed from where it is made (where its bias
            is added, or without a bias where its weight is multiplied) through normalisations and its activation
            function to what reads it: what it adds to a residual stream, or the product of a gated unit.

    Returns:
        Outputs by group name, in the form of the group's activation pattern, for :func:`neuroactivity.tau_dormant`,
        with all samples (steps of a loop, positions of an image) in one axis; ``None`` for a group that is not seen:
        one that is read or made only inside a branch or a loop of unknown length, and, where no parameter reads it
        alone, a group with several weights, or one of which it cannot be told what its activation function is, since
        that follows the sum with a residual stream or acts on a part of it. An :class:`neuroactivity.ActivityWarning`
        names them.

    Raises:
        LayoutError: If what was read does not have the group's neurons, or does not fit its activation pattern.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"a": {"w": jnp.ones((3, 4)), "b": jnp.zeros(4)}, "out": {"w": jnp.ones((4, 2))}}
        >>> layout = na.Layout([na.dense("a", weight=("a/w", "in neuron"), outgoing=[("out/w", "neuron out")])])
        >>> apply = lambda params: jnp.tanh(jnp.ones((5, 3)) @ params["a"]["w"] + params["a"]["b"]) @ params["out"]["w"]
        >>> activations(params, apply, layout=layout)["a"].shape
        (5, 4)
    """
    layout = layout_of(params, apply) if layout is None else layout
    arrays = parameters(params)
    record = trace(arrays, lambda values: apply(replace(params, values)))
    shapes = shapes_of(arrays)
    norms = read_by_norms(layout)
    shared = Counter(view for group in layout.values() for view in group.outgoing)
    unclear = {view for view, count in shared.items() if count > 1 and len(record.read.get(view.param, ())) > 1}
    outputs = {n: _outputs(g, record, shapes, unclear, by_norms=n in norms) for n, g in layout.items()}
    if unseen := [name for name, output in outputs.items() if output is None]:
        why = "what reads them, or their activation function, is not seen; they are not measured by activations"
        warnings.warn(f"no activations for {', '.join(unseen)}: {why}", na.ActivityWarning, stacklevel=2)
    return outputs


def _outputs(
    group: NeuronGroup, record: Trace, shapes: dict[str, tuple[int, ...]], unclear: set[ParamView], *, by_norms: bool
) -> Array | None:
    """Return a group's outputs, in the form that its activation pattern names.

    A group that a normalisation reads is followed, since what stands behind the normalisation is not its output; a
    recurrent layer reads it itself. Of a reader of several groups that is called several times it is unclear whose
    neurons each call reads.
    """
    made_by = {view.param for view in group.incoming}
    own = [view for view in group.outgoing if view.param in made_by]  # of a recurrent layer
    readers = [view for view in group.outgoing if view.param not in made_by and view not in unclear]
    followed = by_norms or group.status == "through_norm" or not readers
    seen: list[tuple[ParamView, list[Value | None]]]
    seen = [(view, [*record.read.get(view.param, [])]) for view in (own if followed else readers)]
    if followed:
        view, numbers = makers(group, record.made)
        outputs = [record.ends.output(number) for number in numbers]
        seen = [(view, outputs)] if outputs and None not in outputs else seen
    found = (put_together([value for value in values if value], view, group, shapes) for view, values in seen)
    return next((outputs for outputs in found if outputs is not None), None)
