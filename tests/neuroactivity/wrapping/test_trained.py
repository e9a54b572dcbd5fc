"""Which groups an optimizer trains, and what a reset of them writes."""

from dataclasses import replace

import pytest

import neuroactivity as na
from neuroactivity.wrapping import check_searched, note_outside, trained_groups, written_params

A = na.dense("a", weight=("a.w", "neuron in"), bias="a.b", outgoing=[("b.w", "out neuron")])
B = na.dense("b", weight=("b.w", "neuron in"), resettable=False)
LAYOUT = na.Layout([A, B])
GATED = na.Layout(
    [
        na.NeuronGroup("gate", [("g", "neuron in")], partners=["value", "third"]),
        na.NeuronGroup("value", [("v", "neuron in")], partners=["gate"]),
        na.NeuronGroup("third", [("t", "neuron in")], partners=["gate"]),
    ]
)


def test_all_groups_are_trained_when_all_parameters_are():
    assert trained_groups(LAYOUT, {"a.w", "a.b", "b.w"}, writes=True) == LAYOUT


def test_a_group_of_which_nothing_is_trained_is_left_out():
    assert list(trained_groups(LAYOUT, {"b.w"}, writes=True)) == ["b"]


@pytest.mark.parametrize("missing", ["a.b", "b.w"])
def test_a_group_is_refused_when_a_reset_would_write_what_is_not_trained(missing):
    trained = {"a.w", "a.b", "b.w"} - {missing}
    with pytest.raises(ValueError, match=f"^group 'a': a reset would write parameter '{missing}', which this opt"):
        trained_groups(LAYOUT, trained, writes=True)
    with pytest.raises(ValueError, match="which this step does not train; mark the group resettable=False"):
        trained_groups(LAYOUT, trained, writes=True, by="step")


def test_the_first_parameter_that_is_not_trained_is_named():
    with pytest.raises(ValueError, match=r"would write parameter 'a\.b', which"):
        trained_groups(LAYOUT, {"a.w"}, writes=True)


def test_it_may_be_measured_all_the_same():
    assert list(trained_groups(LAYOUT, {"a.w"}, writes=False)) == ["a"]
    unscored = na.dense("b", weight=("b.w", "neuron in"), bias="b.b", resettable=False)
    assert list(trained_groups(na.Layout([unscored]), {"b.w"}, writes=True)) == ["b"]


def test_an_optimizer_that_trains_no_group_is_another_models():
    with pytest.raises(ValueError, match=r"^the optimizer trains none of the model's neuron groups; is it the"):
        trained_groups(LAYOUT, {"c.w", "a.b"}, writes=True)
    assert list(trained_groups(LAYOUT, set(), writes=True, by="step")) == []


@pytest.mark.parametrize(
    ("trained", "partners"),
    [
        ("gvt", {"gate": ("value", "third"), "value": ("gate",), "third": ("gate",)}),
        ("gt", {"gate": ("third",), "third": ("gate",)}),
        ("vt", {"value": (), "third": ()}),
        ("g", {"gate": ()}),
    ],
)
def test_partners_that_are_not_trained_are_dropped_and_no_others(trained, partners):
    found = trained_groups(GATED, set(trained), writes=True)
    assert {name: group.partners for name, group in found.items()} == partners


def test_what_a_reset_writes_is_named_once_and_without_groups_that_are_never_reset():
    assert written_params(["a", "b"], LAYOUT) == ["a.w", "a.b", "b.w"]
    assert written_params(["b"], LAYOUT) == []
    tied = na.Layout([A, na.dense("c", weight=("c.w", "neuron in"), outgoing=[("b.w", "out neuron")])])
    assert written_params(["a", "c"], tied) == ["a.w", "a.b", "b.w", "c.w"]


@pytest.mark.parametrize("missing", ["a.b", "b.w"])
def test_where_nothing_is_to_be_raised_a_group_is_measured_and_not_reset(missing):
    found = trained_groups(LAYOUT, {"a.w", "a.b", "b.w"} - {missing}, writes=True, strict=False)
    assert [group.resettable for name, group in found.items() if name == "a"] == [False]
    assert trained_groups(LAYOUT, {"a.w", "a.b", "b.w"}, writes=True, strict=False) == LAYOUT
    assert list(trained_groups(LAYOUT, set(), writes=True, strict=False)) == []


def test_a_layout_that_was_only_listed_is_no_layout_to_reset_by():
    listed = na.Layout([replace(A, status="listed", resettable=False)])
    with pytest.raises(na.LayoutError, match=r"^layout: its groups are listed and not searched, so nothing"):
        check_searched(listed, writes=True)
    check_searched(listed, writes=False)
    check_searched(LAYOUT, writes=True)


def test_what_a_proof_has_not_seen_is_remarked_once_and_in_proved_groups_alone():
    proved = replace(A, status="exclusive", reason="proved: feeds nothing else")
    layout = na.Layout([proved, B])
    noted = note_outside(layout, 4, "Critic")
    remark = "in Critic; the optimizer also trains 4 parameters outside it: give readers= if they read it"
    assert noted["a"].reason == f"proved: feeds nothing else {remark}"
    assert noted["b"] == B
    assert note_outside(noted, 4, "Critic") == noted
    assert note_outside(layout, 0, "Critic") is layout
    of_a_tree = note_outside(layout, 4, "Critic", holder="the tree also holds")
    assert of_a_tree["a"].reason == noted["a"].reason.replace("optimizer also trains", "tree also holds")


def test_what_is_kept_is_not_written():
    layout = na.Layout([na.dense("a", weight=("a.w", "neuron in"), outgoing=[("b.w", "out neuron")])])
    assert written_params(["a"], layout, outgoing="keep") == ["a.w"]
    assert written_params(["a"], layout, outgoing="small") == ["a.w", "b.w"]
