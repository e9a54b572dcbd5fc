"""Sums of large arrays: as exact as a sum can be, in blocks that no temporary outgrows, in every library."""

import math
import tracemalloc
from types import SimpleNamespace

import array_api_strict
import jax
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import neuroactivity as na
from neuroactivity.arrays import magnitude_sum, namespace
from tests.neuroactivity.backends import dtype_name, to_numpy

LARGE = [
    ((10_000, 300), (1,)),
    ((10_000, 300), (0,)),
    ((10_000, 300), (0, 1)),
    ((2_400_001,), (0,)),
    ((3, 1_200_000), (1,)),  # one row is more than a block
    ((3, 1_200_000), (0,)),
    ((2, 4400, 300), (1,)),  # members of a stack
    ((2, 4400, 300), (2,)),
    ((2, 4400, 300), (0, 2)),
    ((3, 3, 512, 512), (0, 1, 2)),  # a kernel, channels last
    ((512, 512, 3, 3), (1, 2, 3)),
    ((5, 2, 256, 900), (1, 3)),
]
each_large = pytest.mark.parametrize(("shape", "axes"), LARGE)


def normal(shape, dtype="float32"):
    return np.random.default_rng(math.prod(shape)).standard_normal(shape).astype(dtype)


def assert_sum(result, x, axes, dtype="float32"):
    """To a relative error of n roundings, the bound for a sum of n magnitudes in any order."""
    exact = np.abs(x.astype("float64")).sum(axis=axes)
    assert dtype_name(result) == dtype
    np.testing.assert_allclose(to_numpy(result), exact, rtol=(x.size / exact.size) * 2.0**-24)


@pytest.mark.sampled(12)
@each_large
def test_large_arrays_are_summed_in_every_library(shape, axes, backend):
    for dtype in sorted({"float16", "float32"} & set(backend.dtypes)):
        x = normal(shape, dtype)
        assert_sum(backend.run(lambda x: magnitude_sum(x, axes), backend.asarray(x, dtype)), x, axes)


STRIDES = {
    "transposed": (lambda x: x.T, lambda x: x.T),
    "every other row": (lambda x: x[::2], lambda x: x[::2]),
    "backwards": (lambda x: x[:, ::-1], None),  # torch has no negative strides
    "repeated": (lambda x: np.broadcast_to(x[:1], x.shape), lambda x: x[:1].expand(x.shape)),
}


@pytest.mark.parametrize("name", STRIDES)
@pytest.mark.parametrize("axes", [(0,), (1,)])
def test_large_arrays_of_any_strides_are_summed(name, axes):
    x = normal((1700, 1300))
    of_numpy, of_torch = STRIDES[name]
    assert_sum(magnitude_sum(of_numpy(x), axes), of_numpy(x), axes)
    if of_torch is not None:
        assert_sum(magnitude_sum(of_torch(torch.tensor(x)), axes), of_numpy(x), axes)


def test_memory_formats_of_torch_are_summed():
    x = normal((600, 64, 3, 5))
    channels_last = torch.tensor(x).to(memory_format=torch.channels_last)
    assert_sum(magnitude_sum(channels_last, (1, 2, 3)), x, (1, 2, 3))
    assert_sum(magnitude_sum(torch.tensor(x).mT, (1, 2, 3)), x, (1, 2, 3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_a_large_array_stays_with_its_neuron(bad):
    x = normal((2500, 300))
    x[1234, 5] = bad
    for make in (np.asarray, torch.asarray, tf.constant):
        rows, columns = (to_numpy(magnitude_sum(make(x), axes)) for axes in ((1,), (0,)))
        assert np.flatnonzero(~np.isfinite(rows)) == [1234]
        assert np.flatnonzero(~np.isfinite(columns)) == [5]


large_enough = pytest.mark.parametrize(("shape", "axes"), LARGE[:5] + LARGE[6:])


@large_enough
def test_numpy_needs_no_temporary_of_the_size_of_a_large_array(shape, axes):
    x = normal(shape)
    tracemalloc.start()
    magnitude_sum(x, axes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.75 * x.nbytes


@pytest.mark.parametrize("library", [np, array_api_strict])
def test_a_block_of_what_has_no_threads_is_summed_at_once(library):
    x = normal((1000, 200))
    np.testing.assert_array_equal(np.asarray(magnitude_sum(library.asarray(x), (0,))), np.abs(x).sum(0))


class Largest(TorchDispatchMode):
    """The most entries that an operation returned."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not result._is_view():
            self.entries = max(self.entries, result.numel())
        return result


@large_enough
def test_torch_needs_no_temporary_of_the_size_of_a_large_array(shape, axes):
    x = torch.randn(shape)
    with Largest() as largest:
        magnitude_sum(x, axes)
    assert 0 < largest.entries < 0.75 * x.numel()


class Summed(TorchDispatchMode):
    """The shapes of all that was summed."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.sum.dim_IntList:
            self.shapes.append(tuple(args[0].shape))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def known_blocks(monkeypatch):
    """Blocks of two megabytes for each thread, whatever size is fastest."""
    monkeypatch.setattr("neuroactivity.arrays.magnitudes._BLOCK", 2**19)


@pytest.fixture
def with_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("shape", "axes", "threads", "summed"),
    [
        ((1000, 200), (0,), 1, [(1000, 200)]),
        ((1000, 200), (0,), 2, [(2, 500, 200), (2, 200)]),
        ((1000, 200), (0,), 3, [(3, 333, 200), (3, 200), (1, 200)]),  # one row is left over
        ((1000, 200), (1,), 2, [(1000, 200)]),
        ((1000, 200), (0,), 8, [(8, 125, 200), (8, 200)]),
        ((2, 400, 250), (0, 2), 3, [(2, 400, 250)]),  # fewer rows than threads
        ((200_000,), (0,), 2, [(2, 100_000), (2,)]),
        ((1000, 20, 10), (0, 2), 2, [(2, 500, 20, 10), (2, 20)]),
        ((1024, 128), (0,), 2, [(1024, 128)]),  # too small for it to pay
        ((3, 100_000), (0,), 2, [(3, 1, 100_000), (3, 100_000)]),  # a row at a time
        ((2, 2**19), (1,), 1, [(1, 2**19)] * 2),  # a row is just a block
        ((2, 2_000_000), (1,), 1, [*[(500_000,)] * 4, (4,)] * 2),  # a row is several
        ((1000, 2000), (1,), 1, [(256, 2000)] * 3 + [(232, 2000)]),  # in whole steps
        ((100, 20_000), (1,), 1, [(25, 20_000)] * 4),  # so few rows are not made whole steps
        ((10_000, 300), (0,), 2, [(2, 1668, 300), (2, 300)] * 2 + [(2, 1664, 300), (2, 300), (3, 300)]),  # in blocks
    ],
)
def test_each_thread_sums_the_rows_that_it_has_written(known_blocks, shape, axes, threads, summed, with_threads):
    with_threads(threads)
    x = normal(shape)
    with Summed() as seen:
        sums = magnitude_sum(torch.tensor(x), axes)
    assert_sum(sums, x, axes)
    assert seen.shapes == summed


@pytest.mark.parametrize("x", [torch.ones(1000, 200, requires_grad=True), torch.empty(1000, 200, device="meta")])
def test_what_is_recorded_or_elsewhere_is_summed_at_once(x, with_threads):
    with_threads(2)
    with Summed() as seen:
        magnitude_sum(x, (0,))
    assert seen.shapes == [(1000, 200)]


def test_what_vmap_maps_is_summed_at_once(with_threads):
    with_threads(2)
    with Summed() as seen:
        torch.vmap(lambda x: magnitude_sum(x, (0,)))(torch.ones(2, 1000, 200))
    assert seen.shapes == [(2, 1000, 200)]


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="XLA makes more loops of it before JAX 0.10")
@pytest.mark.parametrize("pattern", ["neuron in", "in neuron"])
@pytest.mark.parametrize("signal", ["weights", "activations"])
def test_jax_needs_no_temporary_of_the_size_of_a_gradient(pattern, signal):
    """XLA makes one loop of magnitudes and sums, unless both the sums and their sum are taken from the magnitudes."""
    group = na.NeuronGroup("g", [("g", pattern)], activation=pattern)
    function = jax.jit(lambda g: na.reset_masks(na.grama({"g": g}, na.Layout([group]), signal=signal)))
    memory = function.lower(jax.ShapeDtypeStruct((512, 512), "float32")).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 512 * 512


def test_torch_records_what_is_done_with_a_large_array():
    """Where gradients or vmap must see every operation, no buffer is written to."""
    x = torch.randn(1100, 700, requires_grad=True)
    magnitude_sum(x, (1,)).sum().backward()
    torch.testing.assert_close(x.grad, x.detach().sign())
    torch.testing.assert_close(torch.func.grad(lambda x: magnitude_sum(x, (1,)).sum())(x.detach()), x.grad)
    batch = torch.randn(2, 1100, 700)
    mapped = torch.vmap(lambda x: magnitude_sum(x, (0,)))(batch)
    torch.testing.assert_close(mapped, batch.abs().sum(1))
    closed = torch.vmap(lambda c: c * magnitude_sum(batch[0], (0,)))(torch.ones(2))
    torch.testing.assert_close(closed[1], batch[0].abs().sum(0))
    with torch.no_grad():
        torch.testing.assert_close(magnitude_sum(torch.nn.Parameter(batch[0]), (1,)), batch[0].abs().sum(1))
    with torch.inference_mode():
        torch.testing.assert_close(magnitude_sum(torch.ones(1100, 700), (1,)), torch.full((1100,), 700.0))


def test_a_large_array_is_not_changed():
    for make in (np.array, torch.tensor):
        x = make(normal((2500, 300)))
        before = to_numpy(x).copy()
        magnitude_sum(x, (0,))
        np.testing.assert_array_equal(to_numpy(x), before)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("shape", "axes", "operations"),
    [
        ((1100, 704), (1,), ["abs", "sum"]),
        ((1104, 700), (0,), ["abs", "reshape", "sum", "sum"]),  # the columns of eight rows at a time
        ((1100, 700), (0,), ["abs", "sum"]),  # not a multiple of eight
        ((9600, 16), (0,), ["abs", "reshape", "sum", "sum"]),
        ((9600, 15), (0,), ["abs", "sum"]),  # so few columns that steps take many times as long
        ((16, 16, 600, 3), (0, 1, 2), ["abs", "sum"]),
        ((2, 704, 700), (1,), ["abs", "reshape", "sum", "sum"]),
        ((2, 4800, 15), (1,), ["abs", "sum"]),
    ],
)
def test_a_large_array_is_left_whole_for_a_compiler(shape, axes, operations):
    """It makes one loop of the operations by itself."""
    x = normal(shape)
    sums, seen = compiled_sum(torch.tensor(x), axes)
    assert_sum(sums, x, axes)
    assert seen == operations


def test_a_compiler_for_another_device_gets_one_sum():
    assert compiled_sum(torch.empty(1104, 700, device="meta"), (0,))[1] == ["abs", "sum"]


def compiled_sum(x, axes):
    """The sum, and the operations that the compiler was given."""
    torch.compiler.reset()
    seen = []

    def keep(graph, _):
        seen.extend(node.target.__name__ for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    return torch.compile(lambda x: magnitude_sum(x, axes), fullgraph=True, backend=keep)(x), seen


@pytest.mark.parametrize(
    ("shape", "axes", "summed"),
    [
        ((2000, 1500), (1,), [(672, 1500)] * 2 + [(656, 1500)]),
        ((2400, 1500), (0,), [(75, 8, 1500), (75, 1500)] * 4 + [(4, 1500)]),  # the columns of eight rows at a time
        ((700, 1501), (0,), [(44, 8, 1501), (44, 1501), (348, 1501), (2, 1501)]),  # 348 is not a multiple of eight
        ((30, 50_000), (1,), [(15, 50_000)] * 2),
        ((2, 800, 1000), (1,), [(1, 100, 8, 1000), (1, 100, 1000)] * 2),  # members of a stack
        ((2, 1600, 1000), (2,), [(800, 1000)] * 4),
        ((700, 700), (1,), [(700, 700)]),  # one block
    ],
)
def test_tensorflow_sums_a_large_array_in_blocks(known_blocks, shape, axes, summed):
    """In a graph, where slices cost little."""
    x = normal(shape)
    function = tf.function(lambda x: magnitude_sum(x, axes), autograph=False)
    for make in (tf.constant, tf.Variable):
        assert_sum(function(make(x)), x, axes)
    operations = function.get_concrete_function(tf.TensorSpec(shape)).graph.get_operations()
    assert [tuple(one.inputs[0].shape) for one in operations if one.type == "Sum"] == summed


def test_tensorflow_sums_a_large_array_whole_without_a_graph():
    """Where a slice takes a quarter of a millisecond; only long columns are summed in two steps."""
    x, seen = normal((2400, 1500)), []
    of_tensorflow = namespace(tf.zeros(1))

    def reduce_sum(x, *args):
        seen.append(tuple(x.shape))
        return tf.reduce_sum(x, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_tensorflow, "tf", SimpleNamespace(**{**vars(tf), "reduce_sum": reduce_sum}))
        assert_sum(magnitude_sum(tf.constant(x), (0,)), x, (0,))
        assert_sum(magnitude_sum(tf.constant(x), (1,)), x, (1,))
    assert seen == [(300, 8, 1500), (300, 1500), (2400, 1500)]
