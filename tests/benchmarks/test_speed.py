"""The benchmark of speed does what it says: what is timed comes to the same, and the times are written."""

import json

import numpy as np
import pytest

from benchmarks.speed import LIBRARIES, bro, main, single

SMALL = {"width": 16, "blocks": 1, "inputs": 5, "outputs": 7}


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=[pytest.mark.slow] * ("compiled" in name)) for name in LIBRARIES]
)
@pytest.mark.parametrize("workload", [single(24, "rows"), single(24, "columns"), bro("rows", **SMALL)])
def test_the_measurement_and_the_published_rule_find_the_same_neurons(library, workload):
    timed = LIBRARIES[library](workload)
    grads = workload.draw()
    for array in grads.values():
        (array if array.ndim == 1 or workload.neurons == "rows" else array.T)[::3] *= 1e-4
    masks = timed.measurement({name: timed.convert(array) for name, array in grads.items()})
    counts = timed.published({name: timed.convert(array) for name, array in grads.items()})
    assert [int(np.asarray(masks[name]).sum()) for name in grads] == counts
    assert min(counts) > 0
    sums = timed.plain_sum({name: timed.convert(array) for name, array in grads.items()})
    exact = [array.sum(dtype="float64") for array in grads.values()]  # a jitted function sees them in another order
    np.testing.assert_allclose(np.sort(sums), np.sort(exact), rtol=1e-4, atol=1e-4)
    magnitudes = timed.magnitudes({name: timed.convert(array) for name, array in grads.items()})
    assert sorted(tuple(each.shape) for each in magnitudes) == sorted(tuple(mask.shape) for mask in masks.values())
    exact = [np.abs(array).sum(dtype="float64") for array in grads.values()]
    np.testing.assert_allclose(np.sort([np.asarray(each).sum() for each in magnitudes]), np.sort(exact), rtol=1e-4)


def test_the_critics_are_those_of_bro():
    workload = bro("columns")
    assert len(workload.layout) == 22
    assert 2.25e6 < sum(np.prod(shape) for shape in workload.shapes.values()) < 2.35e6
    assert workload.shapes["critic1/dense0"] == bro("rows").shapes["critic0/dense0"][::-1] == (88, 512)


def test_the_command_prints_a_table_and_writes_the_times(tmp_path, capsys):
    main(["--libraries", "numpy", "--sizes", "16", "--rounds", "1", "--out", str(tmp_path / "speed.json")])
    record = json.loads((tmp_path / "speed.json").read_text())
    assert [(r["gradients"], r["neurons"]) for r in record["results"]] == [
        ("16 x 16", "rows"),
        ("16 x 16", "columns"),
        ("BRO critics", "rows"),
        ("BRO critics", "columns"),
    ]
    assert all(
        r[what] > 0 for r in record["results"] for what in ("plain_sum", "magnitudes", "measurement", "published")
    )
    assert "BRO critics" in capsys.readouterr().out
