"""Runs in which resets are young, with every optimizer that corrects a bias."""

import numpy as np
import torch
from torch import optim

import neuroactivity as na
from neuroactivity_torch import ReGraMa, layout_of
from tests.adapters.torch import per_entry
from tests.adapters.torch.models import X, mlp
from tests.adapters.torch.per_entry import B1, B2, DECAY, LR

LAYOUT = layout_of(mlp(), X)
COMMON = {"lr": LR, "betas": (B1, B2)}
OPTIMIZERS = {
    "Adam": (lambda p: optim.Adam(p, **COMMON), per_entry.adam),
    "Adam foreach": (lambda p: optim.Adam(p, **COMMON, foreach=True, weight_decay=DECAY), per_entry.decayed_adam),
    "Adam fused": (lambda p: optim.Adam(p, **COMMON, fused=True), per_entry.adam),
    "Adam with a learning rate in a tensor": (
        lambda p: optim.Adam(p, lr=torch.tensor(LR, dtype=torch.float64), betas=(B1, B2)),
        per_entry.adam,
    ),
    "AdamW": (lambda p: optim.AdamW(p, **COMMON, weight_decay=DECAY, maximize=True), per_entry.adamw),
    "AdamW fused": (
        lambda p: optim.AdamW(p, **COMMON, weight_decay=DECAY, maximize=True, fused=True),
        per_entry.adamw,
    ),
    "AMSGrad": (lambda p: optim.Adam(p, **COMMON, amsgrad=True), per_entry.amsgrad),
    "NAdam": (lambda p: optim.NAdam(p, **COMMON), per_entry.nadam),
    "NAdam foreach": (lambda p: optim.NAdam(p, **COMMON, foreach=True), per_entry.nadam),
    "RAdam": (lambda p: optim.RAdam(p, **COMMON), per_entry.radam),
    "Adamax": (lambda p: optim.Adamax(p, **COMMON), per_entry.adamax),
}


class Run:
    """A model that is trained with random gradients; some neurons get none where a measurement is due."""

    def __init__(self, make_optimizer, every=None, dtype=torch.float64, dead=2, device="cpu", **options) -> None:
        self.model = mlp().to(device, dtype)
        self.optimizer = make_optimizer(self.model.parameters())
        self.schedule = optim.lr_scheduler.ExponentialLR(self.optimizer, 0.99)
        self.params, self.dead, self.every = dict(self.model.named_parameters()), dead, every
        if every is not None:
            self.resetter = ReGraMa(self.model, self.optimizer, layout=LAYOUT, tau=0.0, every=every, **options)

    def gradients(self, number):
        rng = np.random.default_rng(number)
        grads = {name: torch.from_numpy(rng.normal(size=tuple(p.shape))).to(p) for name, p in self.params.items()}
        for layer in ("0", "2"):
            neurons = rng.choice(16, self.dead, replace=False)
            grads[f"{layer}.weight"][neurons] = grads[f"{layer}.bias"][neurons] = 0.0
        return grads

    def step(self, number):
        """Take a step; return the gradients and the learning rate."""
        grads, lr = self.gradients(number), float(self.optimizer.param_groups[0]["lr"])
        for name, parameter in self.params.items():
            parameter.grad = grads[name].clone()
        self.optimizer.step()
        self.schedule.step()
        return grads, lr

    def written(self):
        """Where the last step has reset, by parameter."""
        if self.resetter.steps % self.every:
            return {name: torch.zeros_like(p, dtype=torch.bool) for name, p in self.params.items()}
        ones = {name: torch.ones_like(p) for name, p in self.params.items()}
        masks = {group.name: torch.tensor(group.mask[0]) for group in self.resetter.last_report.groups}
        new = na.reset(ones, {name: 2 * one for name, one in ones.items()}, masks, LAYOUT)
        return {name: value != 1 for name, value in new.items()}


def young(steps=9):
    """A run in which two resets are young."""
    run = Run(lambda p: optim.Adam(p, lr=LR), 4)
    for number in range(steps):
        run.step(number)
    return run
