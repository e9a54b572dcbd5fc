"""Records of layouts: malformed ones are refused, those with the old name of unscored parameters are read."""

import dataclasses

import pytest

import neuroactivity as na

GROUP = {"name": "g", "incoming": [{"param": "w", "pattern": "neuron in"}]}


@pytest.mark.parametrize(
    "group",
    [
        {**GROUP, "incoming": [{"param": "w", "pattern": "neuron in", "index": [10**8]}]},
        {**GROUP, "incoming": [{"param": "w", "pattern": "neuron in", "index": [10**400]}]},
        {**GROUP, "incoming": [{"param": "w", "pattern": "neuron in", "index": "01"}]},
        {**GROUP, "incoming": [{"param": "w", "pattern": "neuron in", "sizes": [3]}]},
        {**GROUP, "incoming": [{"param": None, "pattern": "neuron in"}]},
        {**GROUP, "incoming": [["w", "neuron in"]]},
        {**GROUP, "incoming": 3},
        {**GROUP, "incoming": None},
        {**GROUP, "neurons": 10**400},
        {**GROUP, "neurons": "4"},
        {**GROUP, "activation": 3},
        {**GROUP, "activation": ["batch", "neuron"]},
        {**GROUP, "partners": "g"},
        {**GROUP, "partners": [3]},
        {**GROUP, "partners": {"g": {}}},
        {**GROUP, "resettable": "no"},
        {**GROUP, "status": {}},
        {**GROUP, "reason": 1},
        {**GROUP, "colour": "red"},
        {**GROUP, "name": ""},
        {**GROUP, "name": ["g"]},
        {"incoming": GROUP["incoming"]},
        "g",
        3,
        None,
    ],
)
def test_every_malformed_record_is_a_layout_error(group):
    """Soon, and without the memory that the numbers in it ask for."""
    with pytest.raises(na.LayoutError):
        na.Layout.from_dict({"groups": [group]})


def test_records_written_with_the_old_name_of_unscored_parameters_are_read():
    record = {"groups": [{**GROUP, "restored": [{"param": "b", "pattern": "neuron"}]}]}
    assert na.Layout.from_dict(record)["g"].unscored == (na.ParamView("b", "neuron"),)


W, B = ("w", "neuron in"), ("b", "neuron")


@pytest.mark.parametrize(
    "build",
    [
        lambda **views: na.NeuronGroup("g", [W], **views),
        lambda **views: na.dense("g", weight=W, **views),
        lambda **views: na.conv("g", weight=W, **views),
        lambda **views: na.residual("g", writers=[W], readers=[("v", "out neuron")], **views),
        lambda **views: na.attention("g", heads=2, qkv=("w", "(qkv neuron) in", {"qkv": 3}), **views),
        lambda **views: na.norm("g", scale="w", **views),
        lambda **views: na.recurrent("g", input="w", recurrent="u", gates=1, **views),
    ],
)
def test_the_old_name_of_unscored_is_accepted_with_a_warning(build):
    with pytest.warns(DeprecationWarning, match=r"^restored= is now called unscored=$") as caught:
        group = build(restored=[B])
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, build.__code__.co_firstlineno)]
    assert group == build(unscored=[B])
    assert group.unscored == (na.ParamView("b", "neuron"),)
    with pytest.warns(DeprecationWarning, match=r"^restored is now called unscored$") as caught:
        assert group.restored == group.unscored
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.raises(TypeError, match="restored"):
        build(unscored=[B], restored=[B])


def test_a_group_is_changed_by_replace_of_dataclasses():
    group = dataclasses.replace(na.dense("g", weight=W), outgoing=[("v", "out neuron")])
    assert group == na.dense("g", weight=W, outgoing=[("v", "out neuron")])
