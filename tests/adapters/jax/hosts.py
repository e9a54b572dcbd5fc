"""A network as hosts have it, and its layout."""

import flax.linen as nn

import neuroactivity as na


class Network(nn.Module):
    """Two dense layers."""

    width: int

    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(1)(hidden)


LAYOUT = na.Layout(
    [
        na.dense(
            "hidden",
            weight=("Dense_0/kernel", "in neuron"),
            bias="Dense_0/bias",
            outgoing=[("Dense_1/kernel", "neuron out")],
        )
    ]
)
