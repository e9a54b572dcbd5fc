"""Looks over a wrapper's shoulder: what each report claims is compared with what happened at that very step."""

import torch

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
            optimizer.register_step_post_hook(self.look)
        self.hooks = {number: dict(own._optimizer_step_post_hooks) for number, own in optimizers.items()}

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
            assert dict(optimizer._optimizer_step_post_hooks) == self.hooks[id(optimizer)]
            assert not optimizer._optimizer_step_pre_hooks
