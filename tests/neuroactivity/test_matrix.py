"""The matrix: every way to run, every dtype and every layout against the reference.

A cell is one layout in one dtype on one backend. In it scores of gradients and of outputs, masks with and without a
limit, a reset and both kinds of cleared moments are computed in one call, compiled as a whole where the backend
compiles.
"""

import functools
from collections import Counter

import numpy as np
import pytest

import neuroactivity as na
from tests import reference
from tests.neuroactivity.backends import ACCUMULATED, BACKENDS, COMPILED, dtype_name, to_numpy, traced_by_torch
from tests.neuroactivity.cases import CASES, VARIED, draw
from tests.neuroactivity.test_metrics_reference import assert_scores, rounding
from tests.neuroactivity.test_resets import assert_same

TAU, FRACTION = 0.8, 0.4
COSTLY = {"jax", "jax jit", "jax float64", "jax float64 eager", "torch compile", "tensorflow XLA"}
"""Backends that compile for seconds: all layouts in float32, one in the other dtypes, the rest in the slow tests."""
LENGTHY = {"jax", "torch compile"}
"""Of these those that take longest, JAX one operation at a time: a few layouts in float32."""
RAN: Counter[str] = Counter()


def is_slow(backend, dtype, case):
    if backend.name in LENGTHY:
        return dtype != "float32" or case not in VARIED[:3]
    return dtype != "float32" and backend.name in COSTLY and case not in VARIED[:1]


CELLS = [(backend, dtype, case) for backend in (*BACKENDS, *COMPILED) for dtype in backend.dtypes for case in CASES]


def parameters():
    for cell in CELLS:
        backend, dtype, case = cell
        marks = [pytest.mark.slow] if is_slow(*cell) else []
        marks += [traced_by_torch] if backend.name == "torch compile" else []
        yield pytest.param(*cell, marks=marks, id=f"{backend.name}-{dtype}-{case.name}")


def compute(case):
    """Everything that the core computes for a case, as one function of arrays."""

    def function(grads, outputs, params, fresh, masks):
        scores = na.grama(grads, case.layout), na.tau_dormant(outputs, case.layout)
        chosen = na.reset_masks(scores[0], TAU), na.reset_masks(scores[0], TAU, max_fraction=FRACTION)
        moments = na.reset_moments(params, masks, case.layout), na.reset_moments(params, masks, case.layout, fresh)
        return scores, chosen, na.reset(params, fresh, masks, case.layout), moments

    return function


@functools.cache
def expected(name, dtype):
    """What the reference says of a case, on the values that the dtype can hold."""
    case = next(case for case in CASES if case.name == name)
    rounded = next(backend for backend in BACKENDS if dtype in backend.dtypes and backend.module == "numpy")
    values = [case.draw(1), draw(case.outputs, 2), case.draw(3), case.draw(4)]
    grads, outputs, params, fresh = (
        {name: to_numpy(array) for name, array in rounded.arrays(arrays, dtype).items()} for arrays in values
    )
    masks = case.draw_masks(5)
    scores = reference.grama(grads, case.layout), reference.tau_dormant(outputs, case.layout)
    moments = (
        reference.reset_moments(params, masks, case.layout),
        reference.reset_moments(params, masks, case.layout, fresh),
    )
    return (grads, outputs, params, fresh, masks), scores, reference.reset(params, fresh, masks, case.layout), moments


@pytest.mark.parametrize(("backend", "dtype", "case"), list(parameters()))
def test_cell(backend, dtype, case):
    inputs, scores, written, moments = expected(case.name, dtype)
    with backend.active():
        arrays = [backend.arrays(values, dtype) for values in inputs[:-1]] + [backend.arrays(inputs[-1])]
        results = backend.run(compute(case), *arrays)
    accumulated = ACCUMULATED[dtype]
    for values, result, theirs in zip(inputs, results[0], scores, strict=False):
        assert_scores(result, theirs, rtol=rounding(case, values, accumulated), dtype=accumulated)
    own = {name: to_numpy(array) for name, array in results[0][0].items()}
    for fraction, masks in zip((None, FRACTION), results[1], strict=True):
        # of the scores as they came, compared in their own dtype: float32 holds another 0.8 than float64
        theirs = reference.reset_masks(own, np.dtype(accumulated).type(TAU), fraction)
        assert {name: dtype_name(mask) for name, mask in masks.items()} == dict.fromkeys(case.layout, "bool")
        for name, mask in theirs.items():
            np.testing.assert_array_equal(to_numpy(masks[name]), mask, err_msg=name)
    for result, theirs in zip((results[2], *results[3]), (written, *moments), strict=True):
        assert_same(result, theirs, arrays[2])
    RAN[backend.name] += 1


SPECIAL = na.Layout(
    [na.dense(name, weight=(name, "stack neuron in" if name == "stack" else "neuron in")) for name in
     ("sound", "silent", "nan", "inf", "tiny", "stack")]
)  # fmt: skip


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(backend, marks=traced_by_torch if backend.name == "torch compile" else (), id=backend.name)
        for backend in (*BACKENDS, *COMPILED)
    ],
)
def test_what_is_silent_or_not_finite_survives_every_compiler(backend):
    """Edge cases, NaN or Inf and a silent group, which a compiler that takes arithmetic lightly would lose."""
    grads = {name: np.random.default_rng(i).standard_normal((4, 3)) for i, name in enumerate(SPECIAL)}
    grads["silent"] *= 0.0
    grads["nan"][2, 1], grads["inf"][0, 0] = np.nan, -np.inf
    grads["tiny"] *= 1e-30
    grads["stack"] = np.stack([grads[name] for name in ("sound", "silent", "nan", "tiny", "inf")])
    expected = reference.grama(grads, SPECIAL)

    def compute(grads):
        scores = na.grama(grads, SPECIAL)
        return scores, na.reset_masks(scores, 1.0), na.reset_masks(scores, 1.0, max_fraction=0.5, reset_silent=True)

    with backend.active():
        scores, masks, limited = backend.run(compute, backend.arrays(grads))
    for name, values in expected.items():
        np.testing.assert_allclose(to_numpy(scores[name]), values, rtol=1e-5, err_msg=name)
    for own, theirs in (
        (masks, reference.reset_masks(expected, 1.0)),
        (limited, reference.reset_masks(expected, 1.0, 0.5, reset_silent=True)),
    ):
        for name, mask in theirs.items():
            np.testing.assert_array_equal(to_numpy(own[name]), mask, err_msg=name)


def test_the_matrix_ran(request, record_property):
    """Say how many cells ran; the matrix is at least so large, and what was selected of it ran to its end."""
    counts = ", ".join(f"{name} {count}" for name, count in RAN.items())
    record_property("summary", f"matrix: {RAN.total()} cells: {counts}")
    assert len(CELLS) >= 722
    assert sum(not is_slow(*cell) for cell in CELLS) >= 500
    cells = [item for item in request.session.items if item.name.startswith("test_cell[")]
    assert RAN.total() == sum(not any(mark.args[0] for mark in item.iter_markers("skipif")) for item in cells)
