"""The pictures show what they are given, and leave matplotlib's settings and the rest of the library alone."""

import itertools
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import neuroactivity as na
from neuroactivity import analysis, plotting
from neuroactivity.analysis import Spell
from neuroactivity.plotting import maps, points
from tests.neuroactivity.backends import to_numpy

NAN = math.nan
STEPS = [0, 1000, 4000]
SCORES = {"fc1": np.array([[0.0, 1.0, 2.0], [0.5, 0.01, 2.0], [2.0, 1e-9, 3.0]]), "v": np.array([[1.0], [NAN], [1.0]])}
RESETS = {"fc1": np.array([[True, False, False], [False, False, False], [False, True, False]])}


def draw(axes, path):
    """Draw a figure in full, with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes.figure.savefig(path / "picture.png", dpi=50)


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []


def lines_of(axes):
    """The lines by the first word of their labels."""
    return {line.get_label().partition(":")[0]: line for line in axes.lines}


# Inactivity


def test_lines_are_the_fractions_with_gaps(tmp_path):
    """None and NaN are gaps, and a value between two gaps is a dot."""
    steps = [0, 10, 20, 40, 80]
    fractions = {"fc1": [None, 0.25, NAN, 0.5, 0.75], "fc2": [0.0, 0.0, 0.1, 0.0, 0.0]}
    axes = plotting.inactivity(steps, fractions, resets=[20, 80], reset_again=[80])
    lines = lines_of(axes)
    circled = "most did not last"
    np.testing.assert_array_equal(lines["fc1"].get_xdata(), steps)
    np.testing.assert_array_equal(lines["fc1"].get_ydata(), [NAN, 0.25, NAN, 0.5, 0.75])
    assert lines["fc1"].get_markevery() == [1]
    np.testing.assert_array_equal(lines["fc2"].get_ydata(), fractions["fc2"])
    np.testing.assert_array_equal(lines["reset"].get_xdata(), [20, 80])
    np.testing.assert_array_equal(lines[circled].get_xdata(), [80])
    assert legend_of(axes) == ["fc1", "fc2", "reset", circled]
    assert axes.get_ylim()[0] < 0 < 0.75 < axes.get_ylim()[1]
    draw(axes, tmp_path)


def test_percentages_are_exact(tmp_path):
    """Two and a half per cent is not rounded to 2%."""
    axes = plotting.inactivity([0, 1], {"fc": [0.2, 0.0]})
    draw(axes, tmp_path)
    ticks = {tick.get_text() for tick in axes.get_yticklabels()}
    assert {"2.5%", "5%", "7.5%"} <= ticks


@pytest.mark.parametrize(
    ("steps", "fractions", "resets"),
    [([], {}, []), ([5], {"fc": [0.5]}, []), ([5], {"fc": [None]}, [5]), ([0, 1], {"fc": [0, 0]}, iter([1]))],
)
def test_little_to_draw_is_drawn(steps, fractions, resets, tmp_path):
    draw(plotting.inactivity(steps, fractions, resets=resets), tmp_path)


def test_many_groups_are_told_apart_and_long_names_fit():
    names = [f"critic_target.encoder.residual.blocks.{number}.feed_forward" for number in range(30)]
    axes = plotting.inactivity([0, 1], {name: [0.1, 0.2] for name in names})
    axes.figure.draw_without_rendering()
    assert len({(tuple(line.get_color()), line.get_linestyle()) for line in axes.lines}) == 30
    legend = axes.get_legend().get_window_extent()
    assert legend.y0 >= 0
    assert legend.x1 <= axes.figure.bbox.x1
    assert axes.get_window_extent().width > 800


def test_fractions_that_do_not_fit_the_steps_are_an_error():
    message = r"^group 'fc': expected 3 measurements, one for each step, got 2$"
    with pytest.raises(na.LayoutError, match=message):
        plotting.inactivity(STEPS, {"fc": [0.0, 0.0]})
    with pytest.raises(na.LayoutError, match=message):
        plotting.score_map(STEPS, {"fc": np.zeros((2, 4))})


# The map of scores


def colours_of(mesh):
    """The colour of each cell, neurons by measurements."""
    return mesh.to_rgba(mesh.get_array())


def meshes_of(axes):
    return [artist for artist in axes.collections if isinstance(artist, QuadMesh)]


def test_a_map_has_a_row_for_each_neuron_and_a_block_for_each_group(tmp_path):
    axes = plotting.score_map(STEPS, SCORES, tau=0.01, resets=RESETS, sort=False)
    fc1, value = meshes_of(axes)
    np.testing.assert_array_equal(fc1.get_coordinates()[0, :, 0], [-500, 500, 2500, 5500])  # steps in the middle
    shown = fc1.get_array()
    assert shown.shape == (3, 3)
    np.testing.assert_allclose(shown[[0, 0, 1, 2, 2], [1, 2, 0, 1, 2]], [0.5, 2.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(np.diff(fc1.get_coordinates()[:, 0, 1]), [1, 1, 1])
    assert value.get_coordinates()[0, 0, 1] > 3  # below the block of the three, after a gap
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fc1 (3)", "v (1)"]
    low, high = axes.get_ylim()
    assert low > high == 0
    assert legend_of(axes) == ["score 0", "at most 0.01", "above 0.01", "not finite", "reset"]
    draw(axes, tmp_path)


def test_colours_tell_zero_inactive_active_and_unknown_apart():
    """A score of tau is inactive, the next one above is not, and 1e-9 is not zero."""
    above = 0.01 * (1 + 1e-5)
    scores = np.array([[0.0, 1e-9, np.float32(0.01), 0.01, above, 1.0, 50.0, NAN]])
    axes = plotting.score_map([0], {"g": scores}, tau=0.01, sort=False)
    colours = colours_of(meshes_of(axes)[0])[:, 0]
    np.testing.assert_allclose(colours[0], to_rgba(maps.ZERO))
    np.testing.assert_allclose(colours[1], to_rgba(maps.INACTIVE[0]))
    np.testing.assert_allclose(colours[2:4], [to_rgba(maps.INACTIVE[1])] * 2)
    np.testing.assert_allclose(colours[4], to_rgba(maps.ACTIVE[0]))
    assert colours[5][2] > colours[5][0]  # blue
    np.testing.assert_allclose(colours[6], to_rgba(maps.ACTIVE[-1]))
    np.testing.assert_allclose(colours[7], to_rgba(maps.UNKNOWN))


def test_without_tau_only_zero_stands_out():
    axes = plotting.score_map([0], {"g": np.array([[0.0, 0.001, 1.0]])})
    colours = colours_of(meshes_of(axes)[0])[:, 0]
    np.testing.assert_allclose(colours[0], to_rgba(maps.ZERO))
    np.testing.assert_allclose(colours[1], to_rgba(maps.ACTIVE[0]), atol=0.01)
    assert legend_of(axes) == ["score 0", "above 0"]


def test_resets_are_marked_at_their_neuron_and_step():
    axes = plotting.score_map(STEPS, SCORES, resets=RESETS, sort=False)
    assert {tuple(point) for line in axes.lines for point in line.get_xydata()} == {(0, 0.5), (4000, 1.5)}


def test_sorted_rows_take_their_resets_along():
    """By the mean of the logarithm: neuron 1 (1, 0.01, 1e-9), neuron 0 (0, 0.5, 2), neuron 2."""
    axes = plotting.score_map(STEPS, SCORES, tau=0.01, resets=RESETS)
    np.testing.assert_allclose(meshes_of(axes)[0].get_array()[:, 0][[0, 2]], [1.0, 2.0])
    assert {tuple(point) for line in axes.lines for point in line.get_xydata()} == {(0, 1.5), (4000, 0.5)}


def test_members_of_a_stack_and_arrays_of_any_library_are_drawn(backend):
    stack = np.arange(1.0, 13.0).reshape(2, 2, 3)  # (time, stack, neurons)
    axes = plotting.score_map([0, 1], {"twins": [backend.asarray(scores) for scores in stack]}, sort=False)
    np.testing.assert_allclose(meshes_of(axes)[0].get_array(), stack.reshape(2, 6).T)
    assert axes.get_yticklabels()[0].get_text() == "twins (6)"


def test_labels_do_not_overlap():
    """One neuron beside 512, and forty groups."""
    for groups in ({"a": 512, "b": 1, "c": 1, "d": 3}, {f"layer {place}": 40 for place in range(40)}):
        axes = plotting.score_map([7], {name: np.ones((1, size)) for name, size in groups.items()}, tau=0.1)
        axes.figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
        assert len(boxes) == len(groups)
        assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))
        assert [place for place in axes.get_xticks() if 6.5 <= place <= 7.5] == [7]


@pytest.mark.parametrize(
    ("steps", "scores", "options", "message"),
    [
        ([0], {}, {}, "scores: expected a group with a neuron at least"),
        ([0], {"fc": np.zeros((1, 0))}, {}, "scores: expected a group with a neuron at least"),
        ([], {}, {}, "steps: expected one at least, in ascending order, got []"),
        ([0, 0], {"fc": np.zeros((2, 1))}, {}, "steps: expected one at least, in ascending order, got [0, 0]"),
        ([0, 1], {"fc": [np.zeros(1), np.zeros(2)]}, {}, "group 'fc': expected arrays of one shape at all steps"),
        (
            [0],
            {"fc": np.zeros((1, 3))},
            {"resets": {"fc": np.zeros((1, 2))}},
            "group 'fc', resets: expected masks of the shapes of the group's scores",
        ),
        (
            [0],
            {"fc": np.zeros((1, 3))},
            {"resets": {"b": np.zeros((1, 3))}},
            "group 'b', resets: expected masks of the shapes of the group's scores",
        ),
    ],
)
def test_scores_that_cannot_be_drawn_are_an_error(steps, scores, options, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  compared in full
        plotting.score_map(steps, scores, **options)
    assert str(caught.value) == message


# Quadrants


def test_points_are_the_kinds_that_the_analysis_finds(tmp_path):
    generator = np.random.default_rng(0)
    activation = {"a": generator.exponential(size=40), "twins": generator.exponential(size=(2, 30))}
    gradient = {"twins": generator.exponential(size=(2, 30)), "a": generator.exponential(size=40)}
    activation["a"][0] = 0
    masks = {"a": activation["a"] <= 0.2}
    axes = plotting.quadrants(activation, gradient, fraction=0.3, tau_activation=0.2, tau_gradient=0.01, masks=masks)
    lines, found = lines_of(axes), analysis.kinds(activation, gradient, fraction=0.3)
    x, y = (np.concatenate([scores["a"], scores["twins"].ravel()]) for scores in (activation, gradient))
    left = np.ones(100, dtype=bool)
    for field, (label, colour, _) in points.KINDS.items():
        chosen = np.concatenate([getattr(found[name], field).ravel() for name in ("a", "twins")])
        np.testing.assert_array_equal(lines[label].get_xydata(), np.stack([x[chosen], y[chosen]], axis=1))
        assert f"{label}: {chosen.mean():.1%}" in legend_of(axes)
        assert lines[label].get_color() == colour
        left &= ~chosen
    np.testing.assert_array_equal(lines["neither"].get_xydata(), np.stack([x[left], y[left]], axis=1))
    ringed = lines["reset"].get_xydata()
    np.testing.assert_array_equal(ringed[:, 0], x[:40][masks["a"]])
    assert lines["reset"].get_fillstyle() == "none"
    assert set(lines["activation tau"].get_xdata()) == {0.2}
    assert set(lines["gradient tau"].get_ydata()) == {0.01}
    draw(axes, tmp_path)


def test_zero_is_on_the_axes(tmp_path):
    scores = {"g": np.array([0.0, 1.0, 2.0, NAN])}
    axes = plotting.quadrants(scores, scores, masks={})
    assert axes.get_xlim()[0] < 0 < 2 < axes.get_xlim()[1]
    assert axes.get_xscale() == axes.get_yscale() == "symlog"
    draw(axes, tmp_path)
    assert {"0", "0.001", "1"} <= {tick.get_text() for tick in axes.get_xticklabels()}
    draw(plotting.quadrants({}, {}), tmp_path)


def test_masks_of_another_shape_are_an_error():
    scores = {"g": np.ones(3)}
    for masks in ({"g": np.ones(2, dtype=bool)}, {"h": np.ones(3, dtype=bool)}):
        with pytest.raises(
            na.LayoutError, match=r"^group '.', masks: expected a mask of the shape of the group's scores$"
        ):
            plotting.quadrants(scores, scores, masks=masks)


def test_quadrants_take_arrays_of_any_library(backend):
    scores = {"g": backend.asarray(np.array([0.1, 0.9, 1.2, 1.8]))}
    masks = na.reset_masks(scores, 0.5)
    assert to_numpy(masks["g"]).any()
    ringed = lines_of(plotting.quadrants(scores, scores, masks=masks))["reset"]
    np.testing.assert_allclose(ringed.get_xdata(), [0.1])


# Lifetimes


def test_steps_count_the_spells_that_lasted_as_long(tmp_path):
    lengths = {"open": [3, 1], "reset": [2], "recovered": [1, 1, 4]}
    spells = [Spell(0, None, 0, length, end) for end, group in lengths.items() for length in group]
    axes = plotting.lifetimes({"a": spells[:3], "b": spells[3:], "c": []})
    drawn = {patch.get_label(): patch.get_data() for patch in axes.patches}
    np.testing.assert_array_equal(drawn["open: 2 (33%)"].values, [2, 1, 1, 0])
    np.testing.assert_array_equal(drawn["reset: 1 (17%)"].values, [3, 2, 1, 0])
    np.testing.assert_array_equal(drawn["recovered: 3 (50%)"].values, [6, 3, 2, 1])
    np.testing.assert_array_equal(drawn["recovered: 3 (50%)"].baseline, drawn["reset: 1 (17%)"].values)
    np.testing.assert_array_equal(drawn["open: 2 (33%)"].edges, [0.5, 1.5, 2.5, 3.5, 4.5])
    assert legend_of(axes) == ["recovered: 3 (50%)", "reset: 1 (17%)", "open: 2 (33%)"]
    draw(axes, tmp_path)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2"]


def test_no_spells_are_drawn_too(tmp_path):
    draw(plotting.lifetimes({}), tmp_path)


# All of them


def pictures(axes=None):
    yield plotting.inactivity(STEPS, {"fc": [0.0, 0.5, None]}, resets=[1000], axes=axes)
    yield plotting.score_map(STEPS, SCORES, tau=0.01, resets=RESETS, axes=axes)
    yield plotting.quadrants({"g": np.arange(8.0)}, {"g": np.arange(8.0)}, axes=axes)
    yield plotting.lifetimes({"g": [Spell(0, None, 0, 2, "open")]}, axes=axes)


def test_given_axes_are_drawn_on():
    for place in range(4):
        axes = Figure().add_subplot()
        drawn = [picture for number, picture in enumerate(pictures(axes)) if number == place]
        assert drawn[0] is axes


def test_arguments_are_not_changed():
    scores, resets = ({name: array.copy() for name, array in arrays.items()} for arrays in (SCORES, RESETS))
    plotting.score_map(STEPS, scores, tau=0.01, resets=resets)
    for name, array in SCORES.items():
        np.testing.assert_array_equal(scores[name], array)


def python(code):
    """Run code in a fresh interpreter and return what it prints."""
    path = str(Path(na.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {path!r}); {code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_no_setting_of_matplotlib_changes():
    """Neither on import nor by a picture."""
    code = """
import io, matplotlib, numpy
before = dict(matplotlib.rcParams)
from neuroactivity import analysis, plotting
scores = {"g": numpy.arange(8.0)}
spells = {"g": [analysis.Spell(0, None, 0, 2, "open")]}
for axes in (
    plotting.inactivity([0, 1], {"g": [0, 1]}, resets=[1]),
    plotting.score_map([0], {"g": scores["g"][None]}, tau=0.1),
    plotting.quadrants(scores, scores),
    plotting.lifetimes(spells),
):
    axes.figure.savefig(io.BytesIO(), dpi=30)
print(dict(matplotlib.rcParams) == before)
"""
    assert python(code) == "True"


@pytest.mark.parametrize(("module", "loads"), [("analysis", False), ("plotting", True)])
def test_only_the_pictures_load_matplotlib_and_numpy(module, loads):
    """And never pyplot, whose state is everyone's."""
    code = f"import neuroactivity.{module}; print(*[name in sys.modules for name in {('matplotlib', 'numpy')}]"
    assert python(f"{code}, 'matplotlib.pyplot' in sys.modules)") == f"{loads} {loads} False"


@pytest.mark.parametrize("missing", ["matplotlib", "numpy"])
def test_without_matplotlib_an_error_names_the_extra(missing):
    code = f"sys.modules[{missing!r}] = None\ntry:\n    import neuroactivity.plotting\nexcept ImportError as error:\n"
    expected = "neuroactivity.plotting needs matplotlib and NumPy: pip install 'neuroactivity[plot]'"
    assert python(f"import neuroactivity; {code}    print(error)") == expected
