"""What holds for every structure: what fits, what stays dense, what controls make of masks."""

import numpy as np
import pytest
from structured import BLOCKS, dense, distinct, GROUPS, pruned

from lth_keras.controls.control import Control, register
from lth_keras.controls.known import CONTROLS
from lth_keras.core.pruning import prune
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import check_fits, Structure
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError


def test_weights_whose_fraction_is_0_stay_dense_whatever_their_shape():
    scores = {"0": distinct((4, 4)), "1": distinct((4, 4)), "2": distinct((3, 3, 2, 2))}
    for text, kept in (("2:4", 8), ("block_2x2", 8)):
        after = prune(scores, dense((4, 4), (4, 4), (3, 3, 2, 2)), {"0": 0.5, "1": 0.0, "2": 0.0},
                      "layer", dict.fromkeys(scores, parse(text)))
        assert after["0"].sum() == kept and after["1"].all() and after["2"].all()


def test_without_a_structure_units_are_the_weights_as_they_are():
    scores, mask = distinct((2, 3, 4)), np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 2
    assert NONE.unit_scores(scores, mask) is scores and NONE.kept_units(mask) is mask
    assert NONE.spread(mask, mask) is mask and NONE.units(mask.shape) == 24 and NONE.obeys(mask)
    assert (NONE.unit_of(mask.shape).ravel() == np.arange(24)).all()


@pytest.mark.parametrize("text", BLOCKS)
def test_a_unit_of_a_structure_is_as_its_numbers_say(text):
    structure, shape = parse(text), (5, 9)
    numbers, mask = structure.unit_of(shape), np.random.default_rng(0).integers(0, 2, shape)
    assert set(numbers.ravel()) == set(range(structure.units(shape)))
    assert structure.units(shape) == Structure.units(structure, shape)
    kept = {*numbers[mask != 0]}
    assert np.flatnonzero(structure.kept_units(mask)).tolist() == sorted(kept)
    average = Structure.unit_scores(structure, distinct(shape), mask)
    if not text.endswith("max"):
        np.testing.assert_allclose(structure.unit_scores(distinct(shape), mask), average)


@pytest.mark.parametrize("text", ["none", "block_2x2", "block_2x2_max", "2:4"])
def test_scores_of_what_is_pruned_already_do_not_matter(text):
    before = pruned(distinct((4, 6)), text, rounds=2)
    scores = distinct((4, 6), seed=1)
    blank = np.where(before == 1, scores, np.nan)
    one, other = (pruned(value, text, before=before, level=2, rounds=2)
                  for value in (scores, blank))
    assert (one == other).all() and one.sum() < before.sum()


@pytest.mark.parametrize("text", ["2:4", "block_2x2"])
def test_scores_that_are_nan_are_an_error(text):
    with pytest.raises(LotteryError, match="must not be NaN. Received: 1 NaN"):
        pruned(np.array([[np.nan, 1.0], [2.0, 3.0]]), text)


@pytest.mark.parametrize(("text", "shape"), [("block_1x4", (3, 3, 2, 4)), ("block_1x4", (7,)),
                                             ("2:4", (5, 4, 4)), ("2:4", (3,))])
def test_weights_that_a_structure_fits_not_are_named(text, shape):
    with pytest.raises(LotteryError, match="leave other layers out by exclude=.*"
                                           "Received: conv/kernel \\("):
        check_fits(parse(text), {"a": (1, 1, 4, 4), "conv/kernel": shape})


# Controls.

@pytest.mark.parametrize("text", [*BLOCKS, *GROUPS])
@pytest.mark.parametrize("shape", [(10, 9), (1, 1, 10, 9)])
def test_a_shuffled_mask_keeps_as_many_in_the_structure(text, shape):
    structure = parse(text)
    mask = pruned(distinct(shape), text)
    before = mask.copy()
    one, same, other = (structure.shuffled(mask, np.random.default_rng(seed))
                        for seed in (1, 1, 2))
    assert (mask == before).all() and (one == same).all() and (one != other).any()
    assert one.sum() == mask.sum() and structure.obeys(one)
    assert one.dtype == np.uint8 and one.shape == shape


@pytest.mark.parametrize("name", [name for name, control in CONTROLS.items()
                                  if control.mask != "free"])
@pytest.mark.parametrize("text", ["2:4", "block_1x4"])
def test_controls_keep_to_the_structure(name, text):
    weights = {"w": distinct((8, 12)), "conv": distinct((3, 3, 2, 2))}
    kept = {"w": pruned(np.abs(weights["w"]), text), "conv": np.ones((3, 3, 2, 2), np.uint8)}
    _, made = CONTROLS[name].start(weights, kept, weights, np.random.default_rng(0), parse(text),
                                   provided={"trained": lambda: weights})
    assert made["w"].sum() == kept["w"].sum() and parse(text).obeys(made["w"])
    assert made["conv"].all()
    assert (made["w"] != kept["w"]).any() == (name in ("random_mask", "shuffled_mask"))


@pytest.mark.parametrize("text", ["2:4", "block_1x4"])
def test_a_control_of_ones_own_that_breaks_the_structure_is_refused(text):
    kept = {"w": pruned(distinct((8, 12)), text)}
    control = Control("anywhere", "", lambda weights, masks, fresh, rng: (weights, {
        "w": rng.permuted(masks["w"])}), drawn=False)
    with pytest.raises(LotteryError, match=f"keep to structure={text}.*Received: anywhere, whose "
                                           "masks of w do not"):
        control.start({}, kept, {}, np.random.default_rng(0), parse(text))


def test_a_control_says_what_its_mask_is():
    with pytest.raises(LotteryError, match="mask must be one of ticket, structured, free. "
                                           "Received: 'any'"):
        register("another", "another", drawn=False, mask="any")
    assert "another" not in CONTROLS


@pytest.mark.parametrize("text", [*BLOCKS, *GROUPS])
def test_a_dense_mask_is_shuffled_without_a_draw_but_for_single_weights(text):
    rng, dense_mask = np.random.default_rng(0), np.ones((3, 3, 2, 2), np.uint8)
    before = rng.bit_generator.state
    assert parse(text).shuffled(dense_mask, rng) is dense_mask
    assert rng.bit_generator.state == before
    assert NONE.shuffled(dense_mask, rng).all() and rng.bit_generator.state != before


def test_a_structure_for_each_weight_is_needed():
    with pytest.raises(LotteryError, match=r"A structure for each weight.*structures for \['0'\]"):
        prune(dense((4, 4), (4, 4)), dense((4, 4), (4, 4)), 0.5, structures={"0": NONE})
