"""Find out what every neuron group feeds by probing a gradient function, without reading a graph."""

from neuroactivity.discovery.search import discover_outgoing
from neuroactivity.discovery.verify import verify_layout

__all__ = ["discover_outgoing", "verify_layout"]
