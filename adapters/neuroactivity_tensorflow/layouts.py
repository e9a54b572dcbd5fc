"""Find the layout of a Keras model: its groups by layer type, what they feed by probing its gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity.discovery import Rule, SharedNeurons, discover_layout, list_layout
from neuroactivity.wrapping import check_searched
from neuroactivity_tensorflow.constraints import mark_constrained
from neuroactivity_tensorflow.layers import AttentionNeurons, list_groups
from neuroactivity_tensorflow.parameters import Model, tf_variable, variables_of
from neuroactivity_tensorflow.probing import Apply, Inputs, Probe, build, standard_normal


def layout_of(
    model: Model,
    *example_inputs: Any,
    apply: Apply | None = None,
    readers: Sequence[Apply] = (),
    shared: SharedNeurons = "incoming",
    attention: AttentionNeurons = "channels",
    rule: Rule | None = None,
    seed: int = 0,
) -> na.Layout:
    """Find the neuron groups of a model and what they feed.

    The groups are listed by layer type. Their outgoing connections are found by
    :func:`neuroactivity.discover_outgoing`, which probes the model's gradients several hundred times, in inference and
    in training mode, and proves what it finds; the model is left exactly as it was. Print ``layout.describe()`` to
    check the result at a glance. Without example inputs the groups are only listed, which is enough to measure them.

    Args:
        model: A functional, sequential or subclassed Keras model or a layer; or a mapping of names to ``tf.Variable``,
            with ``apply`` and ``rule``.
        example_inputs: Inputs of the model, a batch of a few samples; floating-point values are replaced by noise. The
            inputs of a functional model may be passed one by one or as one list. Without any, nothing is searched.
        apply: For a mapping of variables: the function that computes with them, from inputs to outputs. For a Keras
            model: what is called instead of it, for example another method.
        readers: Further models or functions that read the same layers, such as a critic on the trunk of an actor. They
            are called with the same example inputs, and their outputs count too.
        shared: What a reset does to neurons that are read only together with other groups, as in a residual stream:
            draw fresh incoming parameters (``"incoming"``, as the paper's own code does) or skip them (``"skip"``).
        attention: Whether a neuron of ``MultiHeadAttention`` is a channel of a projection or a whole head.
        rule: Asked first for every parameter: from its name and value to its group, or None to leave it to what is
            known here.
        seed: Seed of the probes.

    Returns:
        The layout. A group is named by its layer's path in the model, a parameter as :func:`parameters` names it.

    Raises:
        LayoutError: If there are no neuron groups, the model has not been built and there are no example inputs, or
            the model fails or its output has no gradient.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
        >>> layout = layout_of(model, tf.zeros((4, 3)))
        >>> layout["0"].outgoing, layout["0"].status, layout["1"].status
        ((ParamView('1/kernel', 'neuron out'),), 'exclusive', 'head')
    """
    if example_inputs:
        with _explained(example_inputs):
            build(model, example_inputs, apply)
    elif isinstance(model, keras.Layer) and not model.built:
        raise na.LayoutError(f"{type(model).__name__} has no variables yet: call it on example inputs first")
    listed = list_groups(model, attention=attention, rule=rule)
    if not listed:
        raise na.LayoutError(f"{type(model).__name__}: found no layer with neurons; give rule= or layout=")
    groups, variables = [group for group, _ in listed], variables_of(model)
    for group in groups:
        for _, view in group.views:
            if 0 in variables[view.param].shape:
                shape = tuple(variables[view.param].shape)
                raise na.LayoutError(f"group {group.name!r}: parameter {view.param!r} of shape {shape} has no entries")
    if not example_inputs:
        return list_layout(groups)
    params = {name: tf_variable(variable).numpy() for name, variable in variables.items()}
    with _explained(example_inputs):
        probe = Probe(model, example_inputs, apply=apply, readers=readers, seed=seed)
        probe.gradients(params)
    merged = {param: axes for _, merged_axes in listed for param, axes in merged_axes.items()}
    layout = discover_layout(
        groups,
        probe.gradients,
        params,
        normal=standard_normal,
        output_fn=probe.outputs,
        merged=merged,
        shared=shared,
        seed=seed,
    )
    return mark_constrained(layout, variables)


def layout_to_use(model: Any, inputs: Inputs, layout: na.Layout | None, *, writes: bool) -> na.Layout:
    """Return the layout that a wrapper is given, or find it; where nothing is reset, its groups need only be listed.

    Raises:
        LayoutError: If a wrapper that resets has neither inputs nor a layout that was searched.
    """
    if layout is None and not inputs and writes:
        raise na.LayoutError(
            "example_inputs: what the model is called with is needed to find its layout; or give layout=, or only "
            "measure with max_fraction=0"
        )
    layout = layout_of(model, *inputs) if layout is None else layout
    check_searched(layout, writes=writes)
    return layout


@contextmanager
def _explained(inputs: Inputs) -> Iterator[None]:
    """If a model fails, say in the error what it was called with."""
    try:
        yield
    except na.LayoutError:
        raise
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError, tf.errors.OpError) as error:
        shapes = ", ".join(str(getattr(value, "shape", type(value).__name__)) for value in keras.tree.flatten(inputs))
        raise na.LayoutError(f"example_inputs: the model fails with inputs like these ({shapes}): {error}") from error
