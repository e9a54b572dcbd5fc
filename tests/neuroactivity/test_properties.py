"""What holds for any layout, any gradients and any scores."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView
from tests import reference
from tests.neuroactivity.strategies import arrays, groups, seeds

factors = st.floats(1e-100, 1e100)
fractions = st.floats(0, 1)
thresholds = st.floats(0, 2)


@st.composite
def scores(draw):
    """Scores of a group or a stack, with ties, zeros, values next to each other and now and then one not finite."""
    shape = draw(st.sampled_from([(1,), (5,), (12,), (2, 4), (3, 7)]))
    values = st.sampled_from([0.0, 0.0, 0.01, np.nextafter(0.01, 1), 0.5, 0.5, 1.0, 3.0]) | st.floats(0, 12)
    broken = st.sampled_from([np.nan, np.inf]) if draw(st.integers(0, 3)) == 0 else values
    flat = draw(st.lists(values, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    flat[draw(st.integers(0, len(flat) - 1))] = draw(broken)
    return np.array(flat).reshape(shape)


def replace(layout, **roles):
    """The layout's one group with other views."""
    group = layout["g"]
    given = {role: getattr(group, role) for role in ("incoming", "unscored", "outgoing")}
    return na.Layout([NeuronGroup("g", **(given | roles), neurons=group.neurons)])


@given(groups(), seeds)
def test_mean_score_is_one_and_scores_lie_between_zero_and_the_number_of_neurons(drawn, seed):
    layout, shapes, _ = drawn
    values = na.grama(arrays(shapes, seed), layout)["g"]
    assert (values >= 0).all()
    assert (values <= layout["g"].neurons * (1 + 1e-12)).all()
    means = values.mean(axis=-1)
    silent = (values == 0).all(axis=-1)
    np.testing.assert_allclose(np.where(silent, 1, means), 1, rtol=1e-12)


@given(groups(), seeds, factors)
def test_a_positive_factor_changes_no_score(drawn, seed, factor):
    layout, shapes, _ = drawn
    grads = arrays(shapes, seed)
    scaled = {name: factor * array for name, array in grads.items()}
    np.testing.assert_allclose(na.grama(scaled, layout)["g"], na.grama(grads, layout)["g"], rtol=1e-12)


@given(groups(), seeds, st.integers(-300, 300))
def test_a_power_of_two_changes_no_bit_of_a_score(drawn, seed, power):
    layout, shapes, _ = drawn
    grads = arrays(shapes, seed)
    scaled = {name: np.ldexp(array, power) for name, array in grads.items()}
    np.testing.assert_array_equal(na.grama(scaled, layout)["g"], na.grama(grads, layout)["g"])


@given(groups(), seeds)
def test_the_sign_of_a_gradient_changes_no_bit_of_a_score(drawn, seed):
    layout, shapes, _ = drawn
    grads = arrays(shapes, seed)
    signs = np.random.default_rng(seed)
    flipped = {name: array * signs.choice([-1, 1], array.shape) for name, array in grads.items()}
    np.testing.assert_array_equal(na.grama(flipped, layout)["g"], na.grama(grads, layout)["g"])


@given(groups(), seeds, st.data())
def test_renumbered_neurons_have_renumbered_scores_and_the_same_entries(drawn, seed, data):
    """Neuron-permutation equivariance, for any pattern: give each neuron another number in every view's index."""
    layout, shapes, scored = drawn
    number = data.draw(st.permutations(range(scored[-1])))

    def renumbered(view):
        index = range(scored[-1]) if view.index is None else view.index
        new = [number[owner] if owner >= 0 else -1 for owner in index]
        return ParamView(view.param, view.pattern, view.sizes, tuple(new))

    roles = ("incoming", "unscored", "outgoing")
    other = replace(layout, **{role: list(map(renumbered, getattr(layout["g"], role))) for role in roles})
    grads, fresh = arrays(shapes, seed), arrays(shapes, seed + 1)
    expected = na.grama(grads, layout)["g"]
    np.testing.assert_allclose(na.grama(grads, other)["g"][..., number], expected, rtol=1e-12)

    mask = np.random.default_rng(seed).random(scored) < 0.5
    moved = np.empty_like(mask)
    moved[..., number] = mask
    expected = na.reset(grads, fresh, {"g": mask}, layout)
    np.testing.assert_equal(na.reset(grads, fresh, {"g": moved}, other), expected)


@given(groups(), seeds, st.data())
def test_transposed_arrays_with_transposed_patterns_mean_the_same(drawn, seed, data):
    layout, shapes, scored = drawn
    axes = {}

    def transposed(view):
        words = reference.opened(view.pattern)
        width = dict.fromkeys(range(len(words)), 1)
        if ["..."] in words:
            width[words.index(["..."])] = len(shapes[view.param]) - len(words) + 1
        own = [i for i in range(len(words)) if words[i] == ["neuron"]]  # which stay together
        blocks = [[i] for i in range(len(words)) if i not in own] + [own] * bool(own)
        order = [i for block in data.draw(st.permutations(blocks)) for i in block]
        stacks = iter(
            [i for i in range(len(words)) if "stack" in words[i]]
        )  # the order of copies is that of their axes
        order = [next(stacks) if "stack" in words[i] else i for i in order]
        starts = np.cumsum([0, *width.values()])
        axes[view.param] = [starts[i] + k for i in order for k in range(width[i])]
        texts = [word[0] if len(word) == 1 else f"({' '.join(word)})" for word in words]
        return ParamView(view.param, " ".join(texts[i] for i in order), view.sizes, view.index)

    roles = ("incoming", "unscored", "outgoing")
    other = replace(layout, **{role: list(map(transposed, getattr(layout["g"], role))) for role in roles})

    def turned(values):
        return {name: array.transpose(axes[name]) for name, array in values.items()}

    grads, fresh = arrays(shapes, seed), arrays(shapes, seed + 1)
    np.testing.assert_allclose(na.grama(turned(grads), other)["g"], na.grama(grads, layout)["g"], rtol=1e-12)
    masks = {"g": np.random.default_rng(seed).random(scored) < 0.5}
    result = na.reset(turned(grads), turned(fresh), masks, other)
    np.testing.assert_equal(result, turned(na.reset(grads, fresh, masks, layout)))


@given(groups(), seeds)
def test_what_no_mask_touches_keeps_its_bits_and_reset_moments_writes_the_same_entries(drawn, seed):
    layout, shapes, scored = drawn
    generator = np.random.default_rng(seed)
    bits = {name: generator.integers(0, 2**64, shape, dtype=np.uint64) for name, shape in shapes.items()}
    params = {name: array.view(np.float64) for name, array in bits.items()}
    masks = {"g": generator.random(scored) < 0.5}
    written = {name: np.zeros(shape, dtype=bool) for name, shape in shapes.items()}
    for param, position in reference.entries_to_reset(("incoming", "unscored", "outgoing"), params, masks, layout):
        written[param][position] = True
    sevens = {name: np.full(shape, 7.0) for name, shape in shapes.items()}
    for new, values in (
        (na.reset(params, sevens, masks, layout), (0, 7)),
        (na.reset_moments(params, masks, layout), (0,)),
        (na.reset_moments(params, masks, layout, sevens), (7,)),
    ):
        for name, array in new.items():
            np.testing.assert_array_equal(array.view(np.uint64)[~written[name]], bits[name][~written[name]])
            assert np.isin(array[written[name]], values).all()


@given(groups(), seeds)
def test_a_reset_done_twice_is_done_once(drawn, seed):
    layout, shapes, scored = drawn
    masks = {"g": np.random.default_rng(seed).random(scored) < 0.5}
    fresh = arrays(shapes, seed + 1)
    once = na.reset(arrays(shapes, seed), fresh, masks, layout)
    np.testing.assert_equal(na.reset(once, fresh, masks, layout), once)


@given(scores(), thresholds, st.none() | fractions, st.booleans())
def test_masks_are_the_references(values, tau, limit, silent):
    options = {"max_fraction": limit, "reset_silent": silent}
    mask = na.reset_masks({"g": values}, tau, **options)["g"]
    np.testing.assert_array_equal(mask, reference.reset_masks({"g": values}, tau, **options)["g"])


@given(scores(), thresholds, thresholds, st.none() | fractions)
def test_masks_grow_with_tau(values, tau, other, limit):
    low, high = sorted((tau, other))
    small = na.reset_masks({"g": values}, low, max_fraction=limit)["g"]
    large = na.reset_masks({"g": values}, high, max_fraction=limit)["g"]
    assert (large | ~small).all()


@given(scores(), thresholds, fractions, fractions)
def test_masks_grow_with_max_fraction(values, tau, fraction, other):
    masks = [na.reset_masks({"g": values}, tau, max_fraction=f)["g"] for f in sorted((fraction, other))]
    unlimited = na.reset_masks({"g": values}, tau)["g"]
    assert (masks[1] | ~masks[0]).all()
    assert (unlimited | ~masks[1]).all()
    np.testing.assert_array_equal(na.reset_masks({"g": values}, tau, max_fraction=1.0)["g"], unlimited)


@given(scores(), thresholds, fractions)
def test_masks_never_exceed_the_limit_and_take_the_lowest(values, tau, fraction):
    mask = na.reset_masks({"g": values}, tau, max_fraction=fraction)["g"]
    assert (mask.sum(axis=-1) <= fraction * values.shape[-1] + 1e-9).all()
    assert not (mask & (values > tau)).any()
    for member, row in zip(np.atleast_2d(mask), np.atleast_2d(values), strict=True):
        if member.any():
            assert row[member].max() <= min([s for s in row[~member] if s <= tau], default=np.inf)


@given(scores(), thresholds, st.data())
def test_masks_of_permuted_scores_are_permuted(values, tau, data):
    order = data.draw(st.permutations(range(values.shape[-1])))
    permuted = na.reset_masks({"g": values[..., order]}, tau)["g"]
    np.testing.assert_array_equal(permuted, na.reset_masks({"g": values}, tau)["g"][..., order])
