"""Find what every neuron group feeds, stage by stage, from the plain cases to those that cannot be proved."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from neuroactivity.arrays import Arrays, namespace
from neuroactivity.discovery.decoding import Reading
from neuroactivity.discovery.findings import Finding, Link, directly, interpret, is_telling, views_of
from neuroactivity.discovery.fused import regroup
from neuroactivity.discovery.probes import LEVELS, Axis, GradientFunction, Prober, is_vector
from neuroactivity.discovery.proof import pass_through, prove
from neuroactivity.discovery.series import probe_pairs, probe_quarters
from neuroactivity.discovery.streams import streams
from neuroactivity.layout import Layout
from neuroactivity.layout.groups import NeuronGroup, ParamView

__all__ = ["discover_outgoing"]

_HEAD_PROBES = 4


def discover_outgoing(layout: Layout, grad_fn: GradientFunction, draws: Sequence[Arrays], *, seed: int = 0) -> Layout:
    """Find what every neuron group feeds, from the model's gradient function alone.

    Neurons are silenced, a random quarter of every group at once, in probes over redrawn parameters. The gradient of a
    parameter entry is a product with the output of the neuron that feeds it, so an entry is fed by neuron ``i`` if its
    gradient vanished in every probe that silenced ``i``. What is found is proved from the other side: with the outgoing
    entries of a random half of the neurons zeroed, exactly those neurons must lose their gradients.

    Args:
        layout: The neuron groups with their incoming and unscored parameters; outgoing views are not needed.
        grad_fn: From a parameter mapping to the gradients of one scalar of the model's outputs, ``None`` where there is
            none. The scalar is a fixed random projection of all outputs, and the model is deterministic.
        draws: Parameter mappings with redrawn values, about 16: weights from an initialiser, biases and shifts as 1
            plus noise, scales of size 0.5 to 1 with either sign, so that few neurons are dead by chance.
        seed: Seed of the choice of neurons.

    Returns:
        The layout with outgoing views, partners, a status and a reason for each group:

        - ``exclusive``: proved; the neurons feed the outgoing entries and nothing else.
        - ``through_norm``: read by one normalisation alone, whose outgoing entries they share; they take part in its
        statistics.
        - ``shared``: read only together with other groups, as in a residual stream.
        - ``partner``: multiplied with another group's neurons, and read by nothing else (queries and keys).
        - ``head``: feeds the output; not resettable.
        - ``unproved``: anything else. No outgoing entry is guessed, and the group is not resettable: without biases, an
          output head cannot be told from a group whose readers were not found.

    Raises:
        LayoutError: If the layout does not fit the draws.

    Example:
        >>> import numpy as np, neuroactivity as na
        >>> def grad_fn(params):  # the output is sum(a x) @ b for x = 1, without an activation function
        ...     return {"a": np.outer(np.ones(3), params["b"][:, 0]), "b": params["a"].sum(axis=0)[:, None]}
        >>> rng = np.random.default_rng(0)
        >>> draws = [{"a": rng.normal(size=(3, 8)), "b": rng.normal(size=(8, 1))} for _ in range(16)]
        >>> groups = [na.dense("a", weight=("a", "in neuron")), na.dense("b", weight=("b", "in neuron"))]
        >>> na.discover_outgoing(na.Layout(groups), grad_fn, draws)["a"].status
        'exclusive'
    """
    search = _Search(Prober(layout, grad_fn, draws, seed=seed))
    search.run()
    return search.layout()


class _Search:
    """The stages of a search, and what they have found."""

    def __init__(self, prober: Prober) -> None:
        self.prober = prober
        self.findings = {name: Finding() for name in prober.layout}
        self.scales = [name for name, group in prober.layout.items() if is_vector(group.incoming[0])]
        self.readings: dict[Axis, Reading] = {}
        self.doubtful: set[str] = set()
        self.coarser: dict[str, NeuronGroup] = {}

    def run(self) -> None:
        """Go through all stages; what is left without a status is unproved."""
        self._find_heads()
        for level in LEVELS:
            self._probe_apart(level)
            self._regroup()
            self._probe_behind_norms()
            while self._probe_together(level):
                pass
        for name in self._open():
            finding = self.findings[name]
            if not any(self.prober.ever_live(name)):
                self._settle(name, "unproved", "no gradient reaches it")
            elif name in self.doubtful:
                self._settle(name, "unproved", "without biases what reads it cannot be told")
            elif finding.links:
                self._settle(name, "unproved", "feeds more than what was found")
            else:
                self._settle(name, "unproved", "nothing was found that reads it")

    def layout(self) -> Layout:
        """Return the layout with what was found."""
        groups = []
        for name, listed in self.prober.layout.items():
            group, found = self.coarser.get(name, listed), self.findings[name]
            if any(view.parsed.stacks != group.stacks for view in found.outgoing):
                found = Finding(status="unproved", reason="what it feeds reads several of its copies at once")
            group = replace(
                group,
                outgoing=tuple(found.outgoing) if found.status in ("exclusive", "through_norm") else (),
                partners=tuple([other for other in self.prober.layout if other in self._partners(name)]),
                resettable=group.resettable and found.status not in ("head", "unproved"),
                status=found.status,
                reason=found.reason,
            )
            groups.append(group)
        return Layout(groups)

    def _open(self) -> list[str]:
        return [name for name, finding in self.findings.items() if not finding.status]

    def _read_scales(self) -> list[str]:
        return [self.prober.layout[name].incoming[0].param for name in self.scales]

    def _settle(self, name: str, status: str, reason: str) -> None:
        self.findings[name].status, self.findings[name].reason = status, reason

    def _partners(self, name: str) -> set[str]:
        return {other for other in self.findings[name].kills if name in self.findings[other].kills}

    def _find_heads(self) -> None:
        """With all weights zero, those of no group too, only what feeds the output still has a gradient."""
        weights = {view.param for group in self.prober.layout.values() for view in group.incoming}
        weights |= {
            name for name, shape in self.prober.shapes.items() if len(shape) > 1 and name not in self.prober.owners
        }
        for probe in range(_HEAD_PROBES):
            params = self.prober.draw(probe)
            params |= {name: namespace(params[name]).zeros_like(params[name]) for name in sorted(weights)}
            grads = self.prober.gradients(params)
            for name in self._open():
                if any(self.prober.live_neurons(grads, name)):
                    self._settle(name, "head", "feeds the output")

    def _probe_apart(self, level: float) -> None:
        """Silence neurons of every group independently, and read off what each feeds."""
        names = [name for name in self._open() if level == 0.0 or self.prober.layout[name].unscored]
        if not names:
            return
        readings = probe_quarters(self.prober, {name: [name] for name in names}, level)
        for name in names:
            found = interpret(self.prober, name, name, readings)
            if found.links or found.norms or found.kills:
                self.findings[name] = found
        self._drop_doubtful_links(names)
        self._drop_doubtful_norms(names)
        self.readings = readings
        self._conclude(names)

    def _drop_doubtful_links(self, names: Sequence[str]) -> None:
        """Of two groups that make each other vanish one to one, only a bias tells which one reads the other."""
        doubtful = []
        for name in names:
            for link in self.findings[name].links:
                back = self.findings[link.behind] if link.behind else Finding()
                mutual = name in back.norms or any(other.behind == name for other in back.links)
                if mutual and not self.prober.layout[link.behind].unscored:
                    doubtful.append((name, link))
        pairs = [{name, link.behind} for name, link in doubtful]
        for name, link in doubtful:
            self.findings[name].links.remove(link)
            self.doubtful.add(name)
        for name in names:
            behind = {link.behind for link in self.findings[name].links}
            if any(pair <= behind for pair in pairs):
                self.findings[name].links.clear()  # one of the two reads it, and which is not to be told
                self.doubtful.add(name)

    def _drop_doubtful_norms(self, names: Sequence[str]) -> None:
        """Untie scales that are only reached through others, or that one group may read and another multiply."""
        distant = {name: self._beyond(name) for name in names}
        for name in names:
            finding = self.findings[name]
            finding.norms = [norm for norm in finding.norms if norm not in distant[name]]
        for norm in [scale for scale in self.scales if not self.prober.layout[scale].unscored]:
            readers = [name for name in names if norm in self.findings[name].norms]
            for name in readers if len(readers) > 1 else ():
                self.findings[name].norms.remove(norm)

    def _beyond(self, name: str) -> set[str]:
        """Return the groups that are read one to one behind those that a group is read by."""
        near = self._one_to_one(name)
        beyond: set[str] = set()
        waiting = [further for step in near for further in self._one_to_one(step)]
        while waiting:
            step = waiting.pop()
            if step not in beyond and step != name:
                beyond.add(step)
                waiting += self._one_to_one(step)
        return beyond

    def _one_to_one(self, name: str) -> list[str]:
        finding = self.findings[name]
        return [*finding.norms, *(link.behind for link in finding.links if link.behind)]

    def _conclude(self, names: Sequence[str]) -> None:
        """Prove what was found of the named groups: first of those that are read directly, in the narrowest way."""
        for name in names:
            if not is_telling(self.prober, self.findings[name].links, self.findings):
                self.findings[name].links.clear()
                self.doubtful.add(name)
        links = {name: self.findings[name].links for name in names if self.findings[name].links}
        narrow = {name: directly(self.prober, found, self.findings) for name, found in links.items()}
        self._prove({name: views_of(self.prober, name, found) for name, found in narrow.items() if found})
        wide = {name: found for name, found in links.items() if found != narrow[name] and name in self._open()}
        self._prove({name: views_of(self.prober, name, found) for name, found in wide.items()})
        behind = {name: self._behind(self.findings[name].norms) for name in names if name in self._open()}
        self._prove(
            {
                name: [*views_of(self.prober, name, narrow.get(name, [])), *views]
                for name, views in behind.items()
                if views
            }
        )
        for name in [name for name in names if name in self._open()]:
            finding = self.findings[name]
            if finding.norms and pass_through(self.prober, name, finding.norms):
                if all(self.findings[norm].status == "head" for norm in finding.norms):
                    self._settle(name, "head", f"feeds the output through {some(finding.norms)}")
                    continue
                finding.outgoing = behind[name]
                self._settle(name, "through_norm", f"takes part in the statistics of {some(finding.norms)}")
            elif self._partners(name) and not finding.links:
                self._settle(name, "partner", f"multiplies {some(sorted(self._partners(name)))}")

    def _behind(self, norms: Sequence[str]) -> list[ParamView]:
        """Return what normalisations feed, of those for which it is proved."""
        proved = [self.findings[norm].outgoing for norm in norms if self.findings[norm].status == "exclusive"]
        return [view for views in proved for view in views]

    def _prove(self, outgoing: Mapping[str, list[ParamView]]) -> None:
        for name in prove(self.prober, {name: [name] for name in outgoing}, outgoing):
            self.findings[name].outgoing = outgoing[name]
            self._settle(name, "exclusive", "proved: feeds nothing else")

    def _probe_behind_norms(self) -> None:
        """Tie each group to the normalisation that alone reads it."""
        skipped = self.doubtful.union(self.scales)
        names = [name for name in self._open() if self.prober.neurons[name] > 3 and name not in skipped]
        if not names or not self.scales:
            return
        readings = probe_pairs(self.prober, {name: [name] for name in names}, self._read_scales())
        for name in names:
            self.findings[name].norms = interpret(self.prober, name, name, readings).norms
        self._conclude([name for name in names if self.findings[name].norms])

    def _probe_together(self, level: float) -> bool:
        """Silence what is left jointly, by equal width, as in a residual stream; return whether that told anything."""
        widths: dict[int, list[str]] = {}
        for name in [name for name in self._open() if name not in self.doubtful]:
            widths.setdefault(self.prober.neurons[name], []).append(name)
        units = {f"{width} wide": names for width, names in widths.items() if len(names) > 1 and width > 1}
        if not units:
            return False
        quarters = probe_quarters(self.prober, units, level)
        pairs = probe_pairs(self.prober, units, self._read_scales())
        before = len(self._open())
        for unit, names in units.items():
            links = interpret(self.prober, unit, names[0], quarters).links
            norms = interpret(self.prober, unit, names[0], pairs).norms
            for members, read, behind in streams(self.prober, names, links, norms, level):
                self._conclude_stream(members, read, behind)
        return len(self._open()) < before

    def _conclude_stream(self, names: Sequence[str], links: Sequence[Link], norms: Sequence[str]) -> None:
        """Settle groups that are read together."""
        outgoing = views_of(self.prober, names[0], links)
        proved = prove(self.prober, {names[0]: names}, {names[0]: outgoing})
        readers = some([*norms, *dict.fromkeys(link.view.param for link in links)])
        for name in names:
            others = some([other for other in names if other != name])
            if name in proved:
                self._settle(name, "shared", f"proved: read only together with {others}")
            elif norms and pass_through(self.prober, name, norms, outgoing):
                self._settle(name, "shared", f"read by {readers} together with {others}")

    def _regroup(self) -> None:
        """Try what is left as fused projections."""
        names = [name for name in self._open() if name not in self.doubtful]
        coarser = regroup(self.prober, names, self.readings, self.findings)
        self.coarser |= coarser
        for name, group in coarser.items():
            self.findings[name].outgoing = list(group.outgoing)
            self._settle(name, "exclusive", f"proved for {group.incoming[0].pattern.partition(')')[0]}) as one neuron")


def some(names: Sequence[str], most: int = 4) -> str:
    """Name the first few of several."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
