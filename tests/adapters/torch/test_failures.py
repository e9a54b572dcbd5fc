"""A reset is all or nothing: whatever write fails, values, moments and counts are as if none had been tried."""

import copy

import pytest
import torch
from torch import optim

from neuroactivity_torch import ReGraMa, clear_moments, layout_of, write
from neuroactivity_torch.parameters import overwrite
from neuroactivity_torch.rows import Entries
from tests.adapters.torch.models import X, kill, mlp, step, values

LAYOUT = layout_of(mlp(), X)


class WriteError(RuntimeError):
    """What a failing write raises."""


def fail_at(monkeypatch, number, *, whole=False):
    """Let the write of this number fail half-way, counted from 1; return the list of writes, of rows or of tensors."""
    writes, put, copy_ = [], Entries.put, torch.Tensor.copy_

    def rows_counted(entries, tensor, values):
        writes.append(tensor)
        if len(writes) == number:
            put(entries, tensor, 7.0)
            raise WriteError
        return put(entries, tensor, values)

    def counted(tensor, value, *args):
        writes.append(tensor)
        if len(writes) == number:
            copy_(tensor[:1], value[:1])
            raise WriteError
        return copy_(tensor, value, *args)

    monkeypatch.setattr(*((torch.Tensor, "copy_", counted) if whole else (Entries, "put", rows_counted)))
    return writes


def attached(optimizer_type):
    """A model one step before a reset that writes into two groups."""
    model = mlp()
    kill(model[0], [2, 9])
    optimizer = optimizer_type(model.parameters(), lr=0.0)
    regrama = ReGraMa(model, optimizer, layout=LAYOUT, tau=0.5, every=2)
    step(model, optimizer, X)
    model(X).square().mean().backward()
    return model, optimizer, regrama


def state(model, optimizer):
    return values(model) | {
        f"{name}/{key}": value.clone()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
        if torch.is_tensor(value)
    }


WRITES = {optim.SGD: 6, optim.Adam: 18}
"""How many rows of tensors a reset writes: of five parameters, one of them for two groups, and of their moments."""


@pytest.mark.parametrize(
    ("optimizer_type", "number"), [(kind, number) for kind, count in WRITES.items() for number in range(1, count + 1)]
)
def test_a_write_that_fails_leaves_everything_as_the_step_left_it(monkeypatch, optimizer_type, number):
    model, optimizer, regrama = attached(optimizer_type)
    twin, twin_optimizer, other = attached(optimizer_type)
    other.detach()
    twin_optimizer.step()
    counts = regrama.state_dict()
    with monkeypatch.context() as patch:
        writes = fail_at(patch, number)
        with pytest.raises(WriteError):
            optimizer.step()
    assert len(writes) == 2 * number, "as many as were tried are put back"
    expected = state(twin, twin_optimizer)
    assert all(torch.equal(value, expected[name]) for name, value in state(model, optimizer).items())
    assert regrama.state_dict() == counts
    assert regrama.last_report is None
    optimizer.step()
    assert regrama.last_report["0"].reset >= 2


def test_every_write_of_a_reset_was_made_to_fail(monkeypatch):
    for optimizer_type, count in WRITES.items():
        _, optimizer, regrama = attached(optimizer_type)
        with monkeypatch.context() as patch:
            writes = fail_at(patch, None)
            optimizer.step()
        assert regrama.resets == 1
        assert len(writes) == count


def test_a_tensor_that_cannot_be_written_at_all_keeps_none_of_the_others_from_being_put_back():
    first, second = torch.ones(2), torch.ones(1).expand(2)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        overwrite([(first, torch.zeros(2)), (second, torch.zeros(2))])
    assert first.tolist() == [1.0, 1.0]


def test_custom_loops_write_all_or_nothing_too(monkeypatch):
    model, optimizer, regrama = attached(optim.Adam)
    regrama.detach()
    before, masks = state(model, optimizer), {"0": torch.ones(16, dtype=torch.bool)}
    fresh, layout = {name: value + 1 for name, value in values(model).items()}, LAYOUT
    actions = [(lambda: write(model, fresh), True), (lambda: clear_moments(optimizer, model, masks, layout), False)]
    for action, whole in actions:
        with monkeypatch.context() as patch:
            fail_at(patch, 3, whole=whole)
            with pytest.raises(WriteError):
                action()
    assert all(torch.equal(value, before[name]) for name, value in state(model, optimizer).items())


def test_a_second_wrapper_that_resets_the_same_parameters_is_refused():
    model = mlp()
    optimizer = optim.Adam(model.parameters())
    regrama = ReGraMa(model, optimizer, example_inputs=X)
    with pytest.raises(ValueError, match="optimizer: a ReGraMa is attached to it already and resets the same"):
        ReGraMa(model[0:3], [optimizer], layout=layout_of(model[0:3], X), max_fraction=0.5)
    assert len(optimizer._optimizer_step_post_hooks) == 1
    copy.deepcopy(regrama).detach()
    ReGraMa(model, optimizer, layout=regrama.layout, max_fraction=0).detach()
    regrama.detach()
    assert ReGraMa(model, optimizer, layout=regrama.layout).steps == 0


def test_a_wrapper_that_was_made_to_measure_cannot_be_told_to_reset():
    model = mlp()
    regrama = ReGraMa(model, optim.Adam(model.parameters()), max_fraction=0)
    with pytest.raises(ValueError, match="max_fraction: the wrapper was made with 0, to measure only; attach another"):
        regrama.max_fraction = 0.5
    assert regrama.max_fraction == 0
