"""Which neurons of a network have lost their ability to learn, and how to give it back to them.

The core computes on the arrays of any library that follows the Python array API standard; an adapter per framework
reads gradients from models and writes resets back. See the README for a first example.
"""

from neuroactivity import testing
from neuroactivity.discovery import discover_outgoing, verify_layout
from neuroactivity.errors import ActivityWarning, LayoutError
from neuroactivity.layout import Layout
from neuroactivity.layout.builders import attention, conv, dense, norm, recurrent, residual
from neuroactivity.layout.groups import NeuronGroup, ParamView
from neuroactivity.masks import reset_masks
from neuroactivity.metrics import grama, tau_dormant
from neuroactivity.report import ActivityReport, GroupActivity, summarize
from neuroactivity.resets import reset, reset_moments

__version__ = "0.1.0"

__all__ = [
    "ActivityReport",
    "ActivityWarning",
    "GroupActivity",
    "Layout",
    "LayoutError",
    "NeuronGroup",
    "ParamView",
    "attention",
    "conv",
    "dense",
    "discover_outgoing",
    "grama",
    "norm",
    "recurrent",
    "reset",
    "reset_masks",
    "reset_moments",
    "residual",
    "summarize",
    "tau_dormant",
    "testing",
    "verify_layout",
]
