"""Optimizers with a step count for each entry, as formulas in float64: what a reset neuron's own clock is to equal."""

import torch
from torch import Tensor

LR, B1, B2, EPS, DECAY = 0.01, 0.9, 0.99, 1e-8, 0.1
"""Learning rate, betas, epsilon and weight decay of all optimizers here."""


class PerEntry:
    """One parameter, trained by a formula; ``reset`` makes entries start anew."""

    def __init__(self, formula, parameter: Tensor) -> None:
        self.formula, self.p = formula, parameter.detach().double().clone()
        zeros = torch.zeros_like(self.p)
        self.t, self.m, self.v, self.top, self.product = *(zeros.clone() for _ in range(4)), zeros + 1

    def step(self, gradient: Tensor, lr: float) -> None:
        self.t += 1
        self.p = self.formula(self, gradient.double(), lr)

    def reset(self, where: Tensor, values: Tensor) -> None:
        self.p[where] = values.double()[where]
        for moment in (self.t, self.m, self.v, self.top):
            moment[where] = 0.0
        self.product[where] = 1.0

    def average(self, g: Tensor, *, squares: bool = True) -> tuple[Tensor, Tensor]:
        """Average gradients, and their squares; both without bias."""
        self.m = B1 * self.m + (1 - B1) * g
        if squares:
            self.v = B2 * self.v + (1 - B2) * g * g
        return self.m / (1 - B1**self.t), self.v / (1 - B2**self.t)


def adam(own: PerEntry, g: Tensor, lr: float) -> Tensor:
    m, v = own.average(g)
    return own.p - lr * m / (v.sqrt() + EPS)


def decayed_adam(own: PerEntry, g: Tensor, lr: float) -> Tensor:
    return adam(own, g + DECAY * own.p, lr)


def adamw(own: PerEntry, g: Tensor, lr: float) -> Tensor:
    own.p = own.p * (1 - lr * DECAY)
    return adam(own, -g, lr)  # it maximizes


def amsgrad(own: PerEntry, g: Tensor, lr: float) -> Tensor:
    m, _ = own.average(g)
    own.top = torch.maximum(own.top, own.v)
    return own.p - lr * m / ((own.top / (1 - B2**own.t)).sqrt() + EPS)


def nadam(own: PerEntry, g: Tensor, lr: float) -> Tensor:
    _, v = own.average(g)
    mu, mu_next = [B1 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (own.t, own.t + 1)]
    own.product = own.product * mu
    step = (1 - mu) / (1 - own.product) * g + mu_next / (1 - own.product * mu_next) * own.m
    return own.p - lr * step / (v.sqrt() + EPS)


def radam(own: PerEntry, g: Tensor, lr: float) -> Tensor:
    m, _ = own.average(g)
    end = 2 / (1 - B2) - 1
    length = end - 2 * own.t * B2**own.t / (1 - B2**own.t)
    rectified = ((length - 4) * (length - 2) * end / ((end - 4) * (end - 2) * length)).clamp(min=0).sqrt()
    # PyTorch adds epsilon to the second moment before its bias is corrected
    adaptive = rectified * (1 - B2**own.t).sqrt() / (own.v.sqrt() + EPS)
    return own.p - lr * m * torch.where(length > 5, adaptive, torch.ones_like(length))


def adamax(own: PerEntry, g: Tensor, lr: float) -> Tensor:
    m, _ = own.average(g, squares=False)
    own.top = torch.maximum(B2 * own.top, g.abs() + EPS)
    return own.p - lr * m / own.top
