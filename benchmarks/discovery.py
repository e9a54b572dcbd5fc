"""What the search for a layout costs: seconds of one processor, evaluations of the model, and the most memory at once.

Each network is searched in a process of its own, so that the memory is its own.

    python -m benchmarks.discovery --out discovery.json
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuroactivity.looking.commandline import Parser
from neuroactivity.tables import format_table
from reference_agents.commandline import tell
from reference_agents.running.files import check_target, write_text

NETWORKS = ("bro", "unet", "gpt", "gpt-85m")


@dataclass(frozen=True)
class Search:
    """What one search took.

    Attributes:
        network: Its name.
        parameters: The number of its parameters.
        groups: The number of its groups.
        seconds: Of processor time, in one thread.
        evaluations: Of the model, most of them with its gradients.
        copies: The most memory at once, in copies of the model, its own parameters among them.
    """

    network: str
    parameters: int
    groups: int
    seconds: float
    evaluations: int
    copies: float

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        numbers = (f"{self.parameters / 1e6:.1f}", f"{self.groups}", f"{self.seconds:.1f}", f"{self.evaluations}")
        return (self.network, *numbers, f"{self.copies:.1f}")


def make(name: str) -> tuple[Any, tuple[Any, ...]]:
    """Return a network and its example inputs."""
    import torch

    from benchmarks import networks

    torch.manual_seed(0)
    match name:
        case "bro":
            return networks.BroAgent(), (torch.zeros(8, 67), torch.zeros(8, 21))
        case "unet":
            return networks.DiffusionUnet(), (torch.zeros(4, 6, 16), torch.zeros(4, 17), torch.zeros(4, 16))
        case "gpt":
            return networks.Gpt(), (torch.randint(0, 64, (4, 8)),)
        case _:
            return networks.Gpt(blocks=12, width=768, heads=12), (torch.randint(0, 64, (2, 8)),)


def search(name: str) -> Search:
    """Search for the layout of a network."""
    import torch

    import neuroactivity_torch
    from neuroactivity.discovery.gradients import GradientStream
    from neuroactivity_torch import layouts, probing

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    calls: Counter[str] = Counter()
    probe_functions = probing.probe_functions

    def counting(evaluate: Callable[..., Any]) -> Callable[..., Any]:
        def evaluate_and_count(*args: Any) -> Any:
            calls["evaluations"] += 1
            return evaluate(*args)

        return evaluate_and_count

    def counted(*args: Any, **options: Any) -> tuple[Callable[..., Any], ...]:
        gradients, outputs = probe_functions(*args, **options)
        return GradientStream(counting(gradients.each)), counting(outputs)

    vars(layouts)["probe_functions"] = counted
    model, inputs = make(name)
    model(*inputs)
    entries = sum(parameter.numel() for parameter in model.parameters())
    before, start = _most_bytes(), time.process_time()
    layout = neuroactivity_torch.layout_of(model, *inputs)
    seconds = time.process_time() - start
    copies = 1 + (_most_bytes() - before) / (4 * entries)
    return Search(name, entries, len(layout), seconds, calls["evaluations"], copies)


def _most_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, which prints a table and writes it if a file is named; return its exit status."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    return tell(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> None:
    if options.out:
        check_target(options.out)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        searches = list(pool.map(search, options.networks))
    header = ("network", "parameters, M", "groups", "processor, s", "evaluations", "memory, copies")
    print("\n".join(format_table(header, [found.row() for found in searches], words=header[:1])))
    if options.out:
        record = [asdict(found) for found in searches]
        write_text(options.out, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
