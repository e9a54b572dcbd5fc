"""The agents learn: the proof that takes minutes.

What the same commands reached with seed 0 stands in docs/reference_agents.md.
"""

import pytest

from reference_agents.agent import FACTORIES
from reference_agents.config import Config
from reference_agents.train import train
from tests.reference_agents.runs import summary

STEPS = {("sac", "mlp"): 6_000, ("td3", "mlp"): 7_000, ("sac", "bronet"): 4_000, ("td3", "bronet"): 4_000}
STEPS |= {("dacer", "mlp"): 8_000}
CASES = [("torch", "sac", "mlp", "none"), ("torch", "sac", "mlp", "redo")]
CASES += [
    (framework, algo, network, "regrama")
    for framework, algo in FACTORIES
    for network in ("mlp", "bronet")
    if (algo, network) in STEPS
]


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "algo", "network", "reset"), CASES)
def test_an_agent_learns_to_swing_up_a_pendulum(framework, algo, network, reset, tmp_path):
    settings = {"env": "Pendulum-v1", "steps": STEPS[algo, network], "learning_starts": 1_000, "reset": reset}
    train(Config(**settings, framework=framework, algo=algo, network=network), tmp_path)
    values = summary(tmp_path)
    assert values["random_policy"]["mean"] < -900
    assert values["evaluation"]["mean"] > -300
    assert (values["neurons_reset"] > 0) == (reset != "none")
