"""The theorem of the paper (Liu et al. 2025, Section 4.2) in the form in which it is true, and its limits.

In an MLP with ReLU, at tau = 0: a neuron that is dormant, its output zero on every sample, has zero gradients in its
incoming weights, and so is inactive. It takes relu'(0) = 0, and gradients of parameters or pre-activations. Networks
and gradients here are written by hand in float64, so that no framework is believed.
"""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na


class Network:
    """An MLP with ReLU, its loss mean squared error, its gradients by hand."""

    def __init__(self, widths, seed, dead=(), slope_at_zero=0.0):
        """``dead`` names (layer, neuron, kind) to silence: by a low bias, or by zero weights and bias."""
        self.generator = np.random.default_rng(seed)
        pairs = list(itertools.pairwise(widths))
        self.weights = [self.generator.standard_normal((out, fan_in)) for fan_in, out in pairs]
        self.biases = [self.generator.standard_normal(out) for _, out in pairs]
        self.slope_at_zero = slope_at_zero
        for layer, neuron, kind in dead:
            neuron %= widths[layer + 1]
            self.biases[layer][neuron] = -1e6 if kind == "low bias" else 0.0
            if kind == "no weights":
                self.weights[layer][neuron] = 0.0
        self.layout = na.Layout(
            [na.dense(f"h{i}", weight=(f"w{i}", "neuron in"), bias=f"b{i}") for i in range(len(pairs) - 1)]
        )

    def run(self, samples=8):
        """Return outputs, gradients of outputs, of pre-activations (by group) and of weights (by parameter)."""
        x = self.generator.standard_normal((samples, self.weights[0].shape[1]))
        inputs, pre = [x], []
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            pre.append(inputs[-1] @ weight.T + bias)
            inputs.append(np.maximum(pre[-1], 0) if i < len(self.weights) - 1 else pre[-1])
        outputs = {f"h{i}": inputs[i + 1] for i in range(len(self.weights) - 1)}
        d_pre = (inputs[-1] - self.generator.standard_normal(inputs[-1].shape)) / samples
        d_weights, d_outputs, d_pres = {}, {}, {}
        for i in reversed(range(len(self.weights))):
            d_weights[f"w{i}"] = d_pre.T @ inputs[i]
            if i == 0:
                break
            d_outputs[f"h{i - 1}"] = d_pre @ self.weights[i]
            slope = np.where(pre[i - 1] > 0, 1.0, np.where(pre[i - 1] == 0, self.slope_at_zero, 0.0))
            d_pre = d_pres[f"h{i - 1}"] = d_outputs[f"h{i - 1}"] * slope
        return outputs, d_outputs, d_pres, d_weights


def at_most_zero(scores):
    return {name: (values <= 0).tolist() for name, values in scores.items()}


dead_neurons = st.tuples(st.integers(0, 1), st.integers(0, 8), st.sampled_from(["low bias", "no weights"]))
networks = st.builds(
    Network,
    st.tuples(st.integers(1, 4), st.integers(2, 7), st.integers(2, 7), st.integers(1, 3)),
    st.integers(0, 2**32 - 1),
    st.lists(dead_neurons, min_size=1, max_size=5),
)


def test_the_gradients_by_hand_are_right():
    """Central differences of the loss agree with the hand-written gradients of both weights."""
    network = Network((3, 5, 4, 2), seed=0)
    weights = [weight.copy() for weight in network.weights]
    state = network.generator.bit_generator.state

    def loss():
        network.generator.bit_generator.state = state
        x = network.generator.standard_normal((8, 3))
        for i, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            x = x @ weight.T + bias
            x = np.maximum(x, 0) if i < 2 else x
        return 0.5 * ((x - network.generator.standard_normal(x.shape)) ** 2).sum() / 8

    *_, gradients = network.run()
    for layer, weight in enumerate(network.weights):
        for position in np.ndindex(*weight.shape):
            values = []
            for step in (1e-6, -1e-6):
                weight[position] = weights[layer][position] + step
                values.append(loss())
            weight[position] = weights[layer][position]
            np.testing.assert_allclose((values[0] - values[1]) / 2e-6, gradients[f"w{layer}"][position], atol=1e-7)


@given(networks)
def test_a_dormant_neuron_is_inactive(network):
    """For parameter gradients and for pre-activation gradients, in every group; its mask too, unless it is silent."""
    outputs, _, d_pres, d_weights = network.run()
    dormant = at_most_zero(na.tau_dormant(outputs, network.layout))
    assert any(map(any, dormant.values()))
    for scores in (na.grama(d_weights, network.layout), na.grama(d_pres, network.layout, signal="activations")):
        inactive = at_most_zero(scores)
        masks = na.reset_masks(scores, tau=0)
        for name, neurons in dormant.items():
            assert np.array(inactive[name])[neurons].all()
            if not all(inactive[name]):
                assert masks[name][neurons].all()


def test_the_converse_is_false():
    """A neuron that speaks and is not heard: its outgoing weights are zero, it is active, and it is not learning."""
    network = Network((3, 6, 5, 2), seed=1)
    network.weights[1][:, 4] = 0.0
    outputs, _, _, d_weights = network.run()
    assert na.tau_dormant(outputs, network.layout)["h0"][4] > 0.1
    assert na.grama(d_weights, network.layout)["h0"][4] == 0
    assert na.reset_masks(na.grama(d_weights, network.layout), tau=0)["h0"][4]


def test_gradients_of_outputs_do_not_obey_the_theorem():
    """Eq. 2 to the letter, ``signal="activations"``: the loss would still change with a dormant neuron's output."""
    network = Network((3, 6, 5, 2), seed=2, dead=[(0, 4, "low bias")])
    outputs, d_outputs, _, d_weights = network.run()
    assert na.tau_dormant(outputs, network.layout)["h0"][4] == 0
    assert na.grama(d_outputs, network.layout, signal="activations")["h0"][4] > 0.1
    assert na.grama(d_weights, network.layout)["h0"][4] == 0


def test_the_slope_at_zero_must_be_zero():
    """With relu'(0) = 1 a neuron whose pre-activation is exactly zero is dormant and still learns."""
    for slope, learning in ((0.0, False), (1.0, True)):
        network = Network((3, 6, 5, 2), seed=3, dead=[(0, 4, "no weights")], slope_at_zero=slope)
        outputs, _, _, d_weights = network.run()
        assert na.tau_dormant(outputs, network.layout)["h0"][4] == 0
        assert bool(na.grama(d_weights, network.layout)["h0"][4] > 0) == learning


def test_behind_a_dead_layer_every_group_is_silent_and_none_is_reset():
    """Edge case, a silent group: the theorem holds on the scores, and the masks leave such groups alone."""
    network = Network((3, 6, 5, 2), seed=4, dead=[(1, neuron, "low bias") for neuron in range(5)])
    outputs, _, _, d_weights = network.run()
    dormant = at_most_zero(na.tau_dormant(outputs, network.layout))
    scores = na.grama(d_weights, network.layout)
    assert dormant["h1"] == [True] * 5
    assert not all(dormant["h0"])
    assert at_most_zero(scores) == {"h0": [True] * 6, "h1": [True] * 5}
    assert not any(mask.any() for mask in na.reset_masks(scores, tau=0).values())
