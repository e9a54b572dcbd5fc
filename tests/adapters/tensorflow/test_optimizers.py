"""Keras optimizers inside ReGraMa: reset entries fresh, all others as the plain optimizer has them, bit by bit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

import neuroactivity as na
from neuroactivity_tensorflow import ReGraMa, clear_moments, gradients, parameters, write
from tests.adapters.tensorflow.models import Keep, X, Y, equal, mlp, mlp_layout, step, values, written

OPTIMIZERS = {
    "SGD": lambda: optimizers.SGD(0.1),
    "SGD momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: optimizers.Adam(0.05),
    "Adam amsgrad": lambda: optimizers.Adam(0.05, amsgrad=True),
    "Adam average": lambda: optimizers.Adam(0.05, use_ema=True),
    "AdamW": lambda: optimizers.AdamW(0.05, weight_decay=0.01),
    "Nadam": lambda: optimizers.Nadam(0.05),
    "Adamax": lambda: optimizers.Adamax(0.05),
    "Adagrad": lambda: optimizers.Adagrad(0.05, initial_accumulator_value=0.25),
    "Adadelta": lambda: optimizers.Adadelta(0.5),
    "RMSprop": lambda: optimizers.RMSprop(0.05, momentum=0.9, centered=True),
    "Lion": lambda: optimizers.Lion(0.01),
    "Lamb": lambda: optimizers.Lamb(0.05),
    "Muon": lambda: optimizers.Muon(0.05),
    "schedule and clipping": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.05, 2, 0.5), clipnorm=0.1),
}
if hasattr(optimizers, "ScheduleFreeAdamW"):  # not in Keras 3.10
    OPTIMIZERS["ScheduleFreeAdamW"] = lambda: optimizers.ScheduleFreeAdamW(0.05)


SLOW = ("SGD", "Adam", "Adamax", "Nadam", "AdamW", "Lamb", "Muon")  # much like others that are quick to be tested


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in OPTIMIZERS])
def name(request):
    return request.param


def slots(optimizer, model) -> dict[tuple[str, str], np.ndarray]:
    """The optimizer's slots by parameter and kind, told apart by their names alone."""
    found = {}
    for name, variable in zip(values(model), model.trainable_variables, strict=True):
        stem = variable.path.replace("/", "_") + "_"
        for slot in optimizer.variables:
            if slot.name.startswith(stem):
                found[name, slot.name.removeprefix(stem)] = slot.numpy()
    return found


def trainable(model):
    """Leave the silencing layers out of the mapping, so that it is as long as the trainable variables are."""
    assert all(isinstance(layer, Keep) for layer in model.layers if not layer.trainable_variables)
    return model


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore:optimizer Lamb mixes all entries")
def test_contract(name):
    """Three steps with a reset after the third, beside the plain optimizer, all inside tf.function."""
    make = OPTIMIZERS[name]
    model, plain = trainable(mlp()), mlp()
    layout = mlp_layout()
    wrapper, inner = ReGraMa(make(), model, layout=layout, tau=0.6, every=3, seed=1), make()
    steps = [tf.function(lambda x, y, m=m, o=o: step(m, o, x, y)) for m, o in ((model, wrapper), (plain, inner))]
    for optimizer in (wrapper, inner):
        optimizer.build(model.trainable_variables if optimizer is wrapper else plain.trainable_variables)
    grads = None
    for number in range(3):
        for train in steps:
            grads = train(X[16 * number : 16 * number + 16], Y[16 * number : 16 * number + 16])
    masks = na.reset_masks(na.grama(gradients(plain, grads), layout), tau=0.6)
    where, new, old = written(model, masks, layout), values(model), values(plain)
    assert wrapper.neurons_reset == sum(int(np.sum(masks[group])) for group in ("0", "2")) > 5
    assert wrapper.last_report["4"].reset == 0
    for parameter, value in new.items():
        assert np.array_equal(value[~where[parameter]], old[parameter][~where[parameter]]), parameter
    assert (new["0/kernel"][where["0/kernel"]] != old["0/kernel"][where["0/kernel"]]).all()
    assert (new["0/bias"][where["0/bias"]] == 0).all()
    assert (new["4/kernel"][np.array(masks["2"])] == 0).all()
    fresh = make()
    fresh.build(model.trainable_variables)
    kept, started = slots(inner, plain), slots(fresh, model)
    for (parameter, kind), value in slots(wrapper.inner_optimizer, model).items():
        start = new[parameter] if kind == "average" else started[parameter, kind]
        assert np.array_equal(value[where[parameter]], start[where[parameter]]), (parameter, kind)
        assert np.array_equal(value[~where[parameter]], kept[parameter, kind][~where[parameter]]), (parameter, kind)
    assert len(kept) >= (0 if name == "SGD" else 6)
    assert int(wrapper.iterations.numpy()) == int(inner.iterations.numpy()) == 3
    for train in steps:
        train(X[:16], Y[:16])
        assert train.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    "name",
    sorted(OPTIMIZERS.keys() & {"SGD momentum", "Adam amsgrad", "Adagrad", "RMSprop", "Lion", "ScheduleFreeAdamW"}),
)
def test_healthy_neurons_take_the_step_they_would_have_taken(name):
    """After clearing slots, a step with the same gradients moves all other entries as if nothing had happened."""
    make, models = OPTIMIZERS[name], (mlp(), mlp())
    layout, both = mlp_layout(), (make(), make())
    masks = {"0": tf.constant(np.arange(16) % 3 == 0), "2": tf.constant(np.arange(16) < 5)}
    for model, optimizer in zip(models, both, strict=True):
        step(model, optimizer, X, Y)
    clear_moments(both[0], models[0], masks, layout)
    grads = [tf.ones_like(variable) for variable in models[0].trainable_variables]
    for model, optimizer in zip(models, both, strict=True):
        optimizer.apply(grads, model.trainable_variables)
    where = written(models[0], masks, layout)
    for parameter, value in values(models[0]).items():
        assert np.array_equal(value[~where[parameter]], values(models[1])[parameter][~where[parameter]])


def test_two_critics_under_one_optimizer():
    """Published fault 8: each wrapper resets its own critic and clears that critic's slots, whatever their order."""
    critics = [mlp(seed=1, outputs=1), mlp(seed=2, outputs=1)]
    layout, inner = mlp_layout(), optimizers.Adam(0.01)
    first = ReGraMa(inner, critics[0], layout=layout, tau=0.0, every=1, max_fraction=0.0)
    both = ReGraMa(first, critics[1], layout=layout, tau=0.6, every=2)
    variables = [v for critic in reversed(critics) for v in reversed(critic.trainable_variables)]
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_mean(critic(X) ** 2) for critic in critics)
        both.apply(tape.gradient(loss, variables), variables)
    assert (first.steps, first.measurements, first.neurons_reset) == (2, 2, 0)
    assert both.neurons_reset > 5
    assert first.last_report["0"].lowest != both.last_report["0"].lowest
    cleared = [np.sum(value == 0) for critic in critics for (_, kind), value in slots(inner, critic).items()]
    assert sum(cleared[: len(cleared) // 2]) < sum(cleared[len(cleared) // 2 :]) / 2


class Unregistered(optimizers.schedules.LearningRateSchedule):
    """A schedule without a configuration."""

    def __call__(self, step):
        return 0.05


@pytest.mark.parametrize("rate", [lambda: 0.05, Unregistered()], ids=["function", "schedule"])
def test_a_learning_rate_that_has_no_configuration(rate):
    outcomes = []
    for given in (rate, 0.05):
        model, optimizer = mlp(), optimizers.Adam(given, amsgrad=True, use_ema=True)
        wrapper = ReGraMa(optimizer, model, layout=mlp_layout(), tau=0.6, every=2)
        for _ in range(3):
            step(model, wrapper, X, Y)
        assert wrapper.neurons_reset > 5
        outcomes.append({**values(model), **{str(key): value for key, value in slots(optimizer, model).items()}})
    assert len(outcomes[0]) == 6 + 4 * 6
    assert equal(*outcomes)


REFUSED = {
    "Ftrl": (optimizers.Ftrl, "optimizer Ftrl is not supported: it computes parameters from its slots"),
    "Adafactor": (
        optimizers.Adafactor,
        r"optimizer Adafactor is not known.*known are keras\.optimizers' Adadelta, Adagr",
    ),
    "loss scale": (
        lambda: optimizers.LossScaleOptimizer(optimizers.Adam()),
        r"optimizer LossScaleOptimizer is not supported: put the wrapper inside: LossScaleOptimizer\(ReGraMa\(",
    ),
    "accumulation": (
        lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2),
        "optimizer SGD: gradient_accumulation_steps=2 is not supported, since a call of it sees a part",
    ),
    "subclass": (type("MyAdam", (optimizers.Adam,), {}), "optimizer MyAdam is not known"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_known_is_refused_at_once(kind):
    make, message = REFUSED[kind]
    model = mlp()
    layout = mlp_layout()
    with pytest.raises(ValueError, match=message):
        ReGraMa(make(), model, layout=layout)
    with pytest.raises(ValueError, match=message):
        clear_moments(make(), model, {}, layout)


def test_measuring_only_works_with_any_optimizer():
    model = mlp()
    wrapper = ReGraMa(optimizers.Adafactor(0.01), model, layout=mlp_layout(), every=1, max_fraction=0.0, tau=1.0)
    step(model, wrapper, X, Y)
    assert wrapper.last_report["0"].inactive > 0
    assert wrapper.neurons_reset == 0


class Traced(optimizers.Optimizer):
    """An optimizer that nobody knows, with a slot that starts at three."""

    def build(self, variables):
        super().build(variables)
        three = keras.initializers.Constant(3.0)
        self.traces = [self.add_variable_from_reference(v, name="trace", initializer=three) for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        self.assign_add(self.traces[self._get_variable_index(variable)], tf.ones_like(gradient))


def test_an_unknown_optimizer_can_be_taught():
    model = mlp()
    moments = {"trace": lambda parameter, optimizer: tf.fill(parameter.shape, 3.0)}
    wrapper = ReGraMa(Traced(0.1), model, layout=mlp_layout(), tau=0.6, every=1, moments=moments)
    step(model, wrapper)
    assert set(np.unique(wrapper.inner_optimizer.traces[0].numpy())) == {3.0, 4.0}


def test_a_slot_that_no_rule_speaks_of_is_refused_and_nothing_is_written():
    model, optimizer = mlp(), Traced(0.1)
    step(model, optimizer)
    before = values(model)
    with pytest.raises(ValueError, match=r"optimizer Traced, slot 'trace': expected one of average, other"):
        clear_moments(optimizer, model, {}, mlp_layout(), moments={"other": lambda parameter, optimizer: parameter})
    assert equal(values(model), before)


class Unnamed(Traced):
    """An optimizer that does not say what its slots belong to."""

    def build(self, variables):
        optimizers.Optimizer.build(self, variables)
        self.traces = [self.add_variable(v.shape, name="trace") for v in variables]


def test_slots_that_belong_to_no_parameter_are_refused():
    model, optimizer = mlp(), Unnamed(0.1)
    step(model, optimizer)
    moments = {"trace": lambda parameter, optimizer: parameter}
    with pytest.raises(ValueError, match=r"optimizer Unnamed, variable 'trace': it belongs to no parameter"):
        clear_moments(optimizer, model, {}, mlp_layout(), moments=moments)


def test_a_loop_of_ones_own_resets_model_and_optimizer():
    model, optimizer = mlp(), optimizers.Adam(0.01)
    layout = mlp_layout()
    grads = step(model, optimizer, X, Y)
    masks = na.reset_masks(na.grama(gradients(model, grads), layout), tau=0.6)
    fresh = parameters(mlp(seed=1))
    write(model, na.reset(parameters(model), fresh, masks, layout))
    clear_moments(optimizer, model, masks, layout)
    dead = np.array(masks["0"])
    assert dead.any()
    assert np.array_equal(values(model)["0/kernel"][:, dead], fresh["0/kernel"].numpy()[:, dead])
    assert (values(model)["2/kernel"][dead] == 0).all()
    cleared = slots(optimizer, model)["0/kernel", "velocity"]
    assert (cleared[:, dead] == 0).all()
    assert (cleared[:, ~dead] != 0).any()


@pytest.mark.counts(faults=3)
@pytest.mark.parametrize(
    "start",
    [lambda parameter, optimizer: 3.0, lambda parameter, optimizer: parameter * np.nan, 3.0],
    ids=["a number", "NaN", "no function"],
)
def test_start_values_that_could_not_be_written_are_refused_when_the_wrapper_is_made(start):
    with pytest.raises(ValueError, match=r"moments\['trace'\]: expected"):
        ReGraMa(Traced(0.1), mlp(), layout=mlp_layout(), every=1000, moments={"trace": start})
