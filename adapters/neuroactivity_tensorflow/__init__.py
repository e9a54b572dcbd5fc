"""neuroactivity for TensorFlow: measure and reset the neurons of a Keras model.

:class:`ReGraMa` and :class:`ReDo` are Keras optimizers around an optimizer and leave the training as it is,
``model.fit`` or a loop of one's own. For a reset of one's own there are :func:`parameters`, :func:`gradients`,
:func:`activations` and :func:`write`, between which the pure functions of :mod:`neuroactivity` do the rest;
:func:`clear_moments` brings the optimizer along. :func:`layout_of` finds the neuron groups of a model and what they
feed.
"""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"neuroactivity_tensorflow needs Keras on TensorFlow, got the backend {keras.backend.backend()!r}: set "
        "KERAS_BACKEND=tensorflow before Keras is imported, or use neuroactivity_jax or neuroactivity_torch"
    )

from neuroactivity_tensorflow.activations import activations
from neuroactivity_tensorflow.layouts import gradient_function, layout_of
from neuroactivity_tensorflow.models import gradients, parameters, write
from neuroactivity_tensorflow.optimizers import clear_moments
from neuroactivity_tensorflow.wrappers import ReDo, ReGraMa

__all__ = [
    "ReDo",
    "ReGraMa",
    "activations",
    "clear_moments",
    "gradient_function",
    "gradients",
    "layout_of",
    "parameters",
    "write",
]
