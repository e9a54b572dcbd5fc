"""The state of regrama and redo, and whether a given one has its form."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import neuroactivity as na
from neuroactivity.wrapping import ResetOptions, check_same_score, name_of_score, read_counts
from neuroactivity_jax.parameters import PyTree, shapes_of

NOT_MEASURED = -1.0
"""The score of a group that has not been measured; scores are zero or more, or NaN."""

COUNTS = ("steps", "measurements", "resets", "neurons_reset")


class _Fields(NamedTuple):
    """In alphabetical order, in which hosts that restore a state by name give its leaves back."""

    born: Array
    inner_state: PyTree
    key: Array
    magnitudes: dict[str, Array]
    masks: dict[str, Array]
    measurements: Array
    neurons_reset: Array
    reset_before: dict[str, Array]
    resets: Array
    score: dict[str, Array]
    scores: dict[str, Array]
    since: dict[str, Array]
    snapshot: dict[str, Array]
    steps: Array
    tau: Array
    young: dict[str, Array]


class ActivityState(_Fields):
    """The state of :func:`regrama` and :func:`redo`; :func:`report` makes a report from it.

    Attributes:
        born: What the wrapped optimizer's step counts were at each reset that is still young, -1 for none.
        inner_state: State of the wrapped optimizer.
        key: Numbers of the key that all draws derive from.
        magnitudes: With ``batches``, the sums of magnitudes so far by group name; -1 before the first.
        masks: The masks made from the scores by group name, all False where ``max_fraction`` is 0.
        measurements: Measurements so far.
        neurons_reset: Neurons reset so far.
        reset_before: The neurons that the reset before the last measurement reset, by group name.
        resets: Measurements that reset at least one neuron.
        score: Empty, or with ``score=`` the name of that function, with a zero.
        scores: Scores at the last measurement by group name; -1 before the first.
        since: Measurements since each neuron was reset, by group name; 2**30 for never.
        snapshot: The initial parameters by name, with ``initializer="snapshot"``.
        steps: Updates so far.
        tau: Threshold on the score.
        young: With ``clock="own"``, which young reset each neuron is of, by group name; -1 for none.
    """

    __slots__ = ()

    def __new__(cls, *fields: Any, **named: Any) -> "ActivityState":
        """Raise unless there is a value for each field: a pickle of another version has fewer."""
        given = len(fields) + len(named)
        if given != len(cls._fields):
            raise ValueError(
                f"state: expected the {len(cls._fields)} fields of an ActivityState, got {given}; it was saved by "
                "another version of neuroactivity"
            )
        return super().__new__(cls, *fields, **named)

    @property
    def hyperparams(self) -> dict[str, Any]:
        """The hyperparameters that ``optax.inject_hyperparams`` keeps in the wrapped optimizer's state.

        Hosts write them here, ``state.hyperparams["learning_rate"] = 1e-4``, or
        ``state._replace(hyperparams={...})``, as they do without the wrapper.

        Raises:
            AttributeError: If the wrapped optimizer has none, or several of its parts have some.
        """
        found = [node for node in jax.tree.leaves(self.inner_state, is_leaf=_is_injected) if _is_injected(node)]
        if len(found) != 1:
            raise AttributeError(f"hyperparams: expected one part of the optimizer to have them, found {len(found)}")
        hyperparams: dict[str, Any] = found[0].hyperparams
        return hyperparams

    def _replace(self, **changes: Any) -> "ActivityState":
        if "hyperparams" in changes:
            self.hyperparams  # noqa: B018 - raises unless there are some
            given, inner = changes.pop("hyperparams"), changes.get("inner_state", self.inner_state)
            changes["inner_state"] = jax.tree.map(
                lambda node: node._replace(hyperparams=given) if _is_injected(node) else node,
                inner,
                is_leaf=_is_injected,
            )
        return super()._replace(**changes)


def states_in(tree: PyTree) -> list[ActivityState]:
    """Return the states of wrappers in a tree, the outermost of those that are inside of one another."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, ActivityState))
    return [leaf for leaf in leaves if isinstance(leaf, ActivityState)]


def _is_injected(node: Any) -> bool:
    """Whether a part of an optimizer's state holds hyperparameters."""
    return hasattr(node, "hyperparams")


def check_form(state: Any, layout: na.Layout, params: Mapping[str, Array], options: ResetOptions, clocks: int) -> None:
    """Raise unless a state has the form that ``init`` gives it for a layout and parameters.

    A host may have restored it by position or by name, or taken it from another network.

    Args:
        state: The state.
        layout: The groups that the optimizer trains.
        params: The parameters by name.
        options: When to measure, and what to reset.
        clocks: How many counts of the wrapped optimizer may correct the bias of moments.

    Raises:
        ValueError: If it has not; the message names the field.
    """
    if not isinstance(state, ActivityState):
        raise ValueError(f"state: expected an ActivityState, as init returns it, got {type(state).__name__}")
    score = ", ".join(map(str, state.score)) if isinstance(state.score, Mapping) else state.score
    check_same_score(score, name_of_score(options.score))
    expected: dict[str, tuple[Any, Any]] = dict.fromkeys(COUNTS, ((), jnp.integer))
    expected |= {"tau": ((), jnp.floating), "key": (None, jnp.unsignedinteger)}
    shapes = shapes_of(params)
    groups = {name: group.bind(shapes).shape for name, group in layout.items()}
    for field, kind in _of_groups(options).items():
        if not isinstance(getattr(state, field), Mapping) or set(getattr(state, field)) != set(groups):
            found = getattr(state, field)
            names = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise ValueError(
                f"state: expected the {field} of this layout's groups, {', '.join(groups)}, got {names or 'none'}; it "
                "was made with another layout or other options, or restored in another order"
            )
        expected |= {f"{field}/{name}": (shape, kind) for name, shape in groups.items()}
    if not isinstance(state.snapshot, Mapping):
        raise ValueError(f"state: expected the snapshot to be a dictionary, got {type(state.snapshot).__name__}")
    kinds = {name: params[name].dtype.type if name in params else jnp.floating for name in state.snapshot}
    expected |= {f"snapshot/{name}": (shapes.get(name), kind) for name, kind in kinds.items()}
    if has_clock(options):
        resets = tuple(getattr(state.born, "shape", ()))[1:]  # of the wrapper that made the state
        expected["born"] = (max(clocks, 1), *(resets if len(resets) == 1 and resets[0] else (1,))), jnp.integer
    for path, (shape, kind) in expected.items():
        field, _, name = path.partition("/")
        _check_leaf(path, getattr(state, field)[name] if name else getattr(state, field), shape, kind)
    counts = {name: getattr(state, name) for name in COUNTS}
    if not any(isinstance(count, jax.core.Tracer) for count in counts.values()):
        read_counts({name: int(count) for name, count in jax.device_get(counts).items()})


def placeholder(
    inner_state: PyTree, layout: na.Layout, options: ResetOptions, drawn_by_function: bool
) -> ActivityState:
    """Return a state of the right structure around one of the wrapped optimizer's, without values."""
    groups = [group for group in layout.values() if group.resettable and options.writes]
    drawn = {view.param for group in groups for view in group.incoming + group.unscored}
    if options.outgoing in ("small", "fresh"):
        drawn |= {view.param for group in groups for view in group.outgoing}
    by_group = dict.fromkeys(("scores", "masks", "reset_before", "since"), True)
    by_group |= {"young": has_clock(options), "magnitudes": options.batches != 1}
    fields: dict[str, Any] = dict.fromkeys(ActivityState._fields, jnp.zeros(()))
    fields |= {name: dict.fromkeys(layout if has else (), jnp.zeros(())) for name, has in by_group.items()}
    fields["score"] = scored_by(options)
    fields["snapshot"] = dict.fromkeys(() if drawn_by_function else drawn, jnp.zeros(()))
    return ActivityState(**fields | {"inner_state": inner_state})


def scored_by(options: ResetOptions) -> dict[str, Array]:
    """Return the field of a state that tells what neurons are scored by, in the structure, which compiled code sees."""
    return {} if options.score is None else {name_of_score(options.score): jnp.zeros((), jnp.int32)}


def has_clock(options: ResetOptions) -> bool:
    """Whether neurons that are reset have a clock of their own."""
    return options.writes and options.clock == "own"


def _of_groups(options: ResetOptions) -> dict[str, Any]:
    """Return the fields of a state that have an array for each group, and their kinds."""
    kinds = {"scores": jnp.floating, "masks": jnp.bool_, "reset_before": jnp.bool_, "since": jnp.integer}
    kinds |= {"young": jnp.integer} if has_clock(options) else {}
    return kinds | ({"magnitudes": jnp.floating} if options.batches != 1 else {})


def _check_leaf(path: str, leaf: Any, shape: tuple[int, ...] | None, kind: Any) -> None:
    fits = hasattr(leaf, "dtype") or isinstance(leaf, int | float)
    if not fits or not jnp.issubdtype(jnp.result_type(leaf), kind) or shape not in (None, jnp.shape(leaf)):
        got = f"{leaf.dtype} of shape {jnp.shape(leaf)}" if hasattr(leaf, "dtype") else type(leaf).__name__
        of = "" if shape is None else f" of shape {shape}"
        raise ValueError(
            f"state: expected {path!r} to be {kind.__name__}{of}, got {got}; it was made with another layout or "
            "other options, or restored in another order"
        )
