"""What a measurement found, as a table, as scalars and as JSON."""

import json
import math
import warnings

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity import ActivityReport, GroupActivity, NeuronGroup

NAN = math.nan
LAYOUT = na.Layout(
    [
        NeuronGroup("fc1", [("a", "neuron in")], status="exclusive"),
        NeuronGroup("fc2", [("b", "neuron in")], status="shared", reason="read by two heads"),
        NeuronGroup("quiet", [("c", "neuron in")]),
        NeuronGroup("broken", [("d", "neuron in")], status="exclusive"),
        NeuronGroup("twins", [("e", "stack neuron in")]),
        NeuronGroup("frozen", [("f", "neuron in")]),
        NeuronGroup("head", [("g", "neuron in")], resettable=False, status="head"),
    ]
)
SCORES = {
    "fc1": np.array([0.0, 0.01, 2.0, 1.99]),
    "fc2": np.array([1.25, 0.75, 1.0]),
    "quiet": np.array([0.0, 0.0]),
    "broken": np.array([NAN, NAN]),
    "twins": np.array([[0.0, 0.5, 1.0, 2.5], [0.0] * 4, [NAN] * 4]),
    "head": np.array([0.0, 2.0]),
}
MASKS = {
    "fc1": np.array([True, False, False, False]),
    "twins": np.array([[True, False, False, False], [False] * 4, [False] * 4]),
    "head": np.array([True, False]),
}
WELL = na.Layout([LAYOUT["fc1"], LAYOUT["fc2"]])


def report(scores=SCORES, layout=LAYOUT, *args, **options):
    """A report, its warning left aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", na.ActivityWarning)
        return na.summarize(scores, layout, *args, **options)


def test_counts_of_every_group():
    """Edge case, a report counts inactive neurons and reset neurons apart."""
    counted = report(masks=MASKS)
    assert counted.groups == (
        GroupActivity("fc1", 4, 2, 1, 0.0, 1.0, 2.0, status="exclusive"),
        GroupActivity("fc2", 3, 0, 0, 0.75, 1.0, 1.25, status="shared", reason="read by two heads"),
        GroupActivity("quiet", 2, 2, 0, 0.0, 0.0, 0.0, silent=2),
        GroupActivity("broken", 2, 0, 0, None, None, None, nonfinite=2, status="exclusive"),
        GroupActivity("twins", 12, 5, 1, 0.0, 0.0, 2.5, silent=4, nonfinite=4),
        GroupActivity("head", 2, 1, 0, 0.0, 1.0, 2.0, status="head"),
    )
    assert counted.total == GroupActivity("total", 25, 10, 2, silent=6, nonfinite=6)
    assert counted.absent == ("frozen",)
    assert counted.tau == 0.01
    assert counted["twins"] is counted.groups[4]
    with pytest.raises(KeyError, match="frozen"):
        counted["frozen"]


def test_without_masks_nothing_is_said_of_resets():
    assert [group.reset for group in report().groups] == [None] * 6
    assert report().total.reset is None
    assert "neuroactivity/reset" not in report().scalars()


def test_heads_count_no_resets():
    """A head's mask is never written, so the report does not count it."""
    assert report(masks=MASKS)["head"].reset == 0
    assert report(masks=MASKS)["head"].inactive == 1


def test_fractions_are_of_the_neurons_that_could_be_judged():
    fractions = {group.name: group.inactive_fraction for group in report().groups}
    assert math.isnan(fractions.pop("broken"))
    assert fractions == {"fc1": 0.5, "fc2": 0.0, "quiet": 1.0, "twins": 5 / 8, "head": 0.5}
    assert report().total.inactive_fraction == 10 / 19


def test_alerts_name_what_could_not_be_judged():
    assert report().alerts == {
        "quiet": "silent: all scores zero",
        "broken": "not finite: NaN or Inf",
        "twins": "silent: all scores zero in 4 of 12 neurons; not finite: NaN or Inf in 4 of 12 neurons",
    }
    assert report({"fc1": SCORES["fc1"]}).alerts == {}


def test_one_warning_names_all_silent_and_broken_groups():
    with pytest.warns(na.ActivityWarning) as caught:
        na.summarize(SCORES, LAYOUT)
    assert len(caught) == 1
    for text in ("quiet (silent: all scores zero)", "broken (not finite: NaN or Inf)", "twins (silent"):
        assert text in str(caught[0].message)
    assert "fc1" not in str(caught[0].message)
    assert caught[0].filename == __file__


def test_no_warning_when_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert na.summarize({name: SCORES[name] for name in WELL}, WELL).alerts == {}


TABLE = """\
group   neurons  inactive          reset  lowest  median  highest  status     remark
--------------------------------------------------------------------------------
fc1           4         2   50.0%      1       0       1        2  exclusive
fc2           3         0    0.0%      0    0.75       1     1.25  shared     read by two heads
quiet         2         2  100.0%      0       0       0        0             ! silent: all scores zero
broken        2         0     n/a      0                           exclusive  ! not finite: NaN or Inf
twins         8         1   25.0%      1       0    0.75      2.5             ! not finite: NaN or Inf in 4 of 8 neurons
head          2         1   50.0%      0       0       1        2  head
--------------------------------------------------------------------------------
total        21         6   40.0%      2
inactive: score <= 0.01
not measured: frozen"""


def test_the_table():
    """Read by a person: columns line up, what needs a look has a mark."""
    scores, masks = ({**given, "twins": given["twins"][::2]} for given in (SCORES, MASKS))
    lines = str(report(scores, masks=masks)).splitlines()
    rule = "-" * max(map(len, lines))  # as wide as the widest line
    assert lines == [rule if line.startswith("---") else line for line in TABLE.splitlines()]


def test_the_table_of_nothing():
    lines = str(report({}, na.Layout([]))).splitlines()
    assert lines[0].split() == [
        "group",
        "neurons",
        "inactive",
        "reset",
        "lowest",
        "median",
        "highest",
        "status",
        "remark",
    ]
    assert lines[-2].split() == ["total", "0", "0", "n/a"]
    assert lines[-1] == "inactive: score <= 0.01"


def test_a_group_called_total_keeps_its_mark():
    layout = na.Layout([NeuronGroup("total", [("w", "neuron in")])])
    assert "! silent: all scores zero" in str(report({"total": np.zeros(3)}, layout))


def test_scalars_are_a_flat_dictionary_of_floats():
    scalars = report(masks=MASKS).scalars("actor")
    assert all(type(value) is float for value in scalars.values())
    assert math.isnan(scalars.pop("actor/broken/inactive_fraction"))
    assert scalars == {
        "actor/fc1/inactive_fraction": 0.5,
        "actor/fc2/inactive_fraction": 0.0,
        "actor/quiet/inactive_fraction": 1.0,
        "actor/twins/inactive_fraction": 0.625,
        "actor/head/inactive_fraction": 0.5,
        "actor/inactive_fraction": 10 / 19,
        "actor/neurons": 25.0,
        "actor/inactive": 10.0,
        "actor/reset": 2.0,
        "actor/silent": 6.0,
        "actor/nonfinite": 6.0,
    }
    assert "neuroactivity/fc1/inactive_fraction" in report().scalars()


def test_json_holds_null_and_never_nan():
    """Strict JSON: ``NaN`` is none. What was not measured or cannot be said is null."""
    record = json.loads(json.dumps(report(masks=MASKS).to_dict(), allow_nan=False))
    assert list(record) == ["tau", "groups", "total", "absent"]
    assert list(record["groups"]) == list(SCORES)
    assert record["absent"] == ["frozen"]
    assert record["groups"]["broken"] == {
        "neurons": 2,
        "inactive": 0,
        "reset": 0,
        "lowest": None,
        "median": None,
        "highest": None,
        "silent": 0,
        "nonfinite": 2,
        "status": "exclusive",
        "reason": "",
        "reset_again": None,
        "inactive_fraction": None,
    }
    assert record["groups"]["fc1"]["inactive_fraction"] == 0.5
    assert record["total"]["inactive"] == 10
    json.dumps(report({}, na.Layout([])).to_dict(), allow_nan=False)


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_one_bad_score_spoils_its_member_only(bad):
    """Scores that are not the library's own may have a single bad value: the member is not judged, as in masks."""
    scores = {"twins": np.array([[0.0, 0.0, 1.0, 3.0], [0.0, bad, 0.0, 0.0]])}
    counted = report(scores)["twins"]
    assert (counted.inactive, counted.nonfinite, counted.silent) == (2, 4, 0)


def test_scores_whose_sum_is_no_number_are_finite_each():
    counted = report({"fc1": np.array([1e308, 1.5e308, 0.0, 1e308, 1e308])})["fc1"]
    assert (counted.inactive, counted.nonfinite, counted.highest) == (1, 0, 1.5e308)


def test_inactive_means_the_same_in_reports_and_masks(backend):
    """A score that is tau rounded to its own dtype counts as inactive where the mask resets it."""
    layout = na.Layout([NeuronGroup("g", [("w", "neuron")])])
    for dtype in {"float32", "float64"} & set(backend.dtypes):
        for tau in (0.01, 0.1, 0.3, 0.7):
            at = np.asarray(tau, dtype)
            scores = {"g": backend.asarray(np.array([at, np.nextafter(at, np.asarray(2, dtype)), 2.0]), dtype)}
            counted = na.summarize(scores, layout, tau, masks=na.reset_masks(scores, tau))["g"]
            assert (counted.inactive, counted.reset) == (1, 1), f"tau={tau}, {dtype}"


def test_reports_on_every_library(backend):
    """Scores and masks of any library give the same report."""
    scores, masks = backend.arrays(SCORES), backend.arrays(MASKS)
    given, expected = report(scores, masks=masks).to_dict(), report(masks=MASKS).to_dict()
    for name, group in expected["groups"].items():
        assert given["groups"].pop(name) == pytest.approx(group)
    assert given == expected | {"groups": {}}


def test_unknown_groups_are_an_error():
    text = r"^group 'fc3' is not in the layout; there are fc1, fc2$"
    with pytest.raises(na.LayoutError, match=text):
        na.summarize({"fc3": np.ones(2)}, WELL)
    with pytest.raises(na.LayoutError, match=text):
        na.summarize({"fc1": np.ones(2)}, WELL, masks={"fc3": np.ones(2, dtype=bool)})


def test_an_error_names_the_first_unknown_group_and_eight_that_there_are():
    many = na.Layout([na.dense(f"g{place}", weight=(f"w{place}", "neuron in")) for place in range(9)])
    text = r"^group 'x' is not in the layout; there are g0, g1, g2, g3, g4, g5, g6, g7$"
    with pytest.raises(na.LayoutError, match=text):
        na.summarize({"x": np.ones(2), "y": np.ones(2)}, many)


def test_a_record_names_its_run_where_there_is_one():
    assert na.ActivityReport(0.0, (), run="first").to_dict()["run"] == "first"
    assert "run" not in na.ActivityReport(0.0, ()).to_dict()


def test_a_report_is_a_value():
    first, second = report(masks=MASKS), report(masks=MASKS)
    assert first == second
    with pytest.raises(AttributeError):
        first.tau = 0.5
    assert ActivityReport(0.1, ()).total.neurons == 0


def test_a_report_is_a_mapping_of_its_groups():
    found = report()
    assert list(found) == [group.name for group in found.groups] == list(SCORES)
    assert dict(found.items())["fc2"] is found["fc2"] is found.groups[1]
    assert "fc1" in found
    assert "frozen" not in found
    assert found.get("frozen") is None
    assert len(found) == 6
    with pytest.raises(KeyError, match="frozen"):
        found["frozen"]


def test_the_order_is_the_layouts():
    backwards = dict(reversed(SCORES.items()))
    assert [group.name for group in report(backwards).groups] == list(SCORES)
