"""What is known of an agent's neurons, and how its networks are watched: the same in every framework."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from neuroactivity import ActivityReport, Layout
from reference_agents.config import Config
from reference_agents.seeding import derive


class Counts(NamedTuple):
    """How often a network was measured and reset."""

    measurements: int = 0
    resets: int = 0
    neurons_reset: int = 0

    def plus(self, report: ActivityReport) -> "Counts":
        """Count one more measurement, and the reset that it brought, if any."""
        neurons = report.total.reset or 0
        return Counts(self.measurements + 1, self.resets + (neurons > 0), self.neurons_reset + neurons)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How one method watches over one network: what the wrapper around its optimizer is told."""

    kind: Literal["inactive", "dormant"]
    """Method, as the records name what it finds: GraMa finds neurons inactive, ReDo dormant."""
    tau: float
    every: int
    max_fraction: float | None
    """0 where the method only looks on."""
    seed: int


def watches(config: Config, network: str) -> tuple[Watch, ...]:
    """Say how a network is watched.

    GraMa is measured whatever resets, so that runs can be compared; where ReDo resets, or nothing does, it only looks
    on. Where scores are recorded, so does ReDo.

    Args:
        config: Which method resets, how often, and what it may touch.
        network: Name of the network, which decides the seed.

    Returns:
        One watch for each method, that which resets last.
    """
    seed = derive(config.seed, "reset", network)

    def watch(kind: Literal["inactive", "dormant"], tau: float, max_fraction: float | None) -> Watch:
        return Watch(kind=kind, tau=tau, every=config.reset_every, max_fraction=max_fraction, seed=seed)

    if config.reset == "redo":
        onlooker = watch("inactive", config.paper_tau("regrama"), 0.0)
        return onlooker, watch("dormant", config.tau, config.max_fraction)
    own = watch("inactive", config.tau, config.max_fraction if config.reset == "regrama" else 0.0)
    return (watch("dormant", config.paper_tau("redo"), 0.0), own) if config.record_scores else (own,)


class ActivityLog:
    """Keeps up with the neurons of an agent's networks by the reports on them.

    Attributes:
        fractions: Fraction of inactive neurons when a group was last measured, None before the first time. Keys are
            ``inactive/{network}/{group}`` for GraMa and, where ReDo measures too, also ``dormant/{network}/{group}``.
        layouts: Neuron groups of each network.
        on_report: Called with method, network and report after each measurement, if given.
    """

    def __init__(self) -> None:
        self.fractions: dict[str, float | None] = {}
        self.layouts: dict[str, Layout] = {}
        self.on_report: Callable[[str, str, ActivityReport], None] | None = None
        self._counts: dict[str, dict[str, Counts]] = {}
        self._reports: dict[str, dict[str, ActivityReport]] = {}

    def reader(self, kind: str, network: str, layout: Layout) -> Callable[[ActivityReport], None]:
        """Make room for what one method finds in a network's groups, and return what takes in its reports."""
        prefix = f"{kind}/{network}"
        self.layouts[network] = layout
        self.fractions |= {f"{prefix}/{group}": None for group in layout}
        counts, reports = self._counts.setdefault(network, {}), self._reports.setdefault(network, {})
        counts[kind] = Counts()

        def read(report: ActivityReport) -> None:
            counts[kind], reports[kind] = counts[kind].plus(report), report
            found = report.scalars(prefix)
            for group in layout:
                self.fractions[f"{prefix}/{group}"] = found.get(f"{prefix}/{group}/inactive_fraction")
            if self.on_report is not None:
                self.on_report(kind, network, report)

        return read

    def counts(self) -> dict[str, Counts]:
        """Measurements and resets of each network, by the method that resets: the last one that watches it."""
        return {network: list(counts.values())[-1] for network, counts in self._counts.items()}

    def reports(self) -> dict[str, ActivityReport]:
        """Latest report on each network, by the method that resets; networks not yet measured are left out."""
        return {network: list(reports.values())[-1] for network, reports in self._reports.items() if reports}

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, in plain numbers and text; reports are not part of it."""
        counts = {
            network: {kind: list(found) for kind, found in kinds.items()} for network, kinds in self._counts.items()
        }
        return {"fractions": dict(self.fractions), "counts": counts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned."""
        self.fractions = dict(state["fractions"])
        for network, kinds in state["counts"].items():
            self._counts[network] |= {kind: Counts(*found) for kind, found in kinds.items()}
