"""The benchmark of resets does what it says, on the smallest of its networks."""

import json

import torch

from benchmarks.resets import continual, critic, layers, main, moments, released


def test_a_table_and_a_file(capsys, tmp_path):
    threads = torch.get_num_threads()
    try:
        main(["--networks", "critic", "--rounds", "1", "--out", str(tmp_path / "times.json")])
    finally:
        torch.set_num_threads(threads)
    assert "critic" in capsys.readouterr().out
    (record,) = json.loads((tmp_path / "times.json").read_text())
    assert record["neurons"] == 2 * 12
    assert min(record["ours"], record["continual"], record["released"], record["measuring"]) > 0


def test_the_restated_rules_write_what_they_are_to_write():
    for rule, writes_outgoing in ((continual, True), (released, False)):
        model, layout, inputs = critic()
        optimizer = torch.optim.Adam(model.parameters())
        model(*inputs).square().mean().backward()
        optimizer.step()
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        rule(list(layers(model, layout)), optimizer)
        changed = (model[0].weight != before["0.weight"]).any(dim=1)
        assert changed.sum() == 12
        assert not model[0].bias[changed].any()
        assert not any(moment[changed].any() for moment in moments(optimizer, model[0].weight))
        assert bool((model[4].weight == 0).any()) == writes_outgoing
