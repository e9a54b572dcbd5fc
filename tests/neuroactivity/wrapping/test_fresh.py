"""Which entries are drawn anew, from what, and the keys of the draws."""

import itertools
import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity.wrapping import check_fresh, derive_key, drawn_views, resample, warn_of_spread
from tests.neuroactivity.backends import to_numpy


def test_keys_are_the_same_in_every_process():
    """Fixed numbers: a resumed run draws what the first would have drawn, on any machine, in any version."""
    assert derive_key(0, 1, "fc1.weight") == 4546674580558723725
    assert derive_key(7, 2000, "critics/h/kernel") == 2725025648817434689


def test_keys_differ_by_seed_event_and_name():
    """Fault 13: seeded by the step alone, same-shaped layers of two optimizers drew identical values."""
    triples = list(itertools.product(range(10), range(10), ("a", "b", "1", "a/1", "/")))
    keys = [derive_key(*triple) for triple in triples]
    assert len(set(keys)) == len(triples)
    assert all(0 <= key < 2**63 for key in keys)


def test_keys_do_not_run_into_each_other():
    """Seed 1 with event 11 is not seed 11 with event 1; a name may hold any text."""
    assert len({derive_key(1, 11, "w"), derive_key(11, 1, "w"), derive_key(1, 1, "1/w"), derive_key(1, 1, "1w")}) == 4
    assert derive_key(-1, 0, "Gewicht/ß") != derive_key(1, 0, "Gewicht/ß")


def naive(values, donors, view):
    """Row after row: the entries of the neuron's donor, which repeat where it has fewer."""
    axis = view.parsed.names.index("neuron")
    index = view.index or range(values.shape[axis])
    rows = [[i for i, owner in enumerate(index) if owner == neuron] for neuron in range(max(index) + 1)]
    result = values.copy()
    for own, donor in zip(rows, donors, strict=True):
        for rank, position in enumerate(own):
            source = rows[donor][rank % len(rows[donor])]
            result[(slice(None),) * axis + (position,)] = values[(slice(None),) * axis + (source,)]
    return result


VIEWS = [
    (na.ParamView("w", "neuron in"), (4, 3), 4),
    (na.ParamView("w", "in neuron"), (3, 4), 4),
    (na.ParamView("w", "in neuron", index=(0, 1, -1, 1, 0, 1)), (3, 6), 2),
    (na.ParamView("w", "neuron", index=(2, 0, 1, -1, 1)), (5,), 3),
]


@given(st.sampled_from(VIEWS), st.data())
def test_resampled_rows_are_those_of_a_naive_loop(view, data):
    view, shape, neurons = view
    values = np.random.default_rng(0).normal(size=shape)
    donors = np.array(data.draw(st.lists(st.integers(0, neurons - 1), min_size=neurons, max_size=neurons)))
    resampled = resample(values, [(view, view.bind(shape))], lambda count, number: donors[:count])
    np.testing.assert_array_equal(resampled, naive(values, donors, view))


def test_parameters_of_every_library_are_resampled(backend):
    view, values = na.ParamView("w", "(gate neuron) in", {"gate": 2}), np.arange(12, dtype="float32").reshape(6, 2)
    donors = backend.asarray(np.array([2, 2, 0], dtype="int32"))
    result = resample(backend.asarray(values), [(view, view.bind((6, 2)))], lambda count, number: donors)
    np.testing.assert_array_equal(to_numpy(result), values[[2, 2, 0, 5, 5, 3]])


def test_a_parameter_of_several_groups_is_resampled_group_by_group():
    views = [na.ParamView("w", "neuron", index=index) for index in ((0, 1, -1, -1), (-1, -1, 0, 1))]
    asked = []

    def donors(neurons, number):
        asked.append((neurons, number))
        return np.array([[1, 0], [1, 1]][number])

    result = resample(np.array([1, 2, 3, 4]), [(view, view.bind((4,))) for view in views], donors)
    assert (result.tolist(), asked) == ([2, 1, 4, 4], [(2, 0), (2, 1)])


def test_drawn_views_are_those_of_incoming_and_unscored_parameters_of_groups_that_are_reset():
    fc = na.dense("fc", weight=("fc.w", "neuron in"), bias="fc.b", outgoing=[("out.w", "out neuron")])
    head = na.dense("out", weight=("out.w", "neuron in"), resettable=False)
    shapes = {"fc.w": (3, 2), "fc.b": (3,), "out.w": (1, 3)}
    views = drawn_views(na.Layout([fc, head]), shapes)
    assert {name: [view for view, _ in several] for name, several in views.items()} == {
        "fc.w": [fc.incoming[0]],
        "fc.b": [fc.unscored[0]],
    }
    assert [bound.sizes for _, bound in views["fc.w"]] == [(3, 2)]


@pytest.mark.parametrize(
    ("fresh", "message"),
    [
        ({}, "initializer: expected a fresh value for parameter 'w', got nothing"),
        ([("w", np.zeros(2))], "initializer: expected fresh parameters by name, got list"),
        ({"v": np.zeros(2)}, "initializer: expected a fresh value for parameter 'w', got v"),
        ({"w": np.zeros(3)}, "initializer, parameter 'w': expected shape (2,) and dtype float64, got (3,) and float64"),
        ({"w": [0.0]}, "initializer, parameter 'w': expected shape (2,) and dtype float64, got () and list"),
    ],
)
def test_fresh_values_that_are_missing_or_do_not_fit_are_an_error(fresh, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_fresh(fresh, {"w": np.zeros(2)}, ["w"])
    check_fresh({"w": np.ones(2)}, {"w": np.zeros(2)}, ["w"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_fresh_value_that_is_not_finite_is_an_error(value):
    fresh, params = {"v": np.array([value]), "w": np.array([0.0, value])}, {"w": np.zeros(2)}
    with pytest.raises(ValueError, match=r"^initializer: expected finite values for parameter 'w', got NaN or Inf$"):
        check_fresh(fresh, params, ["w"])
    check_fresh(fresh, params, ["w"], known=False)
    check_fresh({**fresh, "w": np.zeros(2)}, params, ["w"])


def test_a_missing_fresh_value_is_told_with_eight_that_are_there():
    fresh = {f"p{place}": np.zeros(2) for place in range(9)}
    with pytest.raises(ValueError, match=r"parameter 'w', got p0, p1, p2, p3, p4, p5, p6, p7$"):
        check_fresh(fresh, {"w": np.zeros(2)}, ["w"])


def test_a_neuron_that_owns_nothing_gives_nothing():
    view = na.ParamView("w", "neuron", index=(-1, 0, 2))
    resampled = resample(np.array([5, 6, 7]), [(view, view.bind((3,)))], lambda neurons, number: np.array([1, 1, 1]))
    assert resampled.tolist() == [5, 6, 7]
    view = na.ParamView("w", "in neuron", index=(-1, -1, 2, 3))
    resampled = resample(
        np.array([[10, 11, 12, 13]]), [(view, view.bind((1, 4)))], lambda neurons, number: np.array([0, 1, 3, 2])
    )
    assert resampled.tolist() == [[10, 11, 13, 12]]


def test_entries_that_no_neuron_owns_stay():
    view = na.ParamView("w", "neuron", index=(-1, 0, -1))
    resampled = resample(np.array([5, 6, 7]), [(view, view.bind((3,)))], lambda neurons, number: np.array([0]))
    assert resampled.tolist() == [5, 6, 7]


WEIGHTS = np.random.default_rng(0).normal(0.0, 0.1, (20, 10)).astype("float32")


@pytest.mark.parametrize("factor", [0.6, 1.6])
def test_fresh_values_of_another_spread_are_warned_of(backend, factor):
    message = r"fresh values have another standard deviation .*: w \(fresh 0\.\d+, present 0\.\d+\); .*snapshot"
    with pytest.warns(na.ActivityWarning, match=message):
        warn_of_spread(backend.arrays({"w": factor * WEIGHTS + 3}), backend.arrays({"w": WEIGHTS}))


@pytest.mark.parametrize(
    ("fresh", "present"),
    [
        (0.7 * WEIGHTS, WEIGHTS),
        (1.4 * WEIGHTS - 2, WEIGHTS),
        (9 * WEIGHTS[:4], WEIGHTS[:4]),
        (9 * WEIGHTS.ravel(), WEIGHTS.ravel()),
        (0 * WEIGHTS, WEIGHTS),
        (WEIGHTS, 0 * WEIGHTS),
    ],
    ids=["narrower", "wider", "few", "a vector", "constant", "was constant"],
)
def test_spreads_that_agree_or_cannot_be_compared_are_not(fresh, present, recwarn):
    warn_of_spread({"w": fresh}, {"w": present})
    assert not recwarn.list


SIGNS = np.where(np.arange(100) % 2, 1.0, -1.0).reshape(10, 10)


def spreads(fresh, present):
    """What is warned of, as lines of this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_spread(fresh, present)
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def test_spreads_are_compared_from_a_hundred_entries_on_and_above_half_as_much_again():
    assert spreads({"w": 1.51 * SIGNS}, {"w": SIGNS})
    assert not spreads({"w": 1.5 * SIGNS}, {"w": SIGNS})
    assert not spreads({"w": 9 * SIGNS.ravel()[:98].reshape(7, 14)}, {"w": SIGNS.ravel()[:98].reshape(7, 14)})


def test_all_parameters_are_compared_and_eight_are_named():
    def named(number):
        present = {"b": np.zeros(3)} | {f"p{place}": SIGNS for place in range(number)}
        (text,) = spreads({name: 2 * value for name, value in present.items()}, present)
        return re.findall(r"(p\d) \(", text), ", ...;" in text

    assert named(8) == ([f"p{place}" for place in range(8)], False)
    assert named(9) == ([f"p{place}" for place in range(8)], True)


def test_outgoing_parameters_are_drawn_where_they_become_fresh_or_small():
    layout = na.Layout([na.dense("a", weight=("a.w", "neuron in"), outgoing=[("b.w", "out neuron")])])
    shapes = {"a.w": (3, 2), "b.w": (1, 3)}
    drawn = {outgoing: list(drawn_views(layout, shapes, outgoing=outgoing)) for outgoing in ("zero", "keep", "fresh")}
    assert drawn == {"zero": ["a.w"], "keep": ["a.w"], "fresh": ["a.w", "b.w"]}
