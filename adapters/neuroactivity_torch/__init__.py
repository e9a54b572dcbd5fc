"""neuroactivity for PyTorch: measure and reset the neurons of a ``torch.nn.Module``.

:class:`ReGraMa` and :class:`ReDo` attach to an optimizer and leave the training loop as it is. For a loop of one's own
there are :func:`parameters`, :func:`gradients`, :func:`activations` and :func:`write`, between which the pure functions
of :mod:`neuroactivity` do the rest; :func:`clear_moments` brings the optimizer along. :func:`layout_of` finds the
neuron groups of a model and what they feed.
"""

from neuroactivity_torch.activations import activations
from neuroactivity_torch.layouts import gradient_function, layout_of
from neuroactivity_torch.models import gradients, parameters, write
from neuroactivity_torch.optimizers import clear_moments
from neuroactivity_torch.wrappers import ReDo, ReGraMa

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
