"""Random layouts for property tests: any pattern the notation allows, over arrays of a few entries."""

import math

import numpy as np
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView


@st.composite
def index_of(draw, neurons):
    """An index in which every neuron owns a position at least: uneven, in any order, with positions of nobody."""
    extra = draw(st.lists(st.integers(-1, neurons - 1), max_size=3))
    return tuple(draw(st.permutations([*range(neurons), *extra])))


@st.composite
def views(draw, param, neurons, stack=()):
    """A view of a parameter, and the shape of the parameter: random axes, order, parentheses, ellipsis and index."""
    index = draw(st.none() | index_of(neurons))
    sizes = {name: draw(st.integers(1, 3)) for name in draw(st.lists(st.sampled_from("abc"), max_size=3, unique=True))}
    sizes["neuron"] = neurons if index is None else len(index)
    axes, shape, copies = [], [], iter(stack)
    for name in draw(st.permutations([*sorted(sizes), *["stack"] * len(stack)])):
        size = next(copies) if name == "stack" else sizes[name]
        if axes and draw(st.integers(0, 3)) == 0 and not (name == "stack" and name in axes[-1]):
            axes[-1].append(name)
            shape[-1] *= size
        else:
            axes.append([name])
            shape.append(size)
    if len(stack) == 1:
        sizes["stack"] = stack[0]

    texts = [f"({' '.join(axis)})" if len(axis) > 1 or draw(st.booleans()) else axis[0] for axis in axes]
    plain = [i for i, axis in enumerate(axes) if len(axis) == 1 and axis[0] in "abc"]
    dots = draw(st.sampled_from(["no", "instead of an axis", "of no axis"]))
    if dots == "instead of an axis" and plain:
        texts[draw(st.sampled_from(plain))] = "..."
    elif dots == "of no axis":
        texts.insert(draw(st.integers(0, len(texts))), "...")

    declared = {}
    for axis in axes:
        # The number of neurons is the group's or the index's; one more name an axis may be left to be inferred, and
        # ``stack`` must be where it stands twice.
        others = [name for name in axis if name != "neuron"] if len(axis) > 1 else []
        left_out = draw(st.sampled_from(others)) if others and draw(st.booleans()) else None
        left_out = "stack" if "stack" in axis and len(stack) > 1 else left_out
        declared |= {name: sizes[name] for name in others if name != left_out}
    own = next(i for i, axis in enumerate(axes) if "neuron" in axis)
    lengths = [(size,) for size in shape]
    if axes[own] == ["neuron"] and draw(st.booleans()):  # several axes that count neurons together
        slower = draw(st.sampled_from([k for k in range(1, sizes["neuron"] + 1) if sizes["neuron"] % k == 0]))
        texts[[text.strip("()") for text in texts].index("neuron")] = "neuron neuron"
        lengths[own] = (slower, sizes["neuron"] // slower)
    return ParamView(param, " ".join(texts), declared, index), tuple(size for axis in lengths for size in axis)


@st.composite
def groups(draw, *, incoming=2, unscored=1, outgoing=2):
    """A layout of one group with random views, and the shapes of its parameters and its scores."""
    neurons = draw(st.integers(1, 4))
    stack = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    shapes, roles = {}, []
    for role, most, least in (("in", incoming, 1), ("rest", unscored, 0), ("out", outgoing, 0)):
        drawn = [draw(views(f"{role}{i}", neurons, stack)) for i in range(draw(st.integers(least, most)))]
        shapes |= {view.param: shape for view, shape in drawn}
        roles.append([view for view, _ in drawn])
    layout = na.Layout([NeuronGroup("g", *roles, neurons=neurons)])
    return layout, shapes, (math.prod(stack), neurons) if stack else (neurons,)


def arrays(shapes, seed):
    """Values of normal size, with some zeros."""
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape) * (generator.random(shape) < 0.8) for name, shape in shapes.items()}


seeds = st.integers(0, 2**32 - 1)
