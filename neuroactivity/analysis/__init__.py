"""The analyses of the GraMa paper, for anyone's own run: kinds of neurons, spells of inactivity, pruning, thresholds.

They start from scores and masks, by group name, that a run has kept. :func:`kinds` and :func:`prune` are pure functions
of arrays, as the metrics are; :func:`lifetimes` and :func:`inactive_fractions` copy to the host.
"""

from neuroactivity.analysis.four_kinds import Kinds, kinds
from neuroactivity.analysis.pruning import prune
from neuroactivity.analysis.spells import Series, Spell, lifetime_table, lifetimes
from neuroactivity.analysis.thresholds import inactive_fractions

__all__ = ["Kinds", "Series", "Spell", "inactive_fractions", "kinds", "lifetime_table", "lifetimes", "prune"]
