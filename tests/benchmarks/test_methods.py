"""The table of what either method costs has a row for each framework, and each agent measured as it should."""

import pytest

from benchmarks import methods


@pytest.mark.slow
def test_a_row_for_each_framework(capsys):
    assert methods.main(["--frameworks", "torch", "--network", "mlp", "--sizes", "5", "2", "--rounds", "1"]) == 0
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "framework"
    assert row.split()[0] == "torch"
    assert len(row.split()) == 5


@pytest.mark.slow
def test_agents_measure_never_by_one_method_and_by_both(monkeypatch):
    agents, make_agent = [], methods.make_agent

    def keeping(*args):
        agents.append(make_agent(*args))
        return agents[-1]

    monkeypatch.setattr(methods, "make_agent", keeping)
    command = methods.Command(network="mlp", sizes=(5, 2), rounds=1)
    assert all(seconds > 0 for seconds in methods.measure("torch", command))
    kinds = [
        {key.split("/")[0] for key, value in agent.activity.fractions.items() if value is not None} for agent in agents
    ]
    assert kinds == [set(), {"inactive"}, {"inactive", "dormant"}]
    assert [agent.activity.counts()["actor"].measurements for agent in agents] == [0, 6, 6]
    assert not any(counts.neurons_reset for agent in agents for counts in agent.activity.counts().values())


def test_bad_options_are_refused(capsys):
    assert methods.main(["--frameworks", "theano"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
