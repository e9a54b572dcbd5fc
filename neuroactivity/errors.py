"""What this library raises and warns with."""

__all__ = ["ActivityWarning", "LayoutError"]


class LayoutError(ValueError):
    """A layout contradicts itself or the arrays it is used with.

    The message names the group, the parameter and the pattern, what was expected and what came.
    """


class ActivityWarning(UserWarning):
    """A neuron group could not be judged: all its gradients are zero, or some are not finite."""
