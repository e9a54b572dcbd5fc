"""neuroactivity for JAX: measure and reset the neurons of any pytree of parameters.

:func:`regrama` and :func:`redo` wrap an optax optimizer and leave the training loop as it is; :func:`report` reads the
last measurement from the optimizer's state, :func:`reports` those of many runs, and :func:`summary` the figures inside
of compiled loops. :func:`attach_state` does the same to a train state. :func:`layout_of` discovers a model's neuron
groups and what they feed.

For custom training loops, :func:`parameters`, :func:`gradients`, :func:`activations` and :func:`activation_gradients`
give the arrays that the pure functions of :mod:`neuroactivity` take, :func:`write` puts new values into the tree, and
:func:`clear_moments` resets the optimizer's state to match.
"""

from neuroactivity_jax.activations import activations
from neuroactivity_jax.hosts.train_state import attach_state, detach_state
from neuroactivity_jax.layouts import gradient_function, layout_of
from neuroactivity_jax.optimizers import clear_moments
from neuroactivity_jax.output_gradients import activation_gradients
from neuroactivity_jax.parameters import gradients, parameters, write
from neuroactivity_jax.reports import report, reports, summary
from neuroactivity_jax.state import ActivityState
from neuroactivity_jax.wrappers import redo, regrama

__all__ = [
    "ActivityState",
    "activation_gradients",
    "activations",
    "attach_state",
    "clear_moments",
    "detach_state",
    "gradient_function",
    "gradients",
    "layout_of",
    "parameters",
    "redo",
    "regrama",
    "report",
    "reports",
    "summary",
    "write",
]
