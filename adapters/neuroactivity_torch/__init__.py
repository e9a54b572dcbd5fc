"""neuroactivity for PyTorch: measure and reset the neurons of a ``torch.nn.Module``.

:class:`ReGraMa` and :class:`ReDo` attach to an optimizer; the training loop does not change. For custom training loops,
:func:`parameters`, :func:`gradients`, :func:`activations` and :func:`write` connect a module to the pure functions of
:mod:`neuroactivity`, and :func:`clear_moments` resets the optimizer's state to match. :func:`layout_of` discovers the
neuron groups of a model and what they feed.
"""

from neuroactivity_torch.activations import activations
from neuroactivity_torch.layouts import gradient_function, layout_of
from neuroactivity_torch.optimizers import clear_moments
from neuroactivity_torch.output_gradients import activation_gradients
from neuroactivity_torch.parameters import gradients, parameters, write
from neuroactivity_torch.wrappers import ReDo, ReGraMa

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
