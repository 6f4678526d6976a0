import pytest

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.margins import DEFAULT, Margins, parse

CONFIG = Config(preset="p", network="n", dataset="d", steps=100)


def test_the_defaults_are_the_papers():
    assert Margins(accuracy=0.002, steps=0.19, loss=0.01) == DEFAULT


@pytest.mark.parametrize("given", ["steps:0.1", " steps : 0.1 ,", {"steps": 0.1},
                                   Margins(steps=0.1)])
def test_what_is_not_named_has_its_default(given):
    assert parse(given) == Margins(accuracy=0.002, steps=0.1)


@pytest.mark.parametrize("margins", [DEFAULT, Margins(0, 0, 0), Margins(0.123456, 0.999, 0.5)])
def test_margins_read_back_from_their_text(margins):
    assert parse(str(margins)) == margins


@pytest.mark.parametrize("given", [
    "", ",", {}, None, 0.1, "0.1", "steps", "steps:", "steps:-0.1", "steps:1", "steps:nan",
    "steps:inf", {"steps": True}, {"steps": None}, "steps:0.1,steps:0.2", "steps:19%"])
def test_what_are_no_margins_is_an_error_that_says_what_they_are(given):
    with pytest.raises(LotteryError, match=r"(margin must be shares in \[0, 1\)|A margin must be).*"
                                           "Received: "):
        parse(given)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(LotteryError, match="A margin must be one of accuracy, steps, loss.*acuracy"
                                           ".*Did you mean accuracy"):
        parse("acuracy:0.1")


def test_a_configuration_holds_them_as_text_and_they_change_no_training():
    for given in ("accuracy:0.01", {"accuracy": 0.01}, Margins(accuracy=0.01)):
        changed = CONFIG.replace(margin=given)
        assert changed.margin == "accuracy:0.01,steps:0.19,loss:0.01"
        assert changed.margins == Margins(accuracy=0.01)
        assert changed.fingerprint == CONFIG.fingerprint
