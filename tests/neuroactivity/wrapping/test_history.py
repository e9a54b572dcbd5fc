"""When each neuron was reset: counted by measurements, on every array library."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity.report import build_report
from neuroactivity.wrapping import NEVER, advance, reset_before, warn_of_resets
from tests.neuroactivity.backends import dtype_name, to_numpy

LAYOUT = na.Layout([na.dense("a", weight=("a", "neuron in")), na.dense("b", weight=("b", "neuron in"))])


@given(st.lists(st.tuples(st.lists(st.booleans(), min_size=5, max_size=5), st.booleans()), max_size=8))
def test_counts_are_those_of_a_list_of_all_measurements(events):
    """Five neurons in two groups; a group may be absent from a measurement."""
    since = {"a": np.full(3, NEVER), "b": np.full(2, NEVER)}
    log = []
    for neurons, both in events:
        mask = np.array(neurons) & np.array([True, True, True, both, both])
        since = advance(since, {"a": mask[:3]} | ({"b": mask[3:]} if both else {}))
        log.append(mask)
    ages = [next((age for age, mask in enumerate(reversed(log)) if mask[i]), NEVER) for i in range(5)]
    assert [*since["a"], *since["b"]] == ages
    last = next((mask for mask in reversed(log) if mask.any()), np.zeros(5, bool))
    before = reset_before(since)
    assert [*before["a"], *before["b"]] == last.tolist()


def test_every_library_counts(backend):
    since = {"a": backend.asarray(np.array([[0, 1], [NEVER, NEVER]], np.int32), "int32")}
    masks = {"a": backend.asarray(np.array([[False, False], [True, False]]))}
    later = advance(since, masks)["a"]
    assert to_numpy(later).tolist() == [[1, 2], [0, NEVER]]
    assert dtype_name(later) == "int32"
    assert to_numpy(reset_before({"a": later})["a"]).tolist() == [[False, False], [True, False]]


def test_without_groups_or_neurons_nothing_was_reset():
    assert reset_before({}) == {}
    assert reset_before({"empty": np.zeros(0, np.int32)})["empty"].shape == (0,)


@pytest.mark.parametrize(("again", "reset", "warns"), [(3, 4, True), (2, 4, False), (5, 6, True), (3, 3, False)])
def test_most_of_what_is_reset_being_reset_again_is_warned_of_once(again, reset, warns):
    scores = {"a": np.array([*[0.0] * reset, 5.0])}
    masks = na.reset_masks(scores)
    report = build_report(scores, LAYOUT, 0.01, masks=masks, reset_before={"a": np.arange(reset + 1) < again})
    assert (report["a"].reset, report["a"].reset_again) == (reset, again)
    warned: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            warn_of_resets(report.total, warned, stacklevel=1)  # said to be this line's fault
    assert [warning.filename for warning in caught] == [__file__] * warns
    if warns:
        assert f"{again} of the neurons that were reset last are inactive again, of {reset} that" in str(caught[0])
