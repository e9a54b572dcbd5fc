"""What a network looks like: which array, which axis, what it feeds.

Four files, each building on those before it: :mod:`.patterns` (the notation ``"neuron in h w"``), :mod:`.groups` (one
parameter seen as neurons, and one layer's neurons), :mod:`.layout` (all groups of a model) and :mod:`.builders` (one
call for each usual layer).
"""

from neuroactivity.layout.builders import attention, conv, dense, norm, recurrent, residual
from neuroactivity.layout.groups import BoundGroup, NeuronGroup, ParamView, Role, View
from neuroactivity.layout.layout import Layout, lookup
from neuroactivity.layout.patterns import BoundPattern, NeuronIndex, Pattern

__all__ = [
    "BoundGroup",
    "BoundPattern",
    "Layout",
    "NeuronGroup",
    "NeuronIndex",
    "ParamView",
    "Pattern",
    "Role",
    "View",
    "attention",
    "conv",
    "dense",
    "lookup",
    "norm",
    "recurrent",
    "residual",
]
