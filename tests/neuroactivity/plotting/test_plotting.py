"""The pictures show what they are given, and leave matplotlib's settings and the rest of the library alone."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import neuroactivity as na
from neuroactivity import analysis, plotting
from neuroactivity.analysis import Spell
from neuroactivity.plotting import points
from tests.neuroactivity.backends import to_numpy
from tests.neuroactivity.plotting.pictures import RESETS, SCORES, STEPS, draw, legend_of, lines_of

NAN = math.nan
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
    expected = "neuroactivity.plotting needs matplotlib and NumPy: pip install matplotlib numpy"
    assert python(f"import neuroactivity; {code}    print(error)") == expected
