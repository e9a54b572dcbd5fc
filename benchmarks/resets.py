"""What a measurement with a reset costs in eager PyTorch, beside the rules of two published codes.

Each step scores all neurons and resets the twentieth of each layer with the lowest scores: parameters and Adam's
moments. The codes are restated as formulas. ``continual`` is a discrete step of ccbp-pytorch 0.0.3: rows of incoming
weights drawn anew and copied by index, everything else multiplied by zeros and ones. ``released`` is GraMa's own code:
whole layers drawn anew and selected from, outgoing weights left alone. Ours goes by the clock of the run here, as they
do. Behind that, a measurement alone, beside that of GraMa's code. All take turns in one thread on one network, and the
shortest times are compared; memory is what our step allocates at most, in parts of the largest array.

    python -m benchmarks.resets --out resets.json
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import neuroactivity as na
from neuroactivity.looking.commandline import Parser
from neuroactivity.tables import format_table
from neuroactivity_torch import ReGraMa, layout_of
from reference_agents.commandline import tell
from reference_agents.running.files import check_target, write_text

PART, TAU = 0.05, 0.01


def critic() -> tuple[nn.Module, na.Layout, tuple[Tensor, ...]]:
    """A critic of two layers of 256 neurons."""
    model = nn.Sequential(nn.Linear(23, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
    inputs = (torch.randn(256, 23),)
    return model, layout_of(model, *inputs), inputs


def conv() -> tuple[nn.Module, na.Layout, tuple[Tensor, ...]]:
    """An encoder of three convolutions, and two layers behind it."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()]
    layers += [nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 6)]
    model, inputs = nn.Sequential(*layers), (torch.randn(8, 3, 84, 84),)
    return model, layout_of(model, *inputs), inputs


def bro() -> tuple[nn.Module, na.Layout, tuple[Tensor, ...]]:
    """BRO's critics with their actor."""
    from benchmarks.networks import BroAgent

    model, inputs = BroAgent(), (torch.randn(128, 67), torch.randn(128, 21))
    return model, layout_of(model, *inputs), inputs


def transformer() -> tuple[nn.Module, na.Layout, tuple[Tensor, ...]]:
    """The feed-forward layers of a transformer of 85 million parameters; its layout is written down."""
    from benchmarks.networks import Gpt

    model = Gpt(blocks=12, width=768, heads=12)
    groups = []
    for name, _ in model.named_modules():
        if name.endswith("wide"):
            behind = f"{name.removesuffix('wide')}narrow.weight"
            views = {"weight": (f"{name}.weight", "neuron in"), "bias": f"{name}.bias"}
            groups.append(na.dense(name, **views, outgoing=[(behind, "out neuron")]))  # type: ignore[arg-type]
    return model, na.Layout(groups), (torch.randint(64, (2, 16)),)


NETWORKS = {"critic": critic, "conv": conv, "bro": bro, "transformer": transformer}


@dataclass(frozen=True)
class Layer:
    """The parameters of one group, with the axis of its neurons in each."""

    weight: Tensor
    axis: int
    vectors: tuple[Tensor, ...]
    outgoing: tuple[tuple[Tensor, int], ...]


def layers(model: nn.Module, layout: na.Layout) -> Iterator[Layer]:
    """Yield the groups that are reset, as the published codes see them: weights whose axes are neurons."""
    params = dict(model.named_parameters())

    def axis(view: na.ParamView) -> int:
        return next(i for i, names in enumerate(view.parsed.axes) if "neuron" in names)

    for group in layout.values():
        if group.resettable:
            own = [(params[view.param], axis(view)) for view in group.incoming + group.unscored]
            weights = [pair for pair in own if pair[0].ndim > 1]
            vectors = tuple([tensor for tensor, _ in own if tensor.ndim == 1])
            outgoing = [(params[view.param], axis(view)) for view in group.outgoing if view.parsed.neurons == 1]
            plain = [pair for pair in outgoing if pair[0].ndim > 1]
            for weight, place in weights:
                yield Layer(weight, place, vectors, tuple(plain))


def due(wrapper: ReGraMa) -> None:
    """Do what a wrapper does after a step at which a measurement is due."""
    found = wrapper._collect(wrapper.steps)
    assert found is not None
    wrapper._tell(found)


def inactive(found: Sequence[Layer]) -> list[float]:
    """Measure as GraMa's own code does: the inactive part of each layer."""
    return [float((utility(layer) <= TAU).float().mean().item()) for layer in found]


def moments(optimizer: Any, parameter: Tensor) -> list[Tensor]:
    """Adam's two moments of a parameter."""
    state = optimizer.state[parameter]
    return [state["exp_avg"], state["exp_avg_sq"]]


def spread(values: Tensor, axis: int, like: Tensor) -> Tensor:
    """Lay one value for each neuron along an axis of a tensor, over the positions that it has there."""
    values = values.repeat_interleave(like.shape[axis] // len(values))
    return values.view([-1 if i == axis else 1 for i in range(like.ndim)])


def utility(layer: Layer) -> Tensor:
    """Each neuron's mean gradient magnitude, divided by the layer's mean."""
    assert layer.weight.grad is not None
    axes = [i for i in range(layer.weight.ndim) if i != layer.axis]
    means = layer.weight.grad.abs().mean(axes)
    return means / means.mean().clamp(min=1e-9)


@torch.no_grad()
def continual(found: Sequence[Layer], optimizer: Any) -> None:
    """A discrete step of ccbp-pytorch."""
    for layer in found:
        scores = utility(layer)
        lowest = torch.topk(scores, int(PART * len(scores)), largest=False).indices
        alpha = torch.zeros_like(scores).index_fill_(0, lowest, 1.0)
        rows = layer.weight.index_select(layer.axis, lowest)
        layer.weight.index_copy_(layer.axis, lowest, rows.lerp(torch.empty_like(rows).uniform_(-0.1, 0.1), 1.0))
        for vector in layer.vectors:
            vector.lerp_(torch.zeros_like(vector), alpha)
        for tensor, axis in layer.outgoing:
            tensor.mul_(1.0 - spread(alpha, axis, tensor))
        written = [(layer.weight, layer.axis), *[(vector, 0) for vector in layer.vectors], *layer.outgoing]
        for tensor, axis in written:
            for moment in moments(optimizer, tensor):
                moment.mul_(1.0 - spread(alpha, axis, moment))


@torch.no_grad()
def released(found: Sequence[Layer], optimizer: Any) -> None:
    """The rule of GraMa's own code."""
    for layer in found:
        scores = utility(layer)
        threshold = torch.topk(scores, int(PART * len(scores)), largest=False).values[-1]
        mask = scores <= threshold
        if not mask.any():
            continue
        fresh = torch.empty_like(layer.weight)
        nn.init.kaiming_uniform_(fresh, a=5**0.5)
        where = spread(mask, layer.axis, layer.weight)
        layer.weight.copy_(torch.where(where, fresh, layer.weight))
        for vector in layer.vectors:
            vector.copy_(torch.where(mask, torch.zeros_like(vector), vector))
        for tensor, of_neuron in [(layer.weight, where), *[(vector, mask) for vector in layer.vectors]]:
            for moment in moments(optimizer, tensor):
                moment.copy_(torch.where(of_neuron, torch.zeros_like(moment), moment))


def peak(action: Callable[[], Any]) -> int:
    """Return how many bytes of tensors an action has allocated at most at any time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as recorded:
        action()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [int(event.nbytes()) for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(sizes))


@dataclass(frozen=True)
class Result:
    """The shortest times on one network, in milliseconds, and the memory of our reset in parts of the largest array."""

    network: str
    parameters: int
    neurons: int
    ours: float
    continual: float
    released: float
    measuring: float
    measuring_released: float
    memory: float

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        cells = [f"{time:.2f}" for time in (self.ours, self.continual, self.released)]
        cells += [f"{self.ours / other:.2f}" for other in (self.continual, self.released)]
        cells += [f"{100 * self.memory:.0f}%", f"{self.measuring:.2f}", f"{self.measuring_released:.2f}"]
        cells.append(f"{self.measuring / self.measuring_released:.2f}")
        return (self.network, f"{self.parameters / 1e6:.2f}", str(self.neurons), *cells)


def run(name: str, rounds: int) -> Result:
    """Time the three on one network."""
    torch.manual_seed(0)
    model, layout, inputs = NETWORKS[name]()
    optimizer = torch.optim.Adam(model.parameters())
    kept: dict[str, Any] = {"layout": layout, "every": 10**9}
    ours = ReGraMa(model, optimizer, lowest=PART, clock="run", **kept)
    measuring = ReGraMa(model, optimizer, max_fraction=0, **kept)
    outputs = model(*inputs)
    together = outputs if isinstance(outputs, Tensor) else torch.cat([each.flatten() for each in outputs])
    together.square().mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    found = list(layers(model, layout))
    timed: list[Callable[[], Any]] = [
        lambda: due(ours),
        lambda: continual(found, optimizer),
        lambda: released(found, optimizer),
        lambda: due(measuring),
        lambda: inactive(found),
    ]
    shortest = [float("inf")] * len(timed)
    due(ours)
    largest = max(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    memory = peak(lambda: due(ours)) / largest
    for turn in range(rounds):
        for i in [(turn + offset) % len(timed) for offset in range(len(timed))]:
            start = time.perf_counter()
            timed[i]()
            shortest[i] = min(shortest[i], 1e3 * (time.perf_counter() - start))
    size = sum(parameter.numel() for parameter in model.parameters())
    return Result(name, size, ours.neurons_reset // ours.resets, *shortest, memory)  # type: ignore[call-arg]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, which prints a table and writes the times if a file is named; return its exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, help="JSON file for the times in milliseconds")
    return tell(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    if options.out:
        check_target(options.out)
    torch.set_num_threads(1)
    results = [run(name, options.rounds if name != "transformer" else 5) for name in options.networks]
    header = ("network", "million", "reset", "ours, ms", "continual, ms", "released, ms", "/ continual", "/ released")
    measuring = ("measure, ms", "released, ms", "ratio")
    rows = [result.row() for result in results]
    print("\n".join(format_table((*header, "memory", *measuring), rows, words=("network",))))
    if options.out:
        write_text(options.out, json.dumps([asdict(result) for result in results], indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
