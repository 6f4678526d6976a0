import pytest

from lth_keras.arguments import check_choice, one_line
from lth_keras.core import criteria
from lth_keras.deployment.conversion import formats
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import config, presets
from lth_keras.experiments.training import networks


@pytest.mark.parametrize("longest", [10, 11, 12])
def test_a_line_is_cut_where_it_is_too_long(longest):
    line = one_line("two\n\n  words  x", longest)
    assert line == ("two words x" if longest >= 11 else "two wor...") and len(line) <= longest


@pytest.mark.parametrize("wrong", ["", "globl ", None, 3, [], "x" * 1000])
def test_a_wrong_word_is_an_error_that_lists_the_right_ones(wrong):
    with pytest.raises(LotteryError, match="^scope must be one of layer, global. Rec") as caught:
        check_choice("scope", wrong, ["layer", "global"])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("call", "right"), [
    (lambda: presets.get("lenet_300"), "lenet_300_100"),
    (lambda: presets.get("resnet-18"), "resnet18"),
    (lambda: networks.get("conv_2"), "conv2"), (lambda: formats.get("float_16"), "float16"),
    (lambda: criteria.get("magnitud"), "magnitude"),
    (lambda: presets.get("digits").replace(step=5), "steps"),
    (lambda: presets.get("digits").replace(branches=("re_init",)), "reinit"),
    (lambda: config.Config(preset="p", network="n", dataset="d", steps=9, scope="globl"),
     "global")])
def test_a_word_that_is_nearly_right_is_corrected(call, right):
    with pytest.raises(LotteryError, match=f"Did you mean {right}[?]$"):
        call()
