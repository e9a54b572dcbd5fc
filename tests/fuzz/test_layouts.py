"""Patterns, indices and layouts of anything: built, or refused with a ``LayoutError``; soon, and in little memory."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity.layout.patterns import bind, parse
from tests.fuzz.material import bounded, fuzzed, fuzzed_rarely, mutated, texts, values

PIECES = ["neuron", "stack", "in", "out", "...", "(", ")", " ", "h", "neurons", "3", ",", "Été", "_", "\x00", "\u202e"]
patterns = st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join) | st.text(max_size=20) | texts
sizes = st.dictionaries(st.sampled_from(["neuron", "stack", "in", "h", "x"]), st.integers(-1, 5) | values, max_size=3)
shapes = st.lists(st.integers(0, 12), max_size=5)
known_sizes = st.dictionaries(st.sampled_from(["neuron", "in"]), st.integers(0, 6))
indices = st.none() | st.lists(st.integers(-2, 8) | st.sampled_from([2**20, 10**8, 10**400]), max_size=8) | values
views = st.tuples(patterns | values, patterns | values, sizes | values) | st.tuples(texts, patterns) | values


@contextlib.contextmanager
def refused_or_built():
    with bounded(), contextlib.suppress(na.LayoutError):
        yield


@pytest.mark.counts(targets=1)
@fuzzed
@given(patterns)
def test_any_pattern(text):
    with refused_or_built():
        assert "neuron" in parse(text).names


@pytest.mark.counts(targets=1)
@fuzzed
@given(
    patterns,
    st.lists(st.integers(0, 12), max_size=5),
    st.dictionaries(st.sampled_from(["neuron", "in"]), st.integers(0, 6)),
)
def test_any_pattern_on_any_shape(text, shape, known):
    with refused_or_built():
        bound = bind(parse(text), tuple(shape), known)
        assert len(bound.names) == len(bound.sizes)


@pytest.mark.counts(targets=1)
@fuzzed
@given(texts | values, patterns | values, sizes | values, indices)
def test_any_view(param, pattern, given_sizes, index):
    with refused_or_built():
        view = na.ParamView(param, pattern, given_sizes, index)
        assert na.ParamView(**view.to_dict()) == view
        assert hash(view) is not None


@pytest.mark.counts(targets=1)
@fuzzed_rarely
@given(
    st.lists(st.integers(-1, 40), max_size=60),
    st.sampled_from([0, 1, 10**4]),
    st.integers(0, 50) | st.sampled_from([2**18, 2**20, 2**21]),
)
def test_any_index(index, repeats, last):
    with refused_or_built():
        view = na.ParamView("w", "neuron in", index=[*index, *[0] * repeats, last])
        assert sum(map(len, view.owners.positions)) == sum(owner >= 0 for owner in view.index)


@pytest.mark.counts(targets=1)
@fuzzed
@given(texts | values, st.lists(views, max_size=2) | values, st.dictionaries(st.sampled_from(
    ["unscored", "outgoing", "partners", "activation", "neurons", "resettable", "status", "reason"]), values | patterns,
    max_size=3))  # fmt: skip
def test_any_group(name, incoming, options):
    with refused_or_built():
        group = na.NeuronGroup(name, incoming, **options)
        assert na.Layout([group]) == na.Layout.from_dict(na.Layout([group]).to_dict())


@pytest.mark.counts(targets=1)
@fuzzed
@given(st.data())
def test_any_builder(data):
    one = views.map(lambda view: view)
    with refused_or_built():
        build = data.draw(st.sampled_from([
            lambda: na.dense(data.draw(texts), weight=data.draw(one), outgoing=[data.draw(one)]),
            lambda: na.conv(data.draw(texts), weight=data.draw(one), bias=data.draw(one)),
            lambda: na.norm(data.draw(texts), scale=data.draw(one), shift=data.draw(one)),
            lambda: na.residual(data.draw(texts), writers=[data.draw(one)], readers=[data.draw(one)]),
            lambda: na.attention(data.draw(texts), heads=data.draw(st.integers(-1, 9) | values), qkv=data.draw(one)),
            lambda: na.recurrent(data.draw(texts), input=data.draw(one), recurrent=data.draw(one),
                                 gates=data.draw(st.integers(-1, 9) | values)),
        ]))  # fmt: skip
        na.Layout([build()])


LAYOUT = na.Layout([
    na.dense("a", weight=("a.weight", "neuron in"), outgoing=[("b.weight", "out (neuron hw)", {"hw": 2})]),
    na.NeuronGroup("g", [na.ParamView("f.weight", "neuron in", index=(0, 1, -1))], partners=("a",), neurons=2),
])  # fmt: skip


@pytest.mark.counts(targets=1)
@fuzzed
@given(values | mutated(LAYOUT.to_dict()))
def test_any_record_of_a_layout(record):
    with refused_or_built():
        layout = na.Layout.from_dict(record)
        assert na.Layout.from_dict(layout.to_dict()) == layout
        layout.describe()


def test_a_record_as_it_is_is_read():
    assert na.Layout.from_dict(json.loads(json.dumps(LAYOUT.to_dict()))) == LAYOUT
