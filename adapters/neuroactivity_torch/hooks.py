"""The hooks of a wrapper around an optimizer's steps: the last one before a step, and the first one after it.

So what a user's hook makes of the parameters before a step is what the step starts from, and one that clamps them after
it, or clears gradients, comes when everything has been measured and reset. A step inside of a step of the same
optimizer is a part of it.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as _steps
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

_STEPS = _steps.__file__
_running: list["Hooks"] = []
"""The wrappers whose hooks are running."""

_ours: set[int] = set()
"""The numbers of all wrappers' hooks after steps, which come in the order in which the wrappers were made."""

_leaving: list[RemovableHandle] = []
"""Hooks that were removed meanwhile: to take one off while PyTorch goes through them makes it fail."""


class Hooks:
    """Calls functions before and after each step of optimizers.

    Args:
        optimizers: The optimizers.
        before: Called before a step, if it is given.
        after: Called after a step.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], before: Callable[..., Any] | None, after: Callable[..., None]
    ) -> None:
        depths: dict[int, int] = {}

        def begins(optimizer: Optimizer, *args: Any) -> Any:
            depth = depths.get(id(optimizer), 0)
            depths[id(optimizer)] = depth = 1 + (
                depth if depth and _is_inside(optimizer) else 0
            )  # or the last one failed
            return before(optimizer, *args) if before is not None and depth == 1 else None

        def called(optimizer: Optimizer, *args: Any) -> None:
            depths[id(optimizer)] = depths.get(id(optimizer), 1) - 1
            if not self._after or depths[id(optimizer)] > 0:
                return
            _running.append(self)
            try:
                after(optimizer, *args)
            finally:
                _running.pop()
            if self._before:
                _hooks(optimizer, "pre").move_to_end(self._before[id(optimizer)].id)

        eager: Any = torch.compiler.disable
        self._after = [each.register_step_post_hook(eager(called)) for each in optimizers]
        _ours.update([handle.id for handle in self._after])
        for hooks in [_hooks(each, "post") for each in optimizers]:
            for number in [number for number in reversed(hooks) if number in _ours]:
                hooks.move_to_end(number, last=False)
        self._before = {id(each): each.register_step_pre_hook(eager(begins)) for each in optimizers}

    def remove(self) -> None:
        """Remove the hooks at once, or after the step if one is running."""
        handles = [*self._after, *self._before.values()]
        self._after, self._before = [], {}
        if not _running:
            _take_off(handles)
            return
        if not _leaving:
            _leaving.append(register_optimizer_step_post_hook(lambda *args: _take_off(_leaving)))
        _leaving.extend(handles)

    def __getstate__(self) -> dict[str, Any]:
        """A copy is attached to nothing."""
        return {"_after": [], "_before": {}}


def _hooks(optimizer: Optimizer, when: str) -> Any:
    """What an optimizer calls before (``"pre"``) or after (``"post"``) its steps, in order."""
    return getattr(optimizer, f"_optimizer_step_{when}_hooks")


def _is_inside(optimizer: Optimizer) -> bool:
    """Whether a step runs inside of another one, as where a class calls its parent's, of which PyTorch hooks both."""
    found, frame = 0, sys._getframe(1)
    while frame is not None and found < 2:
        code = frame.f_code
        if code.co_name == "wrapper" and code.co_filename == _STEPS:
            found += frame.f_locals.get("args", (None,))[0] is optimizer
        frame = frame.f_back  # type: ignore[assignment]
    return found > 1


def _take_off(handles: list[RemovableHandle]) -> None:
    while handles:
        handles.pop().remove()
