"""Pictures of neuronal activity (matplotlib): over time, neuron by neuron, by kind, by length of inactivity.

Each function draws on the axes it is given, or on those of a new figure, and returns the axes. A new figure is outside
of ``pyplot``, whose state and settings stay as they are; ``axes.figure.savefig(...)`` writes it. Give axes of a figure
with ``layout="constrained"``, since legends stand beside them.
"""

try:
    from neuroactivity.plotting.curves import inactivity, lifetimes
    from neuroactivity.plotting.maps import score_map
    from neuroactivity.plotting.points import quadrants
except ImportError as error:
    raise ImportError("neuroactivity.plotting needs matplotlib and NumPy: pip install matplotlib numpy") from error

__all__ = ["inactivity", "lifetimes", "quadrants", "score_map"]
