"""Writes docs/reproduction.md from the results in studies/results.

    python studies/reproduction.py                                  the page
    python studies/reproduction.py add NAME WORKDIR --command TEXT  keeps a run's results first
    ... add NAME WORKDIR --command TEXT --analysis KIND          or those of `lth analyse KIND`
    ... add NAME WORKDIR --command TEXT --more                   beside those of other replicates

A result is NAME.csv, the rows of a run (NAME_KIND.csv of an analysis), and NAME.json: its settings
and seed, and the command, versions and machine of each part.  The claims are in studies/claims.py.
"""

import argparse
import collections
import json
import pathlib
from typing import Any

import missing_runs
import pandas as pd
from claims import CLAIMS
from earlier_verdict import earlier
from judging import Claim, decide, INCONCLUSIVE, NOT_REPRODUCED, NOT_RUN, Part

from lth_keras.experiments.config import presets
from lth_keras.experiments.config.branches import ranges
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import RETRAININGS
from lth_keras.experiments.results import paths, runs, store
from lth_keras.experiments.results.verdicts import judge
from lth_keras.files import atomic, provenance

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "reproduction.md"
_FOLDED = 8  # Lines of a cell, beyond which it is folded.
DROPPED = "seconds"  # Of a machine that was busy or not: it belongs to no claim.


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results")
    parser.add_argument("--output", type=pathlib.Path, default=PAGE)
    commands = parser.add_subparsers(dest="command_name")
    adds = commands.add_parser("add", help="keep the results of a workdir")
    adds.add_argument("name")
    adds.add_argument("workdir", type=pathlib.Path)
    adds.add_argument("--command", required=True, help="what was typed to get them")
    adds.add_argument("--analysis", help="the kind of an analysis that lies in the workdir")
    adds.add_argument("--more", action="store_true",
                      help="keep the rows that are there; these are of other replicates")
    adds.add_argument("--machine", help="that trained (default: this one)")
    options = parser.parse_args()
    if options.command_name == "add":
        try:
            add(options.results, options.name, options.workdir, options.command,
                analysis=options.analysis, more=options.more, machine=options.machine)
        except ValueError as error:
            parser.error(str(error))
    options.output.write_text(page(options.results))


def add(results: pathlib.Path, name: str, workdir: pathlib.Path, command: str,
        *, analysis: "str | None" = None, more: bool = False,
        machine: "str | None" = None) -> None:
    """Keeps the rows of a workdir, or of an analysis of it, and where they come from.

    Args:
      results: the folder of all that is kept.
      name: of the run there.
      workdir: what is read.
      command: what was typed to get it.
      analysis: its kind; by default the run's own rows.
      more: whether to keep the rows that are there too.
      machine: that trained; by default this one.

    Raises:
      ValueError: if rows that are there have other settings, or the same replicates.
    """
    found = paths.read_config(workdir)
    if analysis:
        name = f"{name}_{analysis}"
        table = pd.read_csv(workdir / "analysis" / f"{analysis}.csv")
    else:
        table = store.results(workdir, found.fingerprint).drop(columns=DROPPED)
        table = table.astype({"early_stop_step": "Int64", "diverged_at_step": "Int64"})
    about = {"analysis": analysis, "settings": found.identity, "seed": found.seed,
             "margin": found.margin}
    made = [{"command": command, "versions": runs.versions(workdir),
             "machine": machine or provenance.machine()}]
    if more:
        tables, facts = read(results)
        there = facts.get(name, {"parts": []})
        made = [*there.pop("parts"), *made]
        there.setdefault("margin", found.margin)
        same = sorted({*tables[name].replicate} & {*table.replicate}) if name in tables else []
        if same or there != about:
            raise ValueError(f"--more adds other replicates of the same settings. Received: {name}"
                             f", which has replicates {same} already, or other settings: {there}. "
                             "Without --more its rows are replaced.")
        table = pd.concat([tables[name], table])
        table = table.astype({step: "Int64" for step in table.columns if step.endswith("_step")})
    about["parts"] = made
    results.mkdir(parents=True, exist_ok=True)
    atomic.write(results / f"{name}.csv", table.to_csv(index=False))
    atomic.write(results / f"{name}.json", json.dumps(about, indent=2, sort_keys=True) + "\n")


def read(results: pathlib.Path) -> tuple[dict[str, pd.DataFrame], dict[str, dict]]:
    """The results that are kept, and where each comes from."""
    names = sorted(path.stem for path in results.glob("*.csv"))
    tables = {name: pd.read_csv(results / f"{name}.csv") for name in names}
    return tables, {name: json.loads((results / f"{name}.json").read_text()) for name in names}


def config(facts: dict[str, Any]) -> Config:
    """The settings of a run that is kept; its margins are its preset's, if they are not kept.

    Args:
      facts: what is kept about it beside its rows.
    """
    settings = facts["settings"]
    margin = facts.get("margin") or presets.get(settings["preset"]).margin
    return Config.from_plain({**settings, "margin": margin})


def page(results: pathlib.Path) -> str:
    """The scoreboard as Markdown."""
    tables, about = read(results)
    decided = {claim: decide(claim, tables) for claim in CLAIMS}
    counts = collections.Counter(verdict for verdict, _ in decided.values())
    said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    return "\n".join([
        "# What reproduces", "",
        "The claims of Frankle & Carbin, *The Lottery Ticket Hypothesis* (ICLR 2019), and of work "
        "after it, and what came of them here.  Written by `python studies/reproduction.py` from "
        "the rows in [studies/results](../studies/results) and [studies/strong](../studies/strong)."
        "  The rules that decide were fixed before the runs, but for three that say so; they are "
        "in [studies/judging.py](../studies/judging.py).  An "
        "effect is *reproduced* if its 95% interval over replicates excludes 0 and it is at least "
        "half as large as in the paper, *not reproduced* if the interval lies below half, and "
        "*inconclusive* otherwise.  At a scale below 1, networks are trained for that share of the "
        "paper's steps.", "",
        f"{len(CLAIMS)} claims: {said}.", "",
        "| claim | the paper | ours [95% interval] | replicates | scale | verdict |",
        "|---|---|---|---|---|---|",
        *(_row(claim, *found, about) for claim, found in decided.items()), "",
        *_notes(decided), *missing_runs.table(tables, about), *_verdicts(tables, about),
        "## The runs", "",
        *(line for name, facts in about.items() for line in _run(name, facts, tables[name]))])


def _row(claim: Claim, verdict: str, parts: list[Part], about: dict[str, dict]) -> str:
    scales = {about[name]["settings"].get("scale", 1.0) for name in claim.runs if parts}
    cells = [claim.name, claim.text, _said(parts, verdict) or "-",
             str(min((part.replicates for part in parts), default=0) or "-"),
             ", ".join(f"{scale:g}" for scale in sorted(scales)) or "-",
             f"**{verdict}**" if verdict != NOT_RUN else verdict]
    return "| " + " | ".join(cells) + " |"


def _said(parts: list[Part], verdict: str) -> str:
    """Our numbers, with the verdict on each where those differ; many are folded."""
    lines, counts = [], collections.Counter(part.verdict for part in parts)
    for part in parts:
        own = part.verdict if len(counts) > 1 and part.verdict != NOT_RUN else ""
        needed = part.needed if verdict == INCONCLUSIVE else ""
        more = ": ".join(filter(None, (own, needed)))
        lines.append(f"{part.said} ({more})" if more else part.said)
    listed = "<br>".join(lines)
    if len(parts) <= _FOLDED:
        return listed
    counted = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return (f"<details><summary>{len(parts)} differences: {counted}</summary>{listed}"
            "</details>")


def _notes(decided: dict[Claim, tuple[str, list[Part]]]) -> list[str]:
    """What is to be said of the claims that were looked at and not reproduced."""
    notes = [f"- **{claim.name}** ({verdict}): {claim.note}"
             for claim, (verdict, _) in decided.items()
             if claim.note and verdict in (NOT_REPRODUCED, INCONCLUSIVE)]
    return ["## What does not reproduce, or is open", "", *notes, ""] if notes else []


def _verdicts(tables: dict[str, pd.DataFrame], about: dict[str, dict]) -> list[str]:
    """Whether each run found a winning ticket: by the earlier rule, and by the verdict."""
    rows = []
    for name, facts in about.items():
        if not facts["analysis"]:
            settings = config(facts)
            verdict = judge(tables[name], settings.margins, settings.steps,
                            RETRAININGS[settings.retraining].not_rewound)
            lost = [item.level for item in verdict.levels if item.outcome == "not winning"]
            more = f" Not winning: level{'s'[:len(lost) > 1]} {', '.join(ranges(lost))}." \
                if lost and verdict.level else ""
            rows.append(f"| {name} | {earlier(tables[name])} | {verdict.sentence}{more} |")
    return ["## Winning tickets, by two verdicts", "",
            "What a report said of each run by the earlier rule, and what it says now.  The "
            "earlier rule asked "
            "that all of a 95% interval lie at or above 0, level by level and uncorrected, so that "
            "a ticket exactly as good as dense was inconclusive; and beside it named the sparsest "
            "level whose means won ([studies/earlier_verdict.py](../studies/earlier_verdict.py)).  "
            "Now a ticket may be worse by stated margins, must beat its re-initialisation, and "
            "levels are corrected for ([experiments.md](experiments.md#verdicts)).  Runs without "
            "re-initialised networks can at best match the dense network.  The claims above have "
            "rules of their own, which are as they were.", "",
            "| run | earlier | now |", "|---|---|---|", *rows, ""]


def _run(name: str, facts: dict, table: pd.DataFrame) -> list[str]:
    parts = facts["parts"]
    where = dict.fromkeys("; ".join([part["machine"], ", ".join(
        f"{package} {version}" for package, version in sorted(part["versions"].items()))]
        if part["versions"] else [part["machine"]]) for part in parts)
    what, result, count = "rows of an analysis", "", table.replicate.nunique()
    if not facts["analysis"]:
        what, result = "trained networks", _accuracies(table)
    return [f"### {name}", "", *(f"    {part['command']}" for part in parts), "",
            f"{len(table):,} {what}, {count} replicate{'s'[:count > 1]}, levels 0 to "
            f"{table.level.max()}{result}; seed {facts['seed']}; {'; '.join(where)}.", ""]


def _accuracies(table: pd.DataFrame) -> str:
    """What the dense and the sparsest networks came to."""
    means = table[table.branch == "ticket"].groupby("level").test_accuracy_final.mean().dropna()
    if means.empty:
        return ""
    return (f"; mean test accuracy at the last step {means.iloc[0]:.1%} at level {means.index[0]}"
            f" and {means.iloc[-1]:.1%} at level {means.index[-1]}")


if __name__ == "__main__":
    main()
