"""Series of probes: silence some neurons of every unit in each, and decode what each axis reads."""

from collections.abc import Mapping, Sequence
from itertools import permutations

from neuroactivity.discovery.decoding import Reading, decode
from neuroactivity.discovery.probes import Axis, Prober

__all__ = ["ROUNDING", "halves", "probe_pairs", "probe_quarters"]

_PROBES, _LEAST = 128, 32  # one neuron in four is silenced; a chance match has odds of (3/4)^32 = 1e-4
_PAIRED_PROBES, _PAIRED_LEAST = 64, 22  # one neuron in two is silenced; a chance match has odds of (1/2)^22 = 2e-7
_ORDERS = list(permutations(range(4)))

ROUNDING = 1e-4
"""A gradient below this part of its array's largest has vanished to rounding."""


def probe_quarters(prober: Prober, units: Mapping[str, Sequence[str]], level: float) -> dict[Axis, Reading]:
    """Silence a random quarter of each unit.

    Args:
        prober: The model.
        units: Groups that are silenced together, by unit.
        level: The bias that silences a neuron.
    """
    silenced, live = [], []
    for probe in range(_PROBES):
        params, chosen = prober.draw(probe), {}
        for unit, names in units.items():
            generator = prober.generator("quarter", level, probe, unit)
            count = prober.neurons[names[0]]
            share = count // 4 if count >= 4 else int(count > 1 and generator.random() < 0.5)
            chosen[unit] = frozenset(generator.sample(range(count), share))
            prober.silence(params, dict.fromkeys(names, chosen[unit]), level)
        silenced.append(chosen)
        live.append(prober.live_axes(prober.gradients(params), prober.owners))
    return decode(silenced, live, _widths(prober, units), least=_LEAST)


def probe_pairs(prober: Prober, units: Mapping[str, Sequence[str]], scales: Sequence[str]) -> dict[Axis, Reading]:
    """Silence half of each unit and make the others opposite in pairs, and read the normalisations behind.

    A normalisation subtracts the mean, so a silent neuron is not silent behind it, unless the mean is zero. In every
    four neurons two are silenced, so that it is zero in each group of a group normalisation too.

    Args:
        prober: The model.
        units: Groups that are silenced together, by unit.
        scales: The normalisations' scale parameters.
    """
    silenced, live = [], []
    for probe in range(_PAIRED_PROBES):
        params, chosen = prober.draw(probe), {}
        for unit, names in units.items():
            chosen[unit], pairs = halves(prober, prober.neurons[names[0]], "pairs", probe, unit)
            for name in names:
                prober.oppose(params, name, pairs)
                prober.silence(params, {name: chosen[unit]})
        silenced.append(chosen)
        live.append(prober.live_axes(prober.gradients(params), scales, noise=ROUNDING))
    return decode(silenced, live, _widths(prober, units), least=_PAIRED_LEAST)


def halves(prober: Prober, count: int, *purpose: object) -> tuple[frozenset[int], list[tuple[int, int]]]:
    """Choose two in every four of ``count`` neurons to be silenced, and pair the other two."""
    silent, pairs = list(range(count - count % 4, count)), []
    for four, order in enumerate(prober.generator(*purpose).choices(_ORDERS, k=count // 4)):
        one, two, three, last = [4 * four + place for place in order]
        silent += [one, two]
        pairs.append((three, last))
    return frozenset(silent), pairs


def _widths(prober: Prober, units: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {unit: prober.neurons[names[0]] for unit, names in units.items()}
