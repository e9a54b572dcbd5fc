"""One training run, on one device or sharded in some way; what the wrapper did and what came of it."""

import traceback
from contextlib import nullcontext
from copy import deepcopy
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed._composable.replicate import replicate
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import neuroactivity as na
from neuroactivity_torch import ReDo, ReGraMa, layout_of
from tests.adapters.torch.models import IMAGES, X, convnet, kill, mlp
from tests.adapters.torch.transformers import ViT

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    "adam": partial(torch.optim.Adam, lr=0.01),
    "adamw": partial(torch.optim.AdamW, lr=0.01),
}


REPLICATED: dict[str, dict[str, Any]] = {
    **{how: {} for how in ("ddp", "bare", "no_sync", "rounded")},
    "static": {"static_graph": True},
    "buckets": {"gradient_as_bucket_view": True},
    "unused": {"find_unused_parameters": True},
}
SHARDED: dict[str, dict[str, Any]] = {
    "kept": {"reshard_after_forward": False},
    "offloaded": {"offload_policy": CPUOffloadPolicy(pin_memory=False)},
    "bfloat16": {"mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16)},
}

_FULL = StateDictOptions(full_state_dict=True)


class Recurrent(nn.Module):
    """A recurrent layer, whose weights hold four neurons for each of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.rnn(x[:, None])[0][:, -1])


MODELS = {
    "even": partial(mlp, width=8),
    "uneven": partial(mlp, width=7),
    "conv": convnet,
    "recurrent": Recurrent,
    "vit": ViT,
}
DATA = {"conv": IMAGES, "vit": IMAGES}


class Outcome(NamedTuple):
    """What is compared between runs."""

    scores: list[dict[str, torch.Tensor]]
    masks: list[dict[str, torch.Tensor]]
    written: list[dict[str, torch.Tensor]]
    params: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    counts: tuple[int, ...]
    state: dict[str, Any]


@cache
def layout_for(model: str) -> na.Layout:
    """Find the layout of a model, before it is sharded."""
    return layout_of(MODELS[model](), DATA.get(model, X)[:4])


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Copy all of a tensor."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def shard(model: nn.Module, how: str) -> tuple[nn.Module, int, int]:
    """Spread a model over the ranks; return it with the number of ranks that share the data out, and which this is."""
    ranks, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    plan: dict[str, Any] = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    if isinstance(model, ViT):
        plan = {"block.up": ColwiseParallel(), "block.down": RowwiseParallel()}
    if isinstance(model, nn.Sequential) and getattr(model[0], "out_features", 0) % 2:  # the next takes no such parts
        plan = {"0": ColwiseParallel(output_layouts=Replicate()), "2": RowwiseParallel(input_layouts=Replicate())}
    if how in REPLICATED:
        replicated = DistributedDataParallel(model, **REPLICATED[how])
        if how == "rounded":
            replicated.register_comm_hook(None, fp16_compress_hook)
        return replicated, ranks, rank
    if how == "replicate":
        return replicate(model), ranks, rank
    if how in SHARDED:
        return fully_shard(model, **SHARDED[how]), ranks, rank
    if how in ("fsdp", "looked_at"):
        for layer in model.children() if isinstance(model, nn.Sequential) else ():
            if any(True for _ in layer.parameters()):
                fully_shard(layer)
        return fully_shard(model), ranks, rank
    if how == "tensor":
        return parallelize_module(model, init_device_mesh("cpu", (ranks,)), plan), 1, 0
    if how == "hybrid":
        mesh = init_device_mesh("cpu", (2, ranks // 2), mesh_dim_names=("copies", "parts"))
        return fully_shard(model, mesh=mesh), ranks, rank
    if how == "columns":
        return (
            fully_shard(model, shard_placement_fn=lambda p: Shard(int(p.ndim > 1 and p.shape[1] % ranks == 0))),
            ranks,
            rank,
        )
    if how.startswith("mesh"):
        data = int(how.removeprefix("mesh"))
        mesh = init_device_mesh("cpu", (data, ranks // data), mesh_dim_names=("data", "tensor"))
        parallelize_module(model, mesh["tensor"], plan)
        return fully_shard(model, mesh=mesh["data"]), data, mesh.get_local_rank("data")
    return model, 1, 0


def train(
    how: str = "alone",
    *,
    model: str = "even",
    method: str = "regrama",
    optimizer: str = "adam",
    steps: int = 6,
    state: Any = None,
    saved: bool = False,
    **options: Any,
) -> Outcome:
    """Train a small model."""
    torch.manual_seed(0)
    net, data = MODELS[model](), DATA.get(model, X)
    if isinstance(net, nn.Sequential) and model != "conv":
        kill(net[2], [1, 4])
    layout = layout_for(model)
    if state:
        net.load_state_dict(state["model"])
    given, parts, part = shard(net, how)
    size = len(data) // parts
    own = data[part * size : (part + 1) * size]
    trainer = OPTIMIZERS[optimizer](given.parameters())
    if state:
        set_optimizer_state_dict(given, trainer, deepcopy(state["optimizer"]), options=_FULL)
    options = {"every": 2, "lowest": 0.25, "layout": layout, "seed": 3, **options}
    if method == "redo":
        options["probe"] = lambda: own
    kind = {"regrama": ReGraMa, "redo": ReDo}[method]
    wrapper = kind(net if how in ("bare", "no_sync") else given, trainer, **options)
    if state:
        wrapper.load_state_dict(state["wrapper"])
    seen: tuple[list[Any], list[Any], list[Any]] = ([], [], [])

    def note(report: Any) -> None:
        found = wrapper._latest
        masks = found.masks.parts()
        seen[0].append({name: score.clone() for name, score in found.scores.items()})
        seen[1].append(masks)
        seen[2].append(written(net, masks, layout))

    wrapper.on_report = note
    for _ in range(steps):
        trainer.zero_grad()
        halves = own.chunk(2) if how == "no_sync" else (own,)
        for number, x in enumerate(halves):
            quiet = given.no_sync() if how == "no_sync" and number == 0 else nullcontext()
            with quiet:
                (given(x).square().mean() / len(halves)).backward()
        if how == "looked_at":
            with torch.no_grad():
                given(own)
        trainer.step()
    params = {name: whole(value) for name, value in net.named_parameters()}
    moments = {
        f"{name}/{key}": whole(value)
        for name, parameter in net.named_parameters()
        for key, value in trainer.state[parameter].items()
    }
    counts = tuple([getattr(wrapper, name) for name in ("steps", "measurements", "resets", "neurons_reset")])
    state = {"wrapper": wrapper.state_dict()}
    if saved:
        state |= {"model": params, "optimizer": deepcopy(get_optimizer_state_dict(given, trainer, options=_FULL))}
    wrapper.detach()
    return Outcome(*seen, params, moments, counts, state)


def written(net, masks, layout):
    """Copy the incoming rows of the neurons that were reset."""
    params = {name: whole(value) for name, value in net.named_parameters()}
    return {
        f"{name}/{view.param}": params[view.param][mask]
        for name, mask in masks.items()
        for view in layout[name].incoming
        if params[view.param].shape[0] == len(mask)
    }


def train_all(cells: list[dict[str, Any]]) -> list[Any]:
    """Train several times; an error is returned as its text."""
    outcomes = []
    for cell in cells:
        try:
            outcomes.append(train(**cell))
        except Exception:
            outcomes.append(traceback.format_exc())
    return outcomes
