"""What the readings of a series of probes mean for a group of neurons."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuroactivity.discovery.decoding import Reading, complete, feeding_view
from neuroactivity.discovery.probes import Axis, Prober, is_vector
from neuroactivity.groups import ParamView
from neuroactivity.patterns import NEURON

__all__ = ["Finding", "interpret"]


@dataclass
class Finding:
    """What is known of a group so far."""

    outgoing: list[ParamView] = field(default_factory=list)
    """What its neurons feed."""
    norms: list[str] = field(default_factory=list)
    """The groups of scales that its neurons feed one to one."""
    kills: set[str] = field(default_factory=set)
    """The groups that lose weights and biases alike when its neurons are silent."""
    status: str = ""
    reason: str = ""


def interpret(prober: Prober, unit: str, group: str, readings: Mapping[Axis, Reading]) -> Finding:
    """Say what it means that a unit's neurons made positions vanish along axes of parameters.

    Args:
        prober: The model.
        unit: The unit, a group or several that were silenced together.
        group: A group of the unit, to tell its number of neurons.
        readings: What each axis reads.
    """
    found = Finding()
    for (param, axis), reading in readings.items():
        feeds = reading.feeds(unit)
        if not feeds:
            continue
        size = prober.shapes[param][axis]
        how, feeds = complete(feeds, reading.undecided, prober.neurons[group], size)
        for owner, view, _ in prober.owners[param]:
            own_axis = NEURON in view.parsed.axes[axis]
            if view not in prober.layout[owner].incoming or (own_axis and owner == group):
                continue
            if own_axis and _vanishes_whole(prober, owner, unit, readings):
                found.kills.add(owner)
            elif own_axis and is_vector(view):
                found.norms += [owner] if how == NEURON else []
            else:
                found.outgoing.append(feeding_view(view, axis, how, feeds, size, stacked=prober.layout[group].stacked))
            if not own_axis:
                break  # a parameter of several groups is read once
    return found


def _vanishes_whole(prober: Prober, owner: str, unit: str, readings: Mapping[Axis, Reading]) -> bool:
    """Whether a group's weights and biases vanish alike, so that its neurons are multiplied and do not read.

    Without a bias, a weight with several inputs a neuron is taken to be multiplied, one with a single input to read.
    """
    biases = [view for view in prober.layout[owner].restored if (view.param, 0) in readings]
    if biases:
        return any(readings[bias.param, len(bias.parsed.axes) - 1].feeds(unit) for bias in biases)
    _, view, bound = prober.fits[owner].views[0]
    return not is_vector(view) and any(n == "in" and s > 1 for n, s in zip(bound.names, bound.sizes, strict=True))
