"""A new structure is one class and one registration: nothing else knows its name."""

import dataclasses

import networks
import numpy as np
import pytest
import small
import tf_keras as keras
from networks import compiled, fit, X
from structured import dense, distinct, pruned

import lth_keras as lth
from lth_keras.controls.known import CONTROLS
from lth_keras.core.fractions import count
from lth_keras.core.pruning import prune
from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.words import KINDS, named, of_arguments, parse, register
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.results import store
from lth_keras.experiments.results.store import Store
from lth_keras.files.ticket import Ticket
from lth_keras.keras2.masking import weight_names

pytestmark = pytest.mark.usefixtures("tiny_network")


class Inputs(Structure):
    """Whole inputs of a matrix, the least it takes."""

    word, needs = "inputs", "matrices"

    def fits(self, shape):
        return len(shape) == 2

    def unit_of(self, shape):
        return np.indices(shape)[0]


@dataclasses.dataclass(frozen=True)
class Every(Structure):
    """Every k-th output, of weights of any rank: units that lie apart, with a number."""

    k: int

    word = "every_K, such as every_2"

    @classmethod
    def from_word(cls, word):
        return cls(int(word[6:])) if word.startswith("every_") and word[6:].isdigit() else None

    def __str__(self):
        return f"every_{self.k}"

    def unit_of(self, shape):
        return np.broadcast_to(np.arange(shape[-1]) % self.k, shape)

    def unit_scores(self, scores, mask):
        numbers = self.unit_of(scores.shape)
        return np.array([np.max(scores[(numbers == unit) & (mask != 0)], initial=0)
                         for unit in range(self.units(scores.shape))])


class Odd(Structure):
    """Every second input, in one round, whatever its scores."""

    word, needs, by_rounds = "odd", "matrices", True

    def fits(self, shape):
        return len(shape) == 2

    def check_rounds(self, rounds):
        if rounds > 1:
            raise LotteryError(f"rounds must be 1. Received: rounds={rounds}.")

    def prune(self, scores, mask, level, rounds):
        return np.uint8(mask * (np.arange(len(mask)) % 2 == 0)[:, None])

    def obeys(self, mask):
        return not mask[1::2].any()

    def shuffled(self, mask, rng):
        return mask


@pytest.fixture(params=[Inputs, Every, Odd], autouse=True)
def word(request):
    """A word of a structure that is registered for as long as a test."""
    register(request.param)
    yield {Every: "every_2"}.get(request.param, request.param.word)
    KINDS.pop(request.param.word)


def rounds_of(word):
    return 1 if parse(word).by_rounds else 2


def whole(mask, word):
    """Whether a mask is as the structure of a word wants it, told by other means than its own."""
    if word == "odd":
        return not mask[1::2].any()
    lines = [*mask] if word == "inputs" else [mask[..., first::2] for first in (0, 1)]
    return all(line.all() or not line.any() for line in lines)


def test_it_is_known_by_its_word(word):
    structure = parse(word)
    assert str(structure) == word and structure == parse(word) and not structure.is_none
    assert structure.options == {"structure": word}
    assert of_arguments(structure=word) == of_arguments(**structure.options) == structure
    assert named({"w": structure}) == {"structure": word}
    with pytest.raises(LotteryError, match=f"or {KINDS[structure.word].word}. Received: 'evenly'"):
        parse("evenly")


def test_its_units_are_pruned_by_their_scores(word):
    structure, scores = parse(word), np.abs(distinct((9, 8)))
    mask = pruned(scores, word, 0.4)
    assert whole(mask, word) and structure.obeys(mask) and mask.dtype == np.uint8
    if word == "inputs":
        assert structure.units((9, 8)) == 9 and mask.any(axis=1).sum() == 9 - count(0.4, 9)
        averages = scores.mean(axis=1)
        assert averages[mask[:, 0] == 0].max() < averages[mask[:, 0] == 1].min()
        again = pruned(scores, word, 0.4, mask)
        assert (again <= mask).all() and again.any(axis=1).sum() == 5 - count(0.4, 5)
        with pytest.raises(LotteryError, match="finite for their mean"):
            pruned(np.where(scores == scores.max(), np.inf, scores), word)
    broken = mask.copy()
    broken[1, 1] = 1 - broken[1, 1]
    assert not structure.obeys(broken)


def test_its_units_are_compared_with_those_of_other_weights(word):
    structure = parse(word)
    if structure.by_rounds:
        return
    scores = {"0": np.full((4, 4), 3.0), "1": np.full((4, 4), 1.0), "2": np.full((4,), 2.0)}
    structures = {"0": structure, "1": structure, "2": parse("none")}
    after = prune(scores, dense((4, 4), (4, 4), (4,)), 0.4, "global", structures)
    assert after["0"].all() and not after["1"].any()
    assert after["2"].sum() == 3  # 5 of 12 units go, or 3 of 8; 4 or 2 of them of "1".


def test_where_it_does_not_fit_it_is_refused_by_name(word):
    if word == "every_2":
        assert parse(word).fits((3, 3, 2, 4))
        return
    model = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="c"),
                              keras.layers.Flatten(), keras.layers.Dense(2, name="d")])
    with pytest.raises(LotteryError, match=rf"{word} needs matrices; leave .* by exclude=.*"
                                           r"Received: c/kernel \(3, 3, 3, 4\)"):
        lth.prune_low_magnitude(model, structure=word)
    wrapped = lth.prune_low_magnitude(model, structure=word, exclude="c")
    assert list(weight_names.masked(wrapped)) == ["d/kernel"]


@pytest.mark.parametrize("name", [name for name, control in CONTROLS.items()
                                  if control.mask == "structured"])
def test_controls_keep_to_it(word, name):
    weights = {"w": distinct((12, 12))}
    masks = {"w": pruned(np.abs(weights["w"]), word)}
    _, made = CONTROLS[name].start(weights, masks, weights, np.random.default_rng(1), parse(word))
    assert made["w"].sum() == masks["w"].sum() and whole(made["w"], word)
    assert word != "inputs" or (made["w"] != masks["w"]).any()


# From end to end.

def test_a_wrapped_model_is_searched_saved_and_loaded_in_it(word, tmp_path):
    model = compiled(lth.prune_low_magnitude(networks.mlp(), structure=word))
    lottery = lth.LotteryTicketCallback(rounds=rounds_of(word), epochs_per_round=1, fraction=0.3,
                                        check=True, verbose=0)
    fit(model, lottery)
    assert lottery.ticket.provenance["settings"]["structure"] == word
    for name, mask in lottery.ticket.masks.items():
        assert whole(mask, word) and not mask.all()
        trained = weight_names.named_weights(model)[name].numpy()
        assert (trained[mask == 0] == 0).all() and trained.any()
    for ending in ("keras", "h5"):
        model.save(tmp_path / f"model.{ending}")
        loaded = keras.models.load_model(tmp_path / f"model.{ending}")
        assert {str(item.structure) for item in weight_names.masked(loaded).values()} == {word}
        np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_run_prunes_in_it(word, tmp_path):
    config = small.CONFIG.replace(structure=word, rounds=rounds_of(word),
                                  fraction=0.3, branches=("ticket", "random_mask"))
    small.run(tmp_path, config, trains=small.lab(config, config.rounds))
    ticket = Ticket.load(Store(tmp_path, config).ticket(0, config.rounds))
    assert ticket.provenance["settings"]["structure"] == word
    assert all(whole(mask, word) and not mask.all() for mask in ticket.masks.values())
    last = store.results(tmp_path).query(f"level == {config.rounds}")
    assert set(last.branch) == {"ticket", "random_mask"} and last.density.nunique() == 1


def test_it_is_written_down_by_its_word_and_unknown_elsewhere(word):
    config = small.CONFIG.replace(structure=word, rounds=1)
    assert Config.from_plain(config.to_dict()) == config
    assert config.identity["structure"] == word
    assert ("rounds" in config.identity) == parse(word).by_rounds
    kind = KINDS.pop(parse(word).word)
    try:
        with pytest.raises(LotteryError, match=f"structure must be none.*Received: '{word}'"):
            Config.from_plain(config.to_dict())
    finally:
        register(kind)


def test_settings_that_it_does_not_go_with_are_refused(word):
    said = "rounds must be 1" if parse(word).by_rounds else f"must have masks of structure={word}"
    with pytest.raises(LotteryError, match=said):
        small.CONFIG.replace(structure=word, rounds=2, branches=("ticket", "magnitude_at_init"))
