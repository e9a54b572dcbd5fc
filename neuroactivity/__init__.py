"""Which neurons of a network have lost their ability to learn, and how to give it back to them.

The core computes on the arrays of any library that follows the Python array API standard; an adapter for each framework
reads gradients from models and writes resets back. See the README for a first example. The subpackages
:mod:`~neuroactivity.analysis`, :mod:`~neuroactivity.discovery`, :mod:`~neuroactivity.looking`,
:mod:`~neuroactivity.plotting` and :mod:`~neuroactivity.testing` are loaded on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from neuroactivity import rules
from neuroactivity.errors import ActivityWarning, LayoutError
from neuroactivity.layout import (
    Layout,
    NeuronGroup,
    ParamView,
    attention,
    conv,
    dense,
    norm,
    recurrent,
    residual,
    stacked,
)
from neuroactivity.masks import reset_masks
from neuroactivity.metrics import grama, magnitudes, scores, tau_dormant
from neuroactivity.report import ActivityReport, GroupActivity, summarize
from neuroactivity.resets import reset, reset_moments

if TYPE_CHECKING:
    from neuroactivity import analysis, discovery, looking, testing
    from neuroactivity import plotting as plotting
    from neuroactivity.discovery import discover_outgoing, verify_layout
    from neuroactivity.looking import JsonLines

__version__ = "0.1.0"
_HOMES = {"JsonLines": "looking", "discover_outgoing": "discovery", "verify_layout": "discovery"}

__all__ = [
    "ActivityReport",
    "ActivityWarning",
    "GroupActivity",
    "JsonLines",
    "Layout",
    "LayoutError",
    "NeuronGroup",
    "ParamView",
    "analysis",
    "attention",
    "conv",
    "dense",
    "discover_outgoing",
    "discovery",
    "grama",
    "looking",
    "magnitudes",
    "norm",
    "recurrent",
    "reset",
    "reset_masks",
    "reset_moments",
    "residual",
    "rules",
    "scores",
    "stacked",
    "summarize",
    "tau_dormant",
    "testing",
    "verify_layout",
]


def __getattr__(name: str) -> Any:
    """Load a subpackage, or what is public of one, when it is first used."""
    if name in ("analysis", "discovery", "looking", "plotting", "testing"):
        return importlib.import_module(f"neuroactivity.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"neuroactivity.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'neuroactivity' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "plotting"])  # which a star import must not load, since it needs matplotlib
