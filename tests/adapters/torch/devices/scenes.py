"""What the ranks of one world do in the tests beside training; each returns what the test looks at."""

import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, SequenceParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

import neuroactivity as na
from neuroactivity.layout import NeuronGroup, ParamView
from neuroactivity_torch import ReDo, ReGraMa, clear_moments, gradients, layout_of, parameters
from tests.adapters.torch.devices.cells import layout_for, shard
from tests.adapters.torch.models import X, mlp

VIEWS = [
    ("neuron in", {}, (7, 3)),
    ("in neuron", {}, (5, 4)),
    ("neuron in h w", {}, (3, 2, 2, 2)),
    ("(gate neuron) in", {"gate": 4}, (12, 5)),
    ("(neuron gate) in", {"gate": 3}, (15, 2)),
    ("out (neuron hw)", {"hw": 4}, (5, 12)),
    ("stack neuron in", {}, (3, 4, 2)),
    ("stack in neuron", {}, (2, 5, 3)),
    ("neuron neuron in", {}, (2, 3, 4)),
    ("neuron", {}, (5,)),
    ("(a neuron) in", {"a": 2, "neuron": 1}, (2, 3)),
]


class Traffic(TorchDispatchMode):
    """Lists the numbers of entries that are communicated."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        if func.namespace in ("c10d", "_c10d_functional") and "wait" not in func.__name__:
            given = args[0] if isinstance(args[0], list | tuple) else [args[0]]
            self.sizes.append(sum(each.numel() for each in given))
        return func(*args, **(kwargs or {}))


def error_of(function: Callable[[], Any]) -> str:
    """Return the error that a function raises."""
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def backward(model: nn.Module, x: torch.Tensor = X) -> None:
    """Compute gradients."""
    model.zero_grad()
    model(x).square().mean().backward()


def trained(how: str, kind: type = ReGraMa, net: nn.Module | None = None, **options: Any):
    """Attach a wrapper to a model that is spread over the ranks."""
    given, _, _ = shard(mlp(width=8) if net is None else net, how)
    optimizer = torch.optim.Adam(given.parameters(), lr=0.01)
    options = {"every": 3, "lowest": 0.25, "layout": layout_for("even"), **options}
    return given, optimizer, kind(given, optimizer, **options)


def traffic(how: str, **options: Any) -> list[list[int]]:
    """List what six steps of an optimizer communicate."""
    if options.pop("redo", False):
        options |= {"kind": ReDo, "probe": lambda: X[dist.get_rank() :: 2]}
    model, optimizer, _ = trained(how, **options)
    steps = []
    for _ in range(6):
        backward(model)
        with Traffic() as seen:
            optimizer.step()
        steps.append(seen.sizes)
    return steps


def scores_of_parts() -> list[tuple[str, float]]:
    """Compare scores of sharded gradients with those of whole ones."""
    found = []
    for pattern, sizes, shape in VIEWS:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        owners = tuple(range(shape[0]))[::-1] if pattern == "neuron in" else None
        group = NeuronGroup("g", [ParamView("w", pattern, sizes, index=owners)])
        expected = na.grama({"w": x}, na.Layout([group]))["g"]
        for axis in range(len(shape)):
            part = distribute_tensor(x, init_device_mesh("cpu", (dist.get_world_size(),)), [Shard(axis)])
            score = na.grama({"w": part}, na.Layout([group]))["g"]
            assert not isinstance(score, DTensor)
            found.append((f"{pattern} over {axis}", float((score - expected).abs().max())))
    return found


def unsummed_gradients() -> float:
    """Return how far the scores of a normalisation are off whose gradients are still to be added up."""

    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 2))

    layout, x, whole = layout_of(net(), X[:4]), X.reshape(8, 8, 5), net()
    mesh = init_device_mesh("cpu", (2,))
    plan = {"0": ColwiseParallel(output_layouts=Shard(1)), "1": SequenceParallel()}
    plan["2"] = ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate())
    sharded = parallelize_module(net(), mesh, plan)
    backward(whole, x)
    backward(sharded, x)
    found, expected = (na.grama(gradients(each), layout) for each in (sharded, whole))
    return max(float((found[name] - score).abs().max()) for name, score in expected.items())


def largest(grads: Any, layout: na.Layout, params: Any) -> dict[str, torch.Tensor]:
    """Score neurons by their largest gradient, in parts of their largest weight."""
    own = {name: group.incoming[0].param for name, group in layout.items()}
    return {name: grads[param].abs().amax(1) / params[param].abs().amax(1) for name, param in own.items()}


def means(outputs: Any, layout: na.Layout) -> dict[str, torch.Tensor]:
    """Score neurons by their mean output."""
    return na.magnitudes(outputs, layout, signal="activations")


def own_scores() -> dict[str, Any]:
    """Return the scores of a user's function, and the error where the ranks have not given the same."""
    found: dict[str, Any] = {}
    for how in ("bare", "fsdp", "tensor"):
        model, optimizer, wrapper = trained(how, score=largest, every=1)
        backward(model)
        optimizer.step()
        found[how] = {name: score.clone() for name, score in wrapper._latest.scores.items()}
    rank = dist.get_rank()
    for name, x in {"whole": X, "halves": X[rank::2]}.items():
        model, optimizer, wrapper = trained("bare", kind=ReDo, probe=lambda x=x: x, score=means, every=1)
        backward(model)
        optimizer.step()
        found[name] = {name: score.clone() for name, score in wrapper._latest.scores.items()}
    found["another"] = error_of(lambda: trained("bare", score=largest if rank else None))
    return found


def refusals() -> dict[str, str]:
    """Return the errors of what cannot be right."""
    from torch.distributed.optim import ZeroRedundancyOptimizer  # which warns when it is imported

    rank, found = dist.get_rank(), {}
    sharded = fully_shard(mlp(width=8))
    adam = torch.optim.Adam(sharded.parameters())
    found["search"] = error_of(lambda: ReGraMa(sharded, adam, example_inputs=X))
    found["search of parts"] = error_of(lambda: layout_of(shard(mlp(width=8), "tensor")[0], X))
    late = mlp(width=8)
    before = torch.optim.Adam(late.parameters())
    fully_shard(late)
    found["optimizer made before"] = error_of(lambda: ReGraMa(late, before, layout=layout_for("even")))
    flat = FullyShardedDataParallel(mlp(width=8), device_id=torch.device("cpu"))
    adam = torch.optim.Adam(flat.parameters())
    found["flat"] = error_of(lambda: ReGraMa(flat, adam, layout=layout_for("even")))
    found["part of an optimizer"] = error_of(
        lambda: ReGraMa(mlp(), ZeroRedundancyOptimizer(mlp().parameters(), torch.optim.Adam), example_inputs=X)
    )
    found["seed"] = error_of(lambda: trained("ddp", seed=rank))
    found["tau"] = error_of(lambda: trained("fsdp", tau=0.1 * (1 + rank)))
    found["group"] = error_of(lambda: trained("ddp", process_group="all"))
    found["check"] = error_of(lambda: trained("ddp", check_ranks="yes"))
    found["alone"] = error_of(lambda: trained("ddp", seed=rank, process_group=False))
    found["initializer"] = error_of(lambda: trained("ddp", initializer="layer" if rank else "snapshot"))
    unequal = mlp(width=8)
    with torch.no_grad():
        unequal[0].weight += rank  # as with another seed on each rank, before DDP has made them equal
    options: dict[str, Any] = {"layout": layout_for("even"), "initializer": "snapshot"}
    found["snapshot"] = error_of(lambda: ReGraMa(unequal, torch.optim.Adam(unequal.parameters()), **options))
    return found


def parted() -> dict[str, str]:
    """Return the errors of ranks that no longer do the same."""
    rank, found = dist.get_rank(), {}
    model, optimizer, wrapper = trained("bare", check_ranks=True, every=1)
    backward(model)
    optimizer.step()
    backward(model)
    with torch.no_grad():
        model.module[2].weight += 1e-6 * rank
    found["value"] = error_of(optimizer.step)
    model, optimizer, wrapper = trained("bare", check_ranks=True, every=1)
    backward(model)
    optimizer.step()
    backward(model)
    optimizer.state[model.module[2].weight]["exp_avg_sq"] *= 1 + 1e-3 * rank
    optimizer.param_groups[0]["lr"] = 0.0  # which keeps the parameters the same
    found["moment"] = error_of(optimizer.step)
    model, optimizer, wrapper = trained("fsdp", check_ranks=True, every=1)
    wrapper.resets += rank
    backward(model)
    found["draw"] = error_of(optimizer.step)
    calls = []

    def probe() -> torch.Tensor:
        calls.append(1)
        if rank and len(calls) > 1:
            raise IndexError("the buffer is empty")
        return X

    model, optimizer, wrapper = trained("fsdp", kind=ReDo, probe=probe, every=1)
    backward(model)
    found["probe"] = error_of(optimizer.step)
    found["steps"] = str(wrapper.steps)
    calls.clear()

    def narrow() -> torch.Tensor:
        calls.append(1)
        return X[:, 1:] if rank and len(calls) > 1 else X

    options: dict[str, Any] = {"kind": ReDo, "probe": narrow, "every": 1}
    model, optimizer, wrapper = trained("ddp", **options)
    backward(model)
    found["model"] = error_of(optimizer.step)
    found["made"] = error_of(lambda: trained("ddp", **options))
    return found


def custom_loop() -> dict[str, torch.Tensor]:
    """Reset a model inside its wrapper by hand, and return the moments that are not zero."""
    model = DistributedDataParallel(mlp(width=8))
    optimizer = torch.optim.Adam(model.parameters())
    backward(model)
    optimizer.step()
    layout = layout_of(model, X[:4])
    assert set(parameters(model)) == {view.param for group in layout.values() for _, view in group.views}
    clear_moments(optimizer, model, {"0": torch.arange(8) < 3}, layout)
    return {"0.weight": optimizer.state[model.module[0].weight]["exp_avg"].clone()}


def play(scenes: dict[str, tuple[Callable[..., Any], dict[str, Any]]]) -> dict[str, Any]:
    """Run scenes one after another."""
    logging.getLogger("torch").setLevel(logging.CRITICAL)
    return {name: scene(**options) for name, (scene, options) in scenes.items()}
