"""``ActivityCallback`` in short trainings of Hugging Face's Trainer."""

import pytest
import torch

import neuroactivity as na
from neuroactivity_torch import ReDo
from tests.hosts.audit import Audit, check_operations

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
host = pytest.importorskip("neuroactivity_torch.hosts.transformers")

TOKENS = torch.randint(0, 40, (32, 6), generator=torch.Generator().manual_seed(0))
DATA = [{"input_ids": row, "labels": row} for row in TOKENS]
SIZE = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 8, "vocab_size": 40, "tie_word_embeddings": False}
QUIET = {
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "save_strategy": "no",
    "per_device_train_batch_size": 8,
}
MLP, BLOCK = "transformer.h.0.mlp.c_fc", "transformer.h.0"


def make(folder, callbacks, **options):
    transformers.set_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZE))
    options = {
        "num_train_epochs": 2,
        "logging_steps": 2,
        "max_grad_norm": 0.1,
        "learning_rate": 1e-2,
        **QUIET,
        **options,
    }
    args = transformers.TrainingArguments(str(folder), **options)
    return transformers.Trainer(model, args, train_dataset=DATA, callbacks=callbacks)


class Listening(transformers.TrainerCallback):
    """Makes an audit as soon as there is an optimizer."""

    def __init__(self, callback):
        self.callback = callback

    def on_train_begin(self, args, state, control, model, optimizer, **kwargs):
        self.audit = Audit(model, {"model": (model, optimizer.optimizer)})
        self.audit.layouts["model"] = lambda: self.callback.wrappers["model"]._reported


@pytest.mark.parametrize("accumulated", [1, 2])
def test_scores_resets_and_moments_with_clipping(tmp_path, accumulated):
    callback = host.ActivityCallback("regrama", every=2, tau=0.4, on_report=lambda *told: listening.audit(*told))
    listening = Listening(callback)
    trainer = make(tmp_path, [listening, callback], gradient_accumulation_steps=accumulated)
    trainer.train()
    wrapper = callback.wrappers["model"]
    assert wrapper.steps == 8 // accumulated
    assert wrapper.neurons_reset == listening.audit.reset["model"] > 0
    assert wrapper.layout[MLP].status == wrapper.layout[f"{BLOCK}.attn.c_attn"].status == "exclusive"
    listening.audit.check_detached()


def test_a_cache_of_keys_and_values_is_no_output(tmp_path):
    callback = host.ActivityCallback("regrama")
    trainer = make(tmp_path, [callback], use_cache=True, max_steps=1)
    trainer.train()
    assert callback.wrappers["model"].layout[f"{BLOCK}.attn.c_attn"].status == "exclusive"
    assert trainer.model.config.use_cache


def test_by_default_it_measures_and_logs(tmp_path):
    plain = make(tmp_path, [])
    plain.train()
    measured = make(tmp_path, [host.ActivityCallback(every=2)])
    measured.train()
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), measured.model.parameters(), strict=True))
    logs = [log for log in measured.state.log_history if "loss" in log]
    assert len(logs) == 4
    assert all(0 <= log[f"neuroactivity/{MLP}/inactive_fraction"] <= 1 for log in logs)


def test_attached_in_front_of_reporters_it_is_reported(tmp_path):
    class Reporter(transformers.TrainerCallback):
        seen = ()

        def on_log(self, args, state, control, logs, **kwargs):
            self.seen = [*self.seen, *logs]

    trainer = make(tmp_path, [reporter := Reporter()])
    callback = host.attach(trainer, every=2)
    trainer.train()
    assert callback.wrappers["model"].measurements == 4
    assert "neuroactivity/inactive_fraction" in reporter.seen


def test_redo_needs_a_probe(tmp_path):
    callback = host.ActivityCallback("redo", probe=lambda: TOKENS[:8], every=2, tau=0.3)
    make(tmp_path, [callback]).train()
    assert isinstance(callback.wrappers["model"], ReDo)
    assert callback.wrappers["model"].measurements == 4
    with pytest.raises(ValueError, match=r"^method: there is nothing to judge the activations of model on"):
        make(tmp_path, [host.ActivityCallback("redo")]).train()


def test_a_run_that_is_resumed_from_a_checkpoint_goes_on(tmp_path):
    whole, first, rest = [host.ActivityCallback("regrama", every=3, tau=0.4) for _ in range(3)]
    saving = {"save_strategy": "steps", "save_steps": 4}
    uninterrupted = make(tmp_path / "whole", [whole])
    uninterrupted.train()
    make(tmp_path / "parts", [first], **saving).train()
    assert (tmp_path / "parts" / "checkpoint-4" / "neuroactivity.pt").is_file()
    trainer = make(tmp_path / "parts", [rest])
    trainer.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-4"))
    old, new = whole.wrappers["model"], rest.wrappers["model"]
    assert (new.steps, new.measurements, new.neurons_reset) == (old.steps, old.measurements, old.neurons_reset)
    pairs = zip(uninterrupted.model.parameters(), trainer.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    (tmp_path / "parts" / "checkpoint-4" / "neuroactivity.pt").unlink()
    with pytest.warns(na.ActivityWarning, match="^model starts anew: there is no neuroactivity.pt in "):
        make(tmp_path / "parts", [rest]).train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-4"))


def test_a_second_callback_whose_state_would_be_written_over_is_refused(tmp_path):
    trainer = make(tmp_path, [])
    first = host.attach(trainer)
    with pytest.raises(ValueError, match=r"^trainer: expected one without an ActivityCallback"):
        host.attach(trainer, "regrama")
    assert [one for one in trainer.callback_handler.callbacks if isinstance(one, host.ActivityCallback)] == [first]


def test_every_rank_makes_the_state_that_one_of_them_writes(tmp_path, monkeypatch):
    """Parts of sharded arrays are put together by all ranks; one that is asked alone would wait for ever."""
    callback, made = host.ActivityCallback(), []
    monkeypatch.setattr(transformers.TrainingArguments, "should_save", False)
    monkeypatch.setattr(host.Attachments, "state_dict", lambda attached: made.append(attached) or {})
    make(tmp_path, [callback], save_strategy="steps", save_steps=1, max_steps=2).train()
    assert made == [callback.wrappers] * 2
    assert not list(tmp_path.rglob("neuroactivity.pt"))


@pytest.mark.parametrize("damage", [b"", b"hello", b"PK", {"model": 3}, {"model": {"layout": {"version": 9}}}, [1]])
def test_a_state_that_is_damaged_is_refused_before_the_first_step(tmp_path, damage):
    saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    make(tmp_path, [host.ActivityCallback()], **saving).train()
    file = tmp_path / "checkpoint-1" / "neuroactivity.pt"
    torch.save(damage, file) if not isinstance(damage, bytes) else file.write_bytes(damage)
    trainer = make(tmp_path, [host.ActivityCallback()], max_steps=2)
    with pytest.raises(ValueError, match=r"neuroactivity\.pt: expected what an ActivityCallback saved, got \w+: "):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert trainer.state.global_step == 1


def test_checkpointed_activations_and_frozen_parameters(tmp_path):
    callback = host.ActivityCallback("regrama", every=2, tau=0.4)
    trainer = make(tmp_path, [callback], gradient_checkpointing=True)
    trainer.model.transformer.h[0].attn.c_proj.requires_grad_(False)
    trainer.train()
    layout = callback.wrappers["model"].layout
    assert (layout[MLP].status, layout[MLP].resettable) == ("exclusive", True)
    assert not layout[f"{BLOCK}.attn.c_attn"].resettable
    assert layout[f"{BLOCK}.attn.c_attn"].reason == "written with what its optimizer does not train"


def test_between_measurements_nothing_is_computed(tmp_path):
    def train(size, **options):
        callbacks = [host.ActivityCallback(**options)] if options else []
        make(tmp_path, callbacks, per_device_train_batch_size=size, max_steps=8).train()

    check_operations(train)
