"""Everything that determines the numbers of a run, in one value."""

import dataclasses
import json
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Any, Final, Literal, Self, get_args, get_origin, get_type_hints

from reference_agents.errors import UsageError

PAPER_TAU: Final = MappingProxyType({"none": 0.0, "regrama": 0.0, "redo": 0.02})
"""The threshold that the paper uses for SAC (Liu et al. 2025, A.3), for each way to reset."""

_LIMITS: Final = MappingProxyType(
    {
        "steps": (1, inf),
        "seed": (0, inf),
        "tau": (0, inf),
        "reset_every": (1, inf),
        "max_fraction": (0, 1),
        "width": (1, inf),
        "depth": (1, inf),
        "batch_size": (1, inf),
        "buffer_size": (1, inf),
        "learning_starts": (0, inf),
        "gamma": (0, 1),
        "target_rate": (0, 1),
        "policy_every": (1, inf),
        "actor_lr": (0, inf),
        "critic_lr": (0, inf),
        "record_every": (1, inf),
        "evaluate_every": (0, inf),
        "evaluation_episodes": (1, inf),
        "checkpoint_every": (1, inf),
        "threads": (1, inf),
    }
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a run. The defaults are the paper's for SAC (Liu et al. 2025, A.3), which are those of CleanRL."""

    framework: Literal["torch"] = "torch"
    """Framework that the agent is written in."""
    algo: Literal["sac"] = "sac"
    """Learning algorithm."""
    env: str = "HalfCheetah-v5"
    """Environment of gymnasium (HalfCheetah-v5) or of the DeepMind Control Suite (dm_control/dog-walk-v0)."""
    steps: int = 1_000_000
    """Steps taken in the environment; the one setting that may grow when a run is resumed."""
    seed: int = 0
    """Seed that every random number of the run derives from."""

    reset: Literal["none", "redo", "regrama"] = "regrama"
    """How inactive neurons are found and reset; with none they are only measured."""
    tau: float | None = None
    """Score at or below which a neuron counts as inactive; by default 0 for regrama and none, 0.02 for redo."""
    reset_every: int = 1_000
    """Steps of an optimizer between two measurements of its networks, each followed by a reset."""
    max_fraction: float | None = None
    """Largest fraction of a layer that one reset may touch; by default there is no limit."""

    network: Literal["mlp"] = "mlp"
    """Architecture of the actor and the critics."""
    activation: Literal["relu", "leaky_relu", "tanh", "sigmoid", "swish", "mish"] = "relu"
    """Activation function of the hidden layers."""
    width: int = 256
    """Neurons in a hidden layer."""
    depth: int = 2
    """Hidden layers of a network."""

    batch_size: int = 256
    """Transitions in one update."""
    buffer_size: int = 1_000_000
    """Transitions that the replay buffer holds."""
    learning_starts: int = 5_000
    """Steps taken at random before the first update."""
    gamma: float = 0.99
    """Discount factor."""
    target_rate: float = 5e-3
    """Fraction of the way that the target critics move towards the critics at each update."""
    policy_every: int = 2
    """Updates between two visits to the actor, which is then updated this many times in a row."""
    actor_lr: float = 3e-4
    """Learning rate of the actor."""
    critic_lr: float = 1e-3
    """Learning rate of the critics, and of the entropy coefficient."""

    record_every: int = 1_000
    """Steps between two records in metrics.jsonl."""
    evaluate_every: int = 5_000
    """Steps between two evaluations; 0 leaves only the one at the end."""
    evaluation_episodes: int = 10
    """Episodes of an evaluation."""
    checkpoint_every: int = 10_000
    """Steps after which the next end of an episode brings a checkpoint."""
    threads: int = 1
    """Threads that the framework computes with; more are faster only as long as the cores have nothing else to do."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            _check(name, hint, getattr(self, name))

    @property
    def threshold(self) -> float:
        """The ``tau`` in force: the one given, or else the paper's for this way to reset."""
        return PAPER_TAU[self.reset] if self.tau is None else self.tau

    def to_json(self) -> str:
        """Write the settings as JSON text, which ``from_json`` reads back."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read settings that ``to_json`` wrote.

        Raises:
            UsageError: If the text is not JSON, names a setting that does not exist, or holds a bad value.
        """
        try:
            return cls(**json.loads(text))
        except (json.JSONDecodeError, TypeError) as error:
            raise UsageError(f"config: expected the settings of a run as JSON, got {error}") from error


def _check(name: str, hint: Any, value: object) -> None:
    """Raise a ``UsageError`` that names the setting, unless its value is of its type and within its limits."""
    allowed = get_args(hint) if get_origin(hint) is not None else (hint,)
    if get_origin(hint) is Literal:
        if value not in allowed:
            raise UsageError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        return
    kinds = (*allowed, int) if float in allowed else allowed
    if isinstance(value, bool) or not isinstance(value, kinds):
        expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in allowed)
        raise UsageError(f"{name}: expected {expected}, got {value!r}")
    low, high = _LIMITS.get(name, (-inf, inf))
    if isinstance(value, int | float) and not low <= value <= high:
        expected = f"at least {low}" if high == inf else f"a value from {low} to {high}"
        raise UsageError(f"{name}: expected {expected}, got {value!r}")
