"""``attach`` in short trainings of rsl-rl."""

import pytest
import torch
from torch import nn

from neuroactivity_torch import ReDo
from tests.hosts.audit import Audit, check_operations

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
pytest.importorskip("rsl_rl")
TensorDict = pytest.importorskip("tensordict").TensorDict
host = pytest.importorskip("neuroactivity_torch.hosts.rsl_rl")
runners = pytest.importorskip("rsl_rl.runners")


class Env:
    """Four environments of random observations; the reward is the action's size."""

    num_envs, num_actions, max_episode_length, device, cfg = 4, 2, 10, "cpu", {}

    def __init__(self):
        self.episode_length_buf = torch.zeros(4, dtype=torch.long)

    def get_observations(self):
        return TensorDict({"policy": torch.randn(4, 3)}, [4])

    def step(self, actions):
        self.episode_length_buf = (self.episode_length_buf + 1) % 10
        return self.get_observations(), -actions.square().sum(-1), self.episode_length_buf == 0, {}


def make(folder=None, kind="MLPModel", steps=8):
    torch.manual_seed(0)
    size = {"class_name": kind, "hidden_dims": [12], "activation": "relu"}
    if kind == "RNNModel":
        size |= {"rnn_type": "lstm", "rnn_hidden_dim": 6, "rnn_num_layers": 1}
    config = {
        "num_steps_per_env": steps,
        "save_interval": 100,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "algorithm": {"class_name": "PPO", "num_learning_epochs": 2, "num_mini_batches": 2},
        "actor": {**size, "distribution_cfg": {"class_name": "GaussianDistribution", "init_std": 1.0}},
        "critic": size,
    }
    return runners.OnPolicyRunner(Env(), config, None if folder is None else str(folder), device="cpu")


def attach(runner, **options):
    pairs = {name: (getattr(runner.alg, name), runner.alg.optimizer) for name in ("actor", "critic")}
    audit = Audit(nn.ModuleDict({name: module for name, (module, _) in pairs.items()}), pairs)
    options = {"every": 4, "tau": 0.4, "max_fraction": 0.5, "on_report": audit, **options}
    attached = host.attach(runner, **options)
    audit.layouts = {name: lambda name=name: attached[name]._reported for name in pairs}
    return audit, attached


def test_scores_resets_and_moments():
    runner = make()
    audit, attached = attach(runner)
    runner.learn(4)
    assert attached.keys() == {"actor", "critic"}
    for name, wrapper in attached.items():
        assert wrapper.layout["mlp.0"].status == "exclusive"
        assert wrapper.steps == 16
        assert wrapper.neurons_reset == audit.reset[name] > 0
    attached.detach()
    audit.check_detached()


def test_redo_runs_the_networks_on_the_rollout():
    runner = make()
    attached = host.attach(runner, "redo", every=4, tau=0.4)
    runner.learn(2)
    assert all(isinstance(wrapper, ReDo) and wrapper.measurements == 2 for wrapper in attached.values())


def test_measuring_writes_nothing():
    runner = make()
    audit, _ = attach(runner, method="measure")
    runner.learn(2)
    assert len(audit.reports) == 4
    assert not any(audit.reset.values())


def test_the_log_writer_gets_every_report():
    runner, seen = make(), {}
    host.attach(runner, "measure", every=2)
    runner.logger.init_logging_writer = lambda: None
    runner.logger.writer = type(
        "Writer", (), {"add_scalar": lambda self, key, value, step: seen.update({key: value})}
    )()
    runner.logger.log = lambda **kwargs: None
    runner.logger.stop_logging_writer = lambda: None
    runner.save = lambda *args: None
    runner.logger.log_dir = ""
    runner.learn(1)
    assert 0 <= seen["neuroactivity/critic/mlp.0/inactive_fraction"] <= 1


def test_the_state_in_a_checkpoint(tmp_path):
    runner = make()
    attached = host.attach(runner, every=4, tau=0.4)
    runner.learn(4)
    runner.save(str(tmp_path / "model.pt"), infos={"neuroactivity": attached.state_dict()})
    other = make()
    again = host.attach(other, every=4, tau=0.4)
    again.load_state_dict(other.load(str(tmp_path / "model.pt"))["neuroactivity"])
    assert again["actor"].neurons_reset == attached["actor"].neurons_reset > 0
    other.learn(1)
    assert again["actor"].steps == attached["actor"].steps + 4


def test_a_recurrent_network_is_measured_and_not_reset():
    runner = make(kind="RNNModel")
    with pytest.raises(ValueError, match=r"^actor is recurrent"):
        host.attach(runner)
    attached = host.attach(runner, "measure", every=2)
    runner.learn(1)
    assert attached["actor"].measurements > 0


def test_between_measurements_nothing_is_computed():
    def learn(size, **options):
        runner = make(steps=size)
        if options:
            host.attach(runner, "measure", **options)
        runner.learn(2)

    check_operations(learn)


def test_random_network_distillation_has_nothing_to_do_with_it():
    """Its module has no forward pass, and an optimizer of its own."""
    runner = make()
    runner.alg.rnd = torch.nn.Sequential(torch.nn.Linear(3, 2))
    runner.alg.rnd_optimizer = torch.optim.Adam(runner.alg.rnd.parameters())
    attached = host.attach(runner)
    assert set(attached) == {"actor", "critic"}
    attached.detach()
    with pytest.raises(ValueError, match="networks"):
        host.attach(runner, networks=["rnd"])
