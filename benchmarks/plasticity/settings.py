"""What the study runs: settings in which plasticity is lost, methods, and the seeds of tuning and of results."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.plasticity.experiment import Experiment

__all__ = [
    "AGAIN",
    "AGAIN_IN",
    "AGAIN_METHODS",
    "METHODS",
    "PLAN",
    "RESULT",
    "SETTINGS",
    "SWEPT",
    "SWEPT_IN",
    "TRIAL",
    "TUNED_IN",
    "Method",
    "experiment",
    "trials",
]

SIZE: Final[Mapping[str, Any]] = {"width": 32, "steps_per_phase": 750, "phases": 16, "every": 400}
"""Small, so that 20 seeds of a phase are trained in two seconds of one core, and plasticity is lost within."""
RESULT: Final[Mapping[str, Any]] = {"seed": 0, "seeds": 20}
TRIAL: Final[Mapping[str, Any]] = {"seed": 1000, "seeds": 4, "phases": 10}
"""What a value of a method's setting is tried on."""
AGAIN: Final = tuple({"seed": seed, "seeds": 8} for seed in (2000, 3000))
AGAIN_IN: Final = "layernorm"
"""Seeds not used before and a setting, to see whether the ranking of the methods is the same."""

HARDER: Final = {"learning_rate": 0.01}
SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {},
    "residual": {"network": "residual", **HARDER},
    "layernorm": {"network": "layernorm", **HARDER},
    "tanh": {"activation": "tanh", **HARDER},
    "healthy": {"activation": "tanh"},
}
"""The plain form, the harder one with three networks, and a network that loses nothing."""
TUNED_IN: Final = "residual"
"""Setting in which the methods are tuned, for all."""


@dataclass(frozen=True)
class Method:
    """A method as the study runs it."""

    title: str
    options: Mapping[str, Any]
    tuned: str | None = None
    """Its one setting that is tuned, and the values that are tried."""
    values: tuple[float, ...] = field(default=())


PERIODS: Final = (150, 1500, 4000)
"""Updates: those between two copies of the target network, those of a phase, and those of some phases."""


def _scored(title: str, reset: str, **options: Any) -> Method:
    return Method(title, {"reset": reset, **options})


def _strength(title: str, reset: str, *values: float) -> Method:
    return Method(title, {"reset": reset}, "strength", values)


def _period(title: str, reset: str) -> Method:
    return Method(title, {"reset": reset}, "every", PERIODS)


METHODS: Final[Mapping[str, Method]] = {
    "none": Method("none", {"reset": "none"}),
    "new_network": Method("new network at each phase", {"reset": "new_network"}),
    "regrama": _scored("ReGraMa", "regrama"),
    "regrama_published": _scored("ReGraMa, published clock", "regrama", clock="run"),
    "redo": _scored("ReDo", "redo"),
    "redo_published": _scored("ReDo, published clock", "redo", clock="run"),
    "regrama_batches": _scored("ReGraMa, 50 batches", "regrama", batches=50),
    "regrama_tuned": Method("ReGraMa, tuned", {"reset": "regrama"}, "tau", (0.01, 0.03, 0.1)),
    "redo_tuned": Method("ReDo, tuned", {"reset": "redo"}, "tau", (0.025, 0.1, 0.25)),
    "continual": Method(  # resets often, so that neurons younger than MATURITY are there to be left alone
        "continual backprop", {"reset": "continual", "every": 50}, "strength", (0.003, 0.01, 0.03)
    ),
    "ccbp": _strength("CCBP's partial resets", "ccbp", 0.1, 0.3, 1.0),
    "reborn": Method("ReBorn", {"reset": "reborn"}, "tau", (0.025, 0.1, 0.25)),
    "shrink_perturb": _strength("shrink and perturb", "shrink_perturb", 0.03, 0.1, 0.3),
    "l2_init": _strength("L2 init", "l2_init", 1e-4, 1e-3, 1e-2),
    "weight_decay": _strength("weight decay (AdamW)", "weight_decay", 1e-2, 1e-1, 1.0),
    "last_layer": _period("new last layer", "last_layer"),
    "layer_in_turn": _period("new hidden layer, in turn", "layer_in_turn"),
    "all_layers": _period("all layers new", "all_layers"),
    "restart_adam": _period("Adam restarted", "restart_adam"),
    "adam_rel": _period("AdamRel", "adam_rel"),
    "large_eps": _strength("Adam, larger epsilon", "large_eps", 1e-5, 1.5e-4, 1e-3),
    "equal_betas": _strength("Adam, equal betas", "equal_betas", 0.9, 0.99, 0.997),
    "layernorm": Method("LayerNorm", {"reset": "none", "network": "layernorm"}),
    "regrama_l2_init": _strength("ReGraMa and L2 init", "regrama_l2_init", 1e-4, 1e-3, 1e-2),
    "regrama_weight_decay": _strength("ReGraMa and weight decay", "regrama_weight_decay", 1e-2, 1e-1, 1.0),
}
MAIN: Final = tuple(METHODS)[:6]
PLAN: Final[Mapping[str, tuple[str, ...]]] = {
    "plain": (*MAIN, "reborn", "layernorm"),
    "residual": tuple(name for name in METHODS if name != "layernorm"),
    "layernorm": tuple(name for name in METHODS if name != "layernorm"),
    "tanh": MAIN[:5],
    "healthy": ("none", "new_network", "regrama", "redo", "regrama_batches"),
}
"""Methods that are run in each setting."""
AGAIN_METHODS: Final = tuple(
    name for name in PLAN[AGAIN_IN] if name not in ("restart_adam", "large_eps", "equal_betas")
)
"""Those that are run on seeds not used before: all but settings of Adam that bring nothing back there."""
SWEPT: Final[Mapping[str, tuple[str, tuple[float, ...]]]] = {
    "regrama_tuned": ("regrama", (0.001, 0.1, 0.3)),
    "redo_tuned": ("redo", (0.0025, 0.1, 0.5)),
}
"""Other thresholds than the usual ones, with the method that has those."""
SWEPT_IN: Final = ("residual", "layernorm")


def experiment(setting: str, method: str, value: float | None, **seeds: Any) -> Experiment:
    """Return the experiment of a method, with a value of its own setting, on some seeds."""
    found = METHODS[method]
    own = {} if found.tuned is None or value is None else {found.tuned: value}
    return Experiment(**{**SIZE, **SETTINGS[setting], **found.options, **own, **seeds})


def trials(method: str) -> Iterator[tuple[float, Experiment]]:
    """Yield the values that are tried for a method, each with its experiment."""
    for value in METHODS[method].values:
        yield value, experiment(TUNED_IN, method, value, **TRIAL)
