import pathlib
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
import workdirs
from rows import costed, rows

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.results import runs
from lth_keras.experiments.results.runs import Run
from lth_keras.reports import html_page
from lth_keras.reports.html_page import Picture

CONFIG = Config(preset="p", network="n", dataset="d", steps=300)
PICTURE = Picture("figure_1", "What <it> shows & more", 'words "quoted" <b>', b"\x89PNG\r\n")
RESULTS = rows(*((replicate, branch, level, 100 - 10 * level + replicate + (branch != "ticket"),
                  0.9 + level / 50 + replicate / 1000 - (branch != "ticket") / 10)
                 for replicate in range(7) for level in range(3)
                 for branch in ("ticket", "reinit", "random_mask") if level or branch == "ticket"))


def run(label="p", results=RESULTS, root="w"):
    return Run(pathlib.Path(root), CONFIG, results, label)


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    VOID = {"meta", "img", "link", "br"}

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def of(self, *tags):
        return [attributes for tag, attributes in self.found if tag in tags]


def elements(*arguments, **options):
    return Elements(html_page.render(*arguments, **options))


def test_the_page_loads_nothing_from_elsewhere():
    text = html_page.render([run(), run("q")], [PICTURE] * 2, ["why"])
    found = Elements(text)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link|<iframe|<object", text)
    assert len(found.of("img")) == 2
    assert all(image["src"].startswith("data:image/png;base64,") for image in found.of("img"))
    assert all(link["href"].startswith("#") for link in found.of("a"))
    targets = {attributes["id"] for _, attributes in found.found if "id" in attributes}
    assert {link["href"][1:] for link in found.of("a")} <= targets
    (policy,) = [meta["content"] for meta in found.of("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_hostile_names_are_text():
    evil = '<script>alert("1")</script>\'" onload=x'
    results = RESULTS.assign(branch=RESULTS.branch.replace("random_mask", evil))
    text = html_page.render([run(evil, results, root=evil)],
                       [Picture("figure_1", evil, evil, b"")], [evil])
    assert "<script" not in text
    found = Elements(text)
    assert not any("onload" in attributes for _, attributes in found.found)
    assert evil in found.text
    assert found.of("img")[0]["alt"] == evil
    assert elements([run(evil)], []).text.count(evil) >= 3


def test_the_page_can_be_read_without_seeing_it():
    found = elements([run()], [PICTURE], ["why"])
    assert found.of("html") == [{"lang": "en"}]
    assert found.of("img")[0]["alt"] == PICTURE.text
    tables = len(found.of("table"))
    assert tables >= 5 and len(found.of("caption")) == tables
    assert all(cell["scope"] in ("col", "row") for cell in found.of("th"))
    # What scrolls can be reached and scrolled with the keyboard, and is named.
    scrolls = [attributes for attributes in found.of("div") if attributes.get("class") == "wide"]
    assert len(scrolls) == tables + 1
    assert all(part["tabindex"] == "0" and part["aria-label"] for part in scrolls)


def test_the_page_has_verdicts_intervals_and_every_training():
    found = elements([run()], [PICTURE], ["Figure 9 is left out."])
    assert "Winning tickets at levels 1-2; the sparsest, with 25.0% of the weights" in found.text
    assert found.text.count("19% of the dense network's steps and 0.2 points") == 2
    badges = [part["class"] for part in found.of("span") if "badge" in part.get("class", "")]
    assert badges == ["badge winning"] * 2
    cells = re.sub(r"\s+", " ", found.text)
    assert "\N{MINUS SIGN}19.4" in cells and "+4.00" in cells and "+10.00" in cells
    assert "Figure 9 is left out." in cells and "What <it> shows & more" in cells
    assert f"Every training ({len(RESULTS)})" in cells
    assert "random mask" in cells and "95%: 98 to 102" not in cells
    assert re.search(r"Means: re-initialised", cells)


def test_verdicts_of_other_outcomes_look_other():
    worse = RESULTS.astype({"early_stop_step": float})
    late = (worse.branch == "ticket") & (worse.level == 2)
    worse.loc[late, "early_stop_step"] += 500
    unsure = (worse.branch == "ticket") & (worse.level == 1)
    worse.loc[unsure, "early_stop_step"] = [60.0, 130.0, 150.0, 90.0, 170.0, 50.0, 120.0]
    found = elements([run(results=worse)], [])
    badges = [part["class"] for part in found.of("span") if "badge" in part.get("class", "")]
    assert badges == ["badge inconclusive", "badge not-winning"]
    assert "later than dense" in found.text and "needs" in found.text


def test_a_step_that_a_training_did_not_come_to_is_left_blank():
    results = RESULTS.assign(test_accuracy_step_20=0.5)
    results.loc[results.branch == "reinit", "test_accuracy_step_20"] = None
    text = elements([run(results=results)], []).text
    assert text.count("test accuracy at step 20") == 3 and "50.00%" in text and "nan" not in text


def test_settings_are_all_there_and_versions_are_those_that_trained(tmp_path):
    config = CONFIG.replace(rounds=1, strategy="one_shot")
    store = workdirs.fill(tmp_path, config)
    found = elements(runs.read_all([tmp_path]), [])
    assert all(name in found.text for name in config.to_dict())
    assert "one_shot" in found.text and "Trained with" not in found.text
    workdirs.trained_with(store, tensorflow="9.8.7")
    text = re.sub(r"\s+", " ", elements(runs.read_all([tmp_path]), []).text)
    assert "Trained with tensorflow 9.8.7." in text
    store.ticket(0, 0).write_bytes(b"no ticket")
    assert "Trained with" not in elements(runs.read_all([tmp_path]), []).text


def test_a_run_of_several_machines_says_what_each_trained_with(tmp_path):
    for first, version in enumerate(("1.0", "2.0", "1.0")):
        workdirs.trained_with(workdirs.fill(tmp_path / str(first), CONFIG.replace(
            rounds=1, first_replicate=first)), numpy=version)
    text = elements(runs.read_all([tmp_path / name for name in "012"]), []).text
    assert re.findall(r"Trained with numpy ([\d.]+)\.", text) == ["1.0", "2.0"]


def test_a_page_without_pictures_or_pruned_tickets_says_so():
    found = elements([run(results=RESULTS[:1])], [])
    assert "There are no figures" in found.text
    assert "no pruned ticket is trained yet" in found.text
    gone = RESULTS.assign(early_stop_step=RESULTS.early_stop_step.where(RESULTS.level == 0))
    assert "all pruned tickets diverged" in elements([run(results=gone)], []).text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ink_stands_out_from_what_it_is_on(scheme):
    text = html_page.render([run()], [])
    blocks = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))

    def luminance(colour):
        parts = [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055)**2.4
                  for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    for ink, paper in (("ink", "paper"), ("soft", "paper"), ("soft", "panel"), ("link", "paper"),
                       ("good", "good-back"), ("bad", "bad-back"), ("open", "open-back")):
        high, low = sorted(map(luminance, (colours[ink], colours[paper])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper)


def test_controls_are_compared_at_the_levels_that_they_are_trained_at():
    results = rows((0, "ticket", 0, 100, 0.9), (0, "ticket", 1, 90, 0.91),
                   (0, "ticket", 2, 90, 0.91), (0, "constant", 2, 120, 0.9))
    text = elements([run(results=results)], []).text
    assert text.count("+1.00") == 3 and "not trained" not in text  # There is no reinit at all.
    some = pd.concat([results, rows((0, "reinit", 2, 90, 0.9))], ignore_index=True)
    text = elements([run(results=some)], []).text
    assert text.count("not trained") == 2 and "not judged" in text  # None at level 1.
    lost = some.assign(early_stop_step=some.early_stop_step.where(some.branch != "reinit"))
    text = elements([run(results=lost)], []).text
    assert text.count("not trained") == 2  # At level 1; at level 2 they diverged.


def test_runs_without_filters_have_their_costs_beside_their_density():
    text = re.sub(r"\s+", " ", elements([run(results=costed(RESULTS)), run("q")], []).text)
    costs = text[text.rindex("What it costs"):text.index("Results p")]
    assert "1 50.0% 2,500 50.0 20,000 25.0 2 25.0% 1,250 25.0 5,000 6.2" in costs
    assert "q" not in costs.split()
    # In the verdicts, and in the means of the ticket and of two controls; not those of the other.
    assert text.count("multiply\N{NON-BREAKING HYPHEN}adds remaining") == 4
    assert "1 50.0% 25.0% winning" in text and "1 50.0% 25.0% 7 93" in text


def test_runs_with_all_their_filters_have_no_costs():
    found = elements([run()], [])
    assert "what it costs" not in found.text.lower()
    assert not [part for _, part in found.found if part.get("id") == "costs"]
