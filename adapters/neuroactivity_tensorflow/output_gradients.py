"""Gradients of what layers return before their activation functions, for each sample."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

import neuroactivity as na
from neuroactivity_tensorflow.activations import arranged, neurons_last
from neuroactivity_tensorflow.graphs import run_plainly
from neuroactivity_tensorflow.layouts import layout_of
from neuroactivity_tensorflow.parameters import variables_of
from neuroactivity_tensorflow.probing import call
from neuroactivity_tensorflow.readers import Spot, makers_of, replaced_call


def activation_gradients(
    model: Any, *inputs: Any, loss: Callable[[Any], Any], layout: na.Layout | None = None, training: bool = False
) -> dict[str, Any]:
    """Return the gradients of a loss with respect to what each layer returns, for ``signal="activations"``.

    These are gradients of pre-activations: of a layer's outputs before the activation function, also where the layer
    applies it itself. They tell dead neurons, since no gradient passes a ReLU that is zero on every sample; gradients
    of what the function returns do not. The model runs once; its variables and seed generators are left as they were.

    Args:
        model: A Keras layer or model.
        inputs: What the model is called with.
        loss: From what the model returns to a scalar: a sum or a mean over the samples.
        layout: The neuron groups, by default those that ``layout_of`` finds.
        training: Whether the model runs in training mode.

    Returns:
        Gradients by group name, one for each sample and in the form of the group's activation pattern, for
        :func:`neuroactivity.grama`; ``None`` for a group that is not all that its layer returns, such as the inside of
        attention or of a recurrent layer, and for one that the loss does not depend on.

    Raises:
        LayoutError: If a group's activation pattern has no place for what its layer returns.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        >>> layout = na.Layout([na.dense("fc", weight=("0/kernel", "in neuron"))])
        >>> def loss(output):
        ...     return tf.reduce_mean(output**2)
        >>> grads = activation_gradients(model, tf.ones((5, 3)), loss=loss, layout=layout)
        >>> na.grama(grads, layout, signal="activations")["fc"].shape
        TensorShape([4])
    """
    if isinstance(model, Mapping):
        raise na.LayoutError("activations are read at the layers of a Keras model, got a mapping of variables")
    layout = layout_of(model, *inputs) if layout is None else layout
    makers = {name: maker for name, maker in makers_of(model, layout).items() if not isinstance(maker, _RECURRENT)}
    returned: dict[int, list[Any]] = {id(maker): [] for maker in makers.values()}
    with tf.GradientTape() as tape, ExitStack() as stack:
        for maker in {id(maker): maker for maker in makers.values()}.values():
            stack.enter_context(_before_activation(maker, returned[id(maker)], tape))
        stack.enter_context(keras.StatelessScope())
        stack.enter_context(run_plainly())
        scalar = loss(call(model, inputs, training=training))
    grads = tape.gradient(scalar, returned)
    shapes = {name: tuple(variable.shape) for name, variable in variables_of(model).items()}
    found: dict[str, Any] = dict.fromkeys(layout)
    for name, maker in makers.items():
        parts = [neurons_last(maker, gradient) for gradient in grads[id(maker)] if gradient is not None]
        if parts:
            found[name] = arranged(layout[name], Spot(maker, None, False), parts, shapes)
    return found


_RECURRENT = (keras.layers.RNN, keras.layers.SimpleRNNCell, keras.layers.GRUCell, keras.layers.LSTMCell)


@contextmanager
def _before_activation(layer: Any, returned: list[Any], tape: tf.GradientTape) -> Iterator[None]:
    """Watch what a layer returns, or what it gives to its own activation function."""

    def watch(value: Any) -> Any:
        if not isinstance(value, tf.Tensor):
            return value
        value = tf.identity(value)
        tape.watch(value)
        returned.append(value)
        return value

    function = getattr(layer, "activation", None)
    if function in (None, keras.activations.linear):

        def wrap(function: Any) -> Any:
            return lambda *args, **options: watch(function(*args, **options))

        with replaced_call(layer, wrap):
            yield
        return
    object.__setattr__(layer, "activation", lambda value: function(watch(value)))
    try:
        yield
    finally:
        object.__setattr__(layer, "activation", function)
