"""The scoreboard: claims decided by rules, over fabricated results."""

import dataclasses
import pathlib

import claims
import filter_claims
import judging
import numpy as np
import pandas as pd
import pytest
import reproduction
import strong_claims
import workdirs
from earlier_verdict import earlier

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.margins import Margins
from lth_keras.experiments.results.statistics import Estimate
from lth_keras.experiments.results.verdicts import judge

ROOT = pathlib.Path(__file__).parents[2]
CLAIMS = {claim.name: claim for claim in claims.CLAIMS}


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


@pytest.fixture(scope="module")
def decided():
    def decide(name, **changes):
        claim = CLAIMS[name]
        return judging.decide(claim, dict.fromkeys(claim.runs, results(**changes)))
    return decide


@pytest.mark.parametrize("name", ["L1", "L2", "L3", "L4", "L5"])
def test_the_papers_own_figures_are_reproduced(decided, name):
    verdict, parts = decided(name)
    assert verdict == judging.REPRODUCED, parts
    assert all(part.replicates == 5 for part in parts)


@pytest.mark.parametrize("name", ["L6", "L7"])
def test_claims_on_the_control_are_reproduced_where_it_is_worse(decided, name):
    assert decided(name, control=0.006)[0] == judging.REPRODUCED
    assert decided(name, control=-0.006)[0] == judging.NOT_REPRODUCED
    assert decided(name)[0] == judging.NOT_RUN


@pytest.mark.parametrize("name", ["L1", "L2", "L3", "L4"])
def test_noise_leaves_a_claim_open(decided, name):
    assert decided(name, noise=2.0, replicates=3)[0] == judging.INCONCLUSIVE
    assert decided(name, replicates=1)[0] == judging.INCONCLUSIVE


@pytest.mark.parametrize(("name", "changes"), [
    ("L1", {"steps": dict.fromkeys(STEPS, 10_000)}), ("L1", {"steps": {**STEPS, 7: 20_000}}),
    ("L2", {"accuracy": dict.fromkeys(STEPS, 0.98)}), ("L3", {"steps": {**STEPS, 15: 5000}}),
    ("L3", {"accuracy": {**ACCURACY, 15: 0.97}}), ("L4", {"steps": {**STEPS, 3: 11_000}})])
def test_results_that_contradict_a_claim_are_said_to(decided, name, changes):
    assert decided(name, **changes)[0] == judging.NOT_REPRODUCED


def test_an_effect_half_as_large_as_the_papers_is_the_bound():
    def verdict(mean, half):
        return judging.effect("x", Estimate(mean, mean - half, mean + half, 1, 5), 2.0).verdict
    assert [verdict(*case) for case in [(1.0, 0.9), (0.99, 0.9), (1.0, 1.1), (0.5, 0.4)]] == [
        judging.REPRODUCED, judging.INCONCLUSIVE, judging.INCONCLUSIVE, judging.NOT_REPRODUCED]


def test_a_difference_of_any_size_is_refuted_where_there_is_as_good_as_none():
    def part(mean, half, **options):
        return judging.sign("x", Estimate(mean, mean - half, mean + half, 0.2, 9), **options)
    cases = [(0.1, 0.09), (0.1, 0.11), (0.0, 0.14), (0.0, 0.16), (-0.2, 0.1)]
    assert [part(*case, none=0.15).verdict for case in cases] == [
        judging.REPRODUCED, judging.INCONCLUSIVE, judging.NOT_REPRODUCED, judging.INCONCLUSIVE,
        judging.NOT_REPRODUCED]
    assert part(0.0, 0.14).verdict == judging.INCONCLUSIVE


def test_what_is_open_says_how_many_replicates_would_tell():
    def needed(judge, mean, deviation, *bounds, low=-9, high=9):
        return judge("x", Estimate(mean, low, high, deviation, 5), *bounds).needed
    ten = "about 10 replicates would tell"  # As of the t-test of one deviation's difference.
    assert needed(judging.effect, 1.0, 1.0, 2.0) == ten  # Told from 0,
    assert needed(judging.effect, 0.5, 1.0, 3.0) == ten  # or from half of it.
    assert needed(judging.equal, 0.5, 1.0, 1.5) == needed(judging.equal, -0.5, 1.0, 1.5) == ten
    assert needed(judging.equal, 1.0, 1.0, 1.0) == "not told by 1,000 replicates"
    assert needed(judging.sign, 1.0, 1.0) == ten
    assert needed(judging.equal, 0.0, 1.0, 1.0, low=-1, high=1) == ""


def test_a_note_is_shown_of_a_claim_that_is_not_reproduced():
    claim = dataclasses.replace(CLAIMS["L1"], note="As it is.")
    shown = "\n".join(reproduction._notes({claim: (judging.NOT_REPRODUCED, [])}))
    assert "- **L1** (not reproduced): As it is." in shown
    for verdict in (judging.REPRODUCED, judging.NOT_RUN):
        assert reproduction._notes({claim: (verdict, [])}) == []


def test_several_parts_say_what_each_comes_to_and_many_are_folded():
    good = judging.Part("a: 1 pt", judging.REPRODUCED, 5)
    open_ = judging.Part("b: 2 pt", judging.INCONCLUSIVE, 5, "about 9 replicates would tell")
    assert reproduction._said([good], judging.REPRODUCED) == "a: 1 pt"
    assert reproduction._said([good, good], judging.REPRODUCED) == "a: 1 pt<br>a: 1 pt"
    assert reproduction._said([good, open_], judging.INCONCLUSIVE) == (
        "a: 1 pt (reproduced)<br>b: 2 pt (inconclusive: about 9 replicates would tell)")
    assert reproduction._said([open_], judging.INCONCLUSIVE) == (
        "b: 2 pt (about 9 replicates would tell)")
    bad = judging.Part("c: 3 pt", judging.NOT_REPRODUCED, 5)
    assert reproduction._said([open_, bad], judging.NOT_REPRODUCED) == (
        "b: 2 pt (inconclusive)<br>c: 3 pt (not reproduced)")
    untrained = judging.Part("d: not trained", judging.NOT_RUN, 0)
    assert reproduction._said([good, untrained], judging.NOT_RUN) == (
        "a: 1 pt (reproduced)<br>d: not trained")
    many = reproduction._said([good] * 9 + [bad], judging.NOT_REPRODUCED)
    assert many.startswith("<details><summary>10 differences: 1 not reproduced, 9 reproduced</s")
    assert many.count("<br>") == 9 and many.endswith("</details>")


def test_one_shot_and_continued_need_both_runs():
    for claim in CLAIMS.values():
        if len(claim.runs) > 1:
            assert judging.decide(claim, {claim.runs[0]: results()})[0] == judging.NOT_RUN


def convolutional(*, speed=3.5, gain=0.034, worst=0.001, train=1.0, control=2.0, kept=0.0,
                  levels=22):
    """Two replicates of a network with the paper's greatest gains at every level but one."""
    rows = []
    for replicate in range(2):
        for level in range(levels):
            for branch in ("ticket", "reinit") if level else ("ticket",):
                pruned, ticket = level > 0, branch == "ticket"
                above = (worst if level == 5 else gain) if ticket else kept
                rows.append({
                    "replicate": replicate, "branch": branch, "level": level,
                    "early_stop_step": (4000 + replicate) * (
                        1 if not pruned else 1 / speed if ticket else control),
                    "test_accuracy_early_stop": 0.6 + pruned * above + 1e-5 * replicate,
                    "test_accuracy_final": 0.6 + pruned * above - 1e-5 * replicate * pruned,
                    "train_accuracy_final": train if level == 9 else 1.0})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("name", "contradicting"), [
    ("C1", {"speed": 1.5}), ("C2", {"gain": 0.01}), ("C3", {"worst": -0.001}),
    ("C4", {"train": 0.99}), ("C4", {"worst": -0.001}), ("C5", {"control": 0.9}),
    ("C5", {"kept": -0.01})])
@pytest.mark.parametrize("number", [2, 4, 6])
def test_claims_on_convolutional_networks_go_by_their_rules(name, number, contradicting):
    claim = CLAIMS[f"{name}, Conv-{number}"]

    def verdict(**changes):
        return judging.decide(claim, {claim.runs[0]: convolutional(**changes)})[0]
    assert claim.runs == (f"conv{number}",)
    assert verdict() == judging.REPRODUCED
    if number < 6 or "kept" not in contradicting:
        assert verdict(**contradicting) == judging.NOT_REPRODUCED


def test_a_convolutional_run_that_goes_less_far_leaves_claims_on_sparser_levels_open():
    run = {"conv2": convolutional(levels=13)}
    verdicts = [judging.decide(CLAIMS[f"C{number}, Conv-2"], run)[0] for number in range(1, 6)]
    assert verdicts == [judging.REPRODUCED, *[judging.NOT_RUN] * 3, judging.REPRODUCED]


def check_rules(claim, tables, contradicting):
    """A claim is reproduced by tables of its runs, and not by others."""
    for found, verdict in ((tables, judging.REPRODUCED), (contradicting, judging.NOT_REPRODUCED)):
        decided = judging.decide(claim, dict(zip(claim.runs, found, strict=True)))
        assert decided[0] == verdict, decided


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
def test_claims_on_weights_and_rates_go_by_their_rules(name, tables, contradicting):
    check_rules(CLAIMS[name], tables, contradicting)


def filters(**accuracies):
    """Five replicates at three levels: accuracies at the last step, with noise of 0.01 points."""
    noise = (-1e-4, -5e-5, 0, 5e-5, 1e-4)
    return pd.DataFrame([
        {"replicate": replicate, "branch": branch, "level": level, "early_stop_step": 100,
         "test_accuracy_final": accuracy + (noise[replicate] if branch == "ticket" else 0)}
        for replicate in range(5) for branch, accuracy in accuracies.items()
        for level in (1, 2, 3)])


GOOD = filters(ticket=0.981, reinit=0.98, scratch=0.979)  # All within 0.3 points.
TUNED, REWOUND = filters(ticket=0.979), filters(ticket=0.985)


@pytest.mark.parametrize(("name", "tables", "contradicting"), [
    ("S2, LeNet-5", (GOOD,), (filters(ticket=0.985, reinit=0.98),)),
    ("S3, LeNet-5", (GOOD, TUNED), (GOOD, filters(ticket=0.982))),
    ("S4, Conv-2", (GOOD, TUNED), (GOOD, filters(ticket=0.97))),
    ("S5, LeNet-5", (GOOD,), (filters(ticket=0.97, reinit=0.98),)),
    ("S6, Conv-2", (GOOD, REWOUND), (GOOD, TUNED))])
def test_claims_on_filters_go_by_their_rules(name, tables, contradicting):
    check_rules(CLAIMS[name], tables, contradicting)


def test_what_filters_save_is_counted_and_a_wrong_count_is_not_reproduced(monkeypatch):
    assert judging.decide(CLAIMS["S1"], {})[0] == judging.REPRODUCED
    name, widths, parameters, macs, epochs = filter_claims.CONFIGURATIONS["vgg16_l1_a"]
    for changed in ((name, (32, 255), parameters, macs, epochs),
                    (name, widths, parameters + 0.2, macs, epochs),
                    (name, widths, parameters, macs, epochs + 1)):
        monkeypatch.setitem(filter_claims.CONFIGURATIONS, "vgg16_l1_a", changed)
        assert judging.decide(CLAIMS["S1"], {})[0] == judging.NOT_REPRODUCED


def conv2_shorter(stop=2500, gain=0.02, reinit=4000, kept=0.60, random=0.55):
    """Five replicates of Conv-2: the dense network's early stop, and where others lie."""
    rows = [("ticket", 0, stop, 0.62), *(("ticket", level, 1500, 0.62 + gain) for level in (5, 7)),
            ("reinit", 2, 2500, kept), *(("reinit", level, reinit, 0.58) for level in (5, 7)),
            *(("random_mask", level, 4500, random) for level in (5, 7))]
    return pd.DataFrame([
        {"replicate": replicate, "branch": branch, "level": level, "branch_index": 0,
         "early_stop_step": steps + 10 * replicate * (level + 1),
         "test_accuracy_early_stop": accuracy + 1e-4 * replicate * (level + 1)}
        for replicate in range(5) for branch, level, steps, accuracy in rows])


@pytest.mark.parametrize(("changed", "claim"), [
    ({"stop": 1000}, "D1"), ({"gain": -0.02}, "D2"), ({"reinit": 1400}, "D3"),
    ({"kept": 0.5}, "D4"), ({"random": 0.59}, "D5")])
def test_directions_of_convolutional_networks_go_by_their_rules(changed, claim):
    def decided(accuracy=0.0, speed=1.0, **changes):
        run = conv2_shorter(**changes)
        float32 = run[run.replicate == 0].assign(
            test_accuracy_early_stop=run.test_accuracy_early_stop + accuracy,
            early_stop_step=run.early_stop_step / speed)
        run = {"conv2_shorter": run, "conv2_shorter_float32": float32}
        return {name: judging.decide(CLAIMS[f"{name}, Conv-2"], run)[0]
                for name in ("D0", "D1", "D2", "D3", "D4", "D5")}
    good = {"kept": 0.63}
    assert set(decided(**good).values()) == {judging.REPRODUCED}
    assert decided(**{**good, **changed})[claim] == judging.NOT_REPRODUCED
    # A dense network that has not been trained long enough leaves all open but the check.
    assert [*decided(**{**good, **changed, "stop": 6600}).values()] == [
        judging.REPRODUCED, *5 * [judging.INCONCLUSIVE]]
    # So does a check that fails.
    for other in ({"accuracy": 0.02}, {"accuracy": -0.02}, {"speed": 2}, {"speed": 0.5}):
        assert [*decided(**{**good, **changed, **other}).values()] == [
            judging.NOT_REPRODUCED, *5 * [judging.INCONCLUSIVE]]


def test_a_run_decides_nothing_before_its_replicates_are_there():
    run, claim = conv2_shorter(kept=0.63), CLAIMS["D1, Conv-2"]
    runs = {"conv2_shorter_float32": run[run.replicate == 0]}
    verdict, (part,) = judging.decide(claim, {**runs, "conv2_shorter": run[run.replicate < 4]})
    assert verdict == judging.INCONCLUSIVE and part.said.endswith("% (4 of 5 replicates)")
    assert judging.decide(claim, {**runs, "conv2_shorter": run})[0] == judging.REPRODUCED


def resnets(*, low=0.03, float32=0.0, own=0.002, warm=0.03, rewound=0.02, rate=0.02, calm=0.1):
    """Three replicates of Resnet-18's runs and barriers: tickets' advantages and other gains."""
    def final(advantage, ticket):
        return pd.DataFrame([
            {"replicate": replicate, "branch": branch, "level": level, "branch_index": 0,
             "early_stop_step": 1, "test_accuracy_final": accuracy + 1e-4 * replicate * level}
            for replicate in range(3) for level in (0, 2, 3)
            for branch, accuracy in (("ticket", ticket + 0.03 * (not level)),
                                     ("reinit", ticket - advantage))])

    def barrier(level_0, level_3):
        return pd.DataFrame([
            {"replicate": replicate, "between": between, "level": level,
             "instability": high + 1e-3 * replicate * (between != "data orders")}
            for replicate in range(3) for level, high in ((0, level_0), (3, level_3))
            for between in ("data orders", "parent and ticket")])
    return {"resnet18_low_tenth": final(low, 0.80),
            "resnet18_low_tenth_float32": final(low, 0.80 + float32).iloc[:6],
            "resnet18_tenth": final(own, 0.80 + rate),
            "resnet18_warmup_tenth": final(warm, 0.80 + rate),
            "resnet18_rewound_tenth": final(0, 0.80 + rate + rewound),
            "resnet18_tenth_barrier": barrier(0.2, 0.3),
            "resnet18_rewound_tenth_barrier": barrier(0.2 - calm, 0.3 - calm)}


@pytest.mark.parametrize(("changed", "claim"), [
    ({"low": -0.01}, "D6"), ({"own": 0.05}, "D7"), ({"warm": -0.01}, "D8"), ({"rate": -0.05}, "D8"),
    ({"rewound": -0.01}, "D9"), ({"calm": -0.1}, "D10")])
def test_directions_of_residual_networks_go_by_their_rules(changed, claim):
    def decided(**changes):
        return {name: judging.decide(CLAIMS[f"{name}, Resnet-18"], resnets(**changes))[0]
                for name in ("D0", "D6", "D7", "D8", "D9", "D10")}
    assert set(decided().values()) == {judging.REPRODUCED}
    assert decided(**changed)[claim] == judging.NOT_REPRODUCED
    for other in (0.02, -0.02):  # The check fails: all stays open.
        assert [*decided(**changed, float32=other).values()] == [
            judging.NOT_REPRODUCED, *5 * [judging.INCONCLUSIVE]]


def test_one_replicate_shows_no_loss_and_no_lack_of_it():
    one = judging.mean(pd.Series([-5.0]))
    assert judging.not_below("kept", one, 9.0).verdict == judging.INCONCLUSIVE
    assert judging.at_least("share", pd.Series([0.9]), 50).verdict == judging.INCONCLUSIVE
    assert judging.effect("gain", one, -9.0).verdict == judging.INCONCLUSIVE
    assert judging.sign("above", one).verdict == judging.INCONCLUSIVE
    assert judging.equal("same", one, 9.0).verdict == judging.INCONCLUSIVE


def test_an_interval_that_is_wide_enough_shows_nothing_by_any_rule():
    wide = Estimate(1.0, -1e9, 1e9, 1e9, 5)
    for rule in (lambda: judging.effect("x", wide, 0.5), lambda: judging.sign("x", wide),
                 lambda: judging.not_below("x", wide, 0.5), lambda: judging.equal("x", wide, 2.0),
                 lambda: judging.at_least("x", pd.Series([9e9, -9e9]), 0.0)):
        assert rule().verdict == judging.INCONCLUSIVE


def test_a_kept_run_has_its_own_settings_and_margins():
    _, about = reproduction.read(reproduction.HERE / "results")
    facts = about["lenet_at_init_iterative"]  # Of a preset whose strategy is another.
    config = reproduction.config(facts)
    assert config.strategy == "iterative" and config.margins.accuracy == 0.003
    assert config.identity == {**config.identity, **facts["settings"]}
    assert reproduction.config({**facts, "margin": "accuracy:0.05"}).margins.accuracy == 0.05


def test_a_claim_whose_check_is_not_run_is_not_run():
    run = {"conv2_shorter": conv2_shorter()}
    assert judging.decide(CLAIMS["D1, Conv-2"], run) == (judging.NOT_RUN, [])


def test_claims_on_strong_tickets_go_by_their_rules():
    sums = pd.DataFrame({"coefficients": [5, 10, 15], "median": [1e-1, 10**-2.4, 10**-3.8]})
    assert next(iter(strong_claims.b1(sums))).verdict == judging.REPRODUCED
    assert next(iter(strong_claims.b1(sums.assign(median=[1e-1, 1e-2, 1e-3])))
                ).verdict == judging.NOT_REPRODUCED
    made = pd.DataFrame({"layers": 2, "factor": [8, 16, 24], "weights": 100,
                         "kept": [400, 800, 1200], "output_error": [0.1, 0.01, 0.001]})
    assert [part.verdict for part in strong_claims.b4(made)] == [judging.REPRODUCED] * 2
    for wrong, changed in ((0, made.assign(output_error=[0.2, 0.02, 0.002])),
                           (1, made.assign(output_error=[0.01, 0.01, 0.008]))):
        assert [part.verdict for part in strong_claims.b4(changed)].index(
            judging.NOT_REPRODUCED) == wrong
    row = {"largest_error": 0.009, "accuracy": 98.0, "kept": 9500}
    pensia = {"target": {"accuracy": 98.04, "weights": 1000}, "own": {"21": row},
              "shared": {"21": row}}
    assert {part.verdict for part in strong_claims.b2(pensia)} == {judging.REPRODUCED}
    for changed in ({"largest_error": 0.011}, {"accuracy": 97.9}, {"kept": 12_000}):
        wrong = {**pensia, "own": {"21": {**row, **changed}}}
        assert [part.verdict for part in strong_claims.b2(wrong)].count(judging.NOT_REPRODUCED) == 1
    width = np.array([10, 100, 1000, 10_000])
    rows = pd.concat([pd.DataFrame({"method": method, "width": width, "median": error})
                      for method, error in (("malach", width**-0.5), ("product", 1 / width),
                                            ("subset_sum", 1e-3 * width**-1.5))])
    assert {part.verdict for part in strong_claims.b3(rows)} == {judging.REPRODUCED}
    rows.loc[rows.method == "malach", "median"] = width**-0.7
    assert next(iter(strong_claims.b3(rows))).verdict == judging.NOT_REPRODUCED
    errors = pd.DataFrame({"inputs": [4, 8], "ridge": [0.1, 0.2], "nnls": [0.1, 0.2],
                           "greedy": [0.1, 0.2], "weights": [1e-4, 1e-4]})
    assert {part.verdict for part in strong_claims.b5(errors)} == {judging.REPRODUCED}
    for name, value in (("nnls", 0.1), ("weights", 0.1)):
        wrong = errors.assign(**{name: value})
        assert [part.verdict for part in strong_claims.b5(wrong)].count(judging.NOT_REPRODUCED) == 1
    outputs = pd.DataFrame({"of": "sums", "coefficients": [5, 10, 15, 20],
                            "output_error": [1, 0.9, 0.05, 0.01]})
    assert [part.verdict for part in strong_claims.b6(outputs)] == [
        judging.REPRODUCED, judging.NOT_REPRODUCED]


def levels(branches, density=0.8):
    """Three replicates' accuracies at the early stop: a dictionary level -> accuracy a branch."""
    return pd.DataFrame([
        {"replicate": replicate, "branch": branch, "level": level, "density": density**level,
         "early_stop_step": 100, "test_accuracy_early_stop": accuracy + 1e-5 * replicate * level}
        for replicate in range(3) for branch, accuracies in branches.items()
        for level, accuracy in accuracies.items()])


def flat(**accuracies):
    return levels({branch.replace("half", "0.5"): dict.fromkeys((7, 12, 15, 16), accuracy)
                   for branch, accuracy in accuracies.items()})


def ladder(share, accuracy=0.98, count=40):
    return levels({"ticket": dict.fromkeys(range(count), accuracy)}, 1 - share)


def slow_to_stop(factor):
    """A network whose sparsest ticket stops later than the dense one by a factor."""
    run = ladder(0.2)
    late = run.level == 21
    return run.assign(early_stop_step=run.early_stop_step.where(~late, factor * (
        run.early_stop_step + run.replicate)))


def falls(*after):
    """LeNets that are as accurate as their dense networks until after a level each."""
    return tuple(levels({"ticket": {level: 0.98 if level <= last else 0.97 for level in range(20)}})
                 for last in after)


@pytest.mark.parametrize(("name", "tables", "contradicting"), [
    ("L9", (flat(ticket=0.98), flat(ticket=0.97)), (flat(ticket=0.98), flat(ticket=0.98))),
    ("L10", (flat(reinit=0.97, random_mask=0.96),), (flat(reinit=0.97, random_mask=0.97),)),
    ("L13", (flat(reinit=0.97, resample=0.9705, magnitude_at_init=0.96),),
     (flat(reinit=0.97, resample=0.965, magnitude_at_init=0.96),)),
    ("L13", (flat(reinit=0.97, resample=0.9695, magnitude_at_init=0.96),),
     (flat(reinit=0.97, resample=0.97, magnitude_at_init=0.97),)),
    ("L14", (flat(ticket=0.98, reinit=0.97, noise_half=0.981, noise_3=0.975),),
     (flat(ticket=0.98, reinit=0.97, noise_half=0.977, noise_3=0.975),)),
    ("L14", (flat(ticket=0.98, reinit=0.97, noise_half=0.979, noise_3=0.975),),
     (flat(ticket=0.98, reinit=0.97, noise_half=0.98, noise_3=0.97),)),
    *(("L16", (ladder(0.2), ladder(0.2), ladder(0.2), slow_to_stop(1), slow_to_stop(1)),
       contradicting) for contradicting in (
        (ladder(0.2, 0.97), ladder(0.2), ladder(0.2), slow_to_stop(1), slow_to_stop(1)),
        (ladder(0.2), ladder(0.2), ladder(0.2, 0.99), slow_to_stop(1), slow_to_stop(1)),
        (ladder(0.2), ladder(0.2), ladder(0.2), slow_to_stop(1), slow_to_stop(1.5)))),
    *(("L17", (ladder(0.1), ladder(0.2), ladder(0.4, 0.97), ladder(0.6, 0.97), ladder(0.2)),
       contradicting) for contradicting in (
        (ladder(0.1, 0.97), ladder(0.2), ladder(0.4, 0.97), ladder(0.6, 0.97), ladder(0.2)),
        (ladder(0.1), ladder(0.2), ladder(0.4, 0.97), ladder(0.6, 0.98), ladder(0.2)),
        (ladder(0.1), ladder(0.2), ladder(0.4, 0.97), ladder(0.6, 0.97), ladder(0.2, 0.97)))),
    ("L18", falls(8, 12, 14), falls(8, 12, 18)), ("L18", falls(8, 12, 14), falls(6, 12, 14))])
def test_claims_on_accuracies_at_the_early_stop_go_by_their_rules(name, tables, contradicting):
    check_rules(CLAIMS[name], tables, contradicting)


def test_a_measure_at_a_share_of_the_weights_lies_between_two_levels():
    run = levels({"ticket": {0: 0.9, 1: 0.8, 2: 0.4}}, density=0.25)

    def at(percent):
        return judging.at_density(run, "test_accuracy_early_stop", percent).tolist()
    assert at(50) == pytest.approx([0.85, 0.850005, 0.85001])  # Half way to a quarter.
    assert at(25)[0] == pytest.approx(0.8) and at(12.5)[0] == pytest.approx(0.6)
    assert at(100)[0] == pytest.approx(0.9) and at(6) == []


def test_every_claim_of_the_paper_has_a_row(tmp_path):
    names = list(CLAIMS)
    assert list(dict.fromkeys(name.split(",")[0] for name in names)) == [*(
        f"{letter}{number}" for letter, first, last in (
            ("L", 1, 18), ("C", 1, 5), ("D", 0, 5), ("C", 6, 9), ("V", 1, 4), ("R", 1, 4),
            ("D", 6, 10))
        for number in range(first, last + 1)), "T",
        *(f"S{number}" for number in (1, 2, 3, 4, 6, 5)),
        *(f"B{number}" for number in range(1, 7)), *(f"F{number}" for number in (1, 2, 3, 4)),
        *(f"E{number}" for number in range(1, 7)), "B7", "TR2", "TR4", "EB1"]
    assert names[18:23] == [f"C{number}, Conv-2" for number in range(1, 6)]
    page = reproduction.page(tmp_path)
    assert all(f"| {name} | " in page for name in names)
    # What is counted needs no results.
    not_run = len(names) - 10
    assert f"{len(names)} claims: 3 not reproduced, {not_run} not run, 7 reproduced." in page


def test_kept_results_say_where_they_come_from_and_are_read_back(tmp_path):
    config = Config(preset="p", network="n", dataset="d", steps=100, rounds=2, replicates=2)
    workdirs.trained_with(workdirs.fill(tmp_path / "run", config), tensorflow="9.8.7")
    reproduction.add(tmp_path / "results", "lenet_300_100", tmp_path / "run", "lth run p",
                     machine="a GPU")
    tables, about = reproduction.read(tmp_path / "results")
    table = tables["lenet_300_100"]
    assert len(table) == 10 and "seconds" not in table and table.early_stop_step.tolist()[0] == 0
    facts = about["lenet_300_100"]
    part, = facts["parts"]
    assert part["command"] == "lth run p" and facts["seed"] == 0 and part["machine"] == "a GPU"
    assert facts["settings"]["steps"] == 100 and part["versions"] == {"tensorflow": "9.8.7"}
    (tmp_path / "run" / "analysis").mkdir()
    table[["replicate", "level"]].to_csv(tmp_path / "run" / "analysis" / "movement.csv")
    reproduction.add(tmp_path / "results", "lenet", tmp_path / "run", "lth analyse",
                     analysis="movement")
    page = reproduction.page(tmp_path / "results")
    assert "### lenet_movement" in page and "10 rows of an analysis, 2 replicates" in page
    assert "    lth run p" in page and "10 trained networks, 2 replicates" in page


def test_replicates_are_added_to_those_that_are_kept(tmp_path):
    config = Config(preset="p", network="n", dataset="d", steps=100, rounds=1, replicates=2)
    for first in (0, 2):
        workdirs.fill(tmp_path / str(first), config.replace(first_replicate=first))
    workdirs.fill(tmp_path / "other", config.replace(first_replicate=4, seed=1))

    def add(name, **options):
        reproduction.add(tmp_path / "results", "p", tmp_path / name, f"lth run {name}", **options)
    add("0")
    add("2", more=True)
    kept = (tmp_path / "results" / "p.csv").read_text()
    for name, why in (("2", r"replicates \[2, 3\] already"), ("other", "or other settings")):
        with pytest.raises(ValueError, match=why):
            add(name, more=True)
    with pytest.raises(ValueError, match="Without --more"):
        reproduction.add(tmp_path / "results", "q", tmp_path / "0", "lth run", more=True)
    assert (tmp_path / "results" / "p.csv").read_text() == kept
    workdirs.fill(tmp_path / "whole", config.replace(replicates=4))
    reproduction.add(tmp_path / "results", "whole", tmp_path / "whole", "lth run")
    tables, about = reproduction.read(tmp_path / "results")
    keys = ["replicate", "branch", "level"]
    assert tables["p"][keys].values.tolist() == tables["whole"][keys].values.tolist()
    assert tables["p"].dtypes.equals(tables["whole"].dtypes)
    assert [part["command"] for part in about["p"]["parts"]] == ["lth run 0", "lth run 2"]
    page = reproduction.page(tmp_path / "results")
    assert "    lth run 0\n    lth run 2\n" in page and "12 trained networks, 4 replicates" in page


@pytest.mark.thorough
def test_the_page_is_what_the_kept_results_say():
    assert (ROOT / "docs" / "reproduction.md").read_text() == reproduction.page(
        ROOT / "studies" / "results")


def test_the_earlier_verdict_asked_for_more_than_as_good():
    table = results(replicates=8, control=0.01)
    good = table[table.level.isin([0, 7])]
    assert earlier(good) == "Winning ticket at level 7; levels: winning at 7"
    assert earlier(good[good.replicate == 0]) == \
        "Winning ticket at level 7, not told from chance; levels: inconclusive at 7"
    assert earlier(good[good.branch == "ticket"]) == (
        "Winning ticket at level 7, not compared with a re-initialised network; levels: "
        "inconclusive at 7")
    same = results(replicates=8, control=0.01, noise=0.05, accuracy=dict.fromkeys(ACCURACY, 0.98))
    same = same[same.level.isin([0, 15])]
    assert earlier(same).endswith("levels: inconclusive at 15")
    assert judge(same, Margins(accuracy=0.01)).outcome == "winning"


def test_kept_runs_have_both_verdicts_and_analyses_none():
    page = (ROOT / "docs" / "reproduction.md").read_text()
    rows = page[page.index("## Winning tickets, by two verdicts"):page.index("## The runs")]
    _, about = reproduction.read(ROOT / "studies" / "results")
    assert all((f"\n| {name} | " in rows) == (not facts["analysis"])
               for name, facts in about.items())
    assert "| Winning tickets at levels 3, 5, 7, 9, 12; the sparsest" in rows
