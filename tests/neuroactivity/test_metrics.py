"""The contract of both scores, one edge case of docs/metrics.md after the other, on every array library."""

import subprocess
import sys

import array_api_compat
import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import neuroactivity as na
from tests.neuroactivity.backends import ACCUMULATED, BACKENDS, dtype_name, to_numpy
from tests.neuroactivity.cases import DENSE_TORCH

ONE_VIEW = na.Layout([na.dense("fc", weight=("w", "neuron in"))])
TWO_VIEWS = na.Layout([na.NeuronGroup("fc", [("w", "neuron in"), ("v", "in neuron")])])
STACK = na.Layout([na.dense("q", weight=("w", "stack neuron in"))])
NORM = na.Layout([na.norm("ln", scale="w")])


def weights(values, backend, layout=ONE_VIEW, dtype=None):
    """The scores of one array called ``w``."""
    (name,) = layout
    grads = {"w": backend.asarray(np.asarray(values), dtype)}
    return backend.run(lambda grads: na.grama(grads, layout), grads)[name]


def outputs(values, backend, dtype=None):
    """The tau-dormant scores of one array of outputs."""
    arrays = {"fc": backend.asarray(np.asarray(values), dtype)}
    return backend.run(lambda arrays: na.tau_dormant(arrays, ONE_VIEW), arrays)["fc"]


@pytest.fixture(params=[weights, outputs], ids=["grama", "tau_dormant"])
def score(request, backend):
    """Either metric on one array of shape (n, n), neurons last for outputs and first for weights."""

    def compute(values, dtype=None):
        values = np.asarray(values) if request.param is weights else np.asarray(values).T
        return request.param(values, backend, dtype=dtype)

    return compute


def test_a_score_by_hand(score):
    """Mean magnitudes 3, 0, 3 over their mean 2."""
    np.testing.assert_array_equal(to_numpy(score([[3.0, -3.0], [0.0, 0.0], [1.0, 5.0]])), [1.5, 0.0, 1.5])


def test_dtype_in_and_out(score, backend):
    """Edge case, low precision: returned in float32; float64 stays float64."""
    for dtype in backend.dtypes:
        assert dtype_name(score([[1.0, 2.0], [3.0, 4.0]], dtype=dtype)) == ACCUMULATED[dtype]


def test_float64_of_another_byte_order_stays_float64():
    scores = na.grama({"w": np.array([[1.0, 1.0 + 2**-40]]).T.astype(">f8")}, ONE_VIEW)["fc"]
    assert scores.dtype == np.float64
    assert scores[0] < scores[1]


def test_low_precision_sums_do_not_overflow(score, backend):
    """Edge case, low precision: 70,000 ones are infinite in fp16, and 256 in bf16."""
    for dtype in {"float16", "bfloat16"} & set(backend.dtypes):
        scores = score(np.ones((2, 70_000)) * [[1.0], [3.0]], dtype=dtype)
        np.testing.assert_array_equal(to_numpy(scores), [0.5, 1.5])


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")])
@pytest.mark.parametrize(
    "backend", [backend for backend in BACKENDS if "float64" in backend.dtypes], ids=lambda backend: backend.name
)
def test_float32_and_float64_views_meet_in_float64(dtypes, backend):
    with backend.active():
        grads = {"w": backend.asarray([[1.0], [3.0]], dtypes[0]), "v": backend.asarray([[1.0, 3.0]], dtypes[1])}
        scores = na.grama(grads, TWO_VIEWS)["fc"]
        assert dtype_name(scores) == "float64"
        np.testing.assert_array_equal(to_numpy(scores), [0.5, 1.5])


def test_a_neuron_with_several_views_has_the_mean_over_all_entries(backend):
    """Not the mean of the views' means: three entries of 1 and one of 5 make 2, not 3."""
    grads = {"w": backend.asarray([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]), "v": backend.asarray([[5.0, 2.0]])}
    np.testing.assert_array_equal(to_numpy(na.grama(grads, TWO_VIEWS)["fc"]), [1.0, 1.0])


@pytest.mark.sampled(16)
@pytest.mark.parametrize("factor", [2.0**-100, 2.0**-60, 2.0**80])
def test_no_epsilon_powers_of_two_leave_every_bit(factor, score):
    """Edge case, no epsilon: a loss scale or a late, small gradient does not change who is inactive."""
    values = np.random.default_rng(0).standard_normal((7, 7)).astype(np.float32)
    expected = to_numpy(score(values))
    np.testing.assert_array_equal(to_numpy(score(values * np.float32(factor))), expected)


def test_no_epsilon_tiny_gradients_score_the_same(score):
    """Edge case, no epsilon: 1e-30 in float32; 1e-9 in the denominator would make every score 0."""
    values = np.random.default_rng(1).standard_normal((7, 7))
    np.testing.assert_allclose(to_numpy(score(values * 1e-30)), to_numpy(score(values)), rtol=1e-5)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("power", [-121, -110, 110])
def test_no_epsilon_in_a_wide_layer_near_the_limits_of_float32(power, backend):
    """Edge case, no epsilon: as long as all is finite and normal; JAX and TensorFlow take subnormals for zero."""
    values = np.random.default_rng(2).uniform(0.5, 1, (512, 17)).astype(np.float32)
    values[::5] *= 2**-4
    scores = to_numpy(weights(values, backend))
    np.testing.assert_array_equal(to_numpy(weights(values * np.float32(2.0**power), backend)), scores)
    assert scores.max() < 1.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_makes_the_whole_group_nan(bad, score):
    """Edge case, NaN or Inf; published codes let one Inf divide every other neuron to 0."""
    values = np.ones((3, 3))
    values[1, 2] = bad
    assert np.isnan(to_numpy(score(values))).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_stays_in_its_stack_member(bad, backend):
    values = np.stack([np.ones((3, 2)), [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
    values[0, 1, 1] = bad
    scores = to_numpy(weights(values, backend, STACK))
    assert np.isnan(scores[0]).all()
    np.testing.assert_array_equal(scores[1], [0.5, 1.0, 1.5])


def test_a_value_that_nobody_owns_does_not_count(backend):
    """An entry of index -1 belongs to another layer: even its NaN is none of this group's business."""
    view = na.ParamView("w", "neuron in", index=(-1, 1, 0, -1, 1))
    layout = na.Layout([na.NeuronGroup("part", [view])])
    values = [[np.nan, np.nan], [3.0, 3.0], [1.0, 1.0], [np.inf, 9.0], [3.0, 3.0]]
    np.testing.assert_array_equal(to_numpy(weights(values, backend, layout)), [0.5, 1.5])


def test_silent_group(score):
    """Edge case, a silent group: all scores are 0, and nothing warns of a division by zero."""
    np.testing.assert_array_equal(to_numpy(score(np.zeros((3, 3)))), np.zeros(3))
    np.testing.assert_array_equal(to_numpy(score(-np.zeros((3, 3)))), np.zeros(3))


def test_silent_stack_member_leaves_the_others_alone(backend):
    values = np.stack([np.zeros((2, 3)), [[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]]])
    np.testing.assert_array_equal(to_numpy(weights(values, backend, STACK)), [[0.0, 0.0], [0.5, 1.5]])


def test_zero_magnitude_is_the_only_score_of_zero(score):
    """With ``tau=0`` exactly the neurons with zero magnitude."""
    scores = to_numpy(score([[0.0, 0.0, 0.0], [0.0, 1e-30, 0.0], [1.0, 1.0, 1.0]]))
    assert list(scores == 0) == [True, False, False]


def test_one_neuron_scores_one(score):
    np.testing.assert_array_equal(to_numpy(score([[-7.0]])), [1.0])


def test_one_entry_each(backend):
    """A norm's scale: the magnitude is the absolute value of one gradient."""
    np.testing.assert_array_equal(to_numpy(weights([1.0, -3.0, 0.0, 4.0], backend, NORM)), [0.5, 1.5, 0.0, 2.0])


def test_no_neurons_and_no_entries(backend):
    """Empty arrays score without a warning: no neurons, or neurons without entries, which are silent."""
    assert weights(np.ones((0, 3)), backend).shape == (0,)
    assert weights(np.ones((2, 0, 3)), backend, STACK).shape == (2, 0)
    np.testing.assert_array_equal(to_numpy(weights(np.ones((3, 0)), backend)), np.zeros(3))


def test_tau_dormant_averages_over_every_axis_but_neurons_and_stack(backend):
    """Eq. 1 over batch, time and space; the members of a stack apart."""
    generator = np.random.default_rng(3)
    values = generator.integers(-8, 9, (4, 3, 2, 5)).astype(float)
    for pattern, order in {
        "... neuron": (0, 1, 2, 3),
        "batch neuron ...": (0, 3, 1, 2),
        "neuron ...": (3, 0, 1, 2),
    }.items():
        layout = na.Layout([na.NeuronGroup("fc", [("w", "neuron")], activation=pattern)])
        arrays = {"fc": backend.asarray(values.transpose(order))}
        means = np.abs(values).mean((0, 1, 2))
        np.testing.assert_allclose(to_numpy(na.tau_dormant(arrays, layout)["fc"]), means / means.mean(), rtol=1e-6)


def test_grama_of_activations_is_the_same_sum_on_gradients_of_outputs(backend):
    """``signal="activations"`` is Eq. 2 to the letter: keyed by group, magnitudes taken before the mean."""
    grads = {"fc": backend.asarray([[1.0, 3.0], [-1.0, 3.0]])}
    scores = backend.run(lambda grads: na.grama(grads, ONE_VIEW, signal="activations"), grads)
    np.testing.assert_array_equal(to_numpy(scores["fc"]), [0.5, 1.5])


def test_none_gradients_leave_views_and_groups_out(backend):
    """Edge case, a gradient that is None."""
    ones = backend.asarray([[1.0], [3.0]])
    np.testing.assert_array_equal(to_numpy(na.grama({"w": ones, "v": None}, TWO_VIEWS)["fc"]), [0.5, 1.5])
    assert na.grama({"w": None, "v": None}, TWO_VIEWS) == {}
    assert na.tau_dormant({"fc": None}, TWO_VIEWS) == {}
    assert na.grama({}, na.Layout([])) == na.tau_dormant({}, na.Layout([])) == {}


def test_only_incoming_gradients_are_read(backend):
    """Biases and outgoing weights may be missing from the gradients, or be no arrays at all."""
    grads = {name: backend.asarray(DENSE_TORCH.draw(0)[name]) for name in ("fc1.weight", "fc2.weight")}
    scores = na.grama(grads | {"fc1.bias": "not an array"}, DENSE_TORCH.layout)
    assert set(scores) == {"fc1", "fc2"}


def test_inputs_are_not_changed(backend):
    """Edge case, inputs are never mutated by the core; read-only arrays would raise as well."""
    values = np.random.default_rng(5).standard_normal((4, 4))
    for dtype in backend.dtypes:
        arrays = {"w": backend.asarray(values, dtype)}
        before = to_numpy(arrays["w"]).copy()
        na.grama(arrays, ONE_VIEW)
        na.tau_dormant({"fc": arrays["w"]}, ONE_VIEW)
        np.testing.assert_array_equal(to_numpy(arrays["w"]), before)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_gradients_that_are_no_real_floating_numbers_are_refused(dtype, backend):
    grads = {"w": backend.asarray(np.ones((2, 2)), dtype)}
    with pytest.raises(
        na.LayoutError, match=r"^group 'fc', parameter 'w': .*expected a real floating dtype, got .*(int32|bool)"
    ):
        na.grama(grads, ONE_VIEW)
    with pytest.raises(na.LayoutError, match=r"^group 'fc', activation '... neuron': expected a real floating dtype"):
        na.tau_dormant({"fc": grads["w"]}, ONE_VIEW)


def test_the_layout_may_be_a_static_argument_of_a_jitted_function():
    """A layout is hashable and compares by value: an equal one does not compile again."""
    compiled = []

    def function(grads, layout):
        compiled.append(layout)
        return na.grama(grads, layout)

    jitted = jax.jit(function, static_argnums=1)
    grads = {"w": jnp.ones((2, 2))}
    jitted(grads, ONE_VIEW)
    jitted(grads, na.Layout([na.dense("fc", weight=("w", "neuron in"))]))
    assert len(compiled) == 1


@pytest.mark.parametrize("case", ["strict", "torch"])
def test_results_stay_on_the_device_of_the_gradients(case):
    """Row by row nothing is moved: torch's meta device has no values, array-api-strict refuses to mix devices."""
    layout = na.Layout([na.NeuronGroup("g", [na.ParamView("w", "neuron in", index=(1, 0, 1)), ("v", "neuron in")])])
    if case == "torch":
        arrays = {name: torch.ones((n, 2), device="meta") for name, n in (("w", 3), ("v", 2))}
    else:
        device = array_api_strict.Device("device1")
        arrays = {name: array_api_strict.ones((n, 2), device=device) for name, n in (("w", 3), ("v", 2))}
    scores = na.grama(arrays, layout)
    masks = na.reset_masks(scores, max_fraction=0.5)
    new = na.reset(arrays, arrays, masks, layout)
    for array in (scores["g"], masks["g"], new["w"], new["v"]):
        assert array_api_compat.device(array) == array_api_compat.device(arrays["w"])


@pytest.mark.counts(faults=2)
def test_sums_of_low_precision_are_scored_in_float32():
    scores = na.scores({"fc": np.full(1000, 100.0, np.float16)})["fc"]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 1.0)
    with pytest.raises(na.LayoutError, match="expected a real floating dtype, got int64"):
        na.scores({"fc": np.array([1, 2])})


@pytest.mark.counts(faults=1)
def test_an_array_without_entries_of_jax_changes_nothing_for_numpys_arrays():
    """JAX's gradients of integers are NumPy's arrays of a dtype of JAX's own."""
    code = (
        "import jax, numpy as np, neuroactivity as na\n"
        "layout = na.Layout([na.dense('fc', weight=('w', 'neuron in'))])\n"
        "try: na.grama({'w': np.zeros((2, 3), jax.dtypes.float0)}, layout)\n"
        "except na.LayoutError as error: print(error)\n"
        "print(type(na.grama({'w': np.ones((2, 3))}, layout)['fc']).__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "numpy"
    assert len(done.stdout.splitlines()) == 2
