"""Settings are checked when they are made, and survive JSON."""

import dataclasses
import json

import pytest

from reference_agents.config import RENAMED, Config
from reference_agents.errors import UsageError

FORMER = {new: old for old, new in RENAMED.items()}
BAD = [
    ("steps", 0, "steps: expected at least 1, got 0"),
    ("steps", 1.5, "steps: expected int, got 1.5"),
    ("steps", True, "steps: expected int, got True"),
    ("env", 3, "env: expected str, got 3"),
    ("algo", "dqn", "algo: expected one of sac, td3, dacer, drqv2, got 'dqn'"),
    ("framework", "theano", "framework: expected one of torch, jax, tensorflow, got 'theano'"),
    ("reset", "all", "reset: expected one of none, redo, regrama, got 'all'"),
    ("activation", None, "activation: expected one of relu, leaky_relu, tanh, sigmoid, swish, mish, got None"),
    ("tau", -0.1, "tau: expected at least 0, got -0.1"),
    ("tau", "0.1", "tau: expected float or None, got '0.1'"),
    ("max_fraction", 1.5, "max_fraction: expected a value from 0 to 1, got 1.5"),
    ("gamma", float("nan"), "gamma: expected a value from 0 to 1, got nan"),
    ("critic_lr", float("inf"), "critic_lr: expected a finite number, got inf"),
    ("seed", -1, "seed: expected at least 0, got -1"),
    ("actor_depth", 0, "actor_depth: expected a value from 1 to 1024, got 0"),
    ("width", 10**11, "width: expected a value from 1 to 65536, got 100000000000"),
    ("buffer_size", 10**18, "buffer_size: expected a value from 1 to 1000000000, got 1000000000000000000"),
    ("threads", 10**12, "threads: expected a value from 1 to 1024, got 1000000000000"),
    ("replay_ratio", 0.5, "replay_ratio: expected int or None, got 0.5"),
    ("noise_clip", -0.5, "noise_clip: expected at least 0, got -0.5"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_value_is_named_with_what_was_expected(name, value, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Config(**{name: value})
    assert str(caught.value) == message


@pytest.mark.parametrize("field", dataclasses.fields(Config), ids=lambda field: field.name)
def test_every_number_has_limits(field):
    value = getattr(Config(max_fraction=0.5), field.name)
    if isinstance(value, int | float):
        with pytest.raises(UsageError, match=f"^{field.name}: expected"):
            Config(**{field.name: -1 if isinstance(value, bool) else type(value)(-1)})


def test_settings_survive_json():
    config = Config(env="dm_control/dog-walk-v0", tau=0.1, max_fraction=0.05, seed=2**40, activation="mish", gamma=0.1)
    assert Config.from_json(config.to_json()) == config


def test_settings_of_older_runs_are_read_by_their_former_names():
    config = Config(policy_delay=3, polyak=0.1, alpha_delay=7)
    settings = json.loads(config.to_json())
    older = {FORMER.get(name, name): value for name, value in settings.items()}
    assert older.keys() - settings.keys() == {"policy_every", "target_rate", "entropy_every"}
    assert Config.from_json(json.dumps(older)) == config


def test_a_setting_by_both_of_its_names_is_refused():
    settings = json.loads(Config().to_json()) | {"policy_every": 2}
    with pytest.raises(UsageError, match=r"^config: expected known settings only, got policy_every$"):
        Config.from_json(json.dumps(settings))


@pytest.mark.parametrize("text", ["", "[]", "3", '"steps"', "null", '{"steps": 3}', "{"])
def test_json_that_holds_no_settings_is_refused(text):
    with pytest.raises(UsageError, match=r"^config: expected "):
        Config.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stops": 3}, "config: expected known settings only, got stops"),
        ({"steps": "3"}, "steps: expected int, got '3'"),
        ({"gamma": float("nan")}, "gamma: expected a value from 0 to 1, got nan"),
    ],
)
def test_json_with_anything_else_is_refused(changes, message):
    settings = json.loads(Config().to_json()) | changes
    with pytest.raises(UsageError) as caught:
        Config.from_json(json.dumps(settings))
    assert str(caught.value) == message


def test_json_of_older_runs_means_what_those_runs_did():
    settings = json.loads(Config(clock="run").to_json())
    older = {name: value for name, value in settings.items() if name not in ("batches", "clock", "outgoing")}
    assert Config.from_json(json.dumps(older)) == Config(clock="run")


@pytest.mark.parametrize("lost", [["tau"], ["steps"], ["noise_clip", "network"]])
def test_json_that_lacks_a_setting_does_not_pass_for_the_default(lost):
    settings = json.loads(Config().to_json())
    kept = {name: value for name, value in settings.items() if name not in lost}
    missing = ", ".join(name for name in settings if name in lost)
    with pytest.raises(UsageError) as caught:
        Config.from_json(json.dumps(kept))
    assert str(caught.value) == f"config: expected every setting, got none for {missing}"


@pytest.mark.parametrize(
    ("network", "reset", "tau"),
    [
        ("mlp", "none", 0),
        ("mlp", "regrama", 0),
        ("mlp", "redo", 0.02),
        ("bronet", "none", 0.01),
        ("bronet", "regrama", 0.01),
        ("bronet", "redo", 0.02),
    ],
)
def test_the_threshold_is_the_papers_unless_given(network, reset, tau):
    assert Config(network=network, reset=reset).tau == tau
    assert Config(network=network, reset=reset, tau=0.3).tau == 0.3


PAPER = {
    "mlp": {"depth": 2, "actor_depth": 2, "actor_lr": 3e-4, "critic_lr": 1e-3, "batch_size": 256, "replay_ratio": 1},
    "bronet": {"depth": 2, "actor_depth": 1, "actor_lr": 1e-4, "critic_lr": 1e-3, "batch_size": 128, "replay_ratio": 2},
}


@pytest.mark.parametrize("network", PAPER)
def test_defaults_are_the_papers_for_the_network(network):
    config = Config(network=network)
    assert {name: getattr(config, name) for name in PAPER[network]} == PAPER[network]
    assert config.width == 256
    assert json.loads(config.to_json()).items() >= PAPER[network].items()  # what is in force, not what was given
    for name, value in {"actor_depth": 3, "actor_lr": 0.0, "batch_size": 7, "replay_ratio": 5, "tau": 0.0}.items():
        assert getattr(Config(network=network, **{name: value}), name) == value
        assert Config(network=network, **{name: None}) == config


def test_depth_is_that_of_all_networks_but_a_bronets_actor():
    assert (Config(depth=4).depth, Config(depth=4).actor_depth) == (4, 4)
    bronet = Config(network="bronet", depth=4)
    assert (bronet.depth, bronet.actor_depth) == (4, 1)


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().steps = 3


def test_images_have_their_own_settings():
    drq = Config(algo="drqv2")
    assert (drq.image_size, drq.n_step, drq.actor_lr, drq.critic_lr, drq.tau) == (84, 3, 1e-4, 1e-4, 0.01)
    assert Config(algo="drqv2", n_step=1).n_step == Config(algo="td3").n_step == 1
    assert drq.from_pixels
    assert not Config(algo="td3").from_pixels


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algo": "drqv2", "network": "bronet"}, "network: expected mlp for drqv2, got 'bronet'"),
        ({"algo": "dacer", "network": "simba"}, "network: expected mlp for dacer, got 'simba'"),
        ({"algo": "sac", "n_step": 3}, "n_step: expected 1 for sac, got 3"),
        ({"image_size": 14}, "image_size: expected a value from 15 to 4096, got 14"),
    ],
)
def test_what_an_algorithm_does_not_have_is_refused(settings, message):
    with pytest.raises(UsageError) as caught:
        Config(**settings)
    assert str(caught.value) == message
