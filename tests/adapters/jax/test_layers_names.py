"""Layers of any library, known by their names, and what is in no group."""

import pytest

import neuroactivity as na
from neuroactivity_jax.layers import list_groups
from tests.adapters.jax.test_layers import tree


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            tree(n__w_mu=(3, 4), n__w_sigma=(3, 4), n__b_mu=(4,), n__b_sigma=(4,)),
            [("n/w_mu", "in neuron"), ("n/w_sigma", "in neuron"), ("n/b_mu", "neuron"), ("n/b_sigma", "neuron")],
        ),
        (
            tree(n__sigma_kernel=(2, 3, 4), n__mu_kernel=(2, 3, 4), n__mu_bias=(2, 4), n__sigma_bias=(2, 4)),
            [
                *[("n/mu_kernel", "stack in neuron"), ("n/sigma_kernel", "stack in neuron")],
                *[("n/mu_bias", "stack neuron"), ("n/sigma_bias", "stack neuron")],
            ],
        ),
        (
            tree(n__weight_mu=(4, 3), n__weight_sigma=(4, 3)),
            [("n/weight_mu", "neuron in"), ("n/weight_sigma", "neuron in")],
        ),
        (tree(RMSNorm_0__gamma=(4,)), [("RMSNorm_0/gamma", "neuron")]),
        (tree(own__gamma=(4,), own__beta=(4,)), [("own/gamma", "neuron"), ("own/beta", "neuron")]),
    ],
)  # fmt: skip
def test_learned_noise_and_norms_are_known_by_their_names(params, expected):
    ((group,), _) = list_groups(params)
    assert [(view.param, view.pattern) for view in group.incoming + group.unscored] == expected


def test_layers_with_weights_in_no_group_are_named_once():
    known = tree(params__d__kernel=(3, 4), params__d__bias=(4,), params__LayerScale_0__gamma=(4,))
    known["params"] |= tree(pos_emb=(6, 4), cls=(1, 1, 4))
    known |= tree(cache__keys=(5, 4))
    list_groups(known)
    known["params"] |= tree(moe__w_up=(3, 4, 8), mix__theta=(4, 4))
    named = r"trained weights of params/mix \(theta \(4, 4\)\); params/moe \(w_up \(3, 4, 8\)\): what"
    with pytest.warns(na.ActivityWarning, match=named) as caught:
        list_groups(known)
    assert len(caught) == 1


def test_a_layer_without_neurons_is_one_clear_error():
    with pytest.raises(
        na.LayoutError, match=r"group 'd': expected neurons, got parameter 'd/kernel' of shape \(3, 0\)"
    ):
        list_groups(tree(d__kernel=(3, 0), d__bias=(0,)))
