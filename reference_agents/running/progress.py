"""How far a run has come."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

MOST: Final = 2**1000
"""Of a number in a checkpoint; one that is not finite is none."""


@dataclass
class Progress:
    """Progress of a run, at the end of an episode."""

    step: int = 0
    episode: int = 0
    """Episodes started."""
    returns: list[float] = field(default_factory=list)
    """Returns of the training episodes since the last record."""
    records: int = 0
    """Records in metrics.jsonl at the last checkpoint."""
    scores: int = 0
    """Records in scores.jsonl at the last checkpoint."""
    checkpoint: int = 0
    """Environment step of the last checkpoint."""
    seconds: float = 0.0
    """Elapsed time."""

    @classmethod
    def restored(cls, values: Mapping[str, Any]) -> Self:
        """Read the progress from a checkpoint.

        Raises:
            ValueError: If it has other parts than those of this version, or one of another type.
        """
        fields = {item.name: item.type for item in dataclasses.fields(cls)}
        if values.keys() != fields.keys():
            raise ValueError(f"progress: expected {', '.join(fields)}, got {', '.join(map(str, values)) or 'nothing'}")
        for name, value in values.items():
            numbers = value if name == "returns" and isinstance(value, list) else [value]
            kinds = int if fields[name] is int else (int, float)
            if any(isinstance(n, bool) or not isinstance(n, kinds) or not -MOST <= n <= MOST for n in numbers):
                raise ValueError(f"progress: {name}: cannot be {value!r}")
            if name != "returns" and value < 0:
                raise ValueError(f"progress: {name}: expected 0 or more, got {value!r}")
        return cls(**values)
