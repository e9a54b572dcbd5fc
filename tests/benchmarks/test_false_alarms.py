"""False alarms of small batches: counted right, and the table has every setting."""

import torch

import neuroactivity as na
from benchmarks.false_alarms import Command, Subject, digits, false_alarms, ppo, table

LAYOUT = na.Layout([na.dense("fc", weight=("w", "neuron in"))])


def subject(batches):
    """One of four neurons never has a gradient, one has it in the last of ``batches`` only."""
    drawn = iter([torch.tensor([[1.0], [0.0], [1.0], [float(last)]]) for last in batches])
    truth = na.grama({"w": torch.tensor([[1.0], [0.0], [1.0], [0.1]])}, LAYOUT)
    return Subject("fc", LAYOUT, 0.0, truth, lambda size: {"w": next(drawn)})


def test_a_neuron_that_one_batch_misses_is_a_false_alarm():
    assert false_alarms(subject([False]), size=8, batches=1) == (2, 1)


def test_more_batches_find_it():
    assert false_alarms(subject([False, False, True]), size=8, batches=3) == (1, 0)


def test_the_table_has_a_row_for_every_setting_and_more_batches_raise_fewer_alarms():
    lines = list(table([digits(1)], Command(trials=3)))
    rows = [line.split() for line in lines[3:]]
    assert [row[1:3] for row in rows] == [[size, count] for size in ("32", "256") for count in ("1", "4", "16")]
    inactive = [float(row[3].rstrip("%")) for row in rows]
    assert inactive[0] > inactive[2]


def test_ppo_is_judged_on_both_hidden_layers():
    subject = ppo(1, 64)
    hidden = [name for name in subject.truth if subject.layout[name].resettable]
    assert [subject.truth[name].numel() for name in hidden] == [64, 64]
    assert false_alarms(subject, size=8, batches=1)[0] >= false_alarms(subject, size=64, batches=4)[0]
