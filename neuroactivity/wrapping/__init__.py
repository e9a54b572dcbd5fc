"""What every optimizer wrapper shares, whatever the framework.

:mod:`.options` says when to measure and what to reset, :mod:`.scoring` how a user's score is called, :mod:`.trained`
which groups an optimizer trains and what a reset of them writes, :mod:`.fresh` which entries are drawn anew and from
what, :mod:`.history` when each neuron was reset, :mod:`.clock` how the moments of reset neurons are handed over,
:mod:`.states` what a resumed run is given, :mod:`.outputs` how neuron outputs are brought into the form that a group's
activation pattern names, :mod:`.interrupts` that Ctrl-C waits for a reset to be whole.
"""

from neuroactivity.wrapping.clock import YOUNG, handing_over_factor
from neuroactivity.wrapping.fresh import DrawnViews, check_fresh, derive_key, drawn_views, resample, warn_of_spread
from neuroactivity.wrapping.history import NEVER, advance, reset_before, warn_of_resets
from neuroactivity.wrapping.interrupts import undivided
from neuroactivity.wrapping.options import (
    Clock,
    HostOptions,
    Method,
    Options,
    ResetOptions,
    as_inputs,
    check_every,
    check_host_options,
    check_initializer,
    check_networks,
    check_seed,
    is_due,
    option,
)
from neuroactivity.wrapping.outputs import arrange_outputs, join_neurons, read_by_norms, take_neurons
from neuroactivity.wrapping.rows import Rows, written_rows
from neuroactivity.wrapping.scoring import Score, check_same_score, name_of_score, own_scores
from neuroactivity.wrapping.states import COUNTS, check_same_layout, read_counts
from neuroactivity.wrapping.trained import check_searched, note_outside, trained_groups, written_params

__all__ = [
    "COUNTS",
    "NEVER",
    "YOUNG",
    "Clock",
    "DrawnViews",
    "HostOptions",
    "Method",
    "Options",
    "ResetOptions",
    "Rows",
    "Score",
    "advance",
    "arrange_outputs",
    "as_inputs",
    "check_every",
    "check_fresh",
    "check_host_options",
    "check_initializer",
    "check_networks",
    "check_same_layout",
    "check_same_score",
    "check_searched",
    "check_seed",
    "derive_key",
    "drawn_views",
    "handing_over_factor",
    "is_due",
    "join_neurons",
    "name_of_score",
    "note_outside",
    "option",
    "own_scores",
    "read_by_norms",
    "read_counts",
    "resample",
    "reset_before",
    "take_neurons",
    "trained_groups",
    "undivided",
    "warn_of_resets",
    "warn_of_spread",
    "written_params",
    "written_rows",
]
