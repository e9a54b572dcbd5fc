"""The batch that ReDo judges neurons on: tried when the wrapper is made, run when a measurement is due."""

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

import neuroactivity as na
from neuroactivity.arrays import is_sharded
from neuroactivity.wrapping import as_inputs
from neuroactivity_torch.activations import read_activations
from neuroactivity_torch.parameters import undisturbed
from neuroactivity_torch.ranks import Ranks


class Probe:
    """Runs a model on what a function returns, and names each group once that cannot be measured."""

    def __init__(self, inputs: Callable[[], tuple[Any, ...] | Tensor], ranks: Ranks) -> None:
        self._inputs, self._ranks = inputs, ranks
        self._named: set[str] = set()

    def try_out(
        self, model: nn.Module, layout: na.Layout, example_inputs: tuple[Any, ...] | Tensor
    ) -> dict[str, Tensor | None]:
        """Run the model once, so that what is wrong shows now; on the example inputs while there is no batch yet.

        Returns:
            The outputs of neurons; empty if there are no inputs.

        Raises:
            LayoutError: If the layout contradicts what the model does.
        """
        with undisturbed(model):
            try:
                inputs = self._batch()
            except Exception:  # a replay buffer may still be empty
                inputs = as_inputs(example_inputs)
        if not self._ranks.all(bool(inputs)):  # to run a sharded model takes all of them
            return {}

        def run() -> dict[str, Tensor | None]:
            outputs, errors = read_activations(model, inputs, layout)
            for error in errors.values():
                raise error
            return outputs

        outputs = run() if _is_sharded(model) else self._ranks.together(run)
        self._name(outputs)
        return outputs

    def outputs(self, model: nn.Module, layout: na.Layout) -> dict[str, Tensor | None]:
        """Return the outputs of neurons; None for groups that cannot be measured."""
        if _is_sharded(model):  # to run it takes all ranks, so that each must have a batch first
            outputs, _ = read_activations(model, self._ranks.together(self._batch), layout)
        else:
            outputs, _ = self._ranks.together(lambda: read_activations(model, self._batch(), layout))
        self._name(outputs)
        return outputs

    def _batch(self) -> tuple[Any, ...]:
        """Return the model's inputs.

        Raises:
            ValueError: If there are none, or tensors without a single entry.
        """
        inputs = self._inputs()
        tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
        if inputs is None or (tensors and not any(tensor.numel() for tensor in tensors)):
            told = f"shapes {', '.join([str(tuple(tensor.shape)) for tensor in tensors])}" if tensors else "None"
            raise ValueError(f"probe: expected a batch of model inputs, got {told}")
        return as_inputs(inputs)

    def _name(self, outputs: dict[str, Tensor | None]) -> None:
        """Warn of groups that cannot be measured, if they have not been named."""
        unread = [name for name, value in outputs.items() if value is None and name not in self._named]
        self._named |= set(unread)
        if unread:
            warnings.warn(
                f"ReDo does not measure {', '.join(unread)}: what their readers see cannot be told; give a layout "
                "whose groups have their outgoing parameters, or use ReGraMa",
                na.ActivityWarning,
                stacklevel=4,
            )


def _is_sharded(model: nn.Module) -> bool:
    return any(is_sharded(parameter) for parameter in model.parameters())
