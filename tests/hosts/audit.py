"""Looks over a wrapper's shoulder: what each report claims is compared with what happened at that very step."""

from functools import partial

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode

import neuroactivity as na
from neuroactivity_torch import gradients, parameters


class Audit:
    """An ``on_report`` that recomputes scores, and looks which entries of anything were written, and with what.

    Args:
        everything: A module that holds all networks, the trained ones and the others.
        networks: By name, the trained networks and their optimizers.
        starts: What a moment starts with, by its key, where that is not zero.
    """

    def __init__(self, everything, networks, starts=()):
        self.everything, self.networks, self.starts = everything, networks, dict(starts)
        self.layouts, self.reports, self.reset = {}, [], dict.fromkeys(networks, 0)
        self.young = {}  # entries that an earlier reset wrote, which go by their own clock
        optimizers = {id(optimizer): optimizer for _, optimizer in networks.values()}
        for optimizer in optimizers.values():
            number = optimizer.register_step_post_hook(self.look).id
            optimizer.register_step_pre_hook(partial(self.come_first, number=number))
        self.hooks = {number: hooks_of(optimizer) for number, optimizer in optimizers.items()}

    def come_first(self, optimizer, args, kwargs, *, number):
        """Look before the wrapper, whose hook is the first after a step otherwise."""
        optimizer._optimizer_step_post_hooks.move_to_end(number, last=False)

    def look(self, optimizer, args, kwargs):
        """Remember all values, after a step and before the wrapper's hook."""
        self.before = {name: value.detach().clone() for name, value in self.everything.named_parameters()}

    def __call__(self, name, report):
        self.reports.append((name, report))
        module, optimizer = self.networks[name]
        layout = self.layouts[name]() if callable(self.layouts[name]) else self.layouts[name]
        scores = na.grama(gradients(module), layout)
        for group in report.groups:
            torch.testing.assert_close(torch.tensor(group.scores).reshape(scores[group.name].shape), scores[group.name])
        masks = {group.name: torch.tensor(group.mask).squeeze(0) for group in report.groups if group.mask is not None}
        self.reset[name] += sum(int(mask.sum()) for mask in masks.values())
        names = {id(value): name for name, value in module.named_parameters()}
        old = {key: torch.full_like(value, 2.0) for key, value in parameters(module).items()}
        new = na.reset(old, {key: torch.ones_like(value) for key, value in old.items()}, masks, layout)
        for full, value in self.everything.named_parameters():
            own = names.get(id(value))
            written = new[own] != 2 if own else torch.zeros_like(value, dtype=torch.bool)
            young = self.young[full] = self.young.get(full, False) | written
            assert torch.equal(value[~young], self.before[full][~young]), full
            if own:
                assert not value[new[own] == 0].any()
                self.check_moments(optimizer.state.get(value, {}), written)

    def check_moments(self, state, written):
        for key, moment in state.items():
            if isinstance(moment, torch.Tensor) and moment.shape == written.shape:
                assert torch.equal(moment[written], torch.full_like(moment[written], self.starts.get(key, 0.0)))

    def check_detached(self):
        """No hook is left but the audit's own."""
        for _, optimizer in self.networks.values():
            assert hooks_of(optimizer) == self.hooks[id(optimizer)]


def hooks_of(optimizer):
    return dict(optimizer._optimizer_step_pre_hooks), dict(optimizer._optimizer_step_post_hooks)


class Operations(TorchDispatchMode):
    """Counts what PyTorch computes from the end of each step of an optimizer to the end of the next one's."""

    def __init__(self):
        super().__init__()
        self.counts, self.allowed = [0], {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[-1] += 1
        return function(*args, **(kwargs or {}))

    def __enter__(self):
        self._handle = register_optimizer_step_post_hook(lambda *args: self.counts.append(0))
        return super().__enter__()

    def __exit__(self, *args):
        self._handle.remove()
        return super().__exit__(*args)

    def on_report(self, name, report):
        """Allow a measured network so much at this step: 40 operations, and 10 for each of its groups."""
        step = len(self.counts) - 1
        self.allowed[step] = self.allowed.get(step, 0) + 40 + 10 * len(report.groups)


def check_operations(train):
    """Steps without a measurement compute what they do without a wrapper; a measurement does as much for any batch.

    Args:
        train: A function of a batch size that trains, with a wrapper if it gets options.
    """
    found = []
    for size in (8, 16):
        with Operations() as plain:
            train(size)
        with Operations() as measured:
            train(size, every=3, on_report=measured.on_report)
        extra = [new - old for new, old in zip(measured.counts, plain.counts, strict=True)]
        found.append(extra[1:-1])  # without what attaches before, and detaches
        allowed = [measured.allowed.get(step, 0) for step in range(1, len(extra) - 1)]
        assert sum(each > 0 for each in allowed) > 1
        assert all((most > 0) == (more > 0) and more <= most for more, most in zip(found[-1], allowed, strict=True))
    assert found[0] == found[1]
