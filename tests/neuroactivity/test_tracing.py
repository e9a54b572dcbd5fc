"""The core inside jit, vmap, scan, torch.compile and tf.function: traced once, never asking the host for a value."""

import contextlib
import sys

import jax
import numpy as np
import pytest
import tensorflow as tf
import torch

import neuroactivity as na
from tests.neuroactivity.backends import to_numpy, traced_by_torch
from tests.neuroactivity.cases import DENSE_FLAX, RESIDUAL, STACKS_APART, TWIN_CRITICS, UNEVEN, Case

CASE_LIST = (DENSE_FLAX, TWIN_CRITICS, STACKS_APART, RESIDUAL, UNEVEN)
SOONER = tuple(case for case in CASE_LIST if case is not STACKS_APART)  # machine code takes seconds
each_case = pytest.mark.parametrize("case", CASE_LIST, ids=lambda case: case.name)


def event(layout, grads, params, fresh, moments):
    """A measurement and a reset."""
    scores = na.grama(grads, layout)
    masks = na.reset_masks(scores, 0.8, max_fraction=0.5)
    return scores, masks, na.reset(params, fresh, masks, layout), na.reset_moments(moments, masks, layout)


def values(case: Case, make, seeds=range(4)):
    return [{name: make(array.astype("float32")) for name, array in case.draw(seed).items()} for seed in seeds]


def assert_equal(results, expected):
    """The same mappings, to two roundings: a compiler may sum in another order."""
    for result, theirs in zip(results, expected, strict=True):
        assert set(result) == set(theirs)
        for name in theirs:
            np.testing.assert_allclose(to_numpy(result[name]), to_numpy(theirs[name]), rtol=1e-6, err_msg=name)


@contextlib.contextmanager
def jax_compilations():
    """Count what XLA compiles."""
    found = []

    def listen(name, *_, **__):
        if name == "/jax/core/compile/backend_compile_duration":
            found.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        if hasattr(jax.monitoring, "unregister_event_duration_listener"):  # not before JAX 0.8
            jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.sampled(2)
@each_case
def test_jax_jit_compiles_once(case):
    """The layout is closed over in one function and a static argument of the other."""
    inputs, others = values(case, jax.numpy.asarray), values(case, jax.numpy.asarray, range(10, 14))
    closed, static = jax.jit(lambda *args: event(case.layout, *args)), jax.jit(event, static_argnums=0)
    with jax_compilations() as first:
        closed(*inputs), static(case.layout, *inputs)
    assert len(first) == 2
    again = na.Layout.from_dict(case.layout.to_dict())
    with jax_compilations() as second:
        results = closed(*others), static(again, *others)
    assert not second
    for result in results:
        assert_equal(result, event(case.layout, *values(case, np.asarray, range(10, 14))))


@pytest.mark.sampled(2)
@each_case
def test_jax_vmap_is_a_loop_over_seeds(case):
    """Gradients and parameters of several seeds; the fresh values are shared."""
    rows = [values(case, np.asarray, range(10 * i, 10 * i + 4)) for i in range(3)]
    stacked = [{name: np.stack([row[k][name] for row in rows]) for name in case.shapes} for k in range(4)]
    stacked[2] = rows[0][2]
    mapped = jax.vmap(lambda *args: event(case.layout, *args), in_axes=(0, 0, None, 0))
    results = jax.jit(mapped)(*stacked)
    for i, (grads, params, _, moments) in enumerate(rows):
        one = [{name: array[i] for name, array in result.items()} for result in results]
        assert_equal(one, event(case.layout, grads, params, rows[0][2], moments))


def test_jax_scan_is_a_loop_over_steps():
    case = RESIDUAL
    grads = [values(case, np.asarray, [seed])[0] for seed in range(5)]
    params, fresh = values(case, np.asarray, [20, 21])

    def step(params, grads):
        scores, masks, params, _ = event(case.layout, grads, params, fresh, params)
        return params, (scores, masks)

    stacked = {name: np.stack([g[name] for g in grads]) for name in case.shapes}
    last, (scores, masks) = jax.jit(lambda params, grads: jax.lax.scan(step, params, grads))(params, stacked)
    for i, gradient in enumerate(grads):
        params, expected = step(params, gradient)
        assert_equal([{name: array[i] for name, array in result.items()} for result in (scores, masks)], expected)
    assert_equal([last], [params])


@pytest.mark.sampled(1)
@traced_by_torch
@each_case
def test_torch_compile_compiles_once(case):
    """As one graph, without a warning (every warning is an error here), for other values the same."""
    torch.compiler.reset()
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(event, fullgraph=True, backend=keep)
    compiled(case.layout, *values(case, torch.asarray))
    others = values(case, torch.asarray, range(10, 14))
    assert_equal(compiled(case.layout, *others), event(case.layout, *others))
    assert len(graphs) == 1
    assert len(graphs[0].graph.nodes) > 20


@traced_by_torch
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("case", SOONER, ids=lambda case: case.name)
def test_torch_compile_to_machine_code(case):
    torch.compiler.reset()
    inputs = values(case, torch.asarray)
    compiled = torch.compile(lambda *args: event(case.layout, *args), fullgraph=True)
    assert_equal(compiled(*inputs), event(case.layout, *inputs))


@traced_by_torch
def test_torch_compile_of_activations():
    """Their pattern is the group's, parsed where it is needed."""
    torch.compiler.reset()
    outputs = {name: torch.randn(shape) for name, shape in RESIDUAL.outputs.items()}
    compiled = torch.compile(lambda outputs: na.tau_dormant(outputs, RESIDUAL.layout), fullgraph=True, backend="eager")
    assert_equal([compiled(outputs)], [na.tau_dormant(outputs, RESIDUAL.layout)])


@each_case
def test_torch_vmap_is_a_loop_over_seeds(case):
    rows = [values(case, torch.asarray, range(10 * i, 10 * i + 4)) for i in range(3)]
    stacked = [{name: torch.stack([row[k][name] for row in rows]) for name in case.shapes} for k in range(4)]
    results = torch.vmap(lambda *args: event(case.layout, *args))(*stacked)
    for i, row in enumerate(rows):
        one = [{name: array[i] for name, array in result.items()} for result in results]
        assert_equal(one, event(case.layout, *row))


@each_case
def test_torch_on_a_device_without_values(case):
    """A meta tensor has no values: whatever asked for one would raise."""
    inputs = values(case, lambda array: torch.asarray(array).to("meta"))
    for result in event(case.layout, *inputs):
        assert {array.device.type for array in result.values()} == {"meta"}


@pytest.mark.sampled(3)
@each_case
@pytest.mark.parametrize("compiler", [None, True], ids=["graph", "XLA"])
def test_tf_function_traces_once(case, compiler):
    function = tf.function(lambda *args: event(case.layout, *args), jit_compile=compiler)
    others = values(case, tf.constant, range(10, 14))
    function(*values(case, tf.constant))
    assert_equal(function(*others), event(case.layout, *others))
    assert function.experimental_get_tracing_count() == 1


def test_tf_function_on_variables():
    """Parameters that a function closes over; what is written is a tensor, and the variables stay as they are."""
    before, grads, fresh = values(DENSE_FLAX, tf.constant, [1, 2, 3])
    params = {name: tf.Variable(array) for name, array in before.items()}
    results = tf.function(lambda: event(DENSE_FLAX.layout, grads, params, fresh, params))()
    assert_equal(results, event(DENSE_FLAX.layout, grads, before, fresh, before))
    assert_equal([params], [before])
    assert not any(isinstance(array, tf.Variable) for array in results[2].values())


def test_tf_function_traces_the_core_as_it_is():
    """AutoGraph would rewrite every function on the way, which takes three times as long as to trace it."""
    callers = set()

    class Spy(dict):
        def __contains__(self, name):
            frame = sys._getframe(1)
            while frame is not None:
                callers.add(frame.f_code.co_filename)
                frame = frame.f_back
            return super().__contains__(name)

    grads = {name: tf.constant(array) for name, array in DENSE_FLAX.draw(1).items()}
    masks = {name: tf.constant(mask) for name, mask in DENSE_FLAX.draw_masks(2).items()}

    @tf.function
    def step():
        grama = na.grama(Spy(grads), DENSE_FLAX.layout)
        dormant = na.tau_dormant(
            Spy({name: tf.ones((2, len(score))) for name, score in grama.items()}), DENSE_FLAX.layout
        )
        moments = na.reset_moments(Spy(grads), masks, DENSE_FLAX.layout)
        return na.reset_masks(grama), dormant, na.reset(Spy(grads), grads, masks, DENSE_FLAX.layout), moments

    step()
    rewritten = [name for name in callers if "__autograph_generated_file" in name]
    assert na.metrics.__file__ in callers
    assert len(rewritten) == 1  # the function above


@pytest.mark.parametrize("shape", [[None, 3], None])
@pytest.mark.parametrize("autograph", [True, False])
def test_a_size_that_is_not_known_when_tracing_is_an_error(shape, autograph):
    """In ``tf.function`` the error has the type that AutoGraph gives it, and the same words."""
    layout = na.Layout([na.dense("fc", weight=("w", "in neuron"))])
    came = r"\(None, 3\)" if shape else "<unknown>"
    text = rf"group 'fc', parameter 'w': expected a shape known when the function is traced, got {came}"

    def trace(compute):
        tf.function(compute, autograph=autograph).get_concrete_function(tf.TensorSpec(shape))

    with pytest.raises(Exception if autograph else na.LayoutError, match=text):
        trace(lambda w: na.grama({"w": w}, layout))
    with pytest.raises(Exception if autograph else na.LayoutError, match=text):
        trace(lambda w: na.reset({"w": w}, {"w": w}, {"fc": tf.constant([True] * 3)}, layout))
    text = rf"group 'fc': expected a shape known when the function is traced, got {came}"
    with pytest.raises(Exception if autograph else na.LayoutError, match=text):
        trace(lambda scores: na.reset_masks({"fc": scores}))
    text = "group 'fc', activation '... neuron': " + text.removeprefix("group 'fc': ")
    with pytest.raises(Exception if autograph else na.LayoutError, match=text):
        trace(lambda outputs: na.tau_dormant({"fc": outputs}, layout))
