"""Optimizers in formulas, in NumPy's float64, with a step count for each entry; rates are 0.1."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import optax

RATE = 0.1
Moments: TypeAlias = dict[str, np.ndarray]
Formula: TypeAlias = Callable[[Moments, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From moments, which it changes, gradient, count of this step by entry, and parameter to the update."""


def average(moments: Moments, name: str, value: np.ndarray, decay: float) -> np.ndarray:
    moments[name] = decay * moments.get(name, 0.0) + (1 - decay) * value
    return moments[name]


def adam(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    mu, nu = average(m, "mu", g, 0.9), average(m, "nu", g**2, 0.999)
    return -RATE * mu / (1 - 0.9**t) / (np.sqrt(nu / (1 - 0.999**t)) + 1e-8)


def adamw(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    return adam(m, g, t, p) - RATE * 0.01 * p


def adamax(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    m["nu"] = np.maximum(0.999 * m.get("nu", 0.0), np.abs(g) + 1e-8)
    return -RATE * average(m, "mu", g, 0.9) / (1 - 0.9**t) / m["nu"]


def nadam(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    mu, nu = average(m, "mu", g, 0.9), average(m, "nu", g**2, 0.999)
    ahead = 0.9 * mu / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
    return -RATE * ahead / (np.sqrt(nu / (1 - 0.999**t)) + 1e-8)


def amsgrad(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    mu, nu = average(m, "mu", g, 0.9), average(m, "nu", g**2, 0.999)
    m["nu_max"] = np.maximum(m.get("nu_max", 0.0), nu / (1 - 0.999**t))
    return -RATE * mu / (1 - 0.9**t) / (np.sqrt(m["nu_max"]) + 1e-8)


def radam(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    mu, nu = average(m, "mu", g, 0.9), average(m, "nu", g**2, 0.999)
    longest = 2 / (1 - 0.999) - 1
    length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
    safe = np.maximum(length, 4.5)
    rectified = np.sqrt((safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe))
    hat = mu / (1 - 0.9**t)
    return -RATE * np.where(length >= 5, rectified * hat / (np.sqrt(nu / (1 - 0.999**t)) + 1e-8), hat)


def adabelief(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    mu = average(m, "mu", g, 0.9)
    nu = average(m, "nu", (g - mu) ** 2, 0.999) + 1e-16
    return -RATE * mu / (1 - 0.9**t) / (np.sqrt(nu / (1 - 0.999**t)) + 1e-16)


def rmsprop(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    return -RATE * g / (np.sqrt(average(m, "nu", g**2, 0.9) / (1 - 0.9**t)) + 1e-8)


def adan(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    change = np.where(t == 1, 0.0, g - m.get("g", 0.0))
    m["g"] = g
    mu, v = average(m, "mu", g, 0.98), average(m, "v", change, 0.92)
    n = average(m, "n", (g + (1 - 0.92) * change) ** 2, 0.99)
    ahead = mu / (1 - 0.98**t) + (1 - 0.92) * v / (1 - 0.92**t)
    return -RATE * ahead / (np.sqrt(n / (1 - 0.99**t) + 1e-8) + 1e-8)


def averaged_adam(m: Moments, g: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    return average(m, "ema", adam(m, g, t, p), 0.8) / (1 - 0.8**t)


FORMULAS: dict[str, tuple[Callable[[], Any], Formula]] = {
    "adam": (lambda: optax.adam(RATE), adam),
    "adamw": (lambda: optax.adamw(RATE, weight_decay=0.01), adamw),
    "adamax": (lambda: optax.adamax(RATE), adamax),
    "nadam": (lambda: optax.nadam(RATE), nadam),
    "amsgrad": (lambda: optax.amsgrad(RATE), amsgrad),
    "radam": (lambda: optax.radam(RATE), radam),
    "adabelief": (lambda: optax.adabelief(RATE), adabelief),
    "rmsprop": (lambda: optax.rmsprop(RATE, decay=0.9, bias_correction=True, eps_in_sqrt=False), rmsprop),
    "adan": (lambda: optax.adan(RATE), adan),
    "averaged adam": (lambda: optax.chain(optax.adam(RATE), optax.ema(0.8)), averaged_adam),
    "injected": (lambda: optax.inject_hyperparams(optax.adam)(RATE), adam),
    "masked": (lambda: optax.masked(optax.adam(RATE), {"a": True, "out": True}), adam),
    "multi_transform": (
        lambda: optax.multi_transform(
            {"one": optax.adam(RATE), "other": optax.adam(RATE)}, {"a": "one", "out": "other"}
        ),
        adam,
    ),
}
