"""What users of Stable-Baselines3 do besides one ``learn`` of a model as it was made."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

import neuroactivity as na

callbacks = pytest.importorskip("stable_baselines3.common.callbacks")

from tests.hosts.test_stable_baselines3_callback import Extractor, Observed, audited, host, make  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")


class At(callbacks.BaseCallback):
    """Does something at one step."""

    def __init__(self, step, do):
        super().__init__()
        self.step, self.do = step, do

    def _on_step(self):
        if self.num_timesteps == self.step:
            self.do(self.model)
        return True


@pytest.mark.parametrize("method", ["regrama", "redo"])
def test_actions_of_any_shape_and_precision(method):
    actions = spaces.Box(-1, 1, (2, 2), np.float64)
    callback = host.ActivityCallback(method, every=4, tau=0.4)
    make("SAC", env=Observed(spaces.Box(-1, 1, (3,)), actions)).learn(30, callback=callback)
    assert all(wrapper.neurons_reset > 0 for wrapper in callback.wrappers.values())


@pytest.mark.parametrize("part", ["mlp_extractor", None])
def test_compiled_networks(part):
    model = make("PPO")
    if part is None:
        model.policy = torch.compile(model.policy, backend="eager")
    else:
        setattr(model.policy, part, torch.compile(getattr(model.policy, part), backend="eager"))
    callback = host.ActivityCallback(every=4, tau=0.4)
    model.learn(16, callback=callback)
    assert callback.wrappers["policy"].neurons_reset > 0


def test_a_callback_that_another_one_triggers_is_refused():
    inner = [host.ActivityCallback() for _ in range(2)]
    outer = [
        callbacks.EveryNTimesteps(10, inner[0]),
        callbacks.EvalCallback(make("SAC").get_env(), callback_on_new_best=inner[1]),
    ]
    for callback in outer:
        name = type(callback).__name__
        with pytest.raises(ValueError, match=rf"^callback: give it to learn\(\) itself, not to {name}$"):
            make("SAC").learn(1, callback=callback)


@pytest.mark.parametrize("what", ["policy", "optimizer"])
def test_what_is_replaced_while_it_learns_is_attached_to(what):
    def replace(model):
        new = make("PPO").policy
        if what == "policy":
            model.policy = new
        else:
            model.policy.optimizer = torch.optim.Adam(model.policy.parameters())

    model = make("PPO")
    callback = host.ActivityCallback(every=4)
    with pytest.warns(na.ActivityWarning, match="^networks or optimizers were replaced, attaching anew$"):
        model.learn(64, callback=[callback, At(32, replace)])
    wrapper = callback.wrappers["policy"]
    assert (wrapper.model, wrapper.optimizer) == (model.policy, model.policy.optimizer)
    assert wrapper.steps == 80
    assert not model.policy.optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("arch", [[12, 12], [7], []])
def test_a_model_with_other_layers_starts_anew(arch):
    model = make("PPO")
    model.learn(16, callback=host.ActivityCallback(every=4))
    model.policy_kwargs = {"net_arch": arch}
    model._setup_model()
    audit, callback = audited(model)
    with pytest.warns(
        na.ActivityWarning, match="^policy starts anew: its state is of a network with other parameters$"
    ):
        model.learn(16, callback=callback)
    assert callback.wrappers["policy"].steps == 20
    assert audit.reset["policy"] > 0 or not arch
    if arch == [12, 12]:
        (view,) = callback.wrappers["policy"].layout["mlp_extractor.policy_net.0"].outgoing
        assert view.param == "mlp_extractor.policy_net.2.weight"


class Deep(Extractor):
    def __init__(self, space):
        super().__init__(space)
        self.layer = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 9))


def test_layers_in_the_optimizers_of_two_networks_are_left_alone():
    shared = {"share_features_extractor": True, "features_extractor_class": Deep, "net_arch": [12]}
    callback = host.ActivityCallback("redo", every=2, tau=0.9)
    make("TD3", policy_kwargs=shared).learn(30, callback=callback)
    for wrapper in callback.wrappers.values():
        group = wrapper.layout["features_extractor.layer.0"]
        assert not group.resettable
        assert group.reason.startswith("trained with several networks")
        assert wrapper.neurons_reset > 0


def test_networks_are_names():
    for wrong, shown in (("critic", "'critic'"), ([], r"\[\]"), ([3], r"\[3\]"), (3, "3")):
        with pytest.raises(ValueError, match=rf"^networks: expected names in a list, or None for all, got {shown}$"):
            host.ActivityCallback(networks=wrong)
