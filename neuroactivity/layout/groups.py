"""One layer's neurons: which parameters make them, and what they feed."""

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

from neuroactivity.errors import LayoutError
from neuroactivity.layout.patterns import NEURON, BoundPattern, parse
from neuroactivity.layout.views import MOST_NEURONS, ParamView, View, as_view

T = TypeVar("T", bound=Callable[..., Any])

Role: TypeAlias = Literal["incoming", "unscored", "outgoing"]
"""What a parameter is to a neuron."""

ROLES: tuple[Role, ...] = ("incoming", "unscored", "outgoing")
"""The roles, in the order in which a reset writes them."""


def accepts_restored(target: T) -> T:
    """Let a class, or what a builder calls, take ``unscored=`` by its old name ``restored=`` too, with a warning."""
    called = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]

    @functools.wraps(called)
    def call(*args: Any, **options: Any) -> Any:
        if "restored" in options and "unscored" not in options:
            level = 2 if isinstance(target, type) else 3
            warnings.warn("restored= is now called unscored=", DeprecationWarning, stacklevel=level)
            options["unscored"] = options.pop("restored")
        return called(*args, **options)

    if not isinstance(target, type):
        return call  # type: ignore[return-value]
    target.__init__ = call  # type: ignore[misc]
    return target


def stack_axes(count: int) -> str:
    """Say how many axes of copies are expected."""
    return f"{('no', 'a')[count]} 'stack' axis" if count < 2 else f"{count} 'stack' axes"


class BoundGroup(NamedTuple):
    """A group fitted to arrays: each view with its role and axes, and the shape of the group's scores and masks."""

    views: tuple[tuple[Role, ParamView, BoundPattern], ...]
    shape: tuple[int, ...]


def _several(values: Iterable[Any], what: str) -> tuple[Any, ...]:
    """Copy several views or names; a string would be read as its letters."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise LayoutError(f"expected a list of {what}, got {values!r}")
    return tuple(values)


@accepts_restored
@dataclass(frozen=True)
class NeuronGroup:
    """The neurons of one layer, scored against each other.

    Args:
        name: Name of the group in scores, masks and reports.
        incoming: Parameters that produce a neuron's output; their gradients are what GraMa reads.
        unscored: Parameters that belong to the neuron but are not scored: a bias, a norm's shift.
        outgoing: Entries of later parameters that multiply the neuron's output.
        partners: Names of the groups whose neurons multiply these neurons one to one (a gate's other factor).
        activation: Pattern of the neuron outputs, for :func:`neuroactivity.tau_dormant`.
        neurons: Number of neurons, where it cannot be inferred from the shapes of the incoming parameters.
        resettable: Whether :func:`neuroactivity.reset` touches the group. An output head is not resettable.
        status: How the outgoing parameters are known: ``exclusive``, ``through_norm``, ``shared``, ``partner``,
            ``head``, ``unproved``, ``listed``, or ``None`` for a layout written by hand.
        reason: Why the group has that status, in a few words.

    Raises:
        LayoutError: If the views contradict each other.
    """

    name: str
    incoming: tuple[ParamView, ...]
    unscored: tuple[ParamView, ...] = ()
    outgoing: tuple[ParamView, ...] = ()
    partners: tuple[str, ...] = ()
    activation: str = "... neuron"
    neurons: int | None = None
    resettable: bool = True
    status: str | None = None
    reason: str = ""

    if TYPE_CHECKING:  # views as they may be given; __post_init__ reads them

        def __init__(
            self,
            name: str,
            incoming: Sequence[View],
            unscored: Sequence[View] = (),
            outgoing: Sequence[View] = (),
            partners: Sequence[str] = (),
            activation: str = "... neuron",
            neurons: int | None = None,
            resettable: bool = True,
            status: str | None = None,
            reason: str = "",
        ) -> None: ...

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise LayoutError(f"expected a name for the group, got {self.name!r}")
        where = f"group {self.name!r}: "
        try:
            for role in ROLES:
                vars(self)[role] = tuple(map(as_view, _several(getattr(self, role), f"{role} parameters")))
            vars(self)["partners"] = _several(self.partners, "partners")
            where += f"activation {self.activation!r}: "
            if not isinstance(self.activation, str):
                raise LayoutError("expected a string")
            if not isinstance(self.activation, str):
                raise LayoutError("expected a string")
            parse(self.activation)
        except LayoutError as error:
            raise LayoutError(where + str(error)) from None
        self._check()

    def _check(self) -> None:
        if not self.incoming:
            raise LayoutError(f"group {self.name!r}: expected at least one incoming parameter, got none")
        if self.neurons is not None and (not isinstance(self.neurons, int) or not 1 <= self.neurons <= MOST_NEURONS):
            raise LayoutError(f"group {self.name!r}: expected a positive number of neurons, got {self.neurons!r}")
        for option, kind in (("resettable", bool), ("status", str | None), ("reason", str)):
            if not isinstance(getattr(self, option), kind):
                raise LayoutError(f"group {self.name!r}: {option} cannot be {getattr(self, option)!r}")
        for _, view in self.views:
            if view.parsed.stacks != self.stacks:
                like = ", like the first incoming parameter" if self.stacks else ""
                otherwise = "; if this axis holds copies that share the neurons, name it otherwise"
                raise LayoutError(
                    f"group {self.name!r}, parameter {view.param!r}, pattern {view.pattern!r}: expected "
                    f"{stack_axes(self.stacks)}{like}" + (otherwise if view.parsed.stacks > self.stacks else "")
                )

    @property
    def views(self) -> tuple[tuple[Role, ParamView], ...]:
        """Every view with its role, in the order in which a reset writes them."""
        return tuple([(role, view) for role in ROLES for view in getattr(self, role)])

    @property
    def restored(self) -> tuple[ParamView, ...]:
        """The old name of ``unscored``."""
        warnings.warn("restored is now called unscored", DeprecationWarning, stacklevel=2)
        return self.unscored

    @property
    def stacks(self) -> int:
        """How many axes count independent copies of the layer: ensemble members, seeds."""
        return self.incoming[0].parsed.stacks

    def bind_view(self, view: ParamView, shape: tuple[int, ...], neurons: int | None = None) -> BoundPattern:
        """Bind one of the group's views to its parameter's shape; an error names group, parameter and pattern."""
        try:
            return view.bind(tuple(shape), neurons)
        except LayoutError as error:
            where = f"group {self.name!r}, parameter {view.param!r}, pattern {view.pattern!r}"
            raise LayoutError(f"{where}: {error}") from None

    def count(self, shapes: Mapping[str, tuple[int, ...]], *, default: int | None = None) -> int:
        """Return the number of neurons, inferred from the first incoming or unscored parameter that tells it."""
        if self.neurons is not None:
            return self.neurons
        problem: LayoutError | None = None
        for view in self.incoming + self.unscored:
            if view.owners is not None:
                return len(view.owners.positions)
            if view.param in shapes:
                try:
                    return self.bind_view(view, shapes[view.param]).size(NEURON)
                except LayoutError as error:
                    problem = problem or error
        if problem is None and default is not None:
            return default
        raise problem or LayoutError(f"group {self.name!r}: no parameter tells its number of neurons; give neurons=")

    def bind(self, shapes: Mapping[str, tuple[int, ...]], *, default: int | None = None) -> BoundGroup:
        """Bind all views whose parameters are in ``shapes``, and check that they agree on neurons and stack.

        ``default`` is the number of neurons where neither the group nor the shapes tell it.
        """
        neurons = self.count(shapes, default=default)
        fitted: list[tuple[Role, ParamView, BoundPattern]] = []
        copies: tuple[int, ...] | None = None
        for role, view in self.views:
            if view.param not in shapes:
                continue
            bound = self.bind_view(view, shapes[view.param], neurons)
            where = f"group {self.name!r}, parameter {view.param!r}, pattern {view.pattern!r}"
            copies = bound.stack_sizes if copies is None else copies
            if bound.stack_sizes != copies:
                sizes = [" x ".join(map(str, stack)) for stack in (copies, bound.stack_sizes)]
                raise LayoutError(f"{where}: expected a stack of {sizes[0]}, got {sizes[1]}")
            if view.owners is not None and len(view.owners.positions) > neurons:
                raise LayoutError(f"{where}: index names neuron {max(view.owners.index)}, the group has {neurons}")
            fitted.append((role, view, bound))
        return BoundGroup(tuple(fitted), (math.prod(copies), neurons) if copies else (neurons,))

    def to_dict(self) -> dict[str, Any]:
        """Return the group as JSON values, without what has its default."""
        record: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ROLES:
                value = [view.to_dict() for view in value]
            if item.name in ("name", "incoming") or (value != item.default and value != []):
                record[item.name] = list(value) if isinstance(value, tuple) else value
        return record
