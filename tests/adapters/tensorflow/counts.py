"""Optimizers with a count for each entry, written as formulas, and small wrappers to be compared with them."""

from types import SimpleNamespace

import numpy as np
import tensorflow as tf
from keras import optimizers

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa, clock

RATE, EPSILON = 2.0**-7, 1e-7
B1, B2 = float(np.float32(0.9)), float(np.float32(0.999))  # as Keras rounds them before it takes their powers
SHAPES = {"w1": (3, 6), "b1": (6,), "w2": (6, 2)}
LAYOUT = na.Layout([na.dense("h", weight=("w1", "in neuron"), bias="b1", outgoing=[("w2", "neuron out")])])


def _gradients(rng):
    """Gradients of sizes that differ from neuron to neuron and from step to step."""
    grads = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    return {**grads, "w1": grads["w1"] * rng.random(6) ** 2}


GRADS = [_gradients(np.random.default_rng(seed)) for seed in range(100)]


def adam(x, g):
    x.m += 0.1 * (g - x.m)
    x.v += 0.001 * (g * g - x.v)
    return np.sqrt(1 - B2**x.t) / (1 - B1**x.t) * x.m / (np.sqrt(x.v) + EPSILON)


def amsgrad(x, g):
    adam(x, g)
    x.h = np.maximum(x.h, x.v)
    return np.sqrt(1 - B2**x.t) / (1 - B1**x.t) * x.m / (np.sqrt(x.h) + EPSILON)


def adamw(x, g):
    x.p *= 1 - RATE * 0.125
    return adam(x, g)


def adamax(x, g):
    x.m += 0.1 * (g - x.m)
    x.n = np.maximum(0.999 * x.n, np.abs(g))
    return x.m / (1 - B1**x.t) / (x.n + EPSILON)


def nadam(x, g):
    now, then = (B1 * (1 - 0.5 * float(np.float32(0.96)) ** (x.t + k)) for k in (0, 1))
    x.u *= 0.9 * (1 - 0.5 * 0.96**x.t)
    x.q += (1 - B1) * (g - x.q)
    x.v += (1 - B2) * (g * g - x.v)
    mean = then * x.q / (1 - x.u * then) + (1 - now) * g / (1 - x.u)
    return mean / (np.sqrt(x.v / (1 - B2**x.t)) + EPSILON)


def schedule_free(x, g):
    x.v += (1 - B2) * (g * g - x.v)
    x.z = x.z - RATE * g / (np.sqrt(x.v / (1 - B2**x.t)) + EPSILON)
    mean = (x.p - (1 - B1) * x.z) / B1  # Keras reads z after its update
    mean += (x.z - mean) / x.t
    return (x.p - ((1 - B1) * x.z + B1 * mean)) / RATE


KINDS = {
    "Adam": (lambda: optimizers.Adam(RATE), adam),
    "schedule": (lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(RATE, 1, 1.0), clipvalue=1e3), adam),
    "AMSGrad": (lambda: optimizers.Adam(RATE, amsgrad=True), amsgrad),
    "AdamW": (lambda: optimizers.AdamW(RATE, weight_decay=0.125), adamw),
    "Adamax": (lambda: optimizers.Adamax(RATE), adamax),
    "Nadam": (lambda: optimizers.Nadam(RATE), nadam),
}
if hasattr(optimizers, "ScheduleFreeAdamW"):
    KINDS["ScheduleFreeAdamW"] = (
        lambda: optimizers.ScheduleFreeAdamW(RATE, beta_1=0.9, epsilon=EPSILON),
        schedule_free,
    )


class Reference:
    """An optimizer with a count for each entry, in float64; after its youth an entry takes on the count of the run."""

    def __init__(self, rule, params):
        self.rule, self.steps, self.product = rule, 0, 1.0
        self.entries = {name: self.fresh(value.astype("float64")) for name, value in params.items()}
        for x in self.entries.values():
            x.young[:] = False

    @staticmethod
    def fresh(p):
        zero = {name: np.zeros(p.shape) for name in "mvhnqt"}
        return SimpleNamespace(p=p.copy(), z=p.copy(), u=np.ones(p.shape), young=np.ones(p.shape, bool), **zero)

    def step(self, grads):
        self.steps += 1
        self.product *= 0.9 * (1 - 0.5 * 0.96**self.steps)
        for name, x in self.entries.items():
            x.t += 1
            x.p -= RATE * self.rule(x, grads[name].astype("float64"))
            old = x.young & (x.t == clock.YOUNG)
            x.m[old] *= (1 - 0.9**self.steps) / (1 - 0.9**clock.YOUNG)
            for second in (x.v, x.h):
                second[old] *= (1 - 0.999**self.steps) / (1 - 0.999**clock.YOUNG)
            x.u[old], x.t[old] = self.product, self.steps
            x.young &= ~old

    def reset(self, mask, params):
        for name, x in self.entries.items():
            where = np.broadcast_to(mask[:, None] if name == "w2" else mask, SHAPES[name])
            for key, value in vars(self.fresh(params[name].astype("float64"))).items():
                getattr(x, key)[where] = value[where]


def variables(dtype="float32"):
    values = np.random.default_rng(0).normal(size=(3, 12))
    shaped = {name: np.resize(values, shape) for name, shape in SHAPES.items()}
    return {name: tf.Variable(value, dtype=dtype) for name, value in shaped.items()}


def wrapped(make, dtype="float32", **options):
    held = variables(dtype)
    options = {"tau": 0.3, "every": 20, "initializer": "snapshot", **options}
    wrapper = ReGraMa(make(), held, layout=LAYOUT, **options)
    wrapper.build(list(held.values()))
    return wrapper, held


def compiled(wrapper, held, **options):
    return tf.function(lambda *grads: wrapper.apply(list(grads), list(held.values())), **options)


def tensors(grads, dtype="float32"):
    return [tf.constant(value, dtype) for value in grads.values()]


def numpy(held):
    return {name: variable.numpy() for name, variable in held.items()}


def train(wrapper, held, step, dtype, rule, steps):
    """Train beside the reference; return the largest difference between their parameters, of sizes around 1."""
    reference, worst = Reference(rule, numpy(held)), 0.0
    for k, grads in enumerate(GRADS[:steps], start=1):
        step(*tensors(grads, dtype))
        reference.step({name: value.astype(dtype) for name, value in grads.items()})
        params = numpy(held)
        if k % wrapper.every == 0:
            reference.reset(np.array(wrapper.last_report["h"].mask[0]), params)
        worst = max(worst, *(np.abs(params[name] - x.p).max() for name, x in reference.entries.items()))
    return worst
