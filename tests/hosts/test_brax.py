"""In Brax: the lines that the documentation adds to Brax's own code, in short trainings of SAC and PPO."""

import functools
import importlib.util
import re
import sys
import types
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

pytestmark = pytest.mark.filterwarnings("default")  # what a host warns of is its own affair


def _replicated(tree, devices):
    """What JAX 0.10 has dropped and Brax 0.14.2 calls."""
    sharding = NamedSharding(Mesh(np.array(devices), ("x",)), PartitionSpec("x"))
    return jax.device_put(jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * len(devices)), tree), sharding)


if not hasattr(jax, "device_put_replicated"):
    jax.device_put_replicated = _replicated
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a library that Brax imports
    pytest.importorskip("brax")
    from brax.envs.fast import Fast
    from brax.training.agents.ppo.networks import make_ppo_networks
    from brax.training.agents.sac.networks import make_sac_networks

PAGE = Path(__file__).parents[2] / "docs/hosts_jax_keras.md"
MEASURE, RESET, WORD, PPO = re.findall(r"```diff\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
WORLD = {"episode_length": 8, "num_envs": 4, "num_evals": 1, "num_eval_envs": 2, "normalize_observations": True}


def edited(name, lines, report=None):
    """Return a module of Brax as it would be with the lines of the documentation, made for a short training."""
    lines = lines.replace("every=1000", "every=4, tau=0.5").replace("on_report=print", "on_report=note")
    path = Path(importlib.util.find_spec(name).origin)
    source = path.read_text(encoding="utf-8")
    for hunk in lines.split("@@\n"):
        old, new = ("".join(line[1:] for line in hunk.splitlines(True) if line[0] in f" {sign}") for sign in "-+")
        assert source.count(old) == 1
        source = source.replace(old, new)
    module = types.ModuleType(f"{name}_edited")
    sys.modules[module.__name__] = module
    module.note = report
    exec(compile(source, path, "exec"), vars(module))
    return module


def train_sac(lines, *, word=True):
    reports = []
    sac = edited("brax.training.agents.sac.train", lines, reports.append)
    if word:
        sac.gradients = edited("brax.training.gradients", WORD)
    sizes = {"num_timesteps": 96, "batch_size": 8, "min_replay_size": 16, "max_replay_size": 64}
    networks = functools.partial(make_sac_networks, hidden_layer_sizes=(8,))
    sac.train(Fast(), network_factory=networks, **sizes, **WORLD)
    jax.effects_barrier()
    return reports


def test_the_lines_to_measure_sac():
    reports = train_sac(MEASURE, word=False)
    assert len(reports) == 5
    assert {group.name for group in reports[0].groups} == {
        f"params/MLP_{critic}/hidden_{layer}" for critic in (0, 1) for layer in (0, 1)
    }
    assert all(report.total.reset == 0 for report in reports)


def test_the_lines_to_reset_sac():
    reports = train_sac(RESET)
    assert len(reports) == 5
    assert reports[-1]["params/MLP_0/hidden_0"].reset > 0
    assert reports[-1]["params/MLP_0/hidden_1"].reset == 0


def test_a_reset_without_the_parameters_is_refused():
    with pytest.raises(ValueError, match=r"params: a reset needs the parameters; call update\(grads, state, params\)"):
        train_sac(RESET, word=False)


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0, "learning_rate_schedule": "ADAPTIVE_KL"}])
def test_the_lines_to_reset_ppo(options):
    reports = []
    ppo = edited("brax.training.agents.ppo.train", PPO, reports.append)
    sizes = {"num_timesteps": 64, "batch_size": 4, "num_minibatches": 2, "unroll_length": 4, "num_updates_per_batch": 2}
    networks = functools.partial(make_ppo_networks, policy_hidden_layer_sizes=(8,), value_hidden_layer_sizes=(8,))
    ppo.train(Fast(), network_factory=networks, **sizes, **options, **WORLD)
    jax.effects_barrier()
    assert reports
    assert {group.name for group in reports[0].groups} == {
        f"{part}/params/hidden_{layer}" for part in ("policy", "value") for layer in (0, 1)
    }
    assert all(reports[-1][f"{part}/params/hidden_0"].reset > 0 for part in ("policy", "value"))
