"""``check_ranks``: what each rank tells the others after a reset, here without any others."""

import pytest
import torch

from neuroactivity_torch import ReGraMa, layout_of
from tests.adapters.torch.models import X, mlp, step

LAYOUT = layout_of(mlp(width=4), X)
WRITTEN = {"0.weight", "0.bias", "2.weight", "2.bias", "4.weight"}


def trained(monkeypatch, **options):
    """A model, its optimizer and wrapper after a reset, and the numbers that were told last."""
    model, told = mlp(width=4), {}
    optimizer = torch.optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, layout=LAYOUT, tau=0.7, every=1, check_ranks=True, **options)

    def differing(numbers):
        assert torch.tensor([*numbers.values()]).dtype == torch.int64
        told.update(numbers)
        return ""

    monkeypatch.setattr(regrama._ranks, "differing", differing)
    step(model, optimizer, X)
    assert regrama.resets == 1
    return model, optimizer, regrama, told


def test_equal_runs_tell_equal_numbers_for_all_that_resets_write(monkeypatch):
    told, again = [trained(monkeypatch)[-1] for _ in range(2)]
    assert told == again
    assert told.keys() == {*WRITTEN, "the number of resets"}
    assert told["the number of resets"] == 1


def test_a_parameter_or_moment_that_has_parted_is_told_of(monkeypatch):
    model, optimizer, regrama, told = trained(monkeypatch)
    moments = optimizer.state[model[2].weight]
    moments["name"] = "weight"  # which is no tensor

    def nudge():
        model[2].weight[0, 0] += 1e-3

    def exchange():
        moments["exp_avg"], moments["exp_avg_sq"] = moments["exp_avg_sq"], moments["exp_avg"]

    regrama._compare_ranks(())
    seen = {told["2.weight"]}
    with torch.no_grad():
        for change in (nudge, nudge, nudge, exchange, moments["exp_avg"].zero_, moments["step"].zero_):
            change()
            before = told.copy()
            regrama._compare_ranks(())
            assert [name for name in told if told[name] != before[name]] == ["2.weight"]
            seen.add(told["2.weight"])
    assert len(seen) == 7


def test_of_sharded_tensors_what_was_written_is_told(monkeypatch):
    monkeypatch.setattr("neuroactivity_torch.resetter.is_sharded", lambda _: True)
    told, again, other = [trained(monkeypatch, seed=seed)[-1] for seed in (0, 0, 1)]
    assert told == again
    assert {name for name in told if told[name] != other[name]} == WRITTEN - {"4.weight"}  # which becomes zero
    assert told["4.weight"] != 0


def test_ranks_that_have_parted_stop(monkeypatch):
    _, _, regrama, _ = trained(monkeypatch)
    monkeypatch.setattr(regrama._ranks, "differing", lambda _: "2.weight")
    with pytest.raises(RuntimeError, match=r"^check_ranks: the ranks have parted, step 1: they differ in 2\.weight$"):
        regrama._compare_ranks(())


@pytest.mark.parametrize("check", [False, True])
def test_ranks_are_compared_where_that_is_asked_for_and_a_reset_was_due(monkeypatch, check):
    model, compared = mlp(width=4), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regrama = ReGraMa(model, optimizer, layout=LAYOUT, every=2, start=3, tau=0.0, check_ranks=check)
    monkeypatch.setattr(regrama, "_compare_ranks", lambda new: compared.append(regrama.steps))
    for _ in range(6):
        step(model, optimizer, X)
    assert compared == ([4, 6] if check else [])
