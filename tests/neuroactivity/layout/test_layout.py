"""A layout as a value: immutable, hashable, the same after JSON, pickle and copy, and checked when built."""

import copy
import json
import pickle

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from tests.neuroactivity.cases import CASES, CONCATENATION, FUSED_QKV, SHARED_OUT, UNEVEN

W = ("w", "neuron in")


def error_of(function, *args, **options):
    with pytest.raises(na.LayoutError) as caught:
        function(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layout_fits_its_arrays(case):
    """``validate`` passes, and scores have the shapes that were declared."""
    case.layout.validate(case.draw(0))
    scores = na.grama(case.draw(0), case.layout)
    assert {name: array.shape for name, array in scores.items()} == dict(case.scores)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_wrong_shape_is_noticed(case):
    """One axis more or less in any one parameter that the layout names."""
    for name, shape in case.shapes.items():
        for wrong in ((*shape, 1), shape[:-1]):
            text = error_of(case.layout.validate, case.draw(0) | {name: np.ones(wrong)})
            assert f"parameter {name!r}, pattern '" in text
            assert f"got shape {wrong}" in text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_missing_parameter_is_noticed(case):
    for name in case.shapes:
        params = case.draw(0)
        del params[name]
        assert f"parameter {name!r} is missing; there are" in error_of(case.layout.validate, params)


@pytest.mark.parametrize(
    "make", [pickle.dumps, copy.copy, copy.deepcopy, "json"], ids=["pickle", "copy", "deepcopy", "json"]
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layout_survives(case, make):
    """JSON beside a checkpoint, pickle to another process, a copy: equal, of equal hash, and of use."""
    if make == "json":
        again = na.Layout.from_dict(json.loads(json.dumps(case.layout.to_dict())))
    else:
        again = make(case.layout)
        again = pickle.loads(again) if isinstance(again, bytes) else again
    assert again == case.layout
    assert hash(again) == hash(case.layout)
    assert repr(again) == repr(case.layout)
    assert again.to_dict() == case.layout.to_dict()
    np.testing.assert_equal(na.grama(case.draw(1), again), na.grama(case.draw(1), case.layout))


def test_json_keeps_every_field():
    group = NeuronGroup(
        "g",
        [ParamView("w", "(neuron a) in", {"a": 2}, (0, -1, 1))],
        unscored=[("b", "neuron")],
        outgoing=[("o", "out neuron")],
        partners=["h"],
        activation="batch neuron ...",
        neurons=2,
        resettable=False,
        status="unproved",
        reason="no bias",
    )
    layout = na.Layout([group, NeuronGroup("h", [("v", "neuron")])])
    record = json.loads(json.dumps(layout.to_dict()))
    assert record == {
        "groups": [
            {
                "name": "g",
                "incoming": [{"param": "w", "pattern": "(neuron a) in", "sizes": {"a": 2}, "index": [0, -1, 1]}],
                "unscored": [{"param": "b", "pattern": "neuron"}],
                "outgoing": [{"param": "o", "pattern": "out neuron"}],
                "partners": ["h"],
                "activation": "batch neuron ...",
                "neurons": 2,
                "resettable": False,
                "status": "unproved",
                "reason": "no bias",
            },
            {"name": "h", "incoming": [{"param": "v", "pattern": "neuron"}]},
        ]
    }
    assert na.Layout.from_dict(record) == layout
    assert na.Layout.from_dict(record)["g"] == group


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"groups": 3},
        {"groups": [3]},
        {"groups": [{"name": "g"}]},
        {"groups": [{"name": "g", "incoming": ["w"]}]},
        {"groups": [{"name": "g", "incoming": [{"param": "w"}]}]},
        {"groups": [{"name": "g", "incoming": [{"param": "w", "pattern": "neuron"}], "width": 3}]},
    ],
)
def test_a_record_of_another_form_is_an_error(record):
    assert error_of(na.Layout.from_dict, record).startswith("expected the record of a layout, as to_dict makes it: ")


def test_a_record_is_checked_like_a_layout():
    record = {"groups": [{"name": "g", "incoming": [{"param": "w", "pattern": "in out"}]}]}
    assert "parameter 'w', pattern 'in out': expected an axis called 'neuron'" in error_of(na.Layout.from_dict, record)


def test_layouts_compare_by_value():
    """Order, pattern, sizes, index and fields matter; identity does not."""

    def build(*names, **options):
        return na.Layout([NeuronGroup(name, [(name, "neuron in")], **options) for name in names])

    assert build("a", "b") == build("a", "b")
    assert hash(build("a", "b")) == hash(build("a", "b"))
    assert build("a", "b") != build("b", "a")
    assert build("a") != build("a", neurons=3)
    assert build("a") != build("a", resettable=False)
    assert build("a") != {"a": build("a")["a"]}
    views = [ParamView("w", "neuron in", index=index) for index in (None, (0, 1), (1, 0), [1, 0])]
    assert len(set(views)) == 3
    sized = [ParamView("w", "(neuron a b)", sizes) for sizes in ({"a": 2, "b": 3}, {"b": 3, "a": 2}, {"a": 2})]
    assert len(set(sized)) == 2
    assert sized[0] == sized[1] != sized[2]


def test_a_layout_is_an_ordered_mapping():
    layout = na.Layout(NeuronGroup(name, [(name, "neuron")]) for name in "zxy")
    assert list(layout) == ["z", "x", "y"]
    assert len(layout) == 3
    assert "x" in layout
    assert layout["x"].name == "x"
    assert layout.get("w") is None
    assert na.Layout([]) == na.Layout([])
    assert len(na.Layout([])) == 0


def test_nothing_of_a_layout_can_be_changed():
    layout = FUSED_QKV.layout
    group = layout["attn"]
    view = group.incoming[0]
    for thing in (layout, group, view):
        for name in ("name", "param", "neurons", "_groups", "_hash", "anything"):
            with pytest.raises(AttributeError):
                setattr(thing, name, 1)
    with pytest.raises(TypeError):
        layout["attn"] = group
    with pytest.raises(TypeError):
        view.sizes["qkv"] = 4
    assert isinstance(group.incoming, tuple)
    assert isinstance(UNEVEN.layout["parts"].incoming[0].index, tuple)


def test_what_a_view_was_made_of_may_change_later():
    sizes, index = {"a": 2}, [0, 1]
    view = ParamView("w", "(neuron a) in", sizes, index)
    sizes["a"], index[0] = 9, 9
    assert (view.sizes, view.index) == ({"a": 2}, (0, 1))


def test_representations_can_be_read_and_evaluated():
    view = ParamView("w", "(neuron a) in", {"a": 2}, (0, -1))
    assert repr(view) == "ParamView('w', '(neuron a) in', {'a': 2}, index=(0, -1))"
    assert repr(ParamView("w", "neuron")) == "ParamView('w', 'neuron')"
    names = {"Layout": na.Layout, "NeuronGroup": NeuronGroup, "ParamView": ParamView}
    for case in CASES:
        assert eval(repr(case.layout), names) == case.layout


def test_a_layout_describes_what_feeds_what():
    """A table for a person to check: positions of an index stand behind an at sign."""
    tail = NeuronGroup(
        "tail",
        [("t.w", "neuron in")],
        outgoing=[ParamView("fc.w", "out neuron", index=(-1, -1, -1, 0, 1, -1, -1, -1))],
        status="shared",
        reason="two consumers",
    )
    features, fc = CONCATENATION.layout.values()
    described = na.Layout([features, tail, fc]).describe()
    header, _, *rows = [" ".join(line.split()) for line in described.splitlines()]
    assert header == "group made by feeds status remark"
    assert rows == [
        "features f.w[neuron in] fc.w[out neuron@6 places]",
        "tail t.w[neuron in] fc.w[out neuron@3-4] shared two consumers",
        "fc fc.w[neuron in] - never reset",
    ]


@pytest.mark.parametrize(
    ("index", "where"),
    [((0, 1, 2, -1), "0-2"), ((-1, 0, 1, 2), "1-3"), ((0, -1, 1, 2), "3 places"), ((-1, -1, 0, -1), "2-2")],
)
def test_a_run_of_positions_is_described_by_its_ends(index, where):
    group = NeuronGroup("g", [W], outgoing=[ParamView("v", "out neuron", index=index)])
    assert f"v[out neuron@{where}]" in na.Layout([group]).describe()


def test_a_group_has_its_defaults():
    group = NeuronGroup("g", [W])
    assert (group.unscored, group.outgoing, group.partners) == ((), (), ())
    assert (group.activation, group.neurons, group.resettable) == ("... neuron", None, True)
    assert (group.status, group.reason) == (None, "")


def test_views_may_be_tuples():
    group = NeuronGroup("g", [W, ("v", "(neuron a)", {"a": 2}), ParamView("u", "neuron")])
    assert group.incoming == (ParamView(*W), ParamView("v", "(neuron a)", {"a": 2}), ParamView("u", "neuron"))


def test_the_number_of_neurons_may_be_a_size():
    """``sizes`` may name the neurons; the group's own number must agree."""
    view = ("w", "(neuron dim) in", {"neuron": 4})
    assert na.grama({"w": np.ones((8, 2))}, na.Layout([NeuronGroup("g", [view])]))["g"].shape == (4,)
    contradiction = na.Layout([NeuronGroup("g", [view], neurons=2)])
    assert error_of(contradiction.validate, {"w": np.ones((8, 2))}) == (
        "group 'g', parameter 'w', pattern '(neuron dim) in': sizes says neuron=4, the group has 2"
    )


def test_partners_are_groups_of_the_layout():
    assert SHARED_OUT.layout["left"].partners == ("right",)
    text = error_of(na.Layout, [NeuronGroup("g", [W], partners=["h"])])
    assert text == "group 'g': partner 'h' is no other group of the layout"
    assert "partner 'g' is no other group" in error_of(na.Layout, [NeuronGroup("g", [W], partners=["g"])])


def test_a_tied_parameter_belongs_to_one_group():
    """Edge case, a tied parameter: as incoming or unscored of a second group, refused; as outgoing it is normal."""
    text = error_of(na.Layout, [NeuronGroup("a", [W]), NeuronGroup("b", [W])])
    assert text == (
        "group 'b', parameter 'w': belongs to group 'a' already; a tied parameter belongs to one group "
        "(a fused one is shared out by ParamView.index)"
    )
    assert "belongs to group 'a' already" in error_of(
        na.Layout, [NeuronGroup("a", [W]), NeuronGroup("b", [("v", "neuron")], unscored=[W])]
    )
    assert "belongs to group 'a' already" in error_of(na.Layout, [NeuronGroup("a", [W, W])])
    na.Layout([NeuronGroup("a", [W], outgoing=[("w", "out neuron")])])
    na.Layout([NeuronGroup("a", [W]), NeuronGroup("b", [("v", "neuron")], outgoing=[("w", "out neuron")])])


def test_a_fused_parameter_is_shared_out_by_index():
    """Disjoint positions of one axis belong to different groups; a common one, or another axis, does not do."""

    def build(first, second, pattern="neuron in"):
        views = [ParamView("w", "neuron in", index=first), ParamView("w", pattern, index=second)]
        return na.Layout([NeuronGroup(name, [view]) for name, view in zip("ab", views, strict=True)])

    assert list(build((0, 1, -1), (-1, -1, 0))) == ["a", "b"]
    assert "belongs to group 'a' already" in error_of(build, (0, 1, -1), (-1, 0, 1))
    assert "belongs to group 'a' already" in error_of(build, (0, 1, -1), None)
    assert "belongs to group 'a' already" in error_of(build, (0, -1), (-1, 0), "in neuron")
    third = [ParamView("w", "neuron in", index=index) for index in ((0, -1, -1), (-1, 0, -1), (-1, 0, 1))]
    groups = [NeuronGroup(name, [view]) for name, view in zip("abc", third, strict=True)]
    assert "group 'c', parameter 'w': belongs to group" in error_of(na.Layout, groups)
