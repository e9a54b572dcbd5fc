"""The study in PyTorch, one run after the other.

In the residual network no layer reads a hidden layer alone, so ReDo's ``probe`` sees it before its activation function.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import neuroactivity as na
from benchmarks.continual_digits.study import (
    CLASSES,
    DORMANT_TAU,
    GRAMA_TAU,
    HIDDEN,
    PIXELS,
    Outcome,
    Study,
    Tasks,
    initial_weights,
)
from neuroactivity_torch import ReDo, ReGraMa, gradients, layout_of, write
from reference_agents.activity import Lasting

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": nn.LeakyReLU(),
}


class Network(nn.Module):
    """Two hidden layers and an output layer."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.study = study
        self.hidden1 = nn.Linear(PIXELS, HIDDEN)
        self.hidden2 = nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, CLASSES)
        normed = study.network == "layernorm"
        self.norm1 = nn.LayerNorm(HIDDEN) if normed else nn.Identity()
        self.norm2 = nn.LayerNorm(HIDDEN) if normed else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (image, class)."""
        return self.outputs_of(images)["out"]

    def outputs_of(self, images: Tensor) -> dict[str, Tensor]:
        """Return the output of each layer, of the hidden ones after the activation function."""
        activate = ACTIVATIONS[self.study.activation]
        x = activate(self.norm1(self.hidden1(images)))
        y = activate(self.norm2(self.hidden2(x)))
        logits = self.out(x + y if self.study.network == "residual" else y)
        return {"hidden1": x, "norm1": x, "hidden2": y, "norm2": y, "out": logits}


def draw_weights(study: Study, key: int) -> dict[str, Tensor]:
    """Draw initial weights by name."""
    weights = {}
    for name, value in initial_weights(study, np.random.default_rng(key)).items():
        name = name.replace("/", ".").replace("kernel", "weight").replace("scale", "weight")
        weights[name] = torch.from_numpy(np.ascontiguousarray(value.T))
    return weights


def run(study: Study, tasks: Tasks, advance: Callable[[], None]) -> Outcome:
    """Run all seeds; ``advance`` is called after each task."""
    torch.set_num_threads(1)
    runs = [_run(study, tasks, index, advance) for index in range(study.seeds)]
    return Outcome(*(np.stack(values) for values in zip(*runs, strict=True)))


def _run(study: Study, tasks: Tasks, index: int, advance: Callable[[], None]) -> Outcome:
    seed = study.seed + index
    images, labels = torch.from_numpy(tasks.images), torch.from_numpy(tasks.labels[index]).long()
    network = Network(study)
    write(network, draw_weights(study, seed))
    optimizer = torch.optim.Adam(network.parameters(), lr=study.learning_rate, fused=True)
    layout = layout_of(network, images[:16])
    inputs, lasting = images, Lasting()

    def on_report(report: na.ActivityReport) -> None:
        nonlocal lasting
        lasting = lasting.plus(report)

    options: dict[str, Any] = {
        "layout": layout,
        "initializer": lambda key: draw_weights(study, key),
        "seed": seed,
        "on_report": on_report,
        **study.wrapper_options,
    }
    wrapper: ReGraMa | ReDo | None = None
    if study.reset == "regrama":
        wrapper = ReGraMa(network, optimizer, **options)
    elif study.reset == "redo":
        wrapper = ReDo(network, optimizer, probe=lambda: inputs, **options)
    outcome = []
    for task in range(study.tasks):
        before = _counts(wrapper, lasting)
        shares = []
        for batch in torch.from_numpy(tasks.batches[index, task]).long():
            inputs = images[batch]
            outputs = network.outputs_of(inputs)
            loss = nn.functional.cross_entropy(outputs["out"], labels[task, batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            shares.append(_inactive(network, outputs, layout))
            optimizer.step()
        with torch.no_grad():
            accuracy = (network(images).argmax(1) == labels[task]).double().mean().item()
        outcome.append((accuracy, *np.mean(shares, 0), *(_counts(wrapper, lasting) - before)))
        advance()
    accuracies, inactive, dormant, *counts = map(np.array, zip(*outcome, strict=True))
    return Outcome(accuracies, inactive, dormant, *(count.astype(int) for count in counts))


def _counts(wrapper: ReGraMa | ReDo | None, lasting: Lasting) -> NDArray[np.int64]:
    """Return the neurons reset so far, those measured again since, and those of them that were inactive."""
    resets = wrapper.neurons_reset if wrapper else 0
    return np.array([resets, lasting.measured_again, lasting.reset_again])


def _inactive(network: nn.Module, outputs: dict[str, Tensor], layout: na.Layout) -> tuple[float, float]:
    """Return the fraction of hidden neurons that GraMa, and that the tau-dormant score, finds inactive."""
    by_gradient = na.grama(gradients(network), layout)
    by_output = na.tau_dormant({name: outputs[name].detach() for name in layout}, layout)
    return _share(by_gradient, GRAMA_TAU), _share(by_output, DORMANT_TAU)


def _share(scores: dict[str, Tensor], tau: float) -> float:
    low = [scores[name] <= tau for name in scores if name != "out"]
    return torch.cat(low).double().mean().item()
