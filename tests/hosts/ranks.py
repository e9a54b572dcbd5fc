"""One of two ranks that a host trains a model on: prints what became of it, for each way to reset.

RANK=0 WORLD_SIZE=2 ... python -m tests.hosts.ranks transformers FOLDER
"""

import hashlib
import json
import sys

import torch

TOKENS = torch.randint(0, 50, (64, 12), generator=torch.Generator().manual_seed(0))
OPTIONS = {"every": 2, "tau": 0.6, "check_ranks": True}


def lightning(method, folder):
    """Fit a module with DistributedDataParallel."""
    from lightning.pytorch import Trainer

    from neuroactivity_torch.hosts.lightning import ActivityCallback
    from tests.hosts.test_lightning import DATA, Module

    module, callback = Module(), ActivityCallback(method, **OPTIONS)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "default_root_dir": folder}
    trainer = Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", callbacks=[callback], **quiet)
    trainer.fit(module, torch.utils.data.DataLoader(DATA, batch_size=8))
    return module, callback.wrappers["model"]


def transformers(method, folder):
    """Train a small GPT-2, with checkpoints."""
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

    from neuroactivity_torch.hosts.transformers import ActivityCallback

    set_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=12, n_embd=16, n_layer=2, n_head=2))
    callback = ActivityCallback(method, probe=lambda: TOKENS[torch.distributed.get_rank() :: 2], **OPTIONS)
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "steps", "save_steps": 3}
    args = TrainingArguments(folder, num_train_epochs=2, learning_rate=1e-2, per_device_train_batch_size=8, **quiet)
    data = [{"input_ids": tokens, "labels": tokens} for tokens in TOKENS]
    Trainer(model, args, train_dataset=data, callbacks=[callback]).train()
    return model, callback.wrappers["model"]


if __name__ == "__main__":
    train = {"lightning": lightning, "transformers": transformers}[sys.argv[1]]
    for method in ("regrama", "redo"):
        trained, wrapper = train(method, sys.argv[2])
        values = b"".join(value.detach().numpy().tobytes() for value in trained.parameters())
        counts = (wrapper.steps, wrapper.measurements, wrapper.neurons_reset)
        print(json.dumps({"counts": counts, "digest": hashlib.sha256(values).hexdigest()}), flush=True)
