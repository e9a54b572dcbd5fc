"""What a resumed run is given is checked before anything is set."""

from dataclasses import replace

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.wrapping import check_same_layout, read_counts

GOOD = {"steps": 10, "measurements": 2, "resets": 1, "neurons_reset": 5}
A = na.dense("a", weight=("a.w", "neuron in"))


def test_counts_come_back_as_whole_numbers_without_the_rest_of_the_state():
    counts = read_counts(GOOD | {"steps": np.int64(10), "snapshot": None})
    assert counts == GOOD
    assert all(type(count) is int for count in counts.values())
    assert set(read_counts(dict.fromkeys(GOOD, 3)).values()) == {3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -5}, "state: steps: expected a whole number of 0 or more, got -5"),
        ({"resets": 2.7}, "state: resets: expected a whole number of 0 or more, got 2.7"),
        ({"neurons_reset": "12"}, "state: neurons_reset: expected a whole number of 0 or more, got '12'"),
        ({"measurements": True}, "state: measurements: expected a whole number of 0 or more, got True"),
        ({"steps": 1}, "state: 2 measurements contradict 1 steps"),
        ({"resets": 3}, "state: 3 resets contradict 2 measurements"),
        ({"neurons_reset": 0}, "state: 1 resets contradict 0 neurons_reset"),
    ],
)
def test_counts_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_counts(GOOD | change)


def test_a_missing_count_is_named():
    with pytest.raises(ValueError, match=r"^state: 'resets' is missing; there are \['measurements', 'neurons_reset'"):
        read_counts({name: count for name, count in GOOD.items() if name != "resets"})


def test_layouts_agree_whatever_their_reasons():
    saved = na.Layout([replace(A, reason="found elsewhere")])
    check_same_layout(saved.to_dict(), na.Layout([A]))
    check_same_layout(None, na.Layout([A]))
    with pytest.raises(na.LayoutError, match=r"^state: its layout is not this wrapper's; make the wrapper with"):
        check_same_layout(na.Layout([na.dense("b", weight=("a.w", "neuron in"))]).to_dict(), na.Layout([A]))
    for wrong in (3, "layout", {}, {"groups": 5}, {"groups": [{"name": "a"}]}):
        with pytest.raises(na.LayoutError, match=r"^state: "):
            check_same_layout(wrong, na.Layout([A]))
