"""What objects show in a notebook: short, escaped, without colours."""

import html.parser
import pathlib

import either
import numpy as np
import pytest
from either import PACKAGES

import lth_keras as lth
from lth_keras import notebook
from lth_keras.core.verification import Finding, Verification
from lth_keras.deployment import manifest
from lth_keras.deployment.compaction.compact import Compacted

EVIL = "<script>alert(1)</script>"


class Balance(html.parser.HTMLParser):
    """The text of a page, whose tags must all be closed, and the tags in it."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.tags = [], "", set()
        self.feed(page)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def objects():
    ticket = lth.Ticket({EVIL: np.ones((3, 2)), "bias": np.zeros(2)},
                        {EVIL: np.eye(3, 2, dtype=np.uint8)}, level=1)
    rows = manifest.table([
        manifest.Row(format="float32", status=manifest.SHIPPED, bytes=1_024, accuracy=0.5),
        manifest.Row(format="int8", status=manifest.REFUSED, reason=EVIL)])
    return {
        "Ticket": ticket,
        "Deployment": manifest.Deployment(pathlib.Path("out") / EVIL, rows, {}),
        "Verification": Verification(EVIL, 5, (Finding("pruning", EVIL, "is not zero"),)),
        "Compacted": Compacted(None, {EVIL: (300, 255)}, {}, (), (266_610, 31_005)),
    }


def check_shown(thing):
    page = thing._repr_html_()
    found = Balance(page)
    assert "script" not in found.tags and "color" not in page and "background" not in page
    assert len(repr(thing)) < 200 and "array" not in repr(thing) and "\n" not in repr(thing)
    return found.text


@pytest.mark.parametrize("name", objects())
def test_results_are_shown_short_and_escaped(name):
    assert EVIL in check_shown(objects()[name])


def test_a_deployment_says_what_was_shipped_and_why_not():
    made = objects()["Deployment"]
    assert repr(made).endswith("shipped: float32, refused: int8>")
    for part in ("1,024", "50.00%", f"int8 is refused: {EVIL}"):
        assert part in check_shown(made)


def test_a_ticket_shows_each_weight():
    text = check_shown(objects()["Ticket"])
    for part in ("ticket of level 1: 2 of 6 prunable weights kept", "33.33%", "not pruned"):
        assert part in text


@PACKAGES
def test_a_search_and_its_callback_are_shown_before_and_after_fit(package):
    lottery = either.search()
    assert repr(lottery) == "<LotteryTicketCallback: rounds=2, epochs_per_round=1, not fitted yet>"
    check_shown(lottery)
    model = either.compiled(package)
    either.fit(model, lottery)
    best = lottery.best.level
    assert repr(lottery) == (
        "<LotteryTicketCallback: rounds=2, epochs_per_round=1, level 2 reached, 25.0% of the "
        f"weights; best: level {best} by val_accuracy>")
    text = check_shown(lottery)
    for part in ("val_accuracy", "25.0%", f"{lottery.results.val_accuracy[2]:.4f}"):
        assert part in text
    search = lth.Search(model)
    assert repr(search) == f"<Search of {model.name!r}: level 0, 25.0% of the weights>"
    assert "hidden/kernel" in check_shown(search)


@PACKAGES
def test_a_callback_without_validation_data_names_no_best_level(package):
    lottery = either.search()
    either.fit(either.compiled(package), lottery, validation_split=0.0)
    assert "best" not in repr(lottery)
    check_shown(lottery)


def test_a_long_table_is_cut_and_says_so():
    page = notebook.page("many", ["weight"], [[f"w{number}"] for number in range(53)])
    assert page.count("<td") == 50 and "3 more rows are not shown." in page
