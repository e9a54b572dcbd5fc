"""The hyperparameters of a run: everything that its results depend on."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
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
    get_type_hints,
)

import tyro

from neuroactivity.looking import RecordsError
from neuroactivity.looking.reading import parse
from reference_agents.errors import UsageError
from reference_agents.limits import check_setting

T = TypeVar("T")
if TYPE_CHECKING:  # a setting whose default depends on the network or the algorithm: always a T once it is built ...
    ByNetwork = Annotated[T, "default depends on the network or the algorithm"]
else:  # ... and passed as a T, or as None for the paper's value
    ByNetwork = Optional
_PAPERS: Final[Any] = None

RENAMED: Final = MappingProxyType(
    {"policy_every": "policy_delay", "target_rate": "polyak", "entropy_every": "alpha_delay"}
)
"""Settings by their former names, which config.json of older runs has and the command line still accepts."""


ADDED: Final[Mapping[str, Any]] = MappingProxyType({"batches": 1, "clock": "run", "outgoing": "zero"})
"""Settings that config.json of older runs does not have, with what those runs did."""


def _formerly(name: str) -> Any:
    """Return an annotation that keeps the former name of a setting as an option of the command line."""
    return tyro.conf.arg(aliases=[f"--{name.replace('_', '-')}"])


PAPER_TAU: Final = MappingProxyType(
    {
        "mlp": MappingProxyType({"none": 0.0, "regrama": 0.0, "redo": 0.02}),
        **dict.fromkeys(
            ("mlp_layernorm", "bronet", "simba", "attention", "dacer", "drqv2"),
            MappingProxyType({"none": 0.01, "regrama": 0.01, "redo": 0.02}),
        ),
    }
)
"""Thresholds tau of the paper (Liu et al. 2025, A.3, A.1 and for DACER A.2), by network and reset method.

The paper has none for MLPs with LayerNorm, SimBa, attention and DrQ-v2; these normalise as BRO-net does, and take its
thresholds.
"""

HEADS: Final = 4
"""Attention heads per layer."""

EXPANSION: Final = MappingProxyType({"simba": 4, "attention": 2})
"""Expansion factor of a feedforward block: its hidden width over the width of the residual stream."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyperparameters of a run. The defaults are the paper's, for SAC (Liu et al. 2025, A.3) and for BRO-net (A.1).

    Where those two differ, a setting that is left out or None takes the value for ``network``; a Config and its JSON
    hold the resolved values. SimBa uses its authors' batch size, learning rates and replay ratio (Lee et al. 2025);
    attention, which has not been tuned for this, uses those of an MLP. Their other values are our choice.
    """

    framework: Literal["torch", "jax", "tensorflow"] = "torch"
    """Deep learning framework."""
    algo: Literal["sac", "td3", "dacer", "drqv2"] = "sac"
    """RL algorithm. dacer (a diffusion policy) is available in jax, drqv2 (learning from pixels) in torch; both need
    the mlp network."""
    env: str = "HalfCheetah-v5"
    """Environment id of Gymnasium (HalfCheetah-v5) or of the DeepMind Control Suite (dm_control/dog-walk-v0)."""
    steps: int = 1_000_000
    """Total environment steps; the one setting that may be increased when a run is resumed."""
    seed: int = 0
    """Random seed of the whole run."""
    friction_every: int = 0
    """Environment steps between two changes of a MuJoCo task's ground friction, drawn log-uniformly from 0.02 to 2;
    0 (the default) never changes it."""

    reset: Literal["none", "redo", "regrama"] = "regrama"
    """Method that resets inactive neurons; with none they are only measured."""
    tau: ByNetwork[float] = _PAPERS
    """Threshold: a neuron is inactive if its score is at most tau. Default: 0.02 for redo, else 0 for mlp and 0.01 for
    the other networks, for dacer and for drqv2."""
    reset_every: int = 1_000
    """Optimizer steps between two measurements of a network, each followed by a reset."""
    max_fraction: float | None = None
    """Largest fraction of a layer's neurons that one reset may touch; no limit by default."""
    batches: int = 1
    """Updates whose batches a score is made of, the last ones before a measurement."""
    clock: Literal["own", "run"] = "own"
    """The step count by which the optimizer corrects the moments of a reset neuron: its own, or the run's, as in the
    paper's code."""
    outgoing: Literal["zero", "small", "fresh", "keep"] = "zero"
    """What the outgoing parameters of a reset neuron become."""

    network: Literal["mlp", "mlp_layernorm", "bronet", "simba", "attention"] = "mlp"
    """Architecture of the actor and the critics: an MLP, without or with LayerNorm; residual blocks with LayerNorm, as
    in BRO, or in SimBa (without its running observation normalisation); a transformer with one token for each entry of
    the input."""
    activation: Literal["relu", "leaky_relu", "tanh", "sigmoid", "swish", "mish"] = "relu"
    """Activation function of the hidden layers."""
    width: ByNetwork[int] = _PAPERS
    """Width of the hidden layers (mlp) or of the residual stream; a multiple of 4 for attention. Default: 64 for
    attention, else 256."""
    depth: ByNetwork[int] = _PAPERS
    """Number of a critic's hidden layers (mlp), or of residual blocks after its first layer. Default: 3 for dacer, else
    2."""
    actor_depth: ByNetwork[int] = _PAPERS
    """Depth of the actor. Default: that of the critics for mlp and mlp_layernorm, else 1."""

    batch_size: ByNetwork[int] = _PAPERS
    """Transitions per update. Default: 128 for bronet, else 256."""
    buffer_size: int = 1_000_000
    """Capacity of the replay buffer, in transitions."""
    learning_starts: int = 5_000
    """Environment steps with random actions before the first update."""
    replay_ratio: ByNetwork[int] = _PAPERS
    """Updates per environment step (update-to-data ratio). Default: 2 for bronet and simba, else 1."""
    gamma: float = 0.99
    """Discount factor."""
    polyak: Annotated[float, _formerly("target_rate")] = 5e-3
    """Polyak averaging coefficient of the target networks: target += polyak * (online - target). It is called tau in
    CleanRL and Stable-Baselines3."""
    policy_delay: Annotated[int, _formerly("policy_every")] = 2
    """Critic updates per delayed actor update (TD3, DACER). SAC then updates the actor this many times in a row;
    DrQ-v2, which updates it every time, ignores it."""
    actor_lr: ByNetwork[float] = _PAPERS
    """Learning rate of the actor. Default: 1e-4 for bronet, simba and drqv2, else 3e-4."""
    critic_lr: ByNetwork[float] = _PAPERS
    """Learning rate of the critics, and of SAC's entropy coefficient. Default: 1e-4 for simba and drqv2, 3e-4 for
    dacer, else 1e-3."""
    exploration_noise: float = 0.1
    """Standard deviation of the exploration noise (TD3, DrQ-v2), multiplied by alpha for DACER; SAC samples from its
    policy instead."""
    policy_noise: float = 0.2
    """Standard deviation of the noise for target policy smoothing (TD3), or on the policy's actions in both losses
    (DrQ-v2)."""
    noise_clip: float = 0.5
    """Clipping range of the policy noise."""
    diffusion_steps: int = 5
    """Denoising steps of the diffusion policy (DACER), few enough to be fast; its authors use 20."""
    alpha_lr: float = 3e-2
    """Learning rate of the entropy coefficient alpha (DACER), which is updated once in alpha_delay updates."""
    alpha_delay: Annotated[int, _formerly("entropy_every")] = 10_000
    """Critic updates per update of alpha (DACER), which needs a costly estimate of the policy's entropy."""
    image_size: int = 84
    """Side of the square frames in pixels (DrQ-v2); an observation stacks three of them."""
    n_step: ByNetwork[int] = _PAPERS
    """Length of the n-step returns. Default: 3 for drqv2; the others need 1."""

    record_every: int = 1_000
    """Environment steps between two records in metrics.jsonl."""
    evaluate_every: int = 5_000
    """Environment steps between two evaluations; with 0 the agent is evaluated only at the end."""
    evaluation_episodes: int = 10
    """Episodes per evaluation."""
    record_scores: bool = False
    """Write every neuron's gradient and activation score to scores.jsonl at each measurement."""
    checkpoint_every: int = 10_000
    """Environment steps between two checkpoints, which are saved at the next end of an episode."""
    threads: int = 1
    """CPU threads of the framework; more are faster only if there are idle cores."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            check_setting(name, hint, getattr(self, name))
        for name, value in self._paper_defaults().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if not self.env.isprintable():
            raise UsageError(f"env: expected the id of an environment, got {self.env!r}")
        if self.algo in ("dacer", "drqv2") and self.network != "mlp":
            raise UsageError(f"network: expected mlp for {self.algo}, got {self.network!r}")
        if self.algo != "drqv2" and self.n_step != 1:
            raise UsageError(f"n_step: expected 1 for {self.algo}, got {self.n_step}")
        if self.batches > self.reset_every:
            raise UsageError(f"batches: expected at most reset_every={self.reset_every}, got {self.batches}")
        if self.network == "attention" and self.width % HEADS:
            raise UsageError(f"width: expected a multiple of {HEADS}, the heads of attention, got {self.width}")

    def _paper_defaults(self) -> dict[str, float]:
        """Defaults that depend on the network, or on the algorithm (DACER and DrQ-v2)."""
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
        """Return the paper's threshold for a reset method."""
        return PAPER_TAU[self.algo if self.algo in PAPER_TAU else self.network][reset]

    @property
    def from_pixels(self) -> bool:
        """Whether the agent learns from pixels."""
        return self.algo == "drqv2"

    def to_json(self) -> str:
        """Serialise the settings as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read settings that ``to_json`` wrote, of older versions too: renamed settings are mapped to their new names.

        Raises:
            UsageError: If the text is not a JSON object, a setting is missing or unknown, or a value is invalid.
        """
        try:
            encoded = text.encode(errors="surrogatepass") if isinstance(text, str) else text
            settings = parse(encoded, "config: expected the settings of a run as JSON")
        except RecordsError as error:
            raise UsageError(str(error)) from None
        if not isinstance(settings, dict):
            raise UsageError(f"config: expected the settings of a run as a JSON object, got {settings!r}")
        for old, new in RENAMED.items():
            if old in settings and new not in settings:
                settings[new] = settings.pop(old)
        settings = {**ADDED, **settings}
        names = [field.name for field in dataclasses.fields(cls)]
        if missing := [name for name in names if name not in settings]:
            raise UsageError(f"config: expected every setting, got none for {', '.join(missing)}")
        if unknown := [name for name in settings if name not in names]:
            raise UsageError(f"config: expected known settings only, got {', '.join(unknown)}")
        return cls(**settings)
