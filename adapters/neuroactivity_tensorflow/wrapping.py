"""A Keras optimizer that stands around another one and passes everything on to it, as ``LossScaleOptimizer`` does."""

from typing import Any

import keras

__all__ = ["Wrapping", "innermost"]


class Wrapping(keras.optimizers.Optimizer):  # type: ignore[misc]
    """A Keras optimizer around another one.

    Args:
        optimizer: The optimizer that makes the steps.
        name: Name of this one.
    """

    def __init__(self, optimizer: Any, *, name: str | None = None) -> None:
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = optimizer

    @property
    def variables(self) -> list[Any]:
        """Its own variables, then those of the inner optimizer."""
        return [*self._variables, *self.inner_optimizer.variables]

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        """The inner optimizer's count of iterations."""
        return self.inner_optimizer.iterations

    @property
    def loss_scale_factor(self) -> Any:
        """The inner optimizer's loss scale."""
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: Any) -> None:
        if hasattr(self, "inner_optimizer"):  # Keras's constructor sets it before there is one
            self.inner_optimizer.loss_scale_factor = factor

    def scale_loss(self, loss: Any) -> Any:
        """Scale a loss as the inner optimizer does."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Let the inner optimizer set the last values, such as averages."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Exclude variables from the inner optimizer's weight decay."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)


def innermost(optimizer: Any) -> Any:
    """Return the optimizer that makes the steps, inside all wrappers of this library."""
    return innermost(optimizer.inner_optimizer) if isinstance(optimizer, Wrapping) else optimizer
