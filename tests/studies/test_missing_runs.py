import shlex

import missing_runs  # studies/missing_runs.py
import pandas as pd
import pytest
import reproduction
import shorter_convnets
from claims import CLAIMS
from judging import NOT_RUN

from lth_keras.cli import main, run


def test_what_is_typed_gives_the_settings_that_are_counted():
    parser = main.parser_of("run")
    for each in missing_runs.MISSING:
        program, command, *words = shlex.split(each.command)
        assert (program, command) == ("lth", "run")
        assert run._config(parser.parse_args(words)) == each.config, each.name


def test_every_claim_that_is_not_run_has_its_runs():
    tables, about = reproduction.read(reproduction.HERE / "results")
    waiting = {line.split(" | ")[0].removeprefix("| ")
               for line in reproduction.PAGE.read_text().splitlines()
               if line.endswith(f" | {NOT_RUN} |")}
    listed = {name for each in missing_runs.MISSING if not each.is_in(tables, about)
              for name in each.claims}
    assert not waiting - listed and {*listed} <= {claim.name for claim in CLAIMS}


@pytest.mark.parametrize("number", [2, 4, 6])
def test_controls_are_trained_at_the_levels_that_rules_read(number):
    each = next(one for one in missing_runs.MISSING if one.name == shorter_convnets.NAMES[number])
    levels = {shorter_convnets.SPEED[number], shorter_convnets.GAIN[number]}
    plan = {branch.name: {*branch.levels} for branch in each.config.plan if branch.levels}
    assert levels <= plan["random_mask"] and levels <= plan["reinit"]
    assert number == 6 or shorter_convnets.DENSER in plan["reinit"]
    assert each.config.steps == shorter_convnets.STEPS[number]
    assert each.config.replicates == shorter_convnets.REPLICATES[number]


def test_a_run_is_listed_until_its_results_are_kept():
    first, *_ = missing_runs.MISSING
    kept = pd.DataFrame({"network": [missing_runs.network_of(first)], "milliseconds": [2.0],
                         "machine": "a machine"})
    line = next(line for line in missing_runs.table({}, {}, kept) if f"`{first.command}`" in line)
    steps = 3 * 13 * 10_000
    assert line.split(" | ")[1:5] == [f"{2 * steps / 3.6e6:.1f}", "2.0", "39", f"{steps:,}"]
    there = {first.name: {"settings": first.config.identity}}
    other = {first.name: {"settings": {**first.config.identity, "scale": 0.05}}}
    for replicates, about, listed in ((3, there, False), (3, other, True), (2, there, True)):
        rows = {first.name: pd.DataFrame({"replicate": range(replicates)})}
        assert (first.command in "\n".join(missing_runs.table(rows, about, kept))) == listed


def test_a_networks_speed_replaces_its_earlier_one(tmp_path, monkeypatch):
    monkeypatch.setattr(missing_runs, "KEPT", tmp_path / "kept.csv")
    for network, milliseconds in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        missing_runs.keep(network, milliseconds)
    rows = pd.read_csv(missing_runs.KEPT)
    assert rows.network.tolist() == ["b", "a"] and rows.milliseconds.tolist() == [2.0, 3.0]
