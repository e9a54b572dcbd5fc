"""What a reset refuses, and how it says so; a reset is all or nothing."""

import re

import array_api_strict as xp
import numpy as np
import pytest

import neuroactivity as na

LAYOUT = na.Layout(
    [
        na.dense("a", weight=("a.w", "neuron in"), bias="a.b", outgoing=[("b.w", "out neuron")]),
        na.dense("b", weight=("b.w", "neuron in")),
    ]
)
PARAMS = {"a.w": np.ones((3, 2)), "a.b": np.ones(3), "b.w": np.ones((4, 3))}
FRESH = {name: 2 * array for name, array in PARAMS.items()}
MASKS = {"a": np.array([True, False, True]), "b": np.array([True, False, False, False])}


def error_of(*args, function=na.reset, kind=na.LayoutError):
    """The text of the error, and the proof that the inputs are as they were."""
    with pytest.raises(kind) as caught:
        function(*args, LAYOUT)
    assert all((array == 1).all() for array in PARAMS.values())
    return str(caught.value)


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


def test_unknown_group():
    text = error_of(PARAMS, FRESH, MASKS | {"fc": MASKS["a"]})
    assert text == "group 'fc' of the masks is not in the layout; there are a, b"
    assert "group 'fc' of the masks" in error_of(PARAMS, {"fc": MASKS["a"]}, function=na.reset_moments)


def test_the_first_unknown_group_is_named_with_eight_that_there_are():
    many = na.Layout([na.dense(f"g{place}", weight=(f"w{place}", "neuron in")) for place in range(9)])
    text = r"^group 'x' of the masks is not in the layout; there are g0, g1, g2, g3, g4, g5, g6, g7$"
    with pytest.raises(na.LayoutError, match=text):
        na.reset({}, {}, {"x": MASKS["a"], "y": MASKS["a"]}, many)


def test_mask_of_another_library():
    text = error_of(PARAMS, FRESH, {"a": xp.asarray(MASKS["a"])}, kind=TypeError)
    assert text.startswith("group 'a', parameter 'a.w' and mask: Multiple namespaces")


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1), (1, 3), ()])
def test_mask_of_another_shape(shape):
    """Not even a shape that would broadcast."""
    text = error_of(PARAMS, FRESH, {"a": np.ones(shape, dtype=bool)})
    assert text == f"group 'a': expected a boolean mask of shape (3,), got bool of shape {shape}"


@pytest.mark.parametrize("dtype", ["int64", "float32", "uint8"])
def test_mask_of_another_dtype(dtype):
    text = error_of(PARAMS, FRESH, {"a": np.ones(3, dtype=dtype)})
    assert text == f"group 'a': expected a boolean mask of shape (3,), got {dtype} of shape (3,)"


def test_mask_that_is_no_array():
    text = error_of(PARAMS, FRESH, {"a": [True, False, True]}, kind=(TypeError, na.LayoutError))
    assert re.search(r"group 'a'.*list", text)


def test_missing_parameter():
    text = error_of(without(PARAMS, "a.b"), FRESH, MASKS)
    assert text == "group 'a': parameter 'a.b' is missing; there are a.w, b.w"
    text = error_of(without(PARAMS, "b.w"), MASKS, function=na.reset_moments)
    assert text == "group 'a': parameter 'b.w' is missing; there are a.w, a.b"


def test_parameter_of_another_shape():
    text = error_of(PARAMS | {"b.w": np.ones((4, 5))}, FRESH, MASKS)
    assert text == "group 'a', parameter 'b.w', pattern 'out neuron': axis 'neuron' of size 5 does not fit neuron=3"


def test_missing_fresh_value():
    text = error_of(PARAMS, without(FRESH, "a.b"), MASKS)
    assert re.search(r"group 'a'.*parameter 'a.b'.*no fresh value", text)


def test_fresh_value_of_another_shape():
    """Not even one that would broadcast."""
    text = error_of(PARAMS, FRESH | {"a.b": np.ones(1)}, MASKS)
    assert re.search(r"group 'a'.*parameter 'a.b'.*shape \(3,\) and dtype float64, got \(1,\) and float64", text)


def test_fresh_value_of_another_dtype():
    """House rule: no silent change of dtype."""
    text = error_of(PARAMS, FRESH | {"a.w": np.ones((3, 2), dtype=np.float32)}, MASKS)
    assert re.search(r"group 'a'.*parameter 'a.w'.*dtype float64, got \(3, 2\) and float32", text)


def test_fresh_value_that_is_none():
    text = error_of(PARAMS, FRESH | {"a.w": None}, MASKS, kind=(TypeError, na.LayoutError))
    assert re.search(r"group 'a'.*parameter 'a.w'", text)


def test_fresh_moments_are_checked_alike():
    def function(moments, fresh, layout):
        return na.reset_moments(moments, MASKS, layout, fresh)

    assert "no fresh value" in error_of(PARAMS, without(FRESH, "b.w"), function=function)
    assert "got (3,) and float64" in error_of(PARAMS, FRESH | {"b.w": np.ones(3)}, function=function)


def test_fresh_values_are_not_needed_for_outgoing_entries():
    layout = na.Layout([na.dense("a", weight=("a.w", "neuron in"), outgoing=[("b.w", "out neuron")])])
    result = na.reset(PARAMS, {"a.w": FRESH["a.w"]}, {"a": MASKS["a"]}, layout)
    assert (result["b.w"][:, 0] == 0).all()


@pytest.mark.parametrize("failing", ["a", "b"])
def test_all_or_nothing(failing):
    """Fault 2: a layer that raised after earlier layers were reset left half a reset behind."""
    sick = {"a": "a.w", "b": "b.w"}[failing]
    params = {name: array.copy() for name, array in PARAMS.items()}
    with pytest.raises(na.LayoutError):
        na.reset(params, FRESH | {sick: np.ones((9, 9))}, MASKS, LAYOUT)
    for name, array in params.items():
        np.testing.assert_array_equal(array, PARAMS[name])


def test_arrays_are_positional():
    with pytest.raises(TypeError):
        na.reset(PARAMS, FRESH, masks=MASKS, layout=LAYOUT)
    assert list(na.reset(PARAMS, FRESH, MASKS, layout=LAYOUT)) == list(PARAMS)
    assert list(na.reset_moments(PARAMS, MASKS, layout=LAYOUT, fresh=None)) == list(PARAMS)
