"""Which counts in an optimizer's state correct the bias of its moments, found by reading the optimizer's program.

A count is a whole number beside arrays of the parameters' shapes, in the same part of the state, called ``count`` or
``t``; the updates depend on it as a number, or on whether it is the first. Counts of schedules, of accumulated batches
and of skipped steps are not beside moments, recur, or have other names.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from neuroactivity_jax.dataflow import BENT, MAXIMUM, MIXED, TRUTH, Labels, marked, plain, trace_labels, unmarked
from neuroactivity_jax.optimizers import state_owners
from neuroactivity_jax.parameters import Path, PyTree, path_leaves

_NAMES = {"count", "t"}
_OF_THE_RUN = {"mini_step", "gradient_step", "step_count", "steps_since_sync"}
_MIXES = "mixes all entries of a parameter in each step"
_UNKNOWN = "keeps a step count, and what that corrects is not known"
_STARTS = "remembers that it has started, and takes its first step otherwise than the next ones"


@dataclass(frozen=True)
class Moment:
    """A moment whose bias is corrected, of all parameters.

    Args:
        count: Position of the count that corrects it.
        leaves: Positions of its arrays among the leaves of the state.
    """

    count: int
    leaves: tuple[int, ...]


@dataclass(frozen=True)
class BiasCorrection:
    """The counts in a state that correct the bias of moments.

    Args:
        owners: The parameter that each leaf of the state belongs to.
        counts: The positions among the leaves of the state of counts that may correct a bias.
        skips: Whether the optimizer may pass over steps, as where it gathers several batches.
        effective: Those of the counts that do.
        moments: The moments that they correct.
        unclear: The part of the state of which what a count does to the entries that a reset writes cannot be told, and
            why; then no count is effective.
    """

    owners: tuple[str | None, ...]
    counts: tuple[int, ...]
    skips: bool
    effective: tuple[int, ...] = ()
    moments: tuple[Moment, ...] = ()
    unclear: str = ""


def bias_correction(
    inner: optax.GradientTransformationExtraArgs, params: PyTree, extra: Mapping[str, Any]
) -> BiasCorrection:
    """Find the counts that correct the bias of moments.

    Args:
        inner: The optimizer.
        params: Parameters, or their shapes.
        extra: What its update is given beside gradients, state and parameters. If it needs more, it is not known which
            counts are effective.
    """
    shapes = jax.eval_shape(lambda tree: tree, params)
    state = jax.eval_shape(inner.init, shapes)
    leaves, structure = jax.tree.flatten(state)
    form = _form(state, shapes, leaves)
    if not form.beside and not form.flags:
        return BiasCorrection(form.owners, (), skips=False)

    def step(grads: PyTree, leaves: Sequence[Any], params: PyTree) -> tuple[Any, ...]:
        updates, new = inner.update(grads, jax.tree.unflatten(structure, leaves), params, **extra)
        return jax.tree.leaves(updates), jax.tree.leaves(new)

    try:
        program, (updates, _) = jax.make_jaxpr(step, return_shape=True)(shapes, leaves, shapes)
    except (TypeError, ValueError):
        return form.correction()
    counts, moments = {str(at) for at in (*form.beside, *form.flags)}, {str(at) for at in form.fields}
    corrected: set[tuple[int, int]] = set()
    periodic: set[str] = set()

    def visit(name: str, operands: Sequence[Labels]) -> None:
        if name == "rem":
            periodic.update(plain(operands[0]) & counts)
        if name in ("mul", "div"):
            for one, other in (operands, operands[::-1]):
                number = unmarked(other, TRUTH) & counts  # and not what is merely chosen by whether it is the first
                if not unmarked(one, TRUTH) & counts and not plain(other) & moments:
                    corrected.update((int(m), int(c)) for m in plain(one) & moments for c in number)

    none: Labels = frozenset()
    labels = [frozenset([str(at)]) & (counts | moments) for at in range(len(leaves))]
    others = [none] * len(jax.tree.leaves(shapes))
    reached = trace_labels(program.jaxpr, [*others, *labels, *others], visit, deciding=counts)
    return form.judged(reached[: len(updates)], reached[len(updates) :], corrected, periodic)


@dataclass(frozen=True)
class _Form:
    """What is where in a state.

    Args:
        paths: The path of each leaf.
        owners: The parameter that it belongs to.
        fields: For the position of each array of a moment the path of the moment.
        beside: For the position of each whole number beside a moment the path of the part of the state.
        flags: Where there are truths beside a moment.
    """

    paths: tuple[Path, ...]
    owners: tuple[str | None, ...]
    fields: Mapping[int, Path]
    beside: Mapping[int, Path]
    flags: tuple[int, ...]

    def correction(self, effective: Sequence[int] = (), moments: Sequence[Moment] = ()) -> BiasCorrection:
        counts = tuple([at for at in self.beside if self.paths[at][-1] in _NAMES])
        above = {path[:-1] for at, path in enumerate(self.paths) if self.owners[at] is None and at not in counts}
        skips = any(part[:end] in above for part in self.beside.values() for end in range(len(part)))
        return BiasCorrection(self.owners, counts, skips, tuple(effective), tuple(moments))

    def judged(
        self,
        updates: Sequence[Labels],
        state: Sequence[Labels],
        corrected: Collection[tuple[int, int]],
        periodic: Collection[str],
    ) -> BiasCorrection:
        """Tell which counts correct a bias from what depends on what."""
        everything: Labels = frozenset().union(*updates, *[state[at] for at in self.fields])
        for at in self.flags:
            if str(at) in plain(everything):
                return self.unclear(self.paths[at], _STARTS)
        numbers = [at for at in self.beside if str(at) in unmarked(everything, TRUTH)]
        firsts = [at for at in self.beside if str(at) in plain(everything) - set(periodic)]  # "is it the first?"
        found = self._judged(sorted({*numbers, *firsts}), everything, state, corrected, periodic)
        return self._judged(numbers, everything, state, corrected, periodic) if found.unclear else found

    def _judged(
        self,
        effective: Sequence[int],
        everything: Labels,
        state: Sequence[Labels],
        corrected: Collection[tuple[int, int]],
        periodic: Collection[str],
    ) -> BiasCorrection:
        parts = {self.beside[at] for at in effective}
        fields = {at: field for at, field in self.fields.items() if field[:-1] in parts}
        found = sorted({(fields[moment], count) for moment, count in corrected if moment in fields})
        moments = [Moment(count, tuple([at for at in fields if fields[at] == field])) for field, count in found]
        for at in effective:
            if self.paths[at][-1] not in _NAMES or str(at) in periodic or self._decides(at, state):
                return self.unclear(self.paths[at], _UNKNOWN)
        for at, field in fields.items():
            if str(at) in marked(everything, MIXED):
                return self.unclear(field, _MIXES)
        for at in [at for moment in moments for at in moment.leaves]:
            if str(at) in marked(state[at], BENT):  # no average, as in Yogi
                return self.unclear(fields[at], _UNKNOWN)
        return self.correction(effective, moments)

    def unclear(self, path: Path, why: str) -> BiasCorrection:
        return replace(self.correction(), unclear=f"optimizer with state {'/'.join(path)!r} {why}")

    def _decides(self, at: int, state: Sequence[Labels]) -> bool:
        """Whether a count decides what moments beside it become, other than by a maximum of what it has corrected."""
        beside = [of for of, field in self.fields.items() if field[:-1] == self.beside[at]]
        return any(str(at) in unmarked(state[of], MAXIMUM + TRUTH) for of in beside)


def _form(state: PyTree, params: PyTree, leaves: Sequence[Any]) -> _Form:
    """Find moments in a state, and whole numbers beside them."""
    owners = tuple(state_owners(state, params))
    paths = tuple([path for path, leaf in path_leaves(state) if leaf is not None])
    depths = {"/".join(path): len(path) for path, _ in path_leaves(params)}  # a name may have a slash of its own
    ends = {at: depths[owner] for at, owner in enumerate(owners) if owner is not None}
    fields = {at: paths[at][: len(paths[at]) - end] for at, end in ends.items()}
    parts = {field[:-1] for field in fields.values() if field}
    near = [at for at, path in enumerate(paths) if owners[at] is None and path and path[:-1] in parts]
    near = [at for at in near if leaves[at].ndim == 0 and paths[at][-1] not in _OF_THE_RUN]
    beside = {at: paths[at][:-1] for at in near if jnp.issubdtype(leaves[at].dtype, jnp.integer)}
    flags = tuple([at for at in near if leaves[at].dtype == jnp.bool_])
    return _Form(paths, owners, fields, beside, flags)
