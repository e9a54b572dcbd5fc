"""Status ``listed``: the group is known by its layer's type, and what it feeds was not searched.

Scores need nothing else; a reset does, so the group is not resettable.
"""

from collections.abc import Sequence
from dataclasses import replace

from neuroactivity.layout import Layout, NeuronGroup


def list_layout(groups: Sequence[NeuronGroup]) -> Layout:
    """Make a layout of groups of which it is not known what they feed.

    Example:
        >>> group = list_layout([NeuronGroup("fc", [("fc.weight", "neuron in")])])["fc"]
        >>> group.status, group.reason, group.resettable
        ('listed', 'not searched', False)
    """
    return Layout([replace(group, status="listed", reason="not searched", resettable=False) for group in groups])
