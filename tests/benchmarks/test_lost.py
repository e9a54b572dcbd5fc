"""What networks lose: the curvature is right, and the command prints and draws what it is asked for."""

import jax.numpy as jnp
import pytest

from benchmarks.continual_digits.lost import largest_curvature, main


def test_the_largest_curvature_is_that_of_the_steepest_direction():
    curvatures = jnp.asarray([0.5, 3.0, -7.0])
    found = largest_curvature(lambda params: 0.5 * jnp.sum(curvatures * params["w"] ** 2), {"w": jnp.ones(3)})
    assert float(found) == pytest.approx(7.0, rel=1e-3)


@pytest.mark.slow
def test_the_command_prints_a_row_for_each_trial(tmp_path, capsys):
    out = tmp_path / "lost.png"
    options = ["--out", str(out), "--seeds", "1", "--tasks", "1", "--activations", "sigmoid"]
    assert main([*options, "--trials", "L2 toward the start, 1e-3"]) == 0
    assert "sigmoid  L2 toward the start, 1e-3" in capsys.readouterr().out
    assert out.read_bytes()[:4] == b"\x89PNG"


def test_an_unknown_trial_is_refused(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "lost.png"), "--trials", "prayer"]) == 2
    assert "trials: unknown 'prayer'; choose from nothing, " in capsys.readouterr().err
