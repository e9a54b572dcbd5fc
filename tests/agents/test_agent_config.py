"""Settings are checked when they are made, and survive JSON."""

import dataclasses

import pytest

from reference_agents.config import Config
from reference_agents.errors import UsageError

BAD = [
    ("steps", 0, "steps: expected at least 1, got 0"),
    ("steps", 1.5, "steps: expected int, got 1.5"),
    ("steps", True, "steps: expected int, got True"),
    ("env", 3, "env: expected str, got 3"),
    ("algo", "dqn", "algo: expected one of sac, got 'dqn'"),
    ("framework", "theano", "framework: expected one of torch, got 'theano'"),
    ("reset", "all", "reset: expected one of none, redo, regrama, got 'all'"),
    ("activation", None, "activation: expected one of relu, leaky_relu, tanh, sigmoid, swish, mish, got None"),
    ("tau", -0.1, "tau: expected at least 0, got -0.1"),
    ("tau", "0.1", "tau: expected float or None, got '0.1'"),
    ("max_fraction", 1.5, "max_fraction: expected a value from 0 to 1, got 1.5"),
    ("gamma", float("nan"), "gamma: expected a value from 0 to 1, got nan"),
    ("seed", -1, "seed: expected at least 0, got -1"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_value_is_named_with_what_was_expected(name, value, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Config(**{name: value})
    assert str(caught.value) == message


@pytest.mark.parametrize("field", dataclasses.fields(Config), ids=lambda field: field.name)
def test_every_number_has_limits(field):
    if isinstance(field.default, int | float):
        with pytest.raises(UsageError, match=f"^{field.name}: expected"):
            Config(**{field.name: type(field.default)(-1)})


def test_settings_survive_json():
    config = Config(env="dm_control/dog-walk-v0", tau=0.1, max_fraction=0.05, seed=2**40, activation="mish", gamma=0.1)
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "[]", "3", '{"stops": 3}', '{"steps": "3"}', '{"gamma": NaN}'])
def test_json_that_holds_no_settings_is_refused(text):
    with pytest.raises(UsageError):
        Config.from_json(text)


@pytest.mark.parametrize(("reset", "paper"), [("none", 0), ("regrama", 0), ("redo", 0.02)])
def test_the_threshold_is_the_papers_unless_given(reset, paper):
    assert Config(reset=reset).threshold == paper
    assert Config(reset=reset, tau=0.3).threshold == 0.3


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().steps = 3
