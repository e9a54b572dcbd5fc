"""Types and ranges of the settings of a run."""

from math import inf
from types import MappingProxyType
from typing import Any, Final, Literal, get_args, get_origin

from reference_agents.errors import UsageError

# What takes memory, or a thread, for each unit ends where no machine has so much.
LIMITS: Final = MappingProxyType(
    {
        "steps": (1, inf),
        "seed": (0, inf),
        "friction_every": (0, inf),
        "tau": (0, inf),
        "reset_every": (1, inf),
        "batches": (1, inf),
        "max_fraction": (0, 1),
        "width": (1, 2**16),
        "depth": (1, 2**10),
        "actor_depth": (1, 2**10),
        "batch_size": (1, 2**24),
        "buffer_size": (1, 10**9),
        "learning_starts": (0, inf),
        "replay_ratio": (1, inf),
        "gamma": (0, 1),
        "polyak": (0, 1),
        "policy_delay": (1, inf),
        "actor_lr": (0, inf),
        "critic_lr": (0, inf),
        "exploration_noise": (0, inf),
        "policy_noise": (0, inf),
        "noise_clip": (0, inf),
        "diffusion_steps": (1, 10**4),
        "alpha_lr": (0, inf),
        "alpha_delay": (1, inf),
        "image_size": (15, 2**12),
        "n_step": (1, 10**6),
        "record_every": (1, inf),
        "evaluate_every": (0, inf),
        "evaluation_episodes": (1, inf),
        "checkpoint_every": (1, inf),
        "threads": (1, 2**10),
    }
)


def check_setting(name: str, hint: Any, value: object) -> None:
    """Raise a ``UsageError`` that names the setting if its value is of the wrong type or out of range."""
    allowed = get_args(hint) if get_origin(hint) is not None else (hint,)
    if get_origin(hint) is Literal:
        if value not in allowed:
            raise UsageError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        return
    kinds = (*allowed, int) if float in allowed else allowed
    if isinstance(value, bool) != (bool in allowed) or not isinstance(value, kinds):
        expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in allowed)
        raise UsageError(f"{name}: expected {expected}, got {value!r}")
    low, high = LIMITS.get(name, (-inf, inf))
    if isinstance(value, int | float) and (not low <= value <= high or value == inf):
        expected = f"at least {low}" if high == inf else f"a value from {low} to {high}"
        expected = "a finite number" if value == inf else expected
        raise UsageError(f"{name}: expected {expected}, got {value!r}")
