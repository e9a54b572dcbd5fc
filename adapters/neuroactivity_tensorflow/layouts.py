"""Find the layout of a Keras model: its groups by layer type, what they feed by probing its gradients."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

import neuroactivity as na
from neuroactivity.discovery import GradientFunction, Rule, SharedNeurons, discover_layout
from neuroactivity.wrapping import derive_key
from neuroactivity_tensorflow.layers import AttentionNeurons, list_groups
from neuroactivity_tensorflow.parameters import Model, dense_gradient, layers_of, tf_variable, variables_of

Apply: TypeAlias = Callable[..., Any]
Inputs: TypeAlias = tuple[Any, ...]


def layout_of(
    model: Model,
    *example_inputs: Any,
    apply: Apply | None = None,
    shared: SharedNeurons = "incoming",
    attention: AttentionNeurons = "channels",
    rule: Rule | None = None,
    seed: int = 0,
) -> na.Layout:
    """Find the neuron groups of a model and what they feed.

    The groups are listed by layer type. Their outgoing connections are found by
    :func:`neuroactivity.discover_outgoing`, which probes the model's gradients some hundred times and proves what it
    finds; the model is left exactly as it was. Print ``layout.describe()`` to check the result at a glance.

    Args:
        model: A functional, sequential or subclassed Keras model or a layer; or a mapping of names to ``tf.Variable``,
            with ``apply`` and ``rule``.
        example_inputs: Inputs of the model, a batch of a few samples; floating-point values are replaced by noise. The
            inputs of a functional model may be passed one by one or as one list.
        apply: For a mapping of variables: the function that computes with them, from inputs to outputs. For a Keras
            model: what is called instead of it, for example another method.
        shared: What a reset does to neurons that are read only together with other groups, as in a residual stream:
            draw fresh incoming parameters (``"incoming"``, as the paper's own code does) or skip them (``"skip"``).
        attention: Whether a neuron of ``MultiHeadAttention`` is a channel of a projection or a whole head.
        rule: Asked first for every parameter: from its name and value to its group, or None to leave it to what is
            known here.
        seed: Seed of the probes.

    Returns:
        The layout. A group is named by its layer's path in the model, a parameter as :func:`parameters` names it.

    Raises:
        LayoutError: If there are no example inputs or no neuron groups, or the model fails or its output has no
            gradient.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
        >>> layout = layout_of(model, tf.zeros((4, 3)))
        >>> layout["0"].outgoing, layout["0"].status, layout["1"].status
        ((ParamView('1/kernel', 'neuron out'),), 'exclusive', 'head')
    """
    if not example_inputs:
        raise na.LayoutError(
            "example_inputs: what the model is called with is needed to find its layout; or give layout="
        )
    with _explained(example_inputs):
        _build(model, example_inputs, apply)
    listed = list_groups(model, attention=attention, rule=rule)
    if not listed:
        raise na.LayoutError(f"{type(model).__name__}: found no layer with neurons; give rule= or layout=")
    grad_fn = gradient_function(model, *example_inputs, apply=apply, seed=seed)
    params = {name: tf_variable(variable).numpy() for name, variable in variables_of(model).items()}
    with _explained(example_inputs):
        grad_fn(params)
    groups = [group for group, _ in listed]
    merged = {param: axes for _, merged_axes in listed for param, axes in merged_axes.items()}
    return discover_layout(groups, grad_fn, params, normal=_standard_normal, merged=merged, shared=shared, seed=seed)


def gradient_function(
    model: Model, *example_inputs: Any, apply: Apply | None = None, seed: int = 0
) -> GradientFunction:
    """Make the gradient function that discovery and :func:`neuroactivity.verify_layout` probe.

    All outputs are reduced by a fixed random projection. The model is called in inference mode, and its variables are
    not touched. Batch normalisations use a mean of zero and a variance of one, so that a silent neuron is silent behind
    them.

    Args:
        model: The model, or a mapping of names to ``tf.Variable``.
        example_inputs: Its inputs.
        apply: As for :func:`layout_of`.
        seed: Seed of inputs and projection.

    Returns:
        A function from parameters by name, NumPy arrays or tensors, to gradients by name, NumPy arrays.
    """
    inputs = _noisy_inputs(example_inputs, seed)
    _build(model, inputs, apply)
    variables = variables_of(model)
    gradients = tf.function(_gradients(model, variables, inputs, apply, seed), autograph=False)

    def grad_fn(params: dict[str, Any]) -> Mapping[str, Any]:
        values = {name: tf.convert_to_tensor(params[name]) for name in variables}
        with _swapped(model, values):
            grads = gradients(values)
        if not grads:
            raise na.LayoutError("the model cannot be probed: expected an output with a gradient; give layout=")
        return {name: grads[name].numpy() if name in grads else None for name in variables}

    return grad_fn


def _gradients(
    model: Model, variables: Mapping[str, Any], inputs: Inputs, apply: Apply | None, seed: int
) -> GradientFunction:
    """Make the gradient function, where a Keras model reads values in place of its variables; bare ones hold them."""
    bare = isinstance(model, Mapping)
    layers = [] if bare else layers_of(model).values()
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    standard = [(norm.moving_mean, tf.zeros_like(norm.moving_mean)) for norm in norms]
    standard += [(norm.moving_variance, tf.ones_like(norm.moving_variance)) for norm in norms]

    def gradients(values: dict[str, Any]) -> dict[str, Any]:
        watched = dict(variables) if bare else values
        replaced = [] if bare else [*standard, *((variables[name], value) for name, value in values.items())]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            with nullcontext() if bare else keras.StatelessScope(replaced):
                scalar = _project_outputs(call(model, inputs, apply), seed)
        grads = tape.gradient(scalar, watched)
        return {name: dense_gradient(grad, variables[name]) for name, grad in grads.items() if grad is not None}

    return gradients


@contextmanager
def _swapped(model: Model, values: Mapping[str, Any]) -> Iterator[None]:
    """Let bare variables hold other values inside a ``with`` block."""
    kept = {name: tf.identity(variable) for name, variable in model.items()} if isinstance(model, Mapping) else {}
    try:
        for name in kept:
            model[name].assign(values[name])
        yield
    finally:
        for name, value in kept.items():
            model[name].assign(value)


def call(model: Model, inputs: Inputs, apply: Apply | None = None) -> Any:
    """Call a model in inference mode; the inputs of a functional model may be passed one by one."""
    if apply is not None:
        return apply(*inputs)
    if len(inputs) > 1 and len(getattr(model, "inputs", None) or ()) == len(inputs):
        inputs = (list(inputs),)
    return model(*inputs, training=False)


def _build(model: Model, inputs: Inputs, apply: Apply | None) -> None:
    """Call a model once if it has layers that are not built yet."""
    for name, value in model.items() if isinstance(model, Mapping) else ():
        if not hasattr(value, "assign"):
            raise na.LayoutError(f"{name!r}: expected a tf.Variable, got {type(value).__name__}")
    if isinstance(model, Mapping) and apply is None:
        raise na.LayoutError("apply: the function that computes with these variables is needed to find their layout")
    if isinstance(model, Mapping) or all(layer.built for layer in layers_of(model).values()):
        return
    kept = [(variable, tf.identity(tf_variable(variable))) for variable in model.variables]
    call(model, inputs, apply)
    for variable, value in kept:
        variable.assign(value)


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


def _project_outputs(output: Any, seed: int) -> Any:
    """Reduce a model's outputs to one number by fixed random weights."""
    total = tf.zeros((), tf.float64)
    for i, leaf in enumerate(_tensors(output)):
        wide = tf.cast(leaf, tf.float64)
        total += tf.reduce_sum(wide * _standard_normal(wide, derive_key(seed, i, "projection")))
    return total


def _tensors(output: Any, depth: int = 4) -> Iterator[Any]:
    """Yield the floating-point tensors of an output, in containers and in objects such as distributions."""
    for leaf in keras.tree.flatten(output):
        if isinstance(leaf, tf.Tensor):
            if leaf.dtype.is_floating:
                yield leaf
        elif depth and hasattr(leaf, "__dict__") and not isinstance(leaf, type | keras.Layer | tf.Variable):
            yield from _tensors(list(vars(leaf).values()), depth - 1)


def _noisy_inputs(inputs: Inputs, seed: int) -> Inputs:
    """Replace floating-point inputs by noise, so that neurons differ."""
    leaves = keras.tree.flatten(inputs)
    for i, leaf in enumerate(leaves):
        if hasattr(leaf, "dtype") and tf.as_dtype(leaf.dtype).is_floating:
            leaves[i] = tf.constant(_standard_normal(leaf, derive_key(seed, i, "inputs")))
    noisy: Inputs = keras.tree.pack_sequence_as(inputs, leaves)
    return noisy


def _standard_normal(like: Any, key: int) -> Any:
    """Draw standard normal numbers of an array's shape and dtype."""
    dtype = tf.as_dtype(like.dtype).as_numpy_dtype
    return np.random.default_rng(key).standard_normal(tuple(like.shape)).astype(dtype)
