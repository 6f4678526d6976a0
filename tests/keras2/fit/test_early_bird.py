"""A round ends when the mask that pruning now would give settles, and only then."""

import copy
import types

import networks
import numpy as np
import pytest
import tf_keras as keras
from networks import compiled, fit, lottery
from resumed_fits import Fits, killed

import lth_keras as lth
from lth_keras.core.fractions import Prunable
from lth_keras.core.next_masks import PruningRule
from lth_keras.errors import DivergedError, LotteryError
from lth_keras.reports.plots import early_bird_figure

SIZE = 400


def stand_in(masks, level=0, among=None):
    """A search of one weight whose next masks are given, epoch by epoch."""
    left = iter(masks)
    rule = PruningRule.of([Prunable("w", "w", "Dense")], {"w": (SIZE,)}, fraction=0.5)
    return types.SimpleNamespace(
        rule=rule, level=level, masks={"w": np.ones(SIZE) if among is None else among},
        next_masks=lambda rule: {"w": next(left)})


def moved(steps, kept=200):
    """A mask that keeps `kept` weights, `steps` of which are others than in `moved(0)`."""
    mask = np.zeros(SIZE, np.uint8)
    mask[steps:steps + kept] = 1
    return mask


@pytest.mark.parametrize(("steps", "settled"), [
    # At density 1/2, `steps` others are a distance of steps / 100: 10 are the threshold.
    ([0, 0, 0], [False, False, True]),
    ([0, 10, 0], [False, False, True]),
    ([0, 11, 0], [False, False, False]),
    ([0, 50, 100, 100, 100], [False] * 4 + [True]),
    ([0, 6, 12, 18], [False] * 4),  # The newest is compared with all others, not the last only.
])
def test_a_round_is_over_when_the_newest_mask_is_near_all_others(steps, settled):
    bird = lth.EarlyBird(patience=3, threshold=0.1)
    search = stand_in(map(moved, steps))
    assert [bird.settles(search) for _ in steps] == settled
    assert bird.history.settled.tolist() == settled[1:]
    for pair in bird.pairs.itertuples():
        apart = abs(steps[pair.epoch - 1] - steps[pair.other - 1])
        assert pair.hamming == pytest.approx(2 * apart / SIZE)
        assert pair.distance == pytest.approx(apart / 100)
        assert pair.jaccard == pytest.approx(2 * apart / (200 + apart))
    assert len(bird.pairs) == sum(min(epoch, 2) for epoch in range(len(steps)))


def test_masks_that_agree_by_chance_only_never_settle_however_sparse():
    rng, bird = np.random.default_rng(0), lth.EarlyBird(patience=2)
    search = stand_in([rng.permutation(moved(0, kept=20)) for _ in range(30)])
    assert not any(bird.settles(search) for _ in range(30))
    found = bird.history
    assert found.hamming.max() <= 0.1  # The paper's threshold, at 5% of the weights.
    assert found.distance.mean() == pytest.approx(1, abs=0.05)


def test_weights_that_the_level_has_not_do_not_count():
    among = np.arange(SIZE) < 100
    bird = lth.EarlyBird(patience=2, threshold=0.1)
    search = stand_in([moved(0, 50), moved(5, 50)], among=among)
    assert [bird.settles(search), bird.settles(search)] == [False, False]
    assert bird.pairs.hamming.item() == 0.1 and bird.pairs.distance.item() == pytest.approx(0.2)


def test_every_level_begins_anew_and_another_search_does_too():
    bird, search = lth.EarlyBird(patience=2), stand_in([moved(0)] * 4)
    assert [bird.settles(search), bird.settles(search)] == [False, True]
    search.level = 1
    assert [bird.settles(search), bird.settles(search)] == [False, True]
    assert bird.history[["level", "epoch"]].to_numpy().tolist() == [[0, 2], [1, 2]]
    assert not bird.settles(stand_in([moved(0)])) and bird.history.empty


def search_of(rate=1e-6, bird=None, epochs=6, model=None, **options):
    keras.utils.set_random_seed(0)
    bird = bird or lth.EarlyBird(patience=3)
    model = model or compiled(optimizer=keras.optimizers.SGD(rate))
    search = lottery(**{"rounds": 2, "epochs_per_round": epochs, "check": True,
                        "round_callbacks": [bird], **options})
    fit(model, search)
    return search, bird


def test_rounds_end_early_and_the_last_level_is_trained_to_its_end():
    search, bird = search_of()
    assert search.results.epochs.tolist() == [3, 3, 6]
    assert bird.history.level.tolist() == [0, 0, 1, 1]
    assert bird.history.settled.tolist() == [False, True] * 2


def test_a_round_whose_masks_move_goes_on():
    search, bird = search_of(0.5, lth.EarlyBird(patience=2, threshold=0.0), fraction=0.5)
    found = bird.history
    for level, epochs in enumerate(search.results.epochs[:2]):
        settled = found[found.level == level].settled.tolist()
        assert settled == [False] * (len(settled) - 1) + [epochs < 6]
    assert search.results.epochs.max() > 2 and found.distance.max() > 0


def test_epochs_before_theta_k_are_counted():
    bird = lth.EarlyBird(patience=3, threshold=0)
    fit(compiled(), lottery(rounds=1, epochs_per_round=4, rewind_step=2 * networks.STEPS,
                            round_callbacks=[bird]))
    # The mask is first drawn after epoch 2, whose last step is step k.
    assert bird.pairs[["epoch", "other"]].values.tolist()[:3] == [[3, 2], [4, 3], [4, 2]]


def test_the_mask_that_settles_is_that_of_the_ticket():
    class Notes(lth.EarlyBird):
        def _masks(self, search):
            self.last = super()._masks(search)[0]
            return self.last, search.masks

    bird = Notes(patience=2)
    search, _ = search_of(0.01, bird, rounds=1, epochs=3)
    assert all((bird.last[name] == mask).all() for name, mask in search.ticket.masks.items())


@pytest.mark.parametrize("options", [{}, {"scope": "global"}, {"criterion": "random", "seed": 3}])
def test_the_next_masks_are_those_that_pruning_gives_and_looking_changes_nothing(options):
    searches = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        searches.append(lth.Search(compiled(), fraction=0.3, **options))
    looked, plain = searches
    now = looked.next_masks()
    assert all((now[name] == mask).all() for name, mask in looked.next_masks().items())
    assert looked.level == 0 and looked.density == 1
    for search in (looked, plain):
        search.prune_and_rewind()
    for name, mask in plain.masks.items():
        assert (now[name] == mask).all() and (looked.masks[name] == mask).all()


def test_density_criterion_and_scope_are_of_the_watched_mask_alone():
    search, bird = search_of(bird=lth.EarlyBird(2, density=0.25, criterion="random",
                                                scope="global"), rounds=1)
    _, own = search_of(bird=lth.EarlyBird(2), rounds=1)
    kept = {name: int(np.unpackbits(each._recent[0]).sum())
            for name, each in (("watched", bird), ("own", own))}
    total = sum(mask.size for mask in search.tickets[0].masks.values())
    assert kept["watched"] == total - round(0.75 * total)
    assert kept["own"] == search.ticket.density * total > kept["watched"]


def test_whole_filters_are_compared_as_filters():
    model = compiled(lth.prune_low_magnitude(networks.mlp((8, 6)), structure="filters"),
                     optimizer=keras.optimizers.SGD(1e-6))
    search, bird = search_of(model=model, fraction=0.5, bird=lth.EarlyBird(2), rounds=1)
    assert search.results.epochs.tolist() == [2, 6]
    masks, among = bird._masks(search._fit_search.search)
    assert [mask.size for mask in masks.values()] == [8, 6]
    assert [int(mask.sum()) for mask in among.values()] == [4, 3]


@pytest.mark.thorough
def test_a_search_that_is_killed_goes_on_with_what_its_early_bird_had_seen(tmp_path):
    birds = []

    def options():
        birds.append(lth.EarlyBird(patience=3, threshold=0.2))
        return {"round_callbacks": [birds[-1]], "epochs_per_round": 5, "fraction": 0.5}
    killed(Fits(keras.optimizers.SGD(0.05, momentum=0.9)), tmp_path, options)
    assert birds[-1].pairs.equals(birds[0].pairs) and len(birds[0].pairs) > 3


def test_a_search_that_diverges_says_so_itself():
    keras.utils.set_random_seed(0)
    model = compiled(optimizer=keras.optimizers.SGD(1e30))
    search = lottery(round_callbacks=[lth.EarlyBird()], check=False)
    with pytest.raises(DivergedError):
        fit(model, search)


def test_a_copy_keeps_what_was_found_and_no_model():
    _, bird = search_of(rounds=1)
    other = copy.deepcopy(bird)
    assert other.pairs.equals(bird.pairs) and other.model is None and other._search is None


def test_its_figure_shows_every_pair_that_was_compared(tmp_path):
    _, bird = search_of(0.3, lth.EarlyBird(patience=6, threshold=0.0))
    assert bird.plot(tmp_path / "new" / "bird.png").read_bytes().startswith(b"\x89PNG")
    figure = early_bird_figure.early_bird_figure(bird.pairs, bird.history, bird.threshold)
    for level, axes in enumerate(axes for axes in figure.axes if axes.images):
        drawn = np.asarray(axes.images[0].get_array())
        rows = bird.pairs[bird.pairs.level == level]
        assert drawn.shape == (6, 6) and (drawn == drawn.T).all() and (np.diag(drawn) == 0).all()
        for pair in rows.itertuples():
            assert drawn[pair.epoch - 1, pair.other - 1] == pair.distance
        assert len(rows) == 15
    with pytest.raises(LotteryError, match="needs two masks that were compared"):
        lth.EarlyBird().plot(tmp_path / "none.png")


@pytest.mark.parametrize(("options", "said"), [
    ({"patience": 1}, "patience must be a whole number >= 2. Received: 1"),
    ({"threshold": 1.5}, r"threshold must be in \[0, 1\]. Received: 1.5"),
    ({"density": 1.0}, r"density must be in \(0, 1\). Received: 1.0"),
    ({"scope": "model"}, "scope must be one of layer, global"),
    ({"criterion": "taylor"}, "gradient")])
def test_what_cannot_be_is_refused_when_it_is_made(options, said):
    with pytest.raises(LotteryError, match=said):
        lth.EarlyBird(**options)


def test_it_belongs_in_round_callbacks():
    with pytest.raises(LotteryError, match="belongs in its round_callbacks"):
        compiled().fit(networks.X, networks.Y, callbacks=[lth.EarlyBird()], verbose=0)


def test_a_density_of_m_by_n_sparsity_is_refused_before_any_training():
    model = compiled(lth.prune_low_magnitude(networks.mlp((8, 8)), structure="2:4",
                                             exclude=lambda layer: layer.units == 2))
    search = lottery(rounds=1, round_callbacks=[lth.EarlyBird(density=0.5)])
    with pytest.raises(LotteryError, match="density=0.5 with structure=2:4"):
        fit(model, search)
