"""The analyses of the GraMa paper, and the field's other measures of plasticity, for anyone's own run.

Kinds of neurons, spells of inactivity, pruning and thresholds start from scores and masks, by group name, that a run
has kept. Ranks of features and magnitudes start from outputs of layers, parameters and gradients, by name. All are pure
functions of arrays, as the metrics are; :func:`lifetimes` and :func:`inactive_fractions` copy to the host.
"""

from neuroactivity.analysis.four_kinds import Kinds, kinds
from neuroactivity.analysis.magnitudes import (
    active_fraction,
    distance,
    feature_norm,
    norm,
    saturated_fraction,
    zero_gradient_fraction,
)
from neuroactivity.analysis.probe import fitting_losses
from neuroactivity.analysis.pruning import prune
from neuroactivity.analysis.ranks import approximate_rank, effective_rank, feature_rank, stable_rank
from neuroactivity.analysis.spells import Series, Spell, lifetime_table, lifetimes
from neuroactivity.analysis.thresholds import inactive_fractions

__all__ = [
    "Kinds",
    "Series",
    "Spell",
    "active_fraction",
    "approximate_rank",
    "distance",
    "effective_rank",
    "feature_norm",
    "feature_rank",
    "fitting_losses",
    "inactive_fractions",
    "kinds",
    "lifetime_table",
    "lifetimes",
    "norm",
    "prune",
    "saturated_fraction",
    "stable_rank",
    "zero_gradient_fraction",
]
