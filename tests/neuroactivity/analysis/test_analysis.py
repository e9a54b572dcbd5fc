"""The analyses: answers known by construction, a plain reference, every array library, and errors."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity import analysis
from neuroactivity.analysis import Spell
from tests.neuroactivity.backends import to_numpy
from tests.neuroactivity.cases import CASES, CONCATENATION, DENSE_TORCH, TWIN_CRITICS
from tests.neuroactivity.test_resets import assert_same

NAN = math.nan
KINDS = analysis.Kinds._fields


def kinds_of(activation, gradient, backend, **options):
    """By kind the places of its neurons, computed the backend's way."""
    arrays = [{"g": backend.asarray(np.asarray(scores, dtype=float))} for scores in (activation, gradient)]
    found = backend.run(lambda a, g: analysis.kinds(a, g, **options), *arrays)["g"]
    for mask in found:
        assert to_numpy(mask).dtype == bool
        assert tuple(mask.shape) == np.shape(activation)
    return {kind: np.argwhere(to_numpy(mask)).squeeze(-1).tolist() for kind, mask in zip(KINDS, found, strict=True)}


def level(scores, i, count):
    """1 where a score is high, -1 where it is low, 0 otherwise: the definition, counted."""
    if not all(map(math.isfinite, scores)):
        return 0
    high = sum(other > scores[i] for other in scores) < count
    low = sum(other < scores[i] for other in scores) < count
    return high - low


# Kinds


def test_planted_kinds_are_found(backend):
    """A quarter of the eight neurons is two, and the other four are nothing in particular."""
    activation = [0.0, 0.1, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0]
    gradient = [5.0, 0.0, 4.0, 0.01, 1.0, 1.0, 1.0, 1.0]
    found = kinds_of(activation, gradient, backend)
    assert found == {"high_high": [2], "high_low": [3], "low_high": [0], "low_low": [1]}


def test_neurons_of_equal_scores_are_of_one_kind(backend):
    """Four dead neurons where a quarter is two: all four are low, none is preferred by its index."""
    activation = [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0]
    gradient = [3.0, 4.0, 0.0, 2.0, 3.0, 0.0, 1.0, 0.0]
    found = kinds_of(activation, gradient, backend)
    assert found == {"high_high": [], "high_low": [7], "low_high": [0, 1, 4], "low_low": [5]}


def test_a_score_that_is_high_and_low_is_neither():
    """A group of equal scores; and dead neurons so many that fewer than half are above them."""
    stack = {"g": np.array([[0.0] * 4, [1.0] * 4, [0.0, 0.0, 0.0, 4.0]])}
    found = analysis.kinds(stack, stack, fraction=0.5)["g"]
    assert not (found.low_low | found.high_low | found.low_high).any()
    assert np.argwhere(found.high_high).tolist() == [[2, 3]]


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_members_of_a_stack_are_ranked_apart_and_one_that_is_not_finite_is_of_no_kind(bad, backend):
    """In either score, and only the member where it is."""
    stack = np.array([[1.0, 2.0, 3.0, 4.0], [40.0, 30.0, 20.0, 10.0], [1.0, bad, 3.0, 4.0]])
    arrays, well = {"g": backend.asarray(stack)}, {"g": backend.asarray(np.stack([stack[0], stack[1], stack[0]]))}
    for pair in ((arrays, well), (well, arrays)):
        found = backend.run(analysis.kinds, *pair)["g"]
        np.testing.assert_array_equal(to_numpy(found.high_high), [[0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
        np.testing.assert_array_equal(to_numpy(found.low_low), [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
        assert not to_numpy(found.high_low).any()
        assert not to_numpy(found.low_high).any()


@pytest.mark.parametrize(
    ("fraction", "neurons", "count"), [(0.29, 100, 29), (0.05, 256, 12), (0, 7, 0), (0.25, 3, 0), (0.5, 4, 2)]
)
def test_the_fraction_counts_as_a_person_does(fraction, neurons, count):
    scores = {"g": np.arange(neurons, dtype=float)}
    found = analysis.kinds(scores, scores, fraction=fraction)["g"]
    assert [found.high_high.sum(), found.low_low.sum()] == [count, count]


def test_groups_of_several_sizes_keep_their_names_and_order():
    """Groups of one shape are computed together; here two of three."""
    values = {"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, 2.0], "c": [4.0, 3.0, 2.0, 1.0]}
    arrays = {name: np.array(scores) for name, scores in values.items()}
    found = analysis.kinds(arrays, dict(reversed(arrays.items())))
    assert list(found) == ["a", "b", "c"]
    assert [kind.high_high.tolist().index(True) for kind in (found["a"], found["c"])] == [3, 0]
    assert not found["b"].high_high.any()
    assert analysis.kinds({}, {}) == {}


SCORES = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=1, max_dims=2, max_side=9), elements=st.sampled_from([0, 0.1, 1, 2, 3, NAN])
)


@given(SCORES, st.integers(0, 2**32 - 1), st.sampled_from([0, 0.1, 0.25, 1 / 3, 0.5]))
def test_kinds_are_those_of_the_definition(activation, seed, fraction):
    gradient = np.random.default_rng(seed).permuted(activation, axis=-1)
    found = analysis.kinds({"g": activation}, {"g": gradient}, fraction=fraction)["g"]
    count = math.floor(fraction * activation.shape[-1] + 1e-9)
    for place in np.ndindex(activation.shape):
        levels = [level(scores[place[:-1]].tolist(), place[-1], count) for scores in (activation, gradient)]
        expected = [levels == [a, g] for a in (1, -1) for g in (1, -1)]
        assert [bool(mask[place]) for mask in found] == expected


@pytest.mark.parametrize("fraction", [-0.1, 0.51, 25, NAN, "25%", None])
def test_a_fraction_out_of_range_is_an_error(fraction):
    with pytest.raises(ValueError, match=rf"^fraction: expected a number in \[0, 0.5\], got {fraction!r}$"):
        analysis.kinds({}, {}, fraction=fraction)


@pytest.mark.parametrize(
    ("activation", "gradient", "message"),
    [
        ({"a": 3, "b": 3}, {"a": 3}, "group 'b' is missing in gradient_scores; there are a"),
        ({}, {"a": 3}, "group 'a' is missing in activation_scores; there are no groups"),
        (
            {"a": (2, 3)},
            {"a": 6},
            "group 'a', gradient_scores: expected shape (2, 3) as of activation_scores, got (6,)",
        ),
        ({"a": ()}, {"a": 3}, "group 'a', activation_scores: expected shape (neurons,) or (stack, neurons), got ()"),
    ],
)
def test_scores_that_do_not_fit_together_are_an_error(activation, gradient, message):
    zeros = [{name: np.zeros(shape) for name, shape in shapes.items()} for shapes in (activation, gradient)]
    with pytest.raises(na.LayoutError) as caught:
        analysis.kinds(*zeros)
    assert str(caught.value) == message


def test_scores_that_are_no_arrays_are_an_error():
    with pytest.raises(TypeError, match=r"^group 'a', gradient_scores: expected an array .*, got list$"):
        analysis.kinds({"a": np.zeros(2)}, {"a": [0.0, 1.0]})


# Lifetimes

HISTORY = ["..####..", "#.......", "........", ".#.##..#", "########"]  # neurons by measurements, # = inactive
RESETS = ["...#....", "........", "..#.....", "....#..#", "........"]
SPELLS = (
    Spell(0, None, 2, 2, "reset"),
    Spell(0, None, 4, 2, "recovered"),
    Spell(1, None, 0, 1, "recovered"),
    Spell(3, None, 1, 1, "recovered"),
    Spell(3, None, 3, 2, "reset"),
    Spell(3, None, 7, 1, "reset"),
    Spell(4, None, 0, 8, "open"),
)


def drawn(rows):
    """Masks, measurements first, of a drawing in which a row is a neuron."""
    return np.array([[mark == "#" for mark in row] for row in rows]).T


def test_planted_spells_are_found(backend):
    """Recovery, reset with and without an inactive measurement after it, a spell from the first to the last one."""
    inactive, reset = ({"g": [backend.asarray(mask) for mask in drawn(rows)]} for rows in (HISTORY, RESETS))
    assert analysis.lifetimes(inactive, reset=reset) == {"g": SPELLS}


def test_a_leading_axis_of_time_is_a_sequence_of_masks(backend):
    inactive, reset = ({"g": backend.asarray(drawn(rows))} for rows in (HISTORY, RESETS))
    assert analysis.lifetimes(inactive, reset=reset) == {"g": SPELLS}


def test_without_resets_a_neuron_recovers_by_itself():
    """A group that is absent from the resets was not reset."""
    inactive = {"a": drawn(["##.#"]), "b": drawn(["##.#"])}
    spells = (Spell(0, None, 0, 2, "recovered"), Spell(0, None, 3, 1, "open"))
    assert analysis.lifetimes(inactive) == {"a": spells, "b": spells}
    found = analysis.lifetimes(inactive, reset={"b": drawn([".#.."])})
    assert found["a"] == spells
    assert [spell.end for spell in found["b"]] == ["reset", "open"]


def test_spells_of_a_stack_name_the_member(backend):
    first, second = drawn(["#.", ".."]), drawn(["..", ".#"])
    inactive = {"twins": backend.asarray(np.stack([first, second], axis=1))}  # (time, stack, neurons)
    assert analysis.lifetimes(inactive)["twins"] == (Spell(0, 0, 0, 1, "recovered"), Spell(1, 1, 1, 1, "open"))


def test_no_measurements_and_no_groups_have_no_spells():
    assert analysis.lifetimes({"a": [], "b": np.zeros((0, 3), dtype=bool)}) == {"a": (), "b": ()}
    assert analysis.lifetimes({}) == {}


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([(1,), (3,), (2, 3)]))
def test_spells_say_where_every_inactive_measurement_belongs(seed, times, shape):
    """Each is in exactly one spell; its end is what the masks say of the last and of the next measurement."""
    generator = np.random.default_rng(seed)
    inactive = generator.random((times, *shape)) < 0.7
    reset = generator.random((times, *shape)) < 0.3
    covered = np.zeros_like(inactive, dtype=int)
    for spell in analysis.lifetimes({"g": inactive}, reset={"g": reset})["g"]:
        place = (spell.neuron,) if spell.member is None else (spell.member, spell.neuron)
        last = spell.start + spell.length - 1
        covered[(slice(spell.start, last + 1), *place)] += 1
        assert not reset[(slice(spell.start, last), *place)].any()
        if spell.end == "reset":
            assert reset[(last, *place)]
        else:
            assert not reset[(last, *place)]
            assert (spell.end == "open") == (last == times - 1)
            assert spell.end == "open" or not inactive[(last + 1, *place)]
        before = (spell.start - 1, *place)
        assert spell.start == 0 or not inactive[before] or reset[before]
    np.testing.assert_array_equal(covered, inactive)


@pytest.mark.parametrize(
    ("inactive", "reset", "message"),
    [
        ([(2, bool)], {"b": [(2, bool)]}, "group 'b' of reset is missing in inactive; there are a"),
        ([(2, bool), (3, bool)], {}, "group 'a', inactive, measurement 1: expected shape (2,), got (3,)"),
        ([(2, float)], {}, "group 'a', inactive, measurement 0: expected a boolean mask, got float64"),
        ([(2, bool)], {"a": [(2, int)]}, "group 'a', reset, measurement 0: expected a boolean mask, got int64"),
        (
            [(2, bool)],
            {"a": [(2, bool)] * 2},
            "group 'a', reset: expected 1 masks of shape (2,) as of inactive, got 2 of shape (2,)",
        ),
        (
            [((), bool)],
            {},
            "group 'a', inactive, measurement 0: expected shape (neurons,) or (stack, neurons), got ()",
        ),
    ],
)
def test_masks_that_do_not_fit_together_are_an_error(inactive, reset, message):
    masks = [np.zeros(shape, dtype) for shape, dtype in inactive]
    resets = {name: [np.zeros(shape, dtype) for shape, dtype in series] for name, series in reset.items()}
    with pytest.raises(na.LayoutError) as caught:
        analysis.lifetimes({"a": masks}, reset=resets)
    assert str(caught.value) == message


def test_the_table_counts_ends_and_lengths():
    lines = analysis.lifetime_table({"fc": SPELLS, "quiet": ()}).splitlines()
    assert lines[0].split() == ["group", "spells", "reset", "open", "recovered", "median", "length", "longest"]
    assert lines[2].split() == ["fc", "7", "3", "1", "3", "42.9%", "2", "8"]
    assert lines[3].split() == ["quiet", "0", "0", "0", "0", "n/a"]


# Pruning


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pruning_writes_zeros_where_a_reset_writes(case):
    params, masks = case.draw(seed=1), case.draw_masks(seed=3)
    zeros = {name: np.zeros(shape) for name, shape in case.shapes.items()}
    result = analysis.prune(params, masks, case.layout)
    assert_same(result, na.reset(params, zeros, masks, case.layout), params)


@pytest.mark.parametrize("case", [TWIN_CRITICS, CONCATENATION], ids=lambda case: case.name)
def test_pruning_is_a_reset_to_zeros(case, backend):
    """In every library, compiled as a whole where the backend compiles."""
    params, masks = backend.arrays(case.draw(seed=1)), backend.arrays(case.draw_masks(seed=3))
    zeros = backend.arrays({name: np.zeros(shape) for name, shape in case.shapes.items()})
    result = backend.run(lambda params, masks: analysis.prune(params, masks, case.layout), params, masks)
    expected = na.reset(params, zeros, masks, case.layout)
    assert_same(result, {name: to_numpy(array) for name, array in expected.items()}, params)


MLP = na.Layout(
    [
        na.dense("a", weight=("a.w", "neuron in"), bias="a.b", outgoing=[("b.w", "out neuron")]),
        na.dense("b", weight=("b.w", "neuron in"), bias="b.b", outgoing=[("c.w", "out neuron")]),
        na.dense("c", weight=("c.w", "neuron in"), bias="c.b", resettable=False),
    ]
)


def forward(params, x, activation):
    """The network of the layout, in plain NumPy."""
    for name in "ab":
        x = activation(x @ params[f"{name}.w"].T + params[f"{name}.b"])
    return x @ params["c.w"].T + params["c.b"]


@pytest.mark.parametrize("activation", [lambda x: np.maximum(x, 0), np.tanh, lambda x: 1 / (1 + np.exp(-x))])
def test_a_pruned_network_is_the_network_with_the_neurons_cut_out(activation):
    """Also for a sigmoid, which sends 0.5 of zero: nothing reads it. The head keeps its neurons, whatever its mask."""
    generator = np.random.default_rng(0)
    shapes = {"a.w": (6, 3), "a.b": (6,), "b.w": (5, 6), "b.b": (5,), "c.w": (2, 5), "c.b": (2,)}
    params = {name: generator.standard_normal(shape) for name, shape in shapes.items()}
    masks = {"a": np.isin(np.arange(6), [0, 3, 4]), "b": np.isin(np.arange(5), [2]), "c": np.ones(2, dtype=bool)}
    a, b = ~masks["a"], ~masks["b"]
    cut = {
        "a.w": params["a.w"][a],
        "a.b": params["a.b"][a],
        "b.w": params["b.w"][b][:, a],
        "b.b": params["b.b"][b],
        "c.w": params["c.w"][:, b],
        "c.b": params["c.b"],
    }
    x = generator.standard_normal((7, 3))
    pruned = analysis.prune(params, masks, MLP)
    np.testing.assert_allclose(forward(pruned, x, activation), forward(cut, x, activation), rtol=1e-12)
    assert abs(forward(pruned, x, activation) - forward(params, x, activation)).max() > 0.1
    assert pruned["c.b"] is params["c.b"]


def test_pruning_passes_over_heads_and_absent_groups():
    params = DENSE_TORCH.draw(1)
    result = analysis.prune(params, {"fc2": np.ones(4, dtype=bool)}, DENSE_TORCH.layout)
    assert all(result[name] is params[name] for name in params)


def test_pruning_names_what_does_not_fit():
    with pytest.raises(na.LayoutError, match=r"^group 'nobody' of the masks is not in the layout"):
        analysis.prune({}, {"nobody": np.ones(2, dtype=bool)}, MLP)
    with pytest.raises(
        na.LayoutError, match=r"^group 'h': expected a boolean mask of shape \(2, 5\), got bool of shape"
    ):
        analysis.prune(TWIN_CRITICS.draw(1), {"h": np.ones(5, dtype=bool)}, TWIN_CRITICS.layout)


def test_the_lowest_scores_need_no_function_of_their_own():
    """``reset_masks`` with a tau above every score takes a fraction of the lowest, as the page on analyses says."""
    scores = np.random.default_rng(0).permutation(8) / 3.5
    mask = na.reset_masks({"g": scores}, tau=8, max_fraction=0.5)["g"]
    np.testing.assert_array_equal(mask, scores < 4 / 3.5)


# Thresholds


def test_fractions_at_several_thresholds(backend):
    """Each threshold is inclusive and compared in the dtype of the scores, as masks are."""
    scores = backend.arrays({"fc": np.array([0.0, 0.0, 0.1, 0.2, 0.3, 5.4]), "b": np.array([0.05, 1.95])})
    found = analysis.inactive_fractions(scores, [0, 0.1, 0.05, 10])
    assert found == {"fc": (2 / 6, 3 / 6, 2 / 6, 1.0), "b": (0.0, 0.5, 0.5, 1.0)}
    for dtype in {"float32", "float64"} & set(backend.dtypes):
        at = {"g": backend.asarray(np.array([0.3, 1.7]), dtype)}
        assert analysis.inactive_fractions(at, [0.3])["g"] == (0.5,)


def test_fractions_leave_out_members_that_are_not_finite(backend):
    stack = np.array([[0.0, 2.0], [NAN, 0.0], [0.0, math.inf], [0.0, 0.0]])
    found = analysis.inactive_fractions(backend.arrays({"some": stack, "none": np.array([NAN, NAN])}), [0.01])
    assert found["some"] == (0.75,)
    assert math.isnan(found["none"][0])


def test_fractions_are_those_of_a_report():
    scores = {name: np.random.default_rng(1).exponential(size=shape) for name, shape in DENSE_TORCH.scores.items()}
    found = analysis.inactive_fractions(scores, [0.5])
    for name, group in scores.items():
        assert found[name] == (na.summarize({name: group}, DENSE_TORCH.layout, 0.5)[name].inactive_fraction,)


@pytest.mark.parametrize("tau", [-0.01, NAN, math.inf, "0.1", None])
def test_a_threshold_out_of_range_is_an_error(tau):
    with pytest.raises(ValueError, match=f"^taus: expected finite numbers of 0 or more, got {tau!r}$"):
        analysis.inactive_fractions({}, [0.0, tau])
