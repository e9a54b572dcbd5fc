"""Sample the parameter values that a model is examined with: few draws at once, or one at a time if it is large."""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from neuroactivity.arrays import Array, Arrays, check_like, namespace
from neuroactivity.discovery.prober import is_vector
from neuroactivity.discovery.values import FreshDraws, Params
from neuroactivity.layout import Layout
from neuroactivity.wrapping import derive_key

Normal: TypeAlias = Callable[[Array, int], Array]
"""From an array and a key to standard normal numbers of the array's shape and dtype."""

Kinds: TypeAlias = dict[str, str | int]
"""For each parameter of a group ``scale``, ``shift``, or the number of entries of a neuron's weights."""

_DRAWS, _DRAWS_LARGE, _DRAWS_HUGE = 16, 8, 4
_LARGE, _HUGE = 2**20, 2**24  # entries of all parameters from which draws are made when needed, and are fewer
_SMALL = 0.1  # deviation of biases and shifts from 1, and of parameters of no group from what they are
_POOL = 2**22 + 1  # normal numbers that the large arrays of all draws are cut from; odd, so that no rows repeat
_POOLED = 2**12  # entries from which an array is cut from them


def make_draws(params: Arrays, layout: Layout, normal: Normal, *, seed: int) -> Sequence[Params]:
    """Sample draws: all of them now, or for a large model each when it is asked for."""
    entries = sum(math.prod(value.shape) for value in params.values())
    if entries <= _LARGE:
        return [sample_params(params, layout, normal, draw=draw, seed=seed) for draw in range(_DRAWS)]
    pooled, kinds = _Pool(normal, seed), _kinds(params, layout)

    def sample(draw: int, name: str, memory: Array | None) -> Array:
        return _sample(name, params[name], pooled(params[name], derive_key(seed, draw, name)), kinds.get(name), memory)

    return FreshDraws(sample, params, _DRAWS_LARGE if entries <= _HUGE else _DRAWS_HUGE)


class _Pool:
    """Normal numbers that are drawn once, and then cut from different places: a copy costs a tenth of a draw."""

    def __init__(self, normal: Normal, seed: int) -> None:
        self._normal, self._key = normal, derive_key(seed, 0, "pool")
        self._pools: dict[tuple[str, str], Array] = {}

    def __call__(self, like: Array, key: int) -> Array:
        """Return normal numbers for an array."""
        entries, xp = math.prod(like.shape), namespace(like)
        if entries < _POOLED:
            return self._normal(like, key)
        kind = (str(like.dtype), str(getattr(like, "device", "")))
        if kind not in self._pools:
            spread = xp.broadcast_to(xp.reshape(like, (-1,))[:1], (_POOL,))
            self._pools[kind] = self._normal(spread, self._key)
        pool, parts = self._pools[kind], []
        for number, start in enumerate(range(0, entries, _POOL // 2)):
            count = min(_POOL // 2, entries - start)
            first = derive_key(key, number, "cut") % (_POOL - count)
            parts.append(pool[first : first + count])
        return xp.reshape(parts[0] if len(parts) == 1 else xp.concat(parts), tuple(like.shape))


def sample_params(params: Arrays, layout: Layout, normal: Normal, *, draw: int, seed: int) -> Params:
    """Draw parameters with which few neurons are dead by chance.

    Weights are normal with a variance of one over the number of entries a neuron, biases and shifts near one, scales of
    size 0.5 to 1 with either sign. Parameters of no group are moved by a little noise.
    """
    kinds, keys = _kinds(params, layout), {name: derive_key(seed, draw, name) for name in params}
    return {name: _sample(name, old, normal(old, keys[name]), kinds.get(name)) for name, old in params.items()}


def _sample(name: str, old: Array, noise: Array, kind: str | int | None, memory: Array | None = None) -> Array:
    """Make a parameter of a kind from noise; weights, which are large, in the given memory."""
    check_like(noise, old, f"noise for parameter {name!r}")
    xp = namespace(old)
    match kind:
        case "scale":
            return xp.sign(noise) * (0.5 + 0.5 * xp.tanh(xp.abs(noise)))
        case "shift":
            return 1 + _SMALL * noise
        case int(entries):
            root = math.sqrt(entries)
            return noise / root if memory is None else xp.divide(noise, root, out=memory)
    return old + _SMALL * noise


def _kinds(params: Arrays, layout: Layout) -> Kinds:
    """Say of each parameter in a group whether it is a scale, a shift, or a weight of so many entries a neuron."""
    kinds: Kinds = {}
    for group in layout.values():
        bound_group = group.bind({name: tuple(value.shape) for name, value in params.items()})
        for role, view, bound in bound_group.views:
            if role == "incoming":
                owned = math.prod(bound_group.shape) if view.owners is None else len(view.owners.index)
                kinds[view.param] = "scale" if is_vector(view) else max(1, math.prod(bound.sizes) // owned)
            elif role == "unscored":
                kinds.setdefault(view.param, "shift")
    return kinds
