"""The values of one draw: probes write to them row by row, and the next probe finds them as they were."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, overload

from neuroactivity.arrays import Array, Arrays, asarray_like, namespace, private_copy, writable
from neuroactivity.layout import BoundPattern
from neuroactivity.layout.patterns import NEURON, expand_mask

Params: TypeAlias = dict[str, Array]
"""Parameters by name."""

_NONE = -1  # no draw


class FreshDraws(Sequence[Params]):
    """Draws that are made anew whenever they are asked for, in arrays that whoever asks may write to.

    Args:
        sample: From a draw, a parameter's name and memory to its values, which may be written into the memory.
        names: The parameters.
        count: The number of draws.
    """

    def __init__(self, sample: Callable[[int, str, Array | None], Array], names: Iterable[str], count: int) -> None:
        self.sample, self.names, self._count = sample, tuple(names), count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Params: ...
    @overload
    def __getitem__(self, number: slice) -> list[Params]: ...
    def __getitem__(self, number: int | slice) -> Params | list[Params]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(self._count))]
        if not -self._count <= number < self._count:
            raise IndexError(number)
        return {name: self.sample(number % self._count, name, None) for name in self.names}


class Values:
    """The values of one draw at a time.

    To silence a quarter of a layer costs a quarter of its array, put back or drawn again later: no mask of its size.
    An array that is not ours is copied before the first writing; one that cannot be written to, as JAX's, is replaced.
    """

    def __init__(self, draws: Sequence[Arrays]) -> None:
        self._draws, self._number = draws, _NONE
        self._fresh = draws if isinstance(draws, FreshDraws) else None
        self._drawn: Params = {}
        self._params: Params = {}
        self._ours: set[str] = set()
        self._before: list[tuple[Array, tuple[Any, ...], Array]] = []
        self._written: set[str] = set()

    def turn_to(self, number: int) -> Params:
        """Return the values of a draw as they were drawn; what was returned before is not to be used any more."""
        if self._fresh:
            self._draw_again(self._fresh, self._written if number == self._number else self._fresh.names, number)
        elif number != self._number:
            self._drawn, self._ours = dict(self._draws[number]), set()
        else:
            for rows, place, old in reversed(self._before):
                rows[place] = old
        self._number = number
        self._before.clear()
        self._written.clear()
        self._params.clear()  # always the same mapping, so that nobody keeps the values of two draws
        self._params |= self._drawn
        return self._params

    def _draw_again(self, fresh: FreshDraws, names: Iterable[str], number: int) -> None:
        """Draw parameters one by one, into the memory of those before: what was written need not be kept."""
        for name in names:
            memory = self._drawn[name] if name in self._ours else None
            value = fresh.sample(number, name, memory)
            if memory is None:
                self._drawn[name] = value
                self._ours |= {name} if writable(value) else set()
            elif value is not memory:
                memory[...] = value

    def zero(self, params: Params, names: Iterable[str]) -> None:
        """Set whole parameters to zero."""
        for name in names:
            array = params[name]
            if self._fresh and name in self._ours and array is self._drawn[name]:
                array[...] = 0
                self._written.add(name)
            else:
                params[name] = namespace(array).zeros_like(array)

    def fill(
        self,
        params: Params,
        name: str,
        neurons: Sequence[int],
        bound: BoundPattern,
        value: float,
        *,
        times: bool = False,
    ) -> None:
        """Set the entries at some positions along the axis of neurons to a value, or to so many times theirs."""
        rows = self._rows(params, name, bound)
        if rows is not None:
            place = self._keep(rows, neurons, bound)
            rows[place] = rows[place] * value if times else value
            return
        old, xp = params[name], namespace(params[name])
        mask = expand_mask(_mask(neurons, old, bound), tuple(old.shape), bound, None)
        new = asarray_like(value, like=old, dtype=old.dtype)
        params[name] = xp.where(mask, new * old if times else new, old)

    def oppose(self, params: Params, name: str, pairs: Sequence[tuple[int, int]], bound: BoundPattern) -> None:
        """Make the entries of the second neuron of each pair the opposite of the first's."""
        first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        rows = self._rows(params, name, bound)
        if rows is not None:
            place = self._keep(rows, second, bound)
            rows[place] = -rows[_place(rows, first, bound)]
            return
        old, xp, shape = params[name], namespace(params[name]), tuple(params[name].shape)
        source = dict(zip(second, first, strict=True))
        order = tuple([source.get(neuron, neuron) for neuron in range(bound.size(NEURON))])
        order = asarray_like(order, like=old)
        moved = xp.reshape(xp.take(xp.reshape(old, bound.sizes), order, axis=bound.names.index(NEURON)), shape)
        params[name] = xp.where(expand_mask(_mask(second, old, bound), shape, bound, None), -moved, moved)

    def _rows(self, params: Params, name: str, bound: BoundPattern) -> Array | None:
        """Return an array that may be written to, in the shape of its pattern, or ``None`` if it cannot be."""
        array = params[name]
        if array is not self._drawn.get(name):
            return None
        if name not in self._ours:
            copy = private_copy(array)
            if copy is None:
                return None
            self._ours.add(name)
            array = params[name] = self._drawn[name] = copy
        self._written.add(name)
        return array if tuple(array.shape) == bound.sizes else namespace(array).reshape(array, bound.sizes)

    def _keep(self, rows: Array, neurons: Sequence[int], bound: BoundPattern) -> tuple[Any, ...]:
        """Return where rows are that are about to be written, and remember them if they cannot be drawn again."""
        place = _place(rows, neurons, bound)
        if not self._fresh:
            self._before.append((rows, place, rows[place]))
        return place


def _place(rows: Array, neurons: Sequence[int], bound: BoundPattern) -> tuple[Any, ...]:
    """Return the index of some positions along the axis of neurons."""
    index = asarray_like(tuple(neurons), like=rows)
    return (*[slice(None)] * bound.names.index(NEURON), index)


def _mask(neurons: Sequence[int], like: Array, bound: BoundPattern) -> Array:
    members = set(neurons)
    mask = tuple([position in members for position in range(bound.size(NEURON))])
    return asarray_like(mask, like=like, dtype=namespace(like).bool)
