"""Everything that determines the numbers of a run, in one value."""

import dataclasses
import json
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    Optional,
    Self,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from reference_agents.errors import UsageError

T = TypeVar("T")
if TYPE_CHECKING:  # a setting that a Config fills in: read it as T ...
    ByNetwork = Annotated[T, "what the network decides, or the algorithm"]
else:  # ... give it as T, or as None for the paper's value
    ByNetwork = Optional
_PAPERS: Final[Any] = None

PAPER_TAU: Final = MappingProxyType(
    {
        "mlp": MappingProxyType({"none": 0.0, "regrama": 0.0, "redo": 0.02}),
        **dict.fromkeys(
            ("mlp_layernorm", "bronet", "simba", "attention", "dacer", "drqv2"),
            MappingProxyType({"none": 0.01, "regrama": 0.01, "redo": 0.02}),
        ),
    }
)
"""The thresholds of the paper (Liu et al. 2025, A.3, A.1 and for DACER A.2), for each network and each way to reset.

It has none for an MLP with LayerNorm, SimBa, attention and DrQ-v2, which normalise as BRO-net does: they take
BRO-net's.
"""

HEADS: Final = 4
"""Heads of each attention layer."""

EXPANSION: Final = MappingProxyType({"simba": 4, "attention": 2})
"""How many times wider than the residual stream the hidden layer of a block is."""

_LIMITS: Final = MappingProxyType(
    {
        "steps": (1, inf),
        "seed": (0, inf),
        "friction_every": (0, inf),
        "tau": (0, inf),
        "reset_every": (1, inf),
        "max_fraction": (0, 1),
        "width": (1, inf),
        "depth": (1, inf),
        "actor_depth": (1, inf),
        "batch_size": (1, inf),
        "buffer_size": (1, inf),
        "learning_starts": (0, inf),
        "replay_ratio": (1, inf),
        "gamma": (0, 1),
        "target_rate": (0, 1),
        "policy_every": (1, inf),
        "actor_lr": (0, inf),
        "critic_lr": (0, inf),
        "exploration_noise": (0, inf),
        "policy_noise": (0, inf),
        "noise_clip": (0, inf),
        "diffusion_steps": (1, inf),
        "alpha_lr": (0, inf),
        "entropy_every": (1, inf),
        "image_size": (15, inf),
        "n_step": (1, inf),
        "record_every": (1, inf),
        "evaluate_every": (0, inf),
        "evaluation_episodes": (1, inf),
        "checkpoint_every": (1, inf),
        "threads": (1, inf),
    }
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a run. The defaults are the paper's, for SAC (Liu et al. 2025, A.3) and for BRO-net (A.1).

    Where those two differ, a setting that is not given, or is None, takes the value for ``network``: a Config and its
    JSON hold only what is in force. SimBa takes its own authors' batch size, learning rates and replay ratio (Lee et
    al. 2025); attention, which nobody has tuned for this, those of an MLP. Their other values are our choice.
    """

    framework: Literal["torch", "jax", "tensorflow"] = "torch"
    """Framework that the agent is written in."""
    algo: Literal["sac", "td3", "dacer", "drqv2"] = "sac"
    """Learning algorithm; dacer, a diffusion policy, is written in jax, and drqv2, which sees images, in torch; both
    for mlp."""
    env: str = "HalfCheetah-v5"
    """Environment of gymnasium (HalfCheetah-v5) or of the DeepMind Control Suite (dm_control/dog-walk-v0)."""
    steps: int = 1_000_000
    """Steps taken in the environment; the one setting that may grow when a run is resumed."""
    seed: int = 0
    """Seed that every random number of the run derives from."""
    friction_every: int = 0
    """Steps after which the friction of a MuJoCo task's ground is redrawn, log-uniformly from 0.02 to 2; by default
    never."""

    reset: Literal["none", "redo", "regrama"] = "regrama"
    """How inactive neurons are found and reset; with none they are only measured."""
    tau: ByNetwork[float] = _PAPERS
    """Score at or below which a neuron counts as inactive; by default 0.02 for redo, else 0 for mlp and 0.01 for
    the others, for dacer and for drqv2."""
    reset_every: int = 1_000
    """Steps of an optimizer between two measurements of its networks, each followed by a reset."""
    max_fraction: float | None = None
    """Largest fraction of a layer that one reset may touch; by default there is no limit."""

    network: Literal["mlp", "mlp_layernorm", "bronet", "simba", "attention"] = "mlp"
    """Architecture of the actor and the critics: hidden layers, plain or each with a LayerNorm; residual blocks with
    normalisations, as in BRO or, without its running normalisation of observations, SimBa; a transformer whose tokens
    are the entries of the input."""
    activation: Literal["relu", "leaky_relu", "tanh", "sigmoid", "swish", "mish"] = "relu"
    """Activation function of the hidden layers."""
    width: ByNetwork[int] = _PAPERS
    """Neurons in a hidden layer (mlp) or in the residual stream, a multiple of 4 for attention; by default 64 for
    attention, else 256."""
    depth: ByNetwork[int] = _PAPERS
    """Hidden layers of a critic (mlp), or residual blocks after its first layer; by default 3 for dacer, else 2."""
    actor_depth: ByNetwork[int] = _PAPERS
    """The same of the actor; by default as many as depth says for mlp and mlp_layernorm, else 1."""

    batch_size: ByNetwork[int] = _PAPERS
    """Transitions in one update; by default 128 for bronet, else 256."""
    buffer_size: int = 1_000_000
    """Transitions that the replay buffer holds."""
    learning_starts: int = 5_000
    """Steps taken at random before the first update."""
    replay_ratio: ByNetwork[int] = _PAPERS
    """Updates after each step; by default 2 for bronet and simba, else 1."""
    gamma: float = 0.99
    """Discount factor."""
    target_rate: float = 5e-3
    """Fraction of the way that target networks move towards the trained ones each time."""
    policy_every: int = 2
    """Updates between two visits to the actor, the policy delay of TD3 and DACER; SAC then updates it this many times
    in a row, and DrQ-v2 visits it in every update."""
    actor_lr: ByNetwork[float] = _PAPERS
    """Learning rate of the actor; by default 1e-4 for bronet, simba and drqv2, else 3e-4."""
    critic_lr: ByNetwork[float] = _PAPERS
    """Learning rate of the critics, and of SAC's entropy coefficient; by default 1e-4 for simba and drqv2, 3e-4 for
    dacer, else 1e-3."""
    exploration_noise: float = 0.1
    """Standard deviation of the noise on the actions with which TD3 and DrQ-v2 explore, and, times alpha, DACER; SAC
    draws from its policy instead."""
    policy_noise: float = 0.2
    """Standard deviation of the noise on the target actor's actions (TD3), and on those learned from (DrQ-v2)."""
    noise_clip: float = 0.5
    """Largest size of that noise."""
    diffusion_steps: int = 5
    """Steps in which noise becomes an action (DACER): few enough to be fast. Its authors take 20."""
    alpha_lr: float = 3e-2
    """Learning rate of alpha (DACER), which moves once in entropy_every updates."""
    entropy_every: int = 10_000
    """Updates between two estimates of the policy's entropy (DACER), which take long and move alpha a little each."""
    image_size: int = 84
    """Side of the square images that the agent sees, three at a time (DrQ-v2)."""
    n_step: ByNetwork[int] = _PAPERS
    """Rewards that are added up before the critics' values follow; by default 3 for drqv2, and 1, as others need it,
    for all else."""

    record_every: int = 1_000
    """Steps between two records in metrics.jsonl."""
    evaluate_every: int = 5_000
    """Steps between two evaluations; 0 leaves only the one at the end."""
    evaluation_episodes: int = 10
    """Episodes of an evaluation."""
    record_scores: bool = False
    """Record every neuron's score by its gradients and by its activations, at each measurement, in scores.jsonl."""
    checkpoint_every: int = 10_000
    """Steps after which the next end of an episode brings a checkpoint."""
    threads: int = 1
    """Threads that the framework computes with; more are faster only as long as the cores have nothing else to do."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            _check(name, hint, getattr(self, name))
        for name, value in self._papers().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.algo in ("dacer", "drqv2") and self.network != "mlp":
            raise UsageError(f"network: expected mlp for {self.algo}, got {self.network!r}")
        if self.algo != "drqv2" and self.n_step != 1:
            raise UsageError(f"n_step: expected 1 for {self.algo}, got {self.n_step}")
        if self.network == "attention" and self.width % HEADS:
            raise UsageError(f"width: expected a multiple of {HEADS}, the heads of attention, got {self.width}")

    def _papers(self) -> dict[str, float]:
        """What is set differently for each network, for DACER and for DrQ-v2."""
        depth = 3 if self.algo == "dacer" else 2
        mlp: dict[str, float] = {"width": 256, "depth": depth, "batch_size": 256, "replay_ratio": 1}
        mlp["actor_depth"] = depth if self.depth is None else self.depth
        rates = {"actor_lr": 3e-4, "critic_lr": 3e-4 if self.algo == "dacer" else 1e-3, "n_step": 1}
        settings: dict[str, dict[str, float]] = {
            "mlp": {"actor_lr": 1e-4, "critic_lr": 1e-4, "n_step": 3} if self.algo == "drqv2" else {},
            "mlp_layernorm": {},
            "bronet": {"actor_depth": 1, "batch_size": 128, "replay_ratio": 2, "actor_lr": 1e-4},
            "simba": {"actor_depth": 1, "replay_ratio": 2, "actor_lr": 1e-4, "critic_lr": 1e-4},
            "attention": {"actor_depth": 1, "width": 64},
        }
        return mlp | rates | settings[self.network] | {"tau": self.paper_tau(self.reset)}

    def paper_tau(self, reset: str) -> float:
        """Return the paper's threshold for a way to reset."""
        return PAPER_TAU[self.algo if self.algo in PAPER_TAU else self.network][reset]

    @property
    def sees(self) -> bool:
        """Whether the agent sees images."""
        return self.algo == "drqv2"

    def to_json(self) -> str:
        """Write the settings as JSON text, which ``from_json`` reads back."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read settings that ``to_json`` wrote.

        Raises:
            UsageError: If the text is not a JSON object, does not name exactly the settings that there are, or holds a
                bad value.
        """
        try:
            settings = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError(f"config: expected the settings of a run as JSON, got {error}") from error
        if not isinstance(settings, dict):
            raise UsageError(f"config: expected the settings of a run as a JSON object, got {settings!r}")
        names = [field.name for field in dataclasses.fields(cls)]
        if missing := [name for name in names if name not in settings]:
            raise UsageError(f"config: expected every setting, got none for {', '.join(missing)}")
        if unknown := [name for name in settings if name not in names]:
            raise UsageError(f"config: expected known settings only, got {', '.join(unknown)}")
        return cls(**settings)


def _check(name: str, hint: Any, value: object) -> None:
    """Raise a ``UsageError`` that names the setting, unless its value is of its type and within its limits."""
    allowed = get_args(hint) if get_origin(hint) is not None else (hint,)
    if get_origin(hint) is Literal:
        if value not in allowed:
            raise UsageError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        return
    kinds = (*allowed, int) if float in allowed else allowed
    if isinstance(value, bool) != (bool in allowed) or not isinstance(value, kinds):
        expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in allowed)
        raise UsageError(f"{name}: expected {expected}, got {value!r}")
    low, high = _LIMITS.get(name, (-inf, inf))
    if isinstance(value, int | float) and not low <= value <= high:
        expected = f"at least {low}" if high == inf else f"a value from {low} to {high}"
        raise UsageError(f"{name}: expected {expected}, got {value!r}")
