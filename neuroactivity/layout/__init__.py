"""What a network looks like: which array, which axis, what it feeds.

Each file builds on those before it: :mod:`.patterns` (the notation ``"neuron in h w"``), :mod:`.views` (one parameter
seen as neurons), :mod:`.groups` (one layer's neurons), :mod:`.layout` (all groups of a model), :mod:`.builders` (one
call for each usual layer) and :mod:`.stacks` (from one network to an ensemble).
"""

from neuroactivity.layout.builders import attention, conv, dense, norm, recurrent, residual
from neuroactivity.layout.groups import BoundGroup, NeuronGroup, Role
from neuroactivity.layout.layout import Layout, lookup
from neuroactivity.layout.patterns import BoundPattern, Pattern
from neuroactivity.layout.stacks import stacked
from neuroactivity.layout.views import ParamView

__all__ = [
    "BoundGroup",
    "BoundPattern",
    "Layout",
    "NeuronGroup",
    "ParamView",
    "Pattern",
    "Role",
    "attention",
    "conv",
    "dense",
    "lookup",
    "norm",
    "recurrent",
    "residual",
    "stacked",
]
