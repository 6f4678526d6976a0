"""Structures by their words and by the arguments of prune_low_magnitude."""

import pytest
from structured import BLOCKS, GROUPS

from lth_keras.core.structures.blocks import Blocks
from lth_keras.core.structures.words import KINDS, named, of_arguments, parse, register
from lth_keras.errors import LotteryError


@pytest.mark.parametrize("text", ["none", *BLOCKS, *GROUPS])
def test_a_structure_is_known_by_its_word(text):
    structure = parse(text)
    assert str(structure) == text and structure.is_none == (text == "none")
    assert of_arguments(**structure.options) == structure


@pytest.mark.parametrize("text", ["", "24", "2:4:8", "4:2", "0:4", "2:2", "block_1", "block_0x4",
                                  "block_1x4_min", "block_1x99999", "2:4 ", None, 24])
def test_any_other_word_is_an_error(text):
    with pytest.raises(LotteryError, match="Received: "):
        parse(text)


@pytest.mark.parametrize(("options", "said"), [
    ({"block_size": 4}, "block_size must be two whole numbers in \\[1, 9,999\\], such as "
                        "\\(1, 4\\). Received: 4"),
    ({"block_size": (1, 0)}, "Received: \\(1, 0\\)"),
    ({"block_size": (1, True)}, "Received: \\(1, True\\)"),
    ({"block_pooling_type": "MIN"}, "must be one of AVG, MAX. Received: 'MIN'"),
    ({"sparsity_m_by_n": (4, 4)}, "1 <= m < n. Received: \\(4, 4\\)"),
    ({"sparsity_m_by_n": "2:4"}, "sparsity_m_by_n must be two whole numbers.*Received: '2:4'"),
    ({"sparsity_m_by_n": (2, 4), "block_size": (1, 4)}, "blocks or \\(m, n\\) sparsity, not both"),
    ({"structure": "4x4"}, "structure must be none; M:N.*Received: '4x4'")])
def test_values_that_are_none_of_tfmots_are_an_error(options, said):
    with pytest.raises(LotteryError, match=said):
        of_arguments(**options)


@pytest.mark.parametrize("options", [
    {"block_size": (1, 4)}, {"sparsity_m_by_n": (2, 4)}, {"block_pooling_type": "MAX"}])
def test_a_word_and_tfmots_arguments_together_are_an_error(options):
    with pytest.raises(LotteryError, match="not by both. Received: structure='2:4' and"):
        of_arguments(**options, structure="2:4")


@pytest.mark.parametrize("text", ["none", *BLOCKS, *GROUPS])
def test_a_word_asks_for_the_same_as_tfmots_arguments(text):
    assert of_arguments(structure=text) == of_arguments(**parse(text).options)
    assert "structure" not in parse(text).options


@pytest.mark.parametrize(("options", "word"), [
    ({"block_pooling_type": "MAX"}, "none"),
    ({"block_pooling_type": "MAX", "sparsity_m_by_n": [2, 4]}, "2:4")])
def test_a_pooling_that_has_no_effect_is_kept_among_the_options_alone(options, word):
    structure = of_arguments(**options)
    assert structure.options == options and named({"w": structure}) == named({"w": parse(word)})
    assert structure.is_none == (word == "none")


@pytest.mark.parametrize("text", ["block_1x1", "block_01x1_max"])
def test_blocks_of_one_weight_are_no_structure(text):
    assert str(parse(text)) == "none" and parse(text).is_none


def test_words_are_taken_once():
    with pytest.raises(LotteryError, match="must be new. Received: 'block_HxW.*of Blocks, which"):
        register(Blocks)
    assert len(KINDS) == 4
