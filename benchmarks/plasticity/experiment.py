"""Settings of an experiment, and what it records."""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from reference_agents.errors import UsageError

__all__ = ["Experiment", "Outcome", "Reset"]

Reset = Literal[
    "none",
    "new_network",
    "regrama",
    "redo",
    "continual",
    "ccbp",
    "reborn",
    "shrink_perturb",
    "l2_init",
    "weight_decay",
    "last_layer",
    "layer_in_turn",
    "all_layers",
    "restart_adam",
    "adam_rel",
    "large_eps",
    "equal_betas",
    "regrama_l2_init",
    "regrama_weight_decay",
]

TAUS: Final = {"regrama": 0.01, "redo": 0.025, "reborn": 0.1, "regrama_l2_init": 0.01, "regrama_weight_decay": 0.01}
STRENGTHS: Final = {
    "continual": 0.01,  # fraction of the mature neurons that is replaced at a time
    "ccbp": 0.3,  # of the way to a new neuron, at a time, for one that does not learn
    "shrink_perturb": 0.1,  # of the way to a new network, at a time
    "l2_init": 1e-3,
    "weight_decay": 1e-3,
    "large_eps": 1e-5,  # Adam's, as most codes of PPO have it
    "equal_betas": 0.99,  # both of Adam's
    "regrama_l2_init": 1e-3,
    "regrama_weight_decay": 1e-3,
}
OF_AGENTS: Final = {
    **dict.fromkeys(("rows", "columns", "distractors"), ("dqn", "ppo")),
    "batch": ("ppo", "sac"),
    "entropy": ("ppo",),
    **dict.fromkeys(("task", "friction_every", "sensors", "reset_in", "episode"), ("sac",)),
}
"""Settings that only some agents have."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One method on one world. The defaults are the plainest setting in which plasticity is lost."""

    world: Literal["catch", "mujoco"] = "catch"
    """Catch, whose pixels are permuted anew at each phase; or a MuJoCo task whose ground or body changes, for sac."""
    agent: Literal["dqn", "ppo", "sac"] = "dqn"
    """Agent. PPO plays in 16 environments, and its updates come after each 20 steps of them; SAC in one."""
    network: Literal["mlp", "layernorm", "residual", "conv"] = "mlp"
    """Two hidden layers; with layer norms before the activation functions; with a skip around the second; or a
    convolution before one hidden layer."""
    activation: Literal["relu", "tanh", "leaky_relu"] = "relu"
    """Activation function of the hidden layers."""
    width: int = 128
    """Neurons of a hidden layer."""
    reset: Reset = "regrama"
    """Method; new_network draws a new network at each phase, the upper bound."""
    reset_in: Literal["all", "actor", "critics"] = "all"
    """Networks that the method acts on."""
    clock: Literal["own", "run"] = "own"
    """The optimizer's step count at entries that regrama or redo reset: their own, or the run's as published."""
    batches: int = 1
    """Batches that a score of regrama or redo is made of."""
    every: int = 500
    """Updates between two resets."""
    tau: float | None = None
    """Threshold; by default 0.025 for redo, 0.1 for reborn and 0.01 for regrama, alone or with another method."""
    strength: float | None = None
    """How strongly a method acts that has no threshold; by default a value of its own."""
    seeds: int = 20
    """Number of runs."""
    seed: int = 0
    """The first run's seed; the others follow."""
    phases: int = 40
    """Number of phases."""
    steps_per_phase: int = 1500
    """Steps of each environment in a phase."""
    updates: int = 2
    """Updates after each step of the 8 environments."""
    batch: int = 64
    """Samples of an update of PPO or SAC; DQN's has 64."""
    learning_rate: float = 3e-3
    """Learning rate of Adam."""
    rows: int = 10
    """Height of the board."""
    columns: int = 5
    """Width of the board."""
    distractors: int = 0
    """Pixels of noise beside the board's."""
    entropy: float = 0.01
    """Weight of the policy's entropy in the loss of PPO."""
    task: str = "InvertedPendulum-v5"
    """Gymnasium's id of the MuJoCo task."""
    friction_every: int = 0
    """Steps between two changes of the task's ground (its friction) or, without a ground, of its body (its motors and
    gravity); 0 for one at each phase."""
    sensors: Literal["fixed", "rewired"] = "fixed"
    """Whether the numbers of an observation are in another order, with other signs, at each phase but the first."""
    episode: int = 200
    """Longest episode of the task; for as many steps at the start of a phase actions are random, without updates."""

    def __post_init__(self) -> None:
        for name in ("width", "every", "batches", "seeds", "phases", "updates", "batch", "rows", "columns", "episode"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if (self.world == "mujoco") != (self.agent == "sac"):
            raise UsageError(f"agent: expected dqn or ppo for catch and sac for mujoco, got {self.agent}")
        for name, agents in OF_AGENTS.items():
            if self.agent not in agents and getattr(self, name) != getattr(type(self), name):
                raise UsageError(f"{name}: {self.agent} has none")
        if self.reset_in != "all" and self.reset in ("none", "new_network"):
            raise UsageError(f"reset_in: expected all for {self.reset}, got {self.reset_in}")
        for name in ("seed", "distractors", "friction_every"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if self.batches > self.every:
            raise UsageError(f"batches: expected 1 to every={self.every}, got {self.batches}")
        if self.steps_per_phase < 4 * self.rows:
            raise UsageError(f"steps_per_phase: expected at least {4 * self.rows}, got {self.steps_per_phase}")
        if not 0 <= self.entropy < math.inf:
            raise UsageError(f"entropy: expected a number of 0 or more, got {self.entropy}")
        if self.agent == "sac" and self.steps_per_phase < 4 * self.episode:
            raise UsageError(f"steps_per_phase: expected at least {4 * self.episode}, got {self.steps_per_phase}")
        if self.agent == "sac" and self.network == "conv":
            raise UsageError("network: expected one of dense layers for sac")
        if self.network == "conv" and self.distractors:
            raise UsageError("distractors: expected 0 with a conv network, which sees a board")
        if self.reset in ("continual", "ccbp", "reborn") and self.network == "conv":
            raise UsageError(f"reset: {self.reset} is there for networks of dense layers only")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate: expected a positive number, got {self.learning_rate}")
        if self.reset == "equal_betas" and not (self.strength or 0) < 1:
            raise UsageError(f"strength: expected a decay below 1, got {self.strength}")
        for name, defaults in (("tau", TAUS), ("strength", STRENGTHS)):
            value = getattr(self, name)
            if value is not None and self.reset not in defaults:
                raise UsageError(f"{name}: {self.reset} has none")
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name}: expected a number of 0 or more, got {value}")
            object.__setattr__(self, name, defaults.get(self.reset) if value is None else float(value))

    @property
    def wrapper_options(self) -> dict[str, Any]:
        """The options of the wrapper for regrama and redo."""
        return {name: getattr(self, name) for name in ("tau", "every", "clock", "batches")}


class Outcome(NamedTuple):
    """Results; each (seed, phase), but the curves. Inside a compiled phase, those of one seed and phase."""

    returns: Any
    """Mean return of the episodes that end in the last quarter of the phase."""
    inactive: Any
    """Fraction of the hidden neurons with a GraMa score of at most 0.01 at the end of the phase; this and the next two
    are measured before the last step's updates, since a reset may come with these."""
    rank: Any
    """Effective rank of the outputs of the second hidden layer."""
    norm: Any
    """Euclidean norm of all parameters."""
    resets: Any
    """Neurons reset."""
    measured_again: Any
    """Neurons that were measured once more since they were reset."""
    reset_again: Any
    """Those of them that were inactive then."""
    curves: Any
    """Mean return in each twentieth of the phase: (seed, phase, 20)."""
