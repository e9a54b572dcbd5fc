"""The namespace of TensorFlow arrays, function by function, against array-api-strict."""

import inspect
import math

import array_api_strict as strict
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuroactivity.arrays import tensorflow as xp

FLOATS, INTEGERS = ("float32", "float64"), ("int8", "int32", "int64")
SPECIAL = (math.nan, math.inf, -math.inf, -0.0)
EXACT = (-2.5, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0)
"""Few values, so that they tie, and sums of them are exact in any order."""

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def arrays(draw, dtypes=FLOATS + INTEGERS, *, shape=shapes, special=False):
    """A NumPy array of one of the dtypes."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    values = [*EXACT, *(SPECIAL if special and dtype.kind == "f" else ())]
    if dtype.kind != "f":
        values = [-3, -1, 0, 1, 2] if dtype.kind == "i" else [0, 1]
    return draw(hnp.arrays(dtype, draw(shape), elements=st.sampled_from(values)))


def axes_of(x, *, tuples=True):
    """An axis, several, none at all, or all of them."""
    axis = st.integers(-x.ndim, x.ndim - 1) if x.ndim else st.nothing()
    several = st.lists(st.integers(0, x.ndim - 1), unique=True).map(tuple) if x.ndim else st.just(())
    return (st.none() | axis | several) if tuples else axis


@st.composite
def reductions(draw, dtypes, *, special=False, empty=True):
    """An array, and the axes along which it is reduced."""
    x = draw(arrays(dtypes, special=special))
    axis = draw(axes_of(x))
    assume(empty or x.size)
    return (x,), {"axis": axis, "keepdims": draw(st.booleans())}


@st.composite
def sums(draw):
    (x,), options = draw(reductions(FLOATS + INTEGERS))
    dtype = draw(st.sampled_from([None, "float64", "float32"] if x.dtype.kind == "f" else [None]))
    return (x,), options | ({} if dtype is None else {"dtype": dtype})


@st.composite
def reshaped(draw):
    x = draw(arrays(("float32", "bool"), special=True))
    return (x, draw(st.sampled_from([x.shape[::-1], (x.size,), (1, x.size, 1)]))), {}


@st.composite
def permuted(draw):
    x = draw(arrays(special=True))
    return (x, tuple(draw(st.permutations(range(x.ndim))))), {}


@st.composite
def broadcast(draw):
    shape = draw(shapes)
    thin = tuple(draw(st.sampled_from([1, size])) for size in shape)[draw(st.integers(0, len(shape))) :]
    return (draw(arrays(("float64", "int32", "bool"), shape=st.just(thin))), shape), {}


@st.composite
def taken(draw):
    x = draw(arrays(special=True))
    axis = draw(axes_of(x, tuples=False))
    assume(x.shape[axis])
    indices = draw(st.lists(st.integers(0, x.shape[axis] - 1), max_size=6))
    return (x, np.array(indices, dtype="int32")), {"axis": axis}


@st.composite
def alike(draw, dtypes, *, count=2, special=True):
    """Arrays of one dtype and of shapes that broadcast against each other."""
    thin = draw(hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, max_side=3)).input_shapes
    dtype = draw(st.sampled_from(dtypes))
    return tuple(draw(arrays((dtype,), shape=st.just(shape), special=special)) for shape in thin), {}


@st.composite
def selected(draw):
    (condition, *others), _ = draw(alike(("bool",), count=3))
    dtype = draw(st.sampled_from(FLOATS + INTEGERS))
    return (condition, *(draw(arrays((dtype,), shape=st.just(x.shape), special=True)) for x in others)), {}


@st.composite
def joined(draw):
    x = draw(arrays(special=True, shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)))
    parts = [x, *(draw(arrays((x.dtype,), shape=st.just(x.shape))) for _ in range(draw(st.integers(0, 2))))]
    return (parts,), {"axis": draw(axes_of(x, tuples=False))}


@st.composite
def stacked(draw):
    (parts,), _ = draw(joined())
    return (parts,), {"axis": draw(st.integers(-parts[0].ndim - 1, parts[0].ndim))}


@st.composite
def unstacked(draw):
    x = draw(arrays(special=True, shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)))
    return (x,), {"axis": draw(axes_of(x, tuples=False))}


@st.composite
def cast(draw):
    return (draw(arrays(("bool", *FLOATS, *INTEGERS))), draw(st.sampled_from((*FLOATS, "int32", "bool")))), {}


@st.composite
def filled(draw):
    return (draw(arrays(FLOATS)), draw(st.sampled_from([*EXACT, *SPECIAL]))), {}


@st.composite
def sorted_(draw):
    x = draw(arrays(shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)))
    return (x,), {"axis": draw(axes_of(x, tuples=False)), "descending": draw(st.booleans()), "stable": True}


def one(dtypes, *, special=True):
    return arrays(dtypes, special=special).map(lambda x: ((x,), {}))


def positive():
    return arrays(FLOATS).map(lambda x: ((np.asarray(np.abs(x) + x.dtype.type(1)),), {}))


@st.composite
def cumulated(draw):
    x = draw(arrays(FLOATS, shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)))
    return (x,), {"axis": draw(axes_of(x, tuples=False))}


NUMERIC, ANY = FLOATS + INTEGERS, ("bool", *FLOATS, *INTEGERS)
CALLS = {
    "abs": one(NUMERIC),
    "all": reductions(ANY),
    "any": reductions(ANY),
    "argsort": sorted_(),
    "asarray": one(ANY),
    "astype": cast(),
    "broadcast_to": broadcast(),
    "concat": joined(),
    "cumulative_sum": cumulated(),
    "exp": one(FLOATS, special=False),
    "expm1": one(FLOATS, special=False),
    "full_like": filled(),
    "isfinite": one(FLOATS),
    "log": positive(),
    "logical_and": alike(("bool",)),
    "max": reductions(NUMERIC, empty=False),
    "min": reductions(NUMERIC, empty=False),
    "permute_dims": permuted(),
    "reshape": reshaped(),
    "stack": stacked(),
    "sum": sums(),
    "take": taken(),
    "unstack": unstacked(),
    "where": selected(),
    "zeros_like": one(ANY),
}


def convert(value, library, make):
    """Arguments for one library: arrays through ``make``, dtypes by their name."""
    if isinstance(value, np.ndarray):
        return make(value)
    if isinstance(value, list):
        return [convert(item, library, make) for item in value]
    return getattr(library, value) if isinstance(value, str) else value


def call(library, name, args, options, make=None, run=lambda function: function):
    make = make or library.asarray
    args = [convert(value, library, make) for value in args]
    options = {key: convert(value, library, make) for key, value in options.items()}
    return run(lambda *args: getattr(library, name)(*args, **options))(*args)


def assert_like(result, expected, name):
    """The shape, the dtype and the values that array-api-strict gives; the dtype of indices is TensorFlow's."""
    if isinstance(expected, tuple):
        for one, theirs in zip(result, expected, strict=True):
            assert_like(one, theirs, name)
        return
    assert isinstance(result, tf.Tensor)
    assert tuple(result.shape) == expected.shape
    assert name == "argsort" or result.dtype.name == str(expected.dtype).rpartition(".")[-1]
    result, expected = result.numpy(), np.asarray(expected)
    if name in ("exp", "expm1", "log"):  # the last bits are the library's
        np.testing.assert_allclose(result, expected, rtol=4 * np.finfo(expected.dtype).eps)
    else:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("name", CALLS)
@given(data=st.data())
def test_a_function_is_that_of_the_standard(name, data):
    """Given tensors or variables."""
    args, options = data.draw(CALLS[name])
    make = data.draw(st.sampled_from([tf.constant, tf.Variable]))
    assert_like(call(xp, name, args, options, make), call(strict, name, args, options), name)


def compiled(function):
    return tf.function(function, jit_compile=True)


@pytest.mark.sampled(20)
@pytest.mark.parametrize("run", [tf.function, compiled], ids=["graph", "XLA"])
@pytest.mark.parametrize("name", CALLS)
def test_a_function_works_in_a_graph(name, run):
    """The same on an array of zeros of either sign, ones and infinities, traced and compiled."""
    x = np.array([[0.0, -0.0, 1.0, math.inf], [-0.0, 0.0, -math.inf, 1.0]], dtype="float32")
    condition = x > 0
    args, options = {
        "argsort": ((x,), {"axis": -1}),
        "astype": ((x, "float64"), {}),
        "broadcast_to": ((x, (3, 2, 4)), {}),
        "concat": (([x, x],), {"axis": 1}),
        "cumulative_sum": ((np.abs(x),), {"axis": 0}),
        "full_like": ((x, math.nan), {}),
        "log": ((np.abs(x) + 1,), {}),
        "logical_and": ((condition, condition), {}),
        "permute_dims": ((x, (1, 0)), {}),
        "reshape": ((x, (4, 2)), {}),
        "stack": (([x, x],), {"axis": 1}),
        "sum": ((np.abs(x),), {"axis": 0, "dtype": "float64"}),
        "take": ((x, np.array([3, 1], dtype="int32")), {"axis": 1}),
        "where": ((condition, x, np.ones_like(x)), {}),
    }.get(name, ((x,), {}))
    assert_like(call(xp, name, args, options, tf.constant, run), call(strict, name, args, options), name)


def test_every_function_of_the_namespace_is_tested():
    functions = {name for name, value in vars(xp).items() if inspect.isfunction(value) and name[0] != "_"}
    assert functions == {*CALLS, "isdtype", "result_type"}
    assert all(hasattr(strict, name) for name in functions)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_given_is_as_in_the_standard(name):
    own, theirs = [inspect.signature(getattr(library, name)).parameters for library in (xp, strict)]
    given = {key: each.default for key, each in own.items() if each.default is not each.empty}
    assert given == {key: theirs[key].default for key in given}


KINDS = ("bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric")


@pytest.mark.parametrize("name", ["bool", "int8", "int64", "uint8", "uint32", "float32", "float64", "complex64"])
def test_isdtype_is_that_of_the_standard(name):
    own, theirs = getattr(xp, name), getattr(strict, name)
    for kind in KINDS:
        assert xp.isdtype(own, kind) == strict.isdtype(theirs, kind)
        assert xp.isdtype(own, (kind, xp.int32)) == strict.isdtype(theirs, (kind, strict.int32))
    assert xp.isdtype(own, xp.float32) == strict.isdtype(theirs, strict.float32)
    assert all(xp.isdtype(dtype, "real floating") for dtype in (xp.float16, xp.bfloat16))
    with pytest.raises(KeyError):
        xp.isdtype(own, "floating")


def test_floating_dtypes_promote_as_in_the_standard():
    for names in [("float32",), ("float32", "float32"), ("float32", "float64"), ("float64", "float32", "float32")]:
        expected = strict.result_type(*(getattr(strict, name) for name in names))
        assert xp.result_type(*(getattr(xp, name) for name in names)).name == str(expected).rpartition(".")[-1]
    assert xp.result_type(xp.float16, xp.bfloat16) == xp.float32
    assert xp.result_type(xp.int8, xp.int8) == xp.int8
    with pytest.raises(TypeError, match=r"^expected real floating dtypes or a single one, got float32, int32$"):
        xp.result_type(xp.float32, xp.int32)


def test_constants_and_names():
    assert math.isnan(xp.nan)
    assert xp.inf == math.inf
    assert xp.float32 is tf.float32
    with pytest.raises(AttributeError, match=r"^the namespace of TensorFlow arrays has no 'cumsum'$"):
        _ = xp.cumsum


def test_asarray_reads_numbers_and_sequences_onto_a_device():
    device = tf.zeros(()).device
    for values, dtype in [((1, 2), "int32"), ((True, False), "bool"), (0.5, "bfloat16"), ([[0.1], [2.0]], "float64")]:
        array = xp.asarray(values, dtype=getattr(xp, dtype), device=device)
        assert (array.dtype.name, array.device) == (dtype, device)
        np.testing.assert_array_equal(np.asarray(array, np.float64), np.asarray(values, np.float64))
    assert xp.asarray(tf.Variable([1.0]), dtype=xp.float64).dtype == tf.float64


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_low_precision_is_summed_in_the_dtype_that_is_asked_for(name):
    ones = tf.ones((70_000,), getattr(xp, name))
    assert float(xp.sum(ones, dtype=xp.float32)) == 70_000


def test_singular_values_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=(2, 3, 5))
    expected = np.linalg.svd(x, compute_uv=False)
    np.testing.assert_allclose(xp.linalg.svdvals(tf.constant(x)).numpy(), expected)
