"""Find out what every neuron group feeds by probing a gradient function, without reading a graph."""

from neuroactivity.discovery.layouts import Rule, SharedNeurons, discover_layout, groups_by_rule
from neuroactivity.discovery.merging import MergedAxes
from neuroactivity.discovery.prober import GradientFunction
from neuroactivity.discovery.search import discover_outgoing
from neuroactivity.discovery.verify import verify_layout

__all__ = [
    "GradientFunction",
    "MergedAxes",
    "Rule",
    "SharedNeurons",
    "discover_layout",
    "discover_outgoing",
    "groups_by_rule",
    "verify_layout",
]
