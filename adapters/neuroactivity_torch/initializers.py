"""Fresh parameter values: from the layers' own initialisers, a snapshot of the start, or the user's function.

Every draw has its own key and its own generator; the global generators are left as they were.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity.arrays import check_like, is_finite
from neuroactivity.layout.patterns import ANY, NEURON, STACK
from neuroactivity.resets import Outgoing
from neuroactivity.wrapping import (
    Rows,
    check_fresh,
    check_initializer,
    check_seed,
    derive_key,
    drawn_views,
    warn_of_spread,
    written_rows,
)
from neuroactivity_torch.devices import own_part, shared_out, whole
from neuroactivity_torch.parameters import owner_of, parameters, seeded
from neuroactivity_torch.rows import Entries, locate
from neuroactivity_torch.schemes import Draw, Scheme, draw_rows, random_bits, schemes
from neuroactivity_torch.skeletons import initialiser_of, skeleton

Initializer: TypeAlias = Literal["layer", "snapshot"] | Callable[[int], Mapping[str, Tensor]]
"""``"layer"``, ``"snapshot"``, or a function from a key to freshly initialised parameters by name."""

_SAMPLE = 64
"""So many entries, squared, show how wide a layer draws."""

_INSTEAD = "use initializer='snapshot' or a function from a key to fresh parameters"


class FreshValues:
    """Draws fresh values for the parameters of neurons that are reset.

    Args:
        model: The model.
        layout: Its neuron groups.
        initializer: ``"layer"`` calls the ``reset_parameters`` of the module that holds the parameter, on a copy.
            ``"snapshot"`` draws rows at random from the values that the model has now. A function gets a key, an
            integer, while random generators are seeded with it, and returns fresh parameters by name.
        seed: Seed of all draws.
        outgoing: What a reset makes of outgoing parameters, which are drawn too where it needs fresh values of them.
        compare: Whether to warn if the layers' own initialisers draw another spread than the model's values have.

    Attributes:
        snapshot: The values that rows are drawn from, by parameter name; ``None`` for another initializer.

    Raises:
        ValueError: If the initializer or the seed is not of these, a parameter has no initialiser, or a fresh value is
            missing or does not fit its parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: na.Layout,
        initializer: Initializer,
        *,
        seed: int,
        outgoing: Outgoing = "zero",
        compare: bool = False,
    ) -> None:
        check_initializer(initializer, "layer", "snapshot")
        self._model, self._seed = model, check_seed(seed)
        self._initializer: Initializer | None = initializer
        self.snapshot: dict[str, Tensor] | None = {} if initializer == "snapshot" else None
        fresh = self.cover(layout, outgoing)
        if compare and initializer == "layer":
            warn_of_spread(fresh, {name: own_part(value) for name, value in parameters(model).items()}, stacklevel=3)

    def cover(self, layout: na.Layout, outgoing: Outgoing) -> dict[str, Tensor]:
        """Draw for the groups of this layout from now on; return a draw that shows that it can be done."""
        params = parameters(self._model)
        self._layout, self._outgoing = layout, outgoing
        self._shapes = {name: tuple(value.shape) for name, value in params.items()}
        self._views = drawn_views(layout, self._shapes, outgoing=outgoing)
        self._schemes = {} if self._initializer != "layer" else self._find_schemes()
        if self.snapshot is not None:
            kept = {n: value for n, value in self.snapshot.items() if n in params and value.shape == params[n].shape}
            self.snapshot = {name: params[name].clone() for name in self._views} | kept
        whole = self._draw_whole(0, [name for name in self._views if name not in self._schemes])
        like, sample = torch.empty(0, device="cpu"), torch.arange(_SAMPLE, device="cpu")
        samples = {
            name: draw_rows([Draw(scheme, 0, sample * _SAMPLE, sample, (_SAMPLE,), like)])[0]
            for name, scheme in self._schemes.items()
            if len(self._shapes[name]) > 1
        }
        return {**whole, **samples}

    def check_snapshot(self, snapshot: Any) -> dict[str, Tensor] | None:
        """Return a copy of a saved snapshot.

        Raises:
            ValueError: If it does not fit the model, or is given where none is used, or the reverse.
        """
        fits = isinstance(snapshot, Mapping) if self.snapshot is not None else snapshot is None
        if not fits or set(self._views if self.snapshot is not None else ()) - set(snapshot or ()):
            raise ValueError("state: its snapshot does not hold the parameters that this initializer needs")
        params = parameters(self._model)
        for name, value in (snapshot or {}).items():
            if name not in params:
                raise ValueError(f"state: its snapshot holds {name!r}, which is no parameter of the model")
            check_like(value, params[name], f"state: snapshot of parameter {name!r}")
            if not is_finite(whole(value)):
                raise ValueError(f"state: snapshot of parameter {name!r}: expected finite values, got NaN or Inf")
        if snapshot is None:
            return None
        copies = {name: whole(value).detach().clone().to(params[name].device) for name, value in snapshot.items()}
        return {name: shared_out(value, params[name]) for name, value in copies.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the user's function: few can be pickled, and a copy has lost its hook anyway."""
        return vars(self) | {"_initializer": None if callable(self._initializer) else self._initializer}

    def draw(self, event: int, names: Iterable[str]) -> dict[str, Tensor]:
        """Draw fresh values for the named parameters, on their devices.

        Args:
            event: Number of the reset.
            names: Names of parameters; those that no reset draws anew are skipped.
        """
        names, params = set(names) & set(self._views), parameters(self._model)
        every = {name: range(math.prod(group.bind(self._shapes).shape)) for name, group in self._layout.items()}
        rows = written_rows(every, self._layout, self._shapes, outgoing=self._outgoing)
        located = self.drawn(locate([each for each in rows if each.view.param in names], params))
        fresh = {name: params[name].clone() for name in self._views if name in names}
        for (each, entries), values in zip(located, self.draw_rows(event, located, params), strict=True):
            entries.write(fresh[each.view.param], values)
        return fresh

    def drawn(self, rows: Iterable[tuple[Rows, Entries]]) -> list[tuple[Rows, Entries]]:
        """Return those rows of which a reset draws the values."""
        return [each for each in rows if each[0].role != "outgoing" or self._outgoing in ("small", "fresh")]

    def draw_rows(self, event: int, rows: Sequence[tuple[Rows, Entries]], params: Mapping[str, Tensor]) -> list[Tensor]:
        """Draw the fresh values of some rows: the same values, whichever other rows are drawn.

        Args:
            event: Number of the reset.
            rows: The rows, with where they lie.
            params: The model's parameters.

        Returns:
            The values of each, on the device of its parameter; the first axis counts rows.
        """
        if self.snapshot is not None:
            return [self._take(self._donors(each, event), self.snapshot, params) for each, _ in rows]
        names = dict.fromkeys(each.view.param for each, _ in rows)
        whole = self._draw_whole(event, [name for name in names if name not in self._schemes])
        alike = [(each, entries) for each, entries in rows if each.view.param in self._schemes]
        draws = iter(draw_rows([self._draw(each.view.param, entries, event, params) for each, entries in alike]))
        return [
            next(draws) if each.view.param in self._schemes else self._take(each, whole, params) for each, _ in rows
        ]

    def _take(self, rows: Rows, source: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
        """Take rows from whole parameters."""
        ((_, entries),) = locate([rows], source)
        return entries.read(source[rows.view.param]).to(params[rows.view.param])

    def _draw(self, name: str, entries: Entries, event: int, params: Mapping[str, Tensor]) -> Draw:
        """Say how some rows are drawn."""
        key = derive_key(self._seed, event, name)
        return Draw(self._schemes[name], key, entries.starts(), entries.steps(), entries.row, own_part(params[name]))

    def _draw_whole(self, event: int, names: Sequence[str]) -> dict[str, Tensor]:
        """Draw whole parameters, which a function does, or an initialiser that does not draw entry by entry."""
        if self.snapshot is not None or not names:
            return {}
        params = parameters(self._model)
        fresh: Mapping[str, Tensor] = {}
        if callable(self._initializer):
            key = derive_key(self._seed, event, "")
            with seeded(key), torch.device("cpu"):
                fresh = self._initializer(key)
        else:
            fresh = {name: self._reinitialise(name, event) for name in names}
        check_fresh(fresh, params, names)
        return {name: fresh[name].detach().to(params[name].device) for name in names}

    def _find_schemes(self) -> dict[str, Scheme]:
        """Return how the layers draw, for the parameters whose entries are all drawn alike."""
        found: dict[str, Scheme] = {}
        for name in self._views:
            owner, key = owner_of(self._model, name), name.rpartition(".")[2]
            method = initialiser_of(owner)
            around = owner_of(self._model, name.removesuffix(".bias"))
            if name.endswith("out_proj.bias") and isinstance(around, nn.MultiheadAttention):
                found[name] = Scheme("constant", (0.0,))  # of the output projection, which attention sets itself
            elif method is not None and name not in found:
                module = skeleton(owner, self._stacks(owner, name), device="meta")
                with seeded(0):
                    scheme = schemes(module, getattr(module, method)).get(key)
                found |= {} if scheme is None else {name: scheme}
        return found

    def _donors(self, rows: Rows, event: int) -> Rows:
        """Return the rows of neurons drawn at random, one for each neuron; where one has fewer rows, they repeat."""
        owners = rows.view.owners
        neurons = rows.bound.size(NEURON) if owners is None else len(owners.positions)
        numbers, key = (
            list(dict.fromkeys(rows.owners)),
            derive_key(self._seed, event, f"{rows.view.param}/{rows.group}"),
        )
        drawn = random_bits(torch.tensor(numbers, dtype=torch.int64, device="cpu").add_(key)).remainder_(neurons)
        donors = dict(zip(numbers, drawn.tolist(), strict=True))
        places, rank, last = [], 0, None
        for owner, place in zip(rows.owners, rows.places[-1], strict=True):
            rank = rank + 1 if owner == last else 0
            last = owner
            own = [donors[owner]] if owners is None else owners.positions[donors[owner]]
            places.append(own[rank % len(own)] if own else place)
        return rows._replace(places=(*rows.places[:-1], tuple(places)))

    def _reinitialise(self, name: str, event: int) -> Tensor:
        """Run the initialiser of the module that holds a parameter, on a copy."""
        owner, key = owner_of(self._model, name), name.rpartition(".")[2]
        method = initialiser_of(owner)
        if method is None:
            what = f"{type(owner).__name__} has no reset_parameters(), so initializer='layer' cannot draw fresh values"
            raise ValueError(f"parameter {name!r}: {what} for it; {_INSTEAD}")
        stacks = self._stacks(owner, name)
        module, axes = skeleton(owner, stacks), stacks.get(key, ())
        sizes = [owner.get_parameter(key).shape[axis] for axis in axes]
        members = []
        with seeded(derive_key(self._seed, event, name)), torch.device("cpu"):
            for _ in range(math.prod(sizes)):
                try:
                    getattr(module, method)()
                except Exception as error:
                    what = f"{type(owner).__name__}.{method}() fails: {error}"
                    raise ValueError(f"parameter {name!r}: {what}; {_INSTEAD}") from error
                members.append(module.get_parameter(key).detach().clone())
        if any(bool(member.isnan().any()) for member in members):
            what = f"{type(owner).__name__}.{method}() does not initialise it"
            raise ValueError(f"parameter {name!r}: {what}; {_INSTEAD}")
        if not axes:
            return members[0]
        values = torch.stack(members).reshape(*sizes, *members[0].shape)
        return values.movedim(tuple(range(len(axes))), axes)

    def _stacks(self, owner: nn.Module, name: str) -> dict[str, tuple[int, ...]]:
        """The axes of a layer's own parameters that count copies of it, which its initialiser is not to know of."""
        if not str(getattr(getattr(owner, initialiser_of(owner) or ""), "__module__", "")).startswith("torch.nn."):
            return {}  # only PyTorch's own initialisers are sure to know of none
        prefix = name.removesuffix(name.rpartition(".")[2])
        return {held: self._stack_axes(prefix + held) for held, value in owner._parameters.items() if value is not None}

    def _stack_axes(self, name: str) -> tuple[int, ...]:
        """The axes of a parameter that count copies of its layer, and nothing else."""
        if name not in self._views:
            return ()
        axes = self._views[name][0][0].parsed.axes
        end = axes.index((ANY,)) if (ANY,) in axes else len(axes)
        return tuple([i if i < end else i - len(axes) for i, names in enumerate(axes) if names == (STACK,)])
