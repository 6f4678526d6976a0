"""The scoreboard: claims decided by rules, over fabricated results."""

import json
import pathlib
import sys

import numpy as np
import pandas as pd
import pytest
import workdirs

from lth_keras.config import Config
from lth_keras.stats import Estimate

DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def claims():
    sys.path.insert(0, str(DOCS))
    import claims
    return claims


@pytest.fixture(scope="module")
def reproduction(claims):
    import reproduction
    return reproduction


# What the paper reports, as means by level.
STEPS = {0: 10_000, 3: 8000, 7: 6000, 9: 6200, 12: 7000, 15: 9900, 16: 12_000}
ACCURACY = {0: 0.980, 3: 0.982, 7: 0.983, 9: 0.983, 12: 0.982, 15: 0.9800, 16: 0.9785}


def results(*, steps=STEPS, accuracy=ACCURACY, noise=0.0001, replicates=5, control=None, seed=0):
    """Rows as the paper's means, with noise of so much of each, relative."""
    rng, rows = np.random.default_rng(seed), []
    for replicate in range(replicates):
        for level in range(18):
            near = min(steps, key=lambda known: abs(known - level))
            for branch in ("ticket", *([] if control is None or not level else ["reinit"])):
                other = branch == "reinit"
                rows.append({
                    "replicate": replicate, "branch": branch, "branch_index": 0, "level": level,
                    "density": 0.8**level, "val_loss_min": 0.1, "seconds": 1.0,
                    "early_stop_step": steps[near] * (2.6 if other else 1)
                    * (1 + noise * rng.normal()),
                    "test_accuracy_early_stop": accuracy[near] - (control if other else 0)
                    + noise * 0.1 * rng.normal(),
                    "test_accuracy_final": 0.98 + (0.004 if level == 7 else 0)
                    + noise * 0.1 * rng.normal(),
                    "train_accuracy_final": 1.0, "diverged_at_step": np.nan})
    return pd.DataFrame(rows)


def decided(claims, name, **changes):
    claim = {claim.name: claim for claim in claims.CLAIMS}[name]
    table = results(**changes)
    return claims.decide(claim, dict.fromkeys(claim.runs, table))


@pytest.mark.parametrize("name", ["L1", "L2", "L3", "L4", "L5"])
def test_the_papers_own_figures_are_reproduced(claims, name):
    verdict, parts = decided(claims, name)
    assert verdict == claims.REPRODUCED, parts
    assert all(part.replicates == 5 for part in parts)


@pytest.mark.parametrize("name", ["L6", "L7"])
def test_claims_on_the_control_are_reproduced_where_it_is_worse(claims, name):
    assert decided(claims, name, control=0.006)[0] == claims.REPRODUCED
    assert decided(claims, name, control=-0.006)[0] == claims.NOT_REPRODUCED
    assert decided(claims, name)[0] == claims.NOT_RUN


@pytest.mark.parametrize("name", ["L1", "L2", "L3", "L4"])
def test_noise_leaves_a_claim_open(claims, name):
    assert decided(claims, name, noise=2.0, replicates=3)[0] == claims.INCONCLUSIVE
    assert decided(claims, name, replicates=1)[0] == claims.INCONCLUSIVE


@pytest.mark.parametrize(("name", "changes"), [
    ("L1", {"steps": dict.fromkeys(STEPS, 10_000)}), ("L1", {"steps": {**STEPS, 7: 20_000}}),
    ("L2", {"accuracy": dict.fromkeys(STEPS, 0.98)}), ("L3", {"steps": {**STEPS, 15: 5000}}),
    ("L3", {"accuracy": {**ACCURACY, 15: 0.97}}), ("L4", {"steps": {**STEPS, 3: 11_000}})])
def test_results_that_contradict_a_claim_are_said_to(claims, name, changes):
    assert decided(claims, name, **changes)[0] == claims.NOT_REPRODUCED


def test_an_effect_half_as_large_as_the_papers_is_the_bound(claims):
    def verdict(mean, half):
        return claims.effect("x", Estimate(mean, mean - half, mean + half, 1, 5), 2.0).verdict
    assert [verdict(*case) for case in [(1.0, 0.9), (0.99, 0.9), (1.0, 1.1), (0.5, 0.4)]] == [
        claims.REPRODUCED, claims.INCONCLUSIVE, claims.INCONCLUSIVE, claims.NOT_REPRODUCED]


def test_one_shot_and_continued_need_both_runs(claims):
    for claim in claims.CLAIMS:
        if len(claim.runs) > 1:
            assert claims.decide(claim, {claim.runs[0]: results()})[0] == claims.NOT_RUN


def analysis(rows):
    """Three replicates of an analysis' rows: of (what a row is of, its measures)."""
    return pd.DataFrame([{"replicate": replicate, **keys, **{
        name: value + 0.01 * replicate for name, value in found.items()}}
        for replicate in range(3) for keys, found in rows])


def survivors(first, second, last):
    return analysis(rows=[({"level": level, "weight": f"fc{number}/kernel"},
                           {"bimodality": value if level else 0.33})
                          for level in (0, 12)
                          for number, value in enumerate((first, second, last), start=1)])


def movement(kept, away):
    return analysis(rows=[({"trained_level": 0, "level": level, "weight": "all"},
                           {"moved_kept": kept, "moved_pruned": 0.5, "away_kept": away,
                            "away_pruned": 0.5}) for level in (7, 15)])


def connections(incoming, outgoing):
    return analysis(rows=[({"level": 7, "weight": f"fc{number}/kernel", "direction": direction},
                           {"ratio": value}) for number in (1, 2, 3)
                          for direction, value in (("incoming", incoming),
                                                   ("outgoing", outgoing))])


def rates(gaps):
    rows = []
    for replicate in range(3):
        for level, gap in zip((7, 12), gaps, strict=True):
            for branch, final in (("ticket", 0.98 + gap + 0.0001 * replicate), ("reinit", 0.98)):
                rows.append({"replicate": replicate, "branch": branch, "level": level,
                             "early_stop_step": 100, "test_accuracy_final": final})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("name", "tables", "contradicting"), [
    ("L11", (survivors(0.34, 0.7, 0.8), survivors(0.7, 0.7, 0.8)),
     (survivors(0.34, 0.4, 0.8), survivors(0.7, 0.7, 0.8))),
    ("L11", (survivors(0.34, 0.7, 0.8), survivors(0.7, 0.7, 0.8)),
     (survivors(0.7, 0.7, 0.8), survivors(0.7, 0.7, 0.8))),
    ("L11", (survivors(0.34, 0.7, 0.8), survivors(0.7, 0.7, 0.8)),
     (survivors(0.34, 0.7, 0.8), survivors(0.34, 0.7, 0.8))),
    ("L12", (movement(0.8, 0.7),), (movement(0.4, 0.7),)),
    ("L12", (movement(0.8, 0.7),), (movement(0.8, 0.3),)),
    ("L15", (connections(1.2, 4.0),), (connections(3.0, 4.0),)),
    ("L15", (connections(1.2, 4.0),), (connections(1.2, 1.5),)),
    ("T", (rates((0.004, 0.006)), rates((0, 0.001))), (rates((0.004, 0.006)),) * 2),
    ("T", (rates((0.004, 0.006)), rates((0, 0.001))), (rates((0, -0.001)),) * 2)])
def test_claims_on_weights_and_rates_go_by_their_rules(claims, name, tables, contradicting):
    claim = {claim.name: claim for claim in claims.CLAIMS}[name]

    def verdict(found):
        return claims.decide(claim, dict(zip(claim.runs, found, strict=True)))
    assert verdict(tables)[0] == claims.REPRODUCED, verdict(tables)
    assert verdict(contradicting)[0] == claims.NOT_REPRODUCED, verdict(contradicting)


def test_every_claim_of_the_paper_has_a_row(claims, reproduction, tmp_path):
    names = [claim.name for claim in claims.CLAIMS]
    assert names == [*(f"{letter}{number}" for letter, count in
                       (("L", 18), ("C", 9), ("V", 4), ("R", 4))
                       for number in range(1, count + 1)), "T"]
    page = reproduction.page(tmp_path)
    assert all(f"| {name} | " in page for name in names)
    assert f"{len(names)} claims: {len(names)} not run." in page


def test_kept_results_say_where_they_come_from_and_are_read_back(reproduction, tmp_path):
    config = Config(preset="p", network="n", dataset="d", steps=100, rounds=2, replicates=2)
    workdirs.fill(tmp_path / "run", config)
    reproduction.add(tmp_path / "results", "lenet_300_100", tmp_path / "run", "lth run p")
    tables, about = reproduction.read(tmp_path / "results")
    table = tables["lenet_300_100"]
    assert len(table) == 10 and "seconds" not in table and table.early_stop_step.tolist()[0] == 0
    facts = about["lenet_300_100"]
    assert facts["command"] == "lth run p" and facts["seed"] == 0 and facts["machine"]
    assert facts["settings"]["steps"] == 100 and "tensorflow" in json.dumps(facts["versions"])
    (tmp_path / "run" / "analysis").mkdir()
    table[["replicate", "level"]].to_csv(tmp_path / "run" / "analysis" / "movement.csv")
    reproduction.add(tmp_path / "results", "lenet", tmp_path / "run", "lth analyse", "movement")
    page = reproduction.page(tmp_path / "results")
    assert "### lenet_movement" in page and "10 rows of an analysis, 2 replicates" in page
    assert "    lth run p" in page and "10 trained networks, 2 replicates" in page


def test_the_page_is_what_the_kept_results_say(reproduction):
    assert (DOCS / "reproduction.md").read_text() == reproduction.page(DOCS / "results")
