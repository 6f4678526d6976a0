import dataclasses
import io
import pathlib
import types

import fit_workdirs
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.reports.analyses import differences, output
from lth_keras.reports.analyses.differences import verdicts
from lth_keras.reports.analyses.fit_reader import FitReader

CONFIG = Config(preset="made", network="tiny", dataset="blobs", steps=100, rounds=2, replicates=4,
                branches=("ticket", "reinit"), validation_every=10, margin="accuracy:0.003")
NOISE = np.array([0.0005, -0.0005, 0.0002, -0.0002])  # Of four replicates; its mean is 0.


def rows(branch, level, accuracy, at_end=None, replicates=range(4)):
    values = np.broadcast_to(accuracy, len(replicates))
    return pd.DataFrame({
        "replicate": list(replicates), "branch": branch, "level": level, "branch_index": 0,
        "density": 0.5 ** level, "macs_left": 0.3 ** level, "early_stop_step": 50,
        "test_accuracy_early_stop": values,
        "test_accuracy_final": values if at_end is None else at_end})


def run(*tables, root="runs/made", **settings):
    return types.SimpleNamespace(
        root=pathlib.Path(root), config=dataclasses.replace(CONFIG, **settings), title="made",
        results=pd.concat(tables, ignore_index=True))


def of(found, network, level):
    row, = found.rows[(found.rows.network == network) & (found.rows.level == level)].itertuples()
    return row


# Verdicts.

def test_a_verdict_says_better_worse_or_no_difference():
    near, far = pd.Series(NOISE), pd.Series(0.05 + NOISE)
    assert verdicts([near, far, -far], 0.003) == ["no difference", "better", "worse"]


def test_a_difference_within_the_margin_is_none_however_sure():
    assert verdicts([pd.Series(0.001 + NOISE / 100)], 0.003) == ["no difference"]
    assert verdicts([pd.Series(0.001 + NOISE / 100)], 0.0005) == ["better"]


def test_one_replicate_has_no_verdict():
    assert verdicts([pd.Series([0.05])], 0.003) == ["one replicate"]


def test_what_is_open_says_how_many_replicates_would_tell():
    rng = np.random.default_rng(0)
    seen = pd.Series(rng.normal(size=5))
    seen = 0.001 + 0.003 * (seen - seen.mean()) / seen.std()
    said, = verdicts([seen], 0.003)
    count = int(said.removeprefix("needs ").removesuffix(" replicates"))
    assert count > 5
    # Were all as it is seen, so many replicates tell with a probability of about 80%.
    told = np.mean([verdicts([pd.Series(rng.normal(0.001, 0.003, count))], 0.003)[0]
                    == "no difference" for _ in range(400)])
    assert 0.7 < told < 0.9


@pytest.mark.parametrize("margin, least, verdict", [
    (0.003, 6, "better"), (0.2, 5, "no difference")])
@pytest.mark.parametrize("tried", [1, 2])
def test_of_equal_differences_as_many_are_needed_as_then_tell(margin, least, verdict, tried):
    least += tried - 1  # Each of two is told at half of the error.
    for count in range(2, least):
        said = verdicts([pd.Series([0.1] * count)] * tried, margin)
        assert said == [f"needs {least} replicates"] * tried
    assert verdicts([pd.Series([0.1] * least)] * tried, margin) == [verdict] * tried


def test_within_a_margin_of_zero_there_is_no_difference_that_is_none():
    made = run(rows("ticket", 1, 0.9), rows("reinit", 1, 0.5 + NOISE), rows("ticket", 2, 0.9),
               rows("reinit", 2, 0.9 + NOISE), margin="accuracy:0")
    found = differences.analyse([made])
    assert of(found, "reinit", 1).verdict == "worse"
    assert of(found, "reinit", 2).verdict == "needs over 1,000 replicates"
    found.figure.savefig(io.BytesIO())


@pytest.mark.parametrize("true, false", [
    (0.003, ("no difference",)), (-0.003, ("no difference",)), (0.0, ("better", "worse"))])
def test_at_most_one_table_in_twenty_holds_a_false_verdict(true, false):
    rng = np.random.default_rng(1)
    wrong = np.mean([any(said in false for said in verdicts(
        [pd.Series(rng.normal(true, 0.001, 5)) for _ in range(6)], 0.003)) for _ in range(400)])
    assert wrong <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


# Analyses.

def test_branches_are_compared_with_the_ticket_level_by_level():
    found = differences.analyse([run(
        rows("ticket", 0, 0.9), rows("ticket", 1, 0.9), rows("ticket", 2, 0.8),
        rows("reinit", 1, 0.85 + NOISE), rows("reinit", 2, 0.8 + NOISE),
        rows("scratch", 2, 0.9 + NOISE))])
    assert [(row.level, row.network, row.verdict) for row in found.rows.itertuples()] == [
        (1, "reinit", "worse"), (2, "reinit", "no difference"), (2, "scratch", "better")]
    row = of(found, "reinit", 1)
    assert row.difference == pytest.approx(-5) and row.low < -5 < row.high
    assert (row.density, row.macs_left, row.replicates) == (0.5, 0.3, 4)


def test_pairs_are_replicates_that_have_both_networks_and_repeats_are_averaged():
    repeat = rows("reinit", 1, 0.7, replicates=[1, 2, 3, 5]).assign(branch_index=1)
    found = differences.analyse([run(
        rows("ticket", 1, [0.5, 0.6, 0.7, 0.8]), rows("reinit", 1, 0.5, replicates=[1, 2, 3, 5]),
        repeat)])
    detail = found.details["differences"].set_index("replicate").difference
    assert detail.round(9).to_dict() == {1: 0.0, 2: -10.0, 3: -20.0}
    assert of(found, "reinit", 1).replicates == 3


def test_tickets_of_runs_with_other_settings_are_networks_of_that_name():
    first = run(rows("ticket", 1, 0.9), rows("reinit", 1, 0.8))
    tuned = run(rows("ticket", 1, 0.7), rows("scratch", 1, 0.1), root="runs/tuned",
                retraining="fine_tuning", rewind_step=50, replicates=9)
    longer = run(rows("ticket", 1, 0.5), retraining="fine_tuning", rewind_step=20)
    slower = run(rows("ticket", 1, 0.6), root="runs/slow", learning_rate=0.5, criterion="random")
    found = differences.analyse([first, tuned, longer, slower], against="reinit")
    assert found.rows.set_index("network").difference.round(9).to_dict() == {
        "ticket": 10, "fine_tuning": -10, "fine_tuning, rewind_step=20": -30,
        "learning_rate=0.5, random": -20}
    with pytest.raises(WorkdirError, match="another run with fine_tuning, rewind_step=20"):
        differences.analyse([first, tuned, longer, longer])


def test_accuracies_are_taken_at_early_stop_or_at_the_end():
    made = run(rows("ticket", 1, 0.9, at_end=0.5), rows("reinit", 1, 0.8, at_end=0.7))
    assert of(differences.analyse([made]), "reinit", 1).difference == pytest.approx(-10)
    found = differences.analyse([made], at="end")
    assert of(found, "reinit", 1).difference == pytest.approx(20)
    assert "at the last step" in found.title


def test_trainings_that_diverged_are_left_out():
    gone = rows("reinit", 1, 0.1, replicates=[3]).assign(early_stop_step=None)
    found = differences.analyse([run(rows("ticket", 1, 0.9), gone,
                                     rows("reinit", 1, 0.9, replicates=[0, 1, 2]))])
    assert of(found, "reinit", 1).replicates == 3


@pytest.mark.parametrize(("accuracy", "gone", "verdict"), [
    (0.95, "reinit", "inconclusive: 1 diverged"), (0.85, "reinit", "worse"),
    (0.9, "reinit", "inconclusive: 1 diverged"), (0.95, "ticket", "better"),
    (0.85, "ticket", "inconclusive: 1 diverged"), (0.9, "ticket", "inconclusive: 1 diverged")])
def test_no_verdict_rests_on_the_replicates_that_a_network_has_left(accuracy, gone, verdict):
    lost = rows(gone, 1, 0.1, replicates=[4]).assign(early_stop_step=None)
    other = rows({"ticket": "reinit", "reinit": "ticket"}[gone], 1, 0.9, replicates=[4])
    found = differences.analyse([run(rows("ticket", 1, 0.9), rows("reinit", 1, accuracy + NOISE),
                                     lost, other)])
    assert of(found, "reinit", 1).verdict == verdict


def test_networks_of_a_level_that_are_not_equally_sparse_are_named():
    first = run(rows("ticket", 1, 0.9), rows("reinit", 1, 0.9))
    assert len(differences.analyse([first]).notes) == 1
    small = run(rows("ticket", 1, 0.8).assign(density=0.05), root="runs/small", fraction=0.95)
    note = differences.analyse([first, small]).notes[1]
    assert "level 1 (5.0% and 50.0%)" in note and note.startswith("Not equally sparse as ticket: ")


@pytest.mark.parametrize("runs, options, message", [
    ([run(rows("ticket", 1, 0.9))], {"against": "reinit"},
     "one of those that were trained, ticket. Received: reinit."),
    ([run(rows("ticket", 0, 0.9), rows("ticket", 1, 0.9))], {},
     "needs two networks of a level. Received: .*made, where none is trained beside ticket"),
    ([run(rows("ticket", 1, 0.9), rows("reinit", 1, 0.9))], {"levels": [3]},
     "beside ticket at levels above 0"),
    ([run(rows("ticket", 1, 0.9)), run(rows("ticket", 1, 0.9), root="runs/two")], {},
     "must differ in their settings. Received: .*made and .*two, which do not."),
    ([run(rows("ticket", 1, 0.9)), run(rows("ticket", 1, 0.9), root="runs/two", seed=7,
                                       network="other")], {},
     "so that replicates are pairs. Received: .*made and .*two, which differ in network, seed."),
    ([run(rows("ticket", 1, 0.9), data_checksum="a" * 16),
      run(rows("ticket", 1, 0.9), root="runs/two", data_checksum="b" * 16)], {},
     "so that replicates are pairs. Received: .*made and .*two, which differ in data_checksum."),
    ([run(rows("ticket", 1, 0.9), network_checksum="a" * 16),
      run(rows("ticket", 1, 0.9), root="runs/two", network_checksum="b" * 16, rewind_step=10)], {},
     "so that replicates are pairs. Received: .*two, which differ in network_checksum."),
])
def test_what_cannot_be_compared_is_said(runs, options, message):
    with pytest.raises(WorkdirError, match=message):
        differences.analyse(runs, **options)


def test_a_fit_trains_no_networks_to_compare(tmp_path):
    fit = FitReader([fit_workdirs.fill(tmp_path)])
    for runs in ([fit], [run(rows("ticket", 1, 0.9)), fit]):
        with pytest.raises(WorkdirError, match="a fit trains one. Received"):
            differences.analyse(runs)


def test_the_table_and_its_note_say_what_was_compared():
    found = differences.analyse([run(rows("ticket", 1, 0.9), rows("reinit", 1, 0.85 + NOISE))])
    text = io.StringIO()
    output.show(found, True, Console(file=text, width=80))
    for part in ("reinit  ", "worse  ", "-5.00", "50.0", "less ticket, in pairs of 4 replicates",
                 "within 0.3 points, the run's margin", "over all 1 comparison (Holm)"):
        assert part in text.getvalue()
    assert "means over" not in text.getvalue()
