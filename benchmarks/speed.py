"""What a measurement costs: ``grama`` and ``reset_masks`` against one plain sum over the same gradients.

A sum reads every gradient once, so it is the limit. The published rule goes layer by layer: the mean magnitude, divided
by the layer's mean, compared with tau, and the number of inactive neurons read by the host. Beside them the magnitudes
are summed for each neuron and nothing else, as each framework does it by itself, which shows what remains to be saved;
the last column compares with that.
The four are timed in turns in one run, and compared by the shortest time of each.

    python -m benchmarks.speed --out speed.json
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import neuroactivity as na
from benchmarks.workloads import Workload, bro, single
from neuroactivity.looking.commandline import Parser
from neuroactivity.tables import format_table
from reference_agents.commandline import tell
from reference_agents.running.files import check_target, write_text

TAU = 0.01
Gradients = Mapping[str, Any]
Timed = Callable[[Gradients], object]


@dataclass(frozen=True)
class Library:
    """What is timed in one library: each function takes gradients by name and returns when its work is done.

    Attributes:
        name: Of the library, and how it runs.
        convert: From a NumPy array to one of the library.
        plain_sum: Sums all entries of each gradient.
        magnitudes: Sums the magnitudes of each gradient for each neuron.
        measurement: Ours.
        published: The published rule.
    """

    name: str
    convert: Callable[[np.ndarray], Any]
    plain_sum: Timed
    magnitudes: Timed
    measurement: Timed
    published: Timed


def numpy_eager(workload: Workload) -> Library:
    """NumPy."""

    def published(grads: Gradients) -> list[int]:
        counts = []
        for grad in grads.values():
            means = np.abs(grad).mean(workload.axis) if grad.ndim > 1 else np.abs(grad)
            counts.append(int((means / (means.mean() + 1e-9) <= TAU).sum()))
        return counts

    return Library(
        "numpy",
        np.asarray,
        lambda grads: [grad.sum() for grad in grads.values()],
        lambda grads: [np.abs(grad).sum(workload.axis) if grad.ndim > 1 else np.abs(grad) for grad in grads.values()],
        measure(workload),
        published,
    )


def torch_eager(workload: Workload) -> Library:
    """PyTorch, one operation after the other."""
    import torch

    def published(grads: Gradients) -> list[int]:
        counts = []
        for grad in grads.values():
            means = grad.abs().mean(workload.axis) if grad.ndim > 1 else grad.abs()
            counts.append(int((means / (means.mean() + 1e-9) <= TAU).sum().item()))
        return counts

    return Library(
        "torch eager",
        torch.asarray,
        lambda grads: [grad.sum() for grad in grads.values()],
        lambda grads: [grad.abs().sum(workload.axis) if grad.ndim > 1 else grad.abs() for grad in grads.values()],
        measure(workload),
        published,
    )


def torch_compiled(workload: Workload) -> Library:
    """PyTorch with measurement and magnitudes compiled, beside the sum and the published rule as they are."""
    import torch

    torch.compiler.reset()  # it keeps a limited number of versions of one function
    eager = torch_eager(workload)
    return replace(
        eager,
        name="torch compiled",
        magnitudes=torch.compile(eager.magnitudes, fullgraph=True, dynamic=False),
        measurement=torch.compile(eager.measurement, fullgraph=True, dynamic=False),
    )


def on_cuda(make: Callable[[Workload], Library], workload: Workload) -> Library:
    """PyTorch on a CUDA device: what is timed ends when the device has finished."""
    import torch

    def finished(function: Timed) -> Timed:
        def call(grads: Gradients) -> None:
            function(grads)
            torch.cuda.synchronize()

        return call

    library = make(workload)
    return Library(
        f"{library.name}, cuda",
        lambda array: torch.asarray(array, device="cuda"),
        finished(library.plain_sum),
        finished(library.magnitudes),
        finished(library.measurement),
        finished(library.published),
    )


def jax_jit(workload: Workload) -> Library:
    """JAX: everything in one compiled function, but for the published rule, which is one for each layer."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def layer(grad: Any) -> Any:
        means = jnp.abs(grad).mean(workload.axis) if grad.ndim > 1 else jnp.abs(grad)
        return (means / (means.mean() + 1e-9) <= TAU).sum()

    def compiled(function: Timed) -> Timed:
        jitted = jax.jit(function)
        return lambda grads: jax.block_until_ready(jitted(grads))  # type: ignore[no-untyped-call]

    return Library(
        "jax jit",
        jnp.asarray,
        compiled(lambda grads: [jnp.sum(grad) for grad in grads.values()]),
        compiled(
            lambda grads: [
                jnp.abs(grad).sum(workload.axis) if grad.ndim > 1 else jnp.abs(grad) for grad in grads.values()
            ]
        ),
        compiled(measure(workload)),
        lambda grads: [int(layer(grad)) for grad in grads.values()],
    )


def tensorflow_graph(workload: Workload) -> Library:
    """TensorFlow: everything in one graph, but for the published rule, which is one for each layer."""
    import tensorflow as tf

    @tf.function(reduce_retracing=False)  # type: ignore[untyped-decorator]
    def layer(grad: Any) -> Any:
        means = tf.reduce_mean(tf.abs(grad), workload.axis) if len(grad.shape) > 1 else tf.abs(grad)
        return tf.reduce_sum(tf.cast(means / (tf.reduce_mean(means) + 1e-9) <= TAU, tf.int32))

    return Library(
        "tensorflow graph",
        tf.constant,
        tf.function(lambda grads: [tf.reduce_sum(grad) for grad in grads.values()]),
        tf.function(
            lambda grads: [
                tf.reduce_sum(tf.abs(grad), workload.axis) if len(grad.shape) > 1 else tf.abs(grad)
                for grad in grads.values()
            ]
        ),
        tf.function(measure(workload)),
        lambda grads: [int(layer(grad)) for grad in grads.values()],
    )


LIBRARIES = {
    "numpy": numpy_eager,
    "torch": torch_eager,
    "torch-compiled": torch_compiled,
    "jax": jax_jit,
    "tensorflow": tensorflow_graph,
}
ON_CUDA = {
    "torch-cuda": partial(on_cuda, torch_eager),
    "torch-cuda-compiled": partial(on_cuda, torch_compiled),
}
"""Run only where they are asked for; JAX and TensorFlow take a device that they find by themselves."""


def measure(workload: Workload) -> Timed:
    """The measurement that is timed."""
    layout = workload.layout
    return lambda grads: na.reset_masks(na.grama(grads, layout), TAU)


@dataclass(frozen=True)
class Result:
    """The shortest times of one workload in one library, in microseconds."""

    library: str
    gradients: str
    neurons: str
    megabytes: float
    plain_sum: float
    magnitudes: float
    measurement: float
    published: float

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        times = (f"{self.megabytes:.2f}", f"{self.plain_sum:.0f}")
        ratios = [time / self.plain_sum for time in (self.magnitudes, self.measurement, self.published)]
        ratios.append(self.measurement / self.magnitudes)
        return (self.library, self.gradients, self.neurons, *times, *(f"{ratio:.1f}" for ratio in ratios))


def run(library: Library, workload: Workload, rounds: int) -> Result:
    """Time the four in turns."""
    grads = {name: library.convert(array) for name, array in workload.draw().items()}
    timed = (library.plain_sum, library.magnitudes, library.measurement, library.published)
    shortest = [float("inf")] * len(timed)
    for turn in range(rounds + 2):
        for offset in range(len(timed)):
            i = (turn + offset) % len(timed)  # rotate the order
            start = time.perf_counter()
            timed[i](grads)
            if turn > 1:  # the first two compile and fill the caches
                shortest[i] = min(shortest[i], time.perf_counter() - start)
    times = [1e6 * seconds for seconds in shortest]
    return Result(library.name, workload.name, workload.neurons, workload.megabytes, *times)


def benchmark(names: Iterable[str], sizes: Iterable[int], rounds: int) -> list[Result]:
    """Time every workload in every library."""
    both = ("rows", "columns")
    workloads = [single(size, neurons) for size in sizes for neurons in both] + [bro(neurons) for neurons in both]
    return [run((LIBRARIES | ON_CUDA)[name](workload), workload, rounds) for name in names for workload in workloads]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, which prints a table and writes the times if a file is named; return its exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libraries", nargs="+", choices=[*LIBRARIES, *ON_CUDA], default=list(LIBRARIES))
    parser.add_argument("--sizes", nargs="*", type=int, default=[256, 1024, 2048, 4096], help="of the single gradients")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, help="JSON file for the times in microseconds")
    return tell(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    if options.out:
        check_target(options.out)
    results = benchmark(options.libraries, options.sizes, options.rounds)
    header = (
        "library",
        "gradients",
        "neurons are",
        "MB",
        "plain sum, us",
        "abs, sum, x",
        "measurement, x",
        "published, x",
        "measurement / abs, sum",
    )
    print("\n".join(format_table(header, [result.row() for result in results], words=header[:3])))
    if options.out:
        record = {"cores": os.cpu_count(), "results": [asdict(result) for result in results]}
        write_text(options.out, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
