"""The map of scores: a row for each neuron, a block for each group, colours that tell what matters apart."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba

from neuroactivity import plotting
from neuroactivity.plotting import maps
from tests.neuroactivity.plotting.pictures import RESETS, SCORES, STEPS, draw, legend_of

NAN = math.nan


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
