"""Several processes that train together, each a rank of one world."""

import logging
import multiprocessing
import os
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from packaging.version import Version

on_cpus = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.9"), reason="fully_shard fails, or computes other gradients, on CPUs"
)

_PATIENCE = 120  # seconds that a rank waits for the others
CONTEXT = multiprocessing.get_context("forkserver")  # which loads PyTorch once, for all worlds
CONTEXT.set_forkserver_preload(["neuroactivity_torch", "torch.distributed.fsdp", "torch.distributed.tensor.parallel"])


def in_world(run: Callable[..., Any], folder: Path, *args: Any, ranks: int = 2) -> list[Any]:
    """Run a function in every rank of a world, and return what each returned; an error is returned as its text.

    Args:
        run: Called with the folder's further arguments, once the ranks can talk to each other.
        folder: An empty folder.
        args: Arguments of ``run``.
        ranks: How many processes.
    """
    torch.save(args, folder / "args")
    processes = [CONTEXT.Process(target=_enter, args=(run, str(folder), rank, ranks)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(900)
        if process.is_alive():
            process.kill()
    results = [folder / f"result{rank}" for rank in range(ranks)]
    ended = [process.exitcode for process in processes]
    assert all(path.exists() for path in results), f"a rank ended without a result; exit codes {ended}"
    return [torch.load(path, weights_only=False) for path in results]


def _enter(run: Callable[..., Any], folder: str, rank: int, ranks: int) -> None:
    """Join the world, and leave what the function returns in a file."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)
    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(rank), str(ranks)
    store, patience = f"file://{folder}/store", timedelta(seconds=_PATIENCE)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks, timeout=patience)
    try:
        result = run(*torch.load(f"{folder}/args", weights_only=False))
    except BaseException:
        result = traceback.format_exc()
    torch.save(result, f"{folder}/part{rank}")
    os.replace(f"{folder}/part{rank}", f"{folder}/result{rank}")
    dist.barrier()
    dist.destroy_process_group()
