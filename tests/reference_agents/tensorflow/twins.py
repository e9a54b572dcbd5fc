"""PyTorch networks and agents with the weights of TensorFlow's."""

import torch

from neuroactivity_tensorflow import parameters
from tests.reference_agents.torch import cases as agent_cases

_NAMES = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}


def as_torch(network):
    """The weights of a Keras network as those of the PyTorch network of the same structure."""
    state = {}
    for name, value in parameters(network).items():
        path, _, label = name.replace("/", ".").rpartition(".")
        array = value.numpy().T if label == "kernel" else value.numpy()
        state[f"{path}.{_NAMES[label]}"] = torch.from_numpy(array.copy())
    return state


def torch_twin(agent):
    """A PyTorch agent with the settings and the weights of a TensorFlow agent."""
    settings = {name: value for name, value in vars(agent.config).items() if name not in ("framework", "algo")}
    twin = agent_cases.agent_of(agent.config.algo, **settings)
    twin.actor.load_state_dict(as_torch(agent.actor))
    for ours, theirs in ((agent.critics, twin.critics), (agent.targets, twin.targets)):
        for network, module in zip(ours, theirs, strict=True):
            module.load_state_dict(as_torch(network))
    if hasattr(agent, "target_actor"):
        twin.target_actor.load_state_dict(as_torch(agent.target_actor))
    return twin
