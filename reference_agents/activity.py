"""Neuronal activity of an agent's networks, the same in every framework: wrapper options, and a log of reports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from neuroactivity import ActivityReport, Layout
from reference_agents.config import Config
from reference_agents.seeding import derive


class Counts(NamedTuple):
    """Numbers of measurements, resets and neurons reset of one network."""

    measurements: int = 0
    resets: int = 0
    neurons_reset: int = 0

    def plus(self, report: ActivityReport) -> "Counts":
        """Add one measurement, and its reset if there was one."""
        neurons = report.total.reset or 0
        return Counts(self.measurements + 1, self.resets + (neurons > 0), self.neurons_reset + neurons)


class Lasting(NamedTuple):
    """How many neurons that were reset at one measurement are inactive again at the next."""

    measured_again: int = 0
    """Neurons that were measured once more after their reset."""
    reset_again: int = 0
    """Those of them that were inactive then."""
    latest: int = 0
    """Neurons reset at the latest measurement, which are still to be measured again."""

    def plus(self, report: ActivityReport) -> "Lasting":
        """Add one measurement."""
        total = report.total
        again = (total.reset_again or 0) if self.latest else 0
        return Lasting(self.measured_again + self.latest, self.reset_again + again, total.reset or 0)


def alive_share(measured_again: int, reset_again: int) -> float | None:
    """Return the share of reset neurons that were active at the next measurement; None where there were none."""
    return 1 - reset_again / measured_again if measured_again else None


@dataclass(frozen=True, kw_only=True)
class WrapperOptions:
    """Options of the ReGraMa or ReDo wrapper around a network's optimizer."""

    kind: Literal["inactive", "dormant"]
    """Method, named in the records by what it finds: inactive neurons (GraMa) or dormant ones (ReDo)."""
    tau: float
    every: int
    max_fraction: float | None
    """0 if the method only measures."""
    batches: int
    clock: str
    outgoing: str
    seed: int

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the wrapper, the same in every framework."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "kind"}


def wrapper_options(config: Config, network: str) -> tuple[WrapperOptions, ...]:
    """Return the options of the wrappers around a network's optimizer.

    GraMa is always measured, so that runs can be compared; it only measures if ReDo resets, or nothing does. ReDo
    measures too if scores are recorded.

    Args:
        config: Settings of the run.
        network: Name of the network, from which the seed is derived.

    Returns:
        Options for each method; the method that resets comes last.
    """
    seed = derive(config.seed, "reset", network)

    def options(kind: Literal["inactive", "dormant"], tau: float, max_fraction: float | None) -> WrapperOptions:
        return WrapperOptions(
            kind=kind,
            tau=tau,
            every=config.reset_every,
            max_fraction=max_fraction,
            batches=config.batches,
            clock=config.clock,
            outgoing=config.outgoing,
            seed=seed,
        )

    if config.reset == "redo":
        measure_only = options("inactive", config.paper_tau("regrama"), 0.0)
        return measure_only, options("dormant", config.tau, config.max_fraction)
    grama = options("inactive", config.tau, config.max_fraction if config.reset == "regrama" else 0.0)
    return (options("dormant", config.paper_tau("redo"), 0.0), grama) if config.record_scores else (grama,)


class ActivityLog:
    """Collects the activity reports on an agent's networks.

    Attributes:
        fractions: Fraction of inactive neurons at the latest measurement of each group, None before the first. Keys
            are ``inactive/{network}/{group}`` for GraMa and ``dormant/{network}/{group}`` for ReDo, if it measures.
        layouts: Neuron groups of each network.
        on_report: Called with method, network and report after each measurement, if set.
    """

    def __init__(self) -> None:
        self.fractions: dict[str, float | None] = {}
        self.layouts: dict[str, Layout] = {}
        self.on_report: Callable[[str, str, ActivityReport], None] | None = None
        self._counts: dict[str, dict[str, Counts]] = {}
        self._lasting: dict[str, dict[str, Lasting]] = {}
        self._reports: dict[str, dict[str, ActivityReport]] = {}

    def report_handler(self, kind: str, network: str, layout: Layout) -> Callable[[ActivityReport], None]:
        """Register a method on a network, and return the callback for its reports."""
        prefix = f"{kind}/{network}"
        self.layouts[network] = layout
        self.fractions |= {f"{prefix}/{group}": None for group in layout}
        counts, reports = self._counts.setdefault(network, {}), self._reports.setdefault(network, {})
        lasting = self._lasting.setdefault(network, {})
        counts[kind], lasting[kind] = Counts(), Lasting()

        def handle(report: ActivityReport) -> None:
            counts[kind], lasting[kind], reports[kind] = counts[kind].plus(report), lasting[kind].plus(report), report
            scalars = report.scalars(prefix)
            for group in layout:
                self.fractions[f"{prefix}/{group}"] = scalars.get(f"{prefix}/{group}/inactive_fraction")
            if self.on_report is not None:
                self.on_report(kind, network, report)

        return handle

    def counts(self) -> dict[str, Counts]:
        """Counts of each network by the method that resets, which is registered last."""
        return {network: list(counts.values())[-1] for network, counts in self._counts.items()}

    def lasting(self) -> dict[str, Lasting]:
        """What became of the neurons that were reset, for each network."""
        return {network: list(lasting.values())[-1] for network, lasting in self._lasting.items()}

    def reports(self) -> dict[str, ActivityReport]:
        """Latest report on each network by the method that resets, without networks not yet measured."""
        return {network: list(reports.values())[-1] for network, reports in self._reports.items() if reports}

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs, as plain numbers and text, without the reports."""
        counts = {
            network: {kind: list(counts) for kind, counts in kinds.items()} for network, kinds in self._counts.items()
        }
        lasting = {network: {kind: list(of) for kind, of in kinds.items()} for network, kinds in self._lasting.items()}
        return {"fractions": dict(self.fractions), "counts": counts, "lasting": lasting}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self.fractions = dict(state["fractions"])
        for network, kinds in state["counts"].items():
            self._counts[network] |= {kind: Counts(*counts) for kind, counts in kinds.items()}
        for network, kinds in state.get("lasting", {}).items():  # not in states of earlier versions
            self._lasting[network] |= {kind: Lasting(*lasting) for kind, lasting in kinds.items()}
