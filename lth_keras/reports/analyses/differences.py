"""Compares the networks of each level by their test accuracy, with a verdict on each difference.

Liu et al. (ICLR 2019, section 6) claim that tickets made of whole filters are *as good* as other
weights.  A test that finds no difference does not show that; two one-sided tests against a margin
do (`significance.no_difference`).  So a difference has one of five verdicts:

    no difference within 0.3 points    its mean lies within the margin
    better, worse                      its mean lies above 0, or below, and may be beyond the margin
    needs 12 replicates                none of these is significant yet
    inconclusive: 2 diverged           it is, in favour of a network that lost these

Accuracies are paired within replicates, which share initial weights and the order of the data.  All
rows of a table are corrected for together (`significance.holm`).
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.config import Config, EXTENT
from lth_keras.experiments.results.evidence import ERROR, INTERVAL
from lth_keras.experiments.results.record import ENDED
from lth_keras.experiments.results.significance import (
    chance,
    holm,
    MOST_REPLICATES,
    no_difference,
    replicates_of_chance,
)
from lth_keras.experiments.results.statistics import (
    by_replicate,
    Estimate,
    student,
    trained,
)
from lth_keras.reports.analyses.analysis import Analysis, span, WorkdirReader
from lth_keras.reports.plots import analysis_figures
from lth_keras.reports.plots.drawing import branches

# Where a training is evaluated, as `lth analyse differences --at` says it, and the column.
PLACES = {"early_stop": "test_accuracy_early_stop", "end": "test_accuracy_final"}
BETTER, WORSE, SAME = "better", "worse", "no difference"
_SAID = {"early_stop": "at early stop", "end": "at the last step"}


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """One of the networks that are trained at each level.

    Attributes:
      name: a branch, or the settings in which its run differs from the first run.
      results: the rows of its run.
      branch: its branch there.

    Example:
      >>> Network("reinit", pd.DataFrame(), "reinit").name
      'reinit'
    """

    name: str
    results: pd.DataFrame
    branch: str

    def accuracy(self, level: int, at: str) -> "pd.Series[float]":
        """The test accuracy of a level by replicate, averaged over repeats."""
        return by_replicate(self.results, PLACES[at], self.branch, level)


    def diverged(self, level: int) -> int:
        """How many of its trainings at a level diverged."""
        rows = self.rows(level)
        return len(rows) - len(trained(rows))

    def rows(self, level: int) -> pd.DataFrame:
        """Its trainings at a level, those that diverged too."""
        found = self.results
        return found[(found.branch == self.branch) & (found.level == level)]


def verdicts(differences: Sequence["pd.Series[float]"], margin: float) -> list[str]:
    """What replicates say of differences, each "better", "worse", "no difference" or neither.

    With 95% probability no verdict of "no difference" is false, and likewise none of "better" or
    "worse".  What is significantly above or below 0 and significantly within the margin is called
    "no difference": the margin says how much matters.

    Args:
      differences: for each comparison the differences, one a replicate.
      margin: the largest difference that counts as none, >= 0; within 0 nothing is.

    Returns:
      For each comparison its verdict; "needs 12 replicates" where nothing is significant.

    Example:
      >>> near, far = pd.Series([0.001, -0.001, 0.0, 0.001]), pd.Series([0.04, 0.05, 0.05, 0.04])
      >>> verdicts([near, far, -far, 30 * near], margin=0.003)
      ['no difference', 'better', 'worse', 'needs 167 replicates']
    """
    same = holm(no_difference(values, margin) for values in differences)
    # Two-sided: half of the error on either side.
    above = holm(min(1.0, 2 * chance(values)) for values in differences)
    below = holm(min(1.0, 2 * chance(-values)) for values in differences)
    return [SAME if equal <= ERROR else BETTER if more <= ERROR else WORSE if less <= ERROR else
            _undecided(values, margin, len(differences))
            for values, equal, more, less in zip(differences, same, above, below, strict=True)]


def _undecided(values: "pd.Series[float]", margin: float, tried: int) -> str:
    if len(values) < 2:
        return "one replicate"
    found = student(values)
    # For the first of Holm's steps, as verdicts of tickets do; the others ask for less.
    within = [replicates_of_chance(found, ERROR / tried, bound)
              for bound in (-margin, margin)] if abs(found.mean) < margin else [None]
    beyond = replicates_of_chance(found, ERROR / (2 * tried))
    enough = [beyond, None if None in within else max(filter(None, within))]
    least = min(filter(None, enough), default=math.inf)
    return f"needs over {MOST_REPLICATES:,} replicates" if least == math.inf else \
        f"needs {max(int(least), len(values) + 1)} replicates"


def analyse(runs: Sequence[WorkdirReader], levels: "Iterable[int] | None" = None,
            against: str = TICKET, at: str = "early_stop") -> Analysis:
    """Compares each network of some runs with one of them, level by level.

    Args:
      runs: the first run, whose branches are compared, and runs that differ from it in settings
        such as `retraining`, whose tickets are.
      levels: the levels. Defaults to all but the dense network's.
      against: the name of the network that the others are compared with.
      at: "early_stop" or "end", where accuracies are measured.

    Raises:
      WorkdirError: if runs do not start from the same networks and data, if there is no network of
        that name, no level at which another network and it are trained, or trainings that patience
        ended are to be compared at the end.
    """
    networks = _networks(runs)
    if against not in networks:
        raise WorkdirError("Networks must be compared with one of those that were trained, "
                           f"{', '.join(networks)}. Received: {against}.")
    if at == "end":
        _check_end(networks.values())
    wanted = set(range(1, int(max(item.results.level.max() for item in networks.values())) + 1))
    chosen = sorted(wanted if levels is None else wanted & set(levels))
    found: list[tuple[dict[str, Any], pd.Series[float]]] = []
    for level in chosen:
        base = networks[against].accuracy(level, at)
        for name, network in networks.items():
            pairs = (network.accuracy(level, at) - base).dropna()
            if name != against and len(pairs):
                found.append(({"level": level, "network": name, **_sizes(network, level)}, pairs))
    if not found:
        raise WorkdirError("A difference needs two networks of a level. Received: "
                           f"{runs[0].root}, where none is trained beside {against} at levels "
                           f"{', '.join(map(str, chosen)) or 'above 0'}.")
    margin = runs[0].config.margins.accuracy
    lost = [[networks[name].diverged(row["level"]) for name in (row["network"], against)]
            for row, _ in found]
    said = [_not_flattered(verdict, *counts) for verdict, counts in zip(
        verdicts([pairs for _, pairs in found], margin), lost, strict=True)]
    rows = pd.DataFrame([{**row, **_estimate(student(100 * pairs, INTERVAL)), "verdict": verdict}
                         for (row, pairs), verdict in zip(found, said, strict=True)])
    details = pd.concat([pd.DataFrame({
        "level": row["level"], "network": row["network"], "replicate": pairs.index,
        "difference": 100 * pairs.to_numpy()}) for row, pairs in found], ignore_index=True)
    title = f"{runs[0].title}: test accuracy {_SAID[at]}, less that of {against}"
    return Analysis(
        title, rows, ("level", "network", "verdict"),
        _MEASURES,
        {"differences": details}, analysis_figures.differences_figure(rows, margin, title),
        (*_notes(rows, margin, against), *_not_alike(rows, networks[against], against)),
        caption=f"points, less {against}, in pairs of {span(rows.replicates)} replicates")


def _not_flattered(verdict: str, own: int, others: int) -> str:
    # The replicates that are left flatter a network of which some diverged.
    told = {SAME: own or others, BETTER: own, WORSE: others}.get(verdict, 0)
    return f"inconclusive: {told} diverged" if told else verdict


def _not_alike(rows: pd.DataFrame, base: Network, against: str) -> list[str]:
    # A note where networks of a level are not equally sparse, as in runs of other fractions.
    wrong = []
    for network, level, density in zip(rows.network, rows.level, rows.density, strict=True):
        found = float(base.rows(level).density.mean())
        if abs(density - found) > 0.01 * found:
            wrong.append(f"{network} at level {level} ({density:.1%} and {found:.1%})")
    return [f"Not equally sparse as {against}: {', '.join(wrong)}. A difference there is one of "
            "sparsity too."] if wrong else []


def _check_end(networks: Iterable[Network]) -> None:
    for network in networks:
        rows = network.results[network.results.branch == network.branch]
        count = 0 if ENDED not in rows else int(rows[ENDED].notna().sum())
        if count:
            raise WorkdirError("Networks are compared at the last step if all were trained to it. "
                               f"Received: {network.name}, of which patience ended {count} of "
                               f"{len(rows)} trainings before. Compare them at their early stop: "
                               "leave at (--at end) out.")


# Runs with others of these share neither initial weights nor data.  A checksum tells networks and
# data of one's own apart, which may have the same names.
_PAIRED = {"seed", "network", "network_checksum", "dataset", "data_checksum", "engine"}
_MEASURES = {"difference": "+.2f", "low": "+.2f", "high": "+.2f"}  # In points.


def _networks(runs: Sequence[WorkdirReader]) -> dict[str, Network]:
    first, rows = runs[0], runs[0].results
    networks = {name: Network(name, rows, name) for name in branches(rows)}
    for run in runs[1:]:
        found = run.results  # Of a fit, this says why it cannot be compared.
        differ = _differ(first.config, run.config)
        if not differ:
            raise WorkdirError("Runs that are compared must differ in their settings. Received: "
                               f"{first.root} and {run.root}, which do not.")
        other = _PAIRED & {*differ}
        if other:
            raise WorkdirError("Runs that are compared must start from the same networks and data, "
                               f"so that replicates are pairs. Received: {first.root} and "
                               f"{run.root}, which differ in {', '.join(sorted(other))}.")
        name = differ.get("retraining", "")  # It says enough, unless there are two of it.
        if not name or name in networks or {*differ} - {"retraining", "rewind_step"}:
            name = ", ".join(_word(key, value) for key, value in differ.items())
        if name in networks:
            raise WorkdirError("Runs that are compared must differ in their settings. Received: "
                               f"{run.root} and another run with {name}.")
        networks[name] = Network(name, found, TICKET)
    return networks


def _differ(first: Config, other: Config) -> dict[str, Any]:
    left = {*EXTENT, "preset"}
    return {field.name: getattr(other, field.name) for field in dataclasses.fields(Config)
            if field.name not in left
            and getattr(first, field.name) != getattr(other, field.name)}


def _word(key: str, value: Any) -> str:
    # "fine_tuning" says it; a number does not.
    return value if isinstance(value, str) else f"{key}={value}"


def _sizes(network: Network, level: int) -> Mapping[str, float]:
    rows = network.rows(level)
    return {name: float(rows[name].mean()) for name in ("density", "macs_left") if name in rows}


def _estimate(found: Estimate) -> dict[str, Any]:
    return {"difference": found.mean, "low": found.low, "high": found.high,
            "deviation": found.deviation, "replicates": found.replicates}


def _notes(rows: pd.DataFrame, margin: float, against: str) -> tuple[str, ...]:
    count = len(rows)
    return (f"difference: of test accuracies in points, mean over replicates with its "
            f"{INTERVAL:.0%} interval from low to high; above 0 the network is better than "
            f"{against}. Verdicts: no difference, by two one-sided tests, within "
            f"{100 * margin:g} points, the run's margin; better or worse, by a two-sided test; "
            f"each at most {ERROR:.0%} wrong over all {count} comparison{'s'[:count > 1]} (Holm).",)
