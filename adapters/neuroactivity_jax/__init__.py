"""neuroactivity for JAX: measure and reset the neurons of a pytree of parameters, of any library.

:func:`regrama` and :func:`redo` wrap an optax optimizer and leave the training loop as it is; :func:`report` reads what
they measured out of the optimizer's state. For a loop of one's own there are :func:`parameters`, :func:`gradients`,
:func:`activations` and :func:`write`, between which the pure functions of :mod:`neuroactivity` do the rest;
:func:`clear_moments` brings the optimizer's state along. :func:`layout_of` finds the neuron groups of a model and what
they feed.
"""

from neuroactivity_jax.activations import activations
from neuroactivity_jax.layouts import gradient_function, layout_of
from neuroactivity_jax.optimizers import clear_moments
from neuroactivity_jax.state import ActivityState, report
from neuroactivity_jax.trees import gradients, parameters, write
from neuroactivity_jax.wrappers import redo, regrama

__all__ = [
    "ActivityState",
    "activations",
    "clear_moments",
    "gradient_function",
    "gradients",
    "layout_of",
    "parameters",
    "redo",
    "regrama",
    "report",
    "write",
]
