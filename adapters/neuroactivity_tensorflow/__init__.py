"""neuroactivity for TensorFlow: measure and reset the neurons of a Keras model.

:class:`ReGraMa` and :class:`ReDo` are Keras optimizers around an optimizer; the training loop, ``model.fit`` or a
custom one, stays as it is. To write a reset yourself, use :func:`parameters`, :func:`gradients`, :func:`activations`
and :func:`write` with the pure functions of :mod:`neuroactivity`, and :func:`clear_moments` for the optimizer.
:func:`layout_of` finds the neuron groups of a model and what they feed.
"""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"neuroactivity_tensorflow needs Keras on TensorFlow, got the backend {keras.backend.backend()!r}: set "
        "KERAS_BACKEND=tensorflow before Keras is imported, or use neuroactivity_jax or neuroactivity_torch"
    )

from neuroactivity_tensorflow.activations import activations
from neuroactivity_tensorflow.layouts import layout_of
from neuroactivity_tensorflow.output_gradients import activation_gradients
from neuroactivity_tensorflow.parameters import gradients, parameters, write
from neuroactivity_tensorflow.probing import gradient_function
from neuroactivity_tensorflow.slots import clear_moments
from neuroactivity_tensorflow.wrappers import ReDo, ReGraMa

__all__ = [
    "ReDo",
    "ReGraMa",
    "activation_gradients",
    "activations",
    "clear_moments",
    "gradient_function",
    "gradients",
    "layout_of",
    "parameters",
    "write",
]
