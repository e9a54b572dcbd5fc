"""What the core asks of array libraries beyond the standard: sparse gradients, groups alike, errors."""

import numpy as np
import pytest
import tensorflow as tf
import torch

import neuroactivity as na
from neuroactivity.arrays import (
    asarray_like,
    cache_outside_compile,
    libraries,
    map_batched,
    namespace,
    private_copy,
    shape_of,
    to_dense,
    to_list,
    writable,
)
from tests.neuroactivity.backends import dtype_name, to_numpy


def test_sparse_gradients_are_made_dense():
    """Of an embedding: rows that occur twice add up, and rows that do not occur are zero."""
    table, indices = np.arange(12, dtype="float32").reshape(4, 3) + 1, [0, 2, 0]
    layout = na.Layout([na.dense("rows", weight=("table", "neuron in"))])
    variable = tf.Variable(table)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(variable, indices) ** 2)
    slices = tape.gradient(loss, variable)
    assert isinstance(slices, tf.IndexedSlices)
    parameter = torch.tensor(table, requires_grad=True)
    (torch.nn.functional.embedding(torch.tensor(indices), parameter, sparse=True) ** 2).sum().backward()
    assert parameter.grad.is_sparse
    expected = na.grama({"table": np.array([4, 0, 2, 0], "float32")[:, None] * table}, layout)["rows"]
    for gradient in (slices, parameter.grad):
        np.testing.assert_allclose(to_numpy(na.grama({"table": gradient}, layout)["rows"]), expected, rtol=1e-6)
    assert to_dense(table) is table
    assert to_dense(None) is None


def test_groups_alike_are_handled_together_and_others_apart():
    """By shape, dtype and device; the results come in the order of the arrays."""
    calls = []

    def double(x):
        calls.append((tuple(x.shape), dtype_name(x), x.device.type))
        return 2 * x

    arrays = {
        "a": torch.ones(3),
        "b": torch.ones(3, dtype=torch.float64),
        "c": torch.ones(2, 3),
        "d": torch.ones(3, device="meta"),
        "e": 5 * torch.ones(3),
        "f": torch.ones(3, dtype=torch.float64),
    }
    results = map_batched(double, arrays)
    assert list(results) == list(arrays)
    assert calls == [
        ((2, 3), "float32", "cpu"),
        ((2, 3), "float64", "cpu"),
        ((2, 3), "float32", "cpu"),
        ((3,), "float32", "meta"),
    ]
    assert results["d"].device.type == "meta"
    assert all(results[name].shape == array.shape for name, array in arrays.items())
    assert results["e"].tolist() == [10.0] * 3
    assert map_batched(double, {}) == {}


def test_what_was_computed_is_remembered():
    calls = []

    @cache_outside_compile
    def add(a, b):
        """The sum."""
        calls.append((a, b))
        return a + b

    assert [add(1, 2), add(1, 2), add(2, 2)] == [3, 3, 4]
    assert calls == [(1, 2), (2, 2)]
    assert (add.__name__, add.__doc__) == ("add", "The sum.")


def test_rows_are_written_in_place_in_plain_memory_alone():
    x = np.ones((2, 3))
    fixed = x.copy()
    fixed.flags.writeable = False
    leaf = torch.ones(2, 3, requires_grad=True)
    assert [writable(one) for one in (x, x.T, fixed, fixed.T, np.ma.ones((2, 3)))] == [True, False, False, False, False]
    assert [writable(one) for one in (leaf.detach(), leaf.detach().T, leaf, leaf.T)] == [True, False, False, False]
    assert not writable(tf.ones(2))
    for one in (x, x.T, fixed, leaf, leaf.detach().T):
        copy = private_copy(one)
        assert writable(copy)
        assert not np.shares_memory(to_numpy(copy), to_numpy(one.detach() if one is leaf else one))
    assert private_copy(tf.ones(2)) is None


def test_to_list_copies_scores_and_masks(backend):
    for values in ([0.5, 2.0], [[0.5], [1.5]], [True, False], [[True, False]]):
        assert to_list(backend.asarray(np.array(values))) == values
    assert to_list(tf.Variable([0.5])) == [0.5]


def test_errors_name_tensorflow_dtypes_as_other_libraries_do():
    layout = na.Layout([na.dense("fc", weight=("w", "neuron in"))])
    w, masks = tf.ones((2, 2)), {"fc": tf.constant([True, False])}
    with pytest.raises(na.LayoutError, match=r"parameter 'w': expected a real floating dtype, got int32$"):
        na.grama({"w": tf.ones((2, 2), tf.int32)}, layout)
    with pytest.raises(na.LayoutError, match=r"shape \(2, 2\) and dtype float32, got \(2, 2\) and float64$"):
        na.reset({"w": w}, {"w": tf.cast(w, tf.float64)}, masks, layout)
    with pytest.raises(na.LayoutError, match=r"expected a boolean mask of shape \(2,\), got float32 of shape \(2,\)$"):
        na.reset({"w": w}, {"w": w}, {"fc": tf.ones(2)}, layout)


def test_what_tensorflow_holds_in_other_forms_is_no_array():
    layout = na.Layout([na.dense("fc", weight=("w", "neuron in"))])
    for thing in (tf.sparse.from_dense([[1.0]]), tf.TensorSpec((2, 2))):
        with pytest.raises(TypeError, match=rf"expected an array .*, got {type(thing).__name__}$"):
            na.grama({"w": thing}, layout)
    with pytest.raises(TypeError, match="Multiple namespaces"):
        namespace(tf.zeros(1), np.zeros(1))


def test_arrays_of_several_libraries_are_refused():
    of_numpy, of_torch = np.zeros(1), torch.zeros(1)
    for mixed in ((of_numpy, of_torch), (of_torch, of_numpy), (of_numpy, of_numpy, of_torch)):
        with pytest.raises(TypeError, match="Multiple namespaces for array inputs"):
            namespace(*mixed)
    assert namespace(of_torch, of_torch) is namespace(of_torch)


def test_the_library_of_a_type_is_looked_for_once(monkeypatch):
    found = []
    monkeypatch.setattr(libraries, "_NAMESPACES", {})
    monkeypatch.setattr(libraries, "_find_namespace", lambda array: found.append(array) or np)
    assert [namespace(np.zeros(1)) for _ in range(3)] == [np] * 3
    assert len(found) == 1


def test_sizes_that_are_known_at_run_time_only_are_refused():
    def measure(x):
        return map_batched(tf.abs, {"first": x, "second": x})

    with pytest.raises(na.LayoutError, match=r"^group 'first': expected a shape known when the function is traced, go"):
        tf.function(measure, autograph=False).get_concrete_function(tf.TensorSpec((None, 2)))
    assert shape_of(tf.zeros((3, 2)), "") == (3, 2)


def test_positions_are_of_the_dtype_that_a_library_indexes_with():
    assert asarray_like((1, 0), like=torch.zeros(1)).dtype == torch.int64
    assert asarray_like((1, 0), like=np.zeros(1)).dtype == np.int32
