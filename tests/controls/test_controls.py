import numpy as np
import pytest

from lth_keras.controls.control import register, steps_of
from lth_keras.controls.known import CONTROLS
from lth_keras.errors import LotteryError

RNG = np.random.default_rng(0)
SHAPES = {"a/kernel": (30, 40), "b/kernel": (40, 25), "c/kernel": (25, 4)}
WEIGHTS = {**{name: RNG.normal(0, 0.1, shape).astype(np.float32)
              for name, shape in SHAPES.items()}, "a/bias": np.full(40, 7, np.float32)}
FRESH = {name: RNG.normal(0, 0.1, value.shape).astype(np.float32)
         for name, value in WEIGHTS.items()}
FINAL = {name: value + RNG.normal(0, 0.1, value.shape).astype(np.float32)
         for name, value in WEIGHTS.items()}
MASKS = {name: (RNG.random(shape) < share).astype(np.uint8)
         for (name, shape), share in zip(SHAPES.items(), (0.2, 0.5, 1.0), strict=True)}


def made(name, seed=0):
    return CONTROLS[name].start(WEIGHTS, MASKS, FRESH, np.random.default_rng(seed), provided={
        "inverted": lambda: MASKS, "trained": lambda: FINAL, "theta_0": lambda: WEIGHTS})


def survivors(weights, masks):
    return {name: weights[name][mask != 0] for name, mask in masks.items()}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_keeps_names_shapes_types_and_the_number_of_weights(name):
    weights, masks = made(name)
    assert list(weights) == list(WEIGHTS) and list(masks) == list(MASKS)
    for weight in weights:
        assert weights[weight].shape == WEIGHTS[weight].shape
        assert weights[weight].dtype == WEIGHTS[weight].dtype
        assert np.isfinite(weights[weight]).all()
    counts, before = ({weight: int(mask.sum()) for weight, mask in all_.items()}
                      for all_ in (masks, MASKS))
    assert set(np.unique(np.concatenate([mask.ravel() for mask in masks.values()]))) == {0, 1}
    assert sum(counts.values()) == sum(before.values())
    assert name == "random_mask_global" or counts == before


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_writes_into_nothing_and_is_made_by_its_generator_alone(name):
    arrays = [*WEIGHTS.values(), *MASKS.values(), *FRESH.values()]
    kept = [array.copy() for array in arrays]
    one, other = made(name, 3), made(name, 3)
    assert all((a == b).all() for a, b in zip(arrays, kept, strict=True))
    for first, second in zip(one, other, strict=True):
        assert all((first[key] == second[key]).all() for key in first)


RANDOM = {"random_mask", "random_mask_global", "shuffled_mask", "reshuffle", "reshuffle_signed",
          "constant", "resample", "noise_0.5", "noise_1", "noise_2", "noise_3"}


@pytest.mark.parametrize("name", CONTROLS)
def test_another_generator_gives_another_control_where_it_draws(name):
    one, other = made(name, 1), made(name, 2)
    differ = any((first[key] != second[key]).any()
                 for first, second in zip(one, other, strict=True) for key in first)
    assert differ == (name in RANDOM)


@pytest.mark.parametrize("name", [name for name in CONTROLS if not CONTROLS[name].method])
def test_what_is_drawn_is_not_the_tickets(name):
    weights, _ = made(name)
    ours = WEIGHTS["a/kernel"][MASKS["a/kernel"] != 0]
    assert CONTROLS[name].drawn == (not np.isin(np.abs(weights["a/kernel"]), np.abs(ours)).any()
                                    and not name.startswith("noise"))
    assert (weights["a/bias"] == WEIGHTS["a/bias"]).all() == (
        not CONTROLS[name].drawn or name.startswith("constant"))


@pytest.mark.parametrize("name", ["reinit", "scratch"])
def test_all_is_drawn_anew_under_the_same_mask(name):
    assert made(name) == (FRESH, MASKS)


def test_signs_are_kept_where_the_name_says_so():
    for name in CONTROLS:
        weights, _ = made(name)
        same = [np.mean(np.sign(weights[key][MASKS[key] != 0])
                        == np.sign(WEIGHTS[key][MASKS[key] != 0])) for key in MASKS]
        if name.endswith("_signed"):
            assert same == [1.0] * 3
        if name in ("reinit", "constant", "reshuffle", "resample"):
            assert max(same) < 0.7


def test_trained_signs_are_those_of_the_trained_network_under_fresh_magnitudes():
    weights, masks = made("reinit_trained_signs")
    assert masks == MASKS
    for key, before in WEIGHTS.items():
        assert (np.abs(weights[key]) == np.abs(FRESH[key])).all()
        if key in MASKS:
            assert (np.sign(weights[key]) == np.sign(FINAL[key])).all()
            assert 0.1 < np.mean(np.sign(weights[key]) != np.sign(before)) < 0.4
    assert (weights["a/bias"] == FRESH["a/bias"]).all()


def test_a_control_that_lacks_what_it_needs_is_refused():
    with pytest.raises(LotteryError, match="reinit_trained_signs needs trained: the trained weig"):
        CONTROLS["reinit_trained_signs"].start(WEIGHTS, MASKS, FRESH, RNG)
    with pytest.raises(LotteryError, match="A need must be one of .* Received: 'gradient'"):
        register("another", "another", drawn=True, needs=("gradient",))
    assert "another" not in CONTROLS


def test_reshuffled_survivors_are_the_same_values_in_other_places():
    for name, values in (("reshuffle", np.array), ("reshuffle_signed", np.abs)):
        weights, masks = made(name)
        before, after = survivors(WEIGHTS, MASKS), survivors(weights, masks)
        for key in MASKS:
            assert (np.sort(values(before[key])) == np.sort(values(after[key]))).all()
            assert (before[key] != after[key]).mean() > 0.9


def test_resampled_survivors_are_values_of_survivors_some_more_than_once():
    after = survivors(*made("resample"))
    for key, values in survivors(WEIGHTS, MASKS).items():
        assert np.isin(after[key], values).all()
        assert len(np.unique(after[key])) < len(values)


def test_constants_are_the_deviation_of_what_is_drawn():
    for name in ("constant", "constant_signed"):
        for key, values in survivors(*made(name)).items():
            assert np.unique(np.abs(values)) == pytest.approx(np.std(FRESH[key]), rel=1e-6)
            assert 0.2 < np.mean(values > 0) < 0.8


@pytest.mark.parametrize("deviations", [0.5, 1, 2, 3])
def test_noise_has_the_deviations_that_its_name_says(deviations):
    after, before = survivors(*made(f"noise_{deviations:g}")), survivors(WEIGHTS, MASKS)
    moved = after["b/kernel"] - before["b/kernel"]
    assert np.std(moved) / np.std(FRESH["b/kernel"]) == pytest.approx(deviations, rel=0.1)
    assert abs(np.mean(moved)) < 0.2 * np.std(moved)


def test_a_global_random_mask_spreads_over_the_layers_that_were_pruned():
    _, masks = made("random_mask_global")
    assert (masks["c/kernel"] == 1).all()
    shares = [masks[name].mean() for name in ("a/kernel", "b/kernel")]
    together = (MASKS["a/kernel"].sum() + MASKS["b/kernel"].sum()) / 2200
    assert shares == pytest.approx([together] * 2, abs=0.05)
    whole = {"w": np.ones((2, 2), np.uint8)}
    assert CONTROLS["random_mask_global"].make({}, whole, {}, RNG)[1] == whole


def test_the_largest_at_initialisation_are_kept():
    weights, masks = made("magnitude_at_init")
    assert weights == WEIGHTS
    for key, mask in masks.items():
        values = np.abs(WEIGHTS[key])
        assert mask.all() or values[mask == 1].min() >= values[mask == 0].max()


@pytest.mark.parametrize(("kept", "steps"), [(8, 100), (4, 200), (1, 200), (6, 133)])
def test_a_budget_is_spent_up_to_twice_the_steps(kept, steps):
    masks = {"w": np.arange(8) < kept}
    assert steps_of(CONTROLS["scratch"], 100, masks) == steps
    assert steps_of(CONTROLS["reinit"], 100, masks) == 100


def test_a_name_is_taken_once():
    with pytest.raises(LotteryError, match="Received: 'reinit', which is taken"):
        register("reinit", "again", drawn=True)(CONTROLS["reinit"].make)
