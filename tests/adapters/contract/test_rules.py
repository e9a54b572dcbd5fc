"""The rules of published codes are options of the wrappers of all three frameworks."""

import pytest

from neuroactivity import rules
from tests.adapters.contract.network import DEAD, gradients, layout


@pytest.mark.parametrize(
    "name",
    ["GRAMA", "TIMOKLEIN", "AGILERL", *(pytest.param(n, marks=pytest.mark.slow) for n in ("DOPAMINE", "OPTAX_PORT"))],
)
def test_a_rule_resets_what_is_dead(driver, name):
    rule = getattr(rules, name)
    options = {**rule.options, "every": 1, "max_fraction": None, "clock": "run", "tau": 0.0}
    side = driver(rule.method, groups=rule.layout(layout()), optimizer="sgd", **options)
    side.step(gradients({**DEAD, "out": [1]}))
    reset = {group.name: group.reset for group in side.report().groups}
    assert reset == {"first": 2, "value": 1, "gate": 1, "out": int(rule.heads)}
