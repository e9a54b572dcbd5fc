"""Gradients of what layers return before their activation functions, for each sample."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import neuroactivity as na
from neuroactivity.layout.patterns import NEURON, STACK
from neuroactivity_jax.arranging import makers, put_together
from neuroactivity_jax.layouts import Apply, layout_of
from neuroactivity_jax.parameters import PyTree, parameters, replace, shapes_of
from neuroactivity_jax.tracing import Trace, run
from neuroactivity_jax.tracks import Ends


def activation_gradients(
    params: PyTree, apply: Apply, *, loss: Callable[[Any], Array], layout: na.Layout | None = None
) -> dict[str, Array | None]:
    """Return the gradients of a loss with respect to what each layer returns, for ``signal="activations"``.

    These are gradients of pre-activations: of a layer's outputs before the activation function. They tell dead neurons,
    since no gradient passes a ReLU that is zero on every sample; gradients of what the function returns do not. Inside
    ``jit`` all is compiled like any other function.

    Args:
        params: The parameters.
        apply: From parameters to what the model returns.
        loss: From what the model returns to a scalar: a sum or a mean over the samples.
        layout: The neuron groups, by default those that ``layout_of`` discovers.

    Returns:
        Gradients by group name, one for each sample and in the form of the group's activation pattern, for
        :func:`neuroactivity.grama`; ``None`` for a group that is not made by one weight, outside of loops and branches,
        such as the inside of a recurrent layer, for a normalisation without shift, and for a group
        that the loss does not depend on.

    Raises:
        LayoutError: If a group's activation pattern has no place for what its layer returns.

    Example:
        >>> params = {"fc": {"w": jnp.ones((3, 4)), "b": jnp.zeros(4)}, "out": {"w": jnp.ones((4, 2))}}
        >>> def apply(params):
        ...     hidden = jnp.ones((5, 3)) @ params["fc"]["w"] + params["fc"]["b"]
        ...     return jax.nn.relu(hidden) @ params["out"]["w"]
        >>> layout = na.Layout([na.dense("fc", weight=("fc/w", "in neuron"), bias="fc/b")])
        >>> grads = activation_gradients(params, apply, loss=lambda out: jnp.square(out).mean(), layout=layout)
        >>> na.grama(grads, layout, signal="activations")["fc"].shape
        (4,)
    """
    layout = layout_of(params, apply) if layout is None else layout
    arrays = parameters(params)
    record, behind = Trace({}, [], Ends(), {}), 0

    def scalar(shifts: dict[int, Array]) -> Array:
        nonlocal record, behind
        record = Trace({}, [], Ends(), shifts)
        (value,), (origin,) = run(arrays, lambda values: loss(apply(replace(params, values))), record)
        behind = origin.behind
        result: Array = value
        return result

    jax.eval_shape(scalar, {})
    groups = {
        name: makers(group, record.made) for name, group in layout.items() if group.unscored or not _scales(group)
    }
    wanted = [number for _, numbers in groups.values() for number in numbers if behind >> number & 1]
    made = {number: record.made[number].value.value for number in wanted}
    found = jax.grad(scalar)({number: jnp.zeros(value.shape, value.dtype) for number, value in made.items()})
    shapes = shapes_of(arrays)
    arranged = {
        name: put_together(
            [record.made[number].value._replace(value=found[number]) for number in numbers if number in found],
            view,
            layout[name],
            shapes,
        )
        for name, (view, numbers) in groups.items()
    }
    return {name: arranged.get(name) for name in layout}


def _scales(group: na.NeuronGroup) -> bool:
    """Whether a group is made by a scale, which may be multiplied with something else before it is with the neurons."""
    return set(group.incoming[0].parsed.names) <= {NEURON, STACK}
