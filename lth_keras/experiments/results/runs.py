"""Reads workdirs for a report, as runs with labels that distinguish them.

A workdir belongs to `lth run`, or to a search in `fit`, which is a run of one replicate (`fits`).
Workdirs with the same settings and different replicates, such as those of several machines, are
joined to one run, and so are fits that differ in their seed or initial weights.

A run may still be going on: its finished trainings are read.
"""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.margins import DEFAULT, Margins
from lth_keras.experiments.config.presets import PRESETS
from lth_keras.experiments.config.strategies import (
    Retraining,
    RETRAININGS,
    STRATEGIES,
    Strategy,
)
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import fits, paths, store
from lth_keras.experiments.results.evidence import unreached
from lth_keras.experiments.results.fits import Fit
from lth_keras.experiments.results.record import ENDED
from lth_keras.experiments.results.statistics import summarise, trained
from lth_keras.experiments.results.verdicts import judge, Verdict
from lth_keras.files.ticket import MOST_BYTES, Ticket

# Settings that a legend never names: the title has them, or they do not change the training.
_NEVER_NAMED = ("preset", "steps", "scale", "measured_steps")
_TITLED: dict[str, Mapping[str, Strategy | Retraining]] = {
    "strategy": STRATEGIES, "retraining": RETRAININGS}
_NAMED = 3  # Settings in a title; more would not fit.
_FIT = "fit"  # In the place of a preset's name.


@dataclasses.dataclass(frozen=True)
class Run:
    """The contents of a workdir, or of several workdirs with replicates of one run.

    Attributes:
      root: the workdir; None for a search in `fit` without a workdir.
      config: the configuration; None for a search in `fit`.
      results: a table with one row for each finished training.
      label: the run's name in legends.
      more: the workdirs of further replicates.
      fits: the searches in `fit`, each of which is a replicate; empty for an `lth run`.
      asked: the margins of the verdict; None for those of its settings.
    """

    root: "pathlib.Path | None"
    config: "Config | None"
    results: pd.DataFrame
    label: str
    more: tuple[pathlib.Path, ...] = ()
    fits: tuple[Fit, ...] = ()
    asked: "Margins | None" = None

    @property
    def roots(self) -> tuple[pathlib.Path, ...]:
        """All workdirs of the run."""
        return () if self.root is None else (self.root, *self.more)

    @property
    def experiment(self) -> Config:
        """The configuration of an `lth run`."""
        assert self.config is not None
        return self.config

    @property
    def name(self) -> str:
        """The name of the preset, or "fit"."""
        return self.config.preset if self.config else _FIT

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name; of several workdirs, those of the first."""
        return self.config.to_dict() if self.config else self.fits[0].plain

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that all replicates of a run have in common."""
        return self.config.identity if self.config else self.fits[0].identity

    @property
    def versions(self) -> list[str]:
        """The package versions that the workdirs were trained with, one line for each set."""
        found = [fit.versions for fit in self.fits] or [*map(versions, self.roots)]
        lines = (", ".join(f"{name} {version}" for name, version in one.items()) for one in found)
        return [line for line in dict.fromkeys(lines) if line]

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """The learning curves, as `store.curves` or `fits.curves` returns them."""
        if self.fits:
            return _by_replicate([fits.curves(fit, number)
                                  for number, fit in enumerate(self.fits)])
        return _by_replicate([store.curves(root) for root in self.roots])

    @property
    def lacks_curves(self) -> str:
        """A sentence that says why learning curves cannot be drawn; "" if they can."""
        return next(filter(None, (fit.lacks_curves for fit in self.fits)), "")

    @functools.cached_property
    def summary(self) -> pd.DataFrame:
        """Means over replicates, as `statistics.summarise` returns them."""
        return summarise(self.results)

    @property
    def margins(self) -> Margins:
        """How much worse than the dense network still counts as good."""
        return self.asked or (self.config.margins if self.config else DEFAULT)

    @functools.cached_property
    def verdict(self) -> Verdict:
        """Whether it found a winning ticket, and the verdict of every level."""
        if self.config is None:
            return judge(self.results, self.margins)
        return judge(self.results, self.margins, self.config.steps,
                     RETRAININGS[self.config.retraining].not_rewound)

    @property
    def branches(self) -> list[str]:
        """The branches that have a trained network: the ticket first, then by name."""
        found = set(trained(self.results).branch)
        return sorted(found, key=lambda name: (name != "ticket", name))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The results as a list of dictionaries, one for each training."""
        return _rows(self.results)

    @property
    def diverged(self) -> list[str]:
        """A line for each training that diverged."""
        rows = _rows(self.results[self.results.diverged_at_step.notna()])
        return [f"{Training(*(row[field.name] for field in dataclasses.fields(Training)))}: "
                f"diverged at step {row['diverged_at_step']:,.0f}" for row in rows]

    @property
    def unreached(self) -> str:
        """A sentence about trainings whose early stop is not reached; "" if there are none."""
        rows = trained(self.results)
        last = int(unreached(rows, self.config.steps if self.config else None).sum())
        return "" if not last else (
            f"In {last} of {len(rows)} trainings the validation loss was lowest at the last "
            f"{'validation' if self.fits else 'step'}: their early stop is not reached, and would "
            "come later. Train for more steps.")

    @property
    def ended(self) -> str:
        """A sentence about controls that patience ended; "" if there are none."""
        rows = trained(self.results)
        count = 0 if ENDED not in rows else int(rows[ENDED].notna().sum())
        return "" if not count else (
            f"{count} of {len(rows)} trainings ended before the last step, after "
            f"{self.experiment.patience:,} steps without a lower validation loss (patience). A "
            "later early stop may have been missed; those branches and levels have no accuracy at "
            "the last step.")

    @property
    def drawable(self) -> bool:
        """Whether there is a ticket to draw, which is one that did not diverge."""
        return "ticket" in self.branches

    @property
    def validated(self) -> bool:
        """Whether there are early stops; a fit without validation data has none."""
        return bool(self.results.early_stop_step.notna().any())


def _rows(results: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()}
            for row in results.to_dict("records")]


def read(root: pathlib.Path) -> Run:
    """Reads a workdir as a run, labelled by its preset's name, or "fit".

    Raises:
      WorkdirError: if the folder is not a workdir, no training in it is finished, or a file was
        changed after it was written.
    """
    if fits.is_fit(root):
        run = of_fit(fits.read(root), root)
    else:
        paths.require(root)
        config = paths.read_config(root)
        run = Run(root, config, store.results(root, config.fingerprint), config.preset)
    if not (run.results.branch == "ticket").any():
        raise WorkdirError(f"A report needs a finished training. Received: {root}, where none is.")
    return run


def of_fit(fit: Fit, root: "pathlib.Path | None" = None) -> Run:
    """Makes a run of one replicate from a search in `fit`.

    Args:
      fit: the search.
      root: its workdir, if it has one.
    """
    return Run(root, None, fits.results(fit), _FIT, fits=(fit,))


def versions(root: pathlib.Path) -> dict[str, str]:
    """Returns the package versions that a workdir was trained with, as package -> version.

    They are read from the first ticket.  If it cannot be read, the result is empty: a damaged
    ticket should not prevent a report, and `lth run --repair` can make it again.
    """
    path = paths.ticket_path(root, paths.first_replicate(root), 0)
    try:
        found = Ticket.from_bytes(paths.read_within(root, path, MOST_BYTES)).provenance
    except (LotteryError, OSError):
        return {}
    said = found.get("versions")
    return {str(name): str(value) for name, value in said.items()} \
        if isinstance(said, dict) else {}


def read_all(roots: Sequence[pathlib.Path], asked: "Margins | None" = None) -> list[Run]:
    """Reads workdirs as runs, each with a label of its own.

    Workdirs with the same settings are joined if they have no replicate in common; fits, whose
    replicates have no number, if they differ in their seed or initial weights.  Runs of the same
    preset are labelled by the settings in which they differ, or else by their folders.

    Args:
      roots: the workdirs.
      asked: the margins to judge them by; by default those of each run's settings.

    Raises:
      WorkdirError: as `read` does.
    """
    return together([read(root) for root in roots], asked)


def together(runs: Sequence[Run], asked: "Margins | None" = None) -> list[Run]:
    """Joins runs that are replicates of one, and gives each a label of its own; see `read_all`.

    Args:
      runs: the runs.
      asked: the margins to judge them by; by default those of each run's settings.
    """
    runs = _joined([dataclasses.replace(run, asked=asked) for run in runs])
    labels = _labels(runs)
    # Runs that differ in nothing that a label shows are told apart by their folders.
    return [dataclasses.replace(run, label=label if labels.count(label) == 1
                                else f"{label} ({run.root or f'number {number}'})")
            for number, (run, label) in enumerate(zip(runs, labels, strict=True), 1)]


def apart(runs: Sequence[Run]) -> list[str]:
    """Returns a line for each two runs with the same settings that could not be joined."""
    return [f"{one.root} and {other.root} are not joined: {shared}."
            for one, other in itertools.combinations(runs, 2)
            if _same_settings(one, other) and (shared := _shared(one, other))]


def _joined(runs: Sequence[Run]) -> list[Run]:
    joined: list[Run] = []
    for run in runs:
        for place, other in enumerate(joined):
            if _same_settings(other, run) and not _shared(other, run):
                # Fits have no replicate numbers: they are numbered in the order given.
                results = run.results.assign(replicate=len(other.fits)) if run.fits \
                    else run.results
                joined[place] = dataclasses.replace(
                    other, results=_by_replicate([other.results, results]),
                    more=(*other.more, *run.roots), fits=(*other.fits, *run.fits))
                break
        else:
            joined.append(run)
    return joined


def _same_settings(one: Run, other: Run) -> bool:
    return (one.name, one.identity) == (other.name, other.identity)


def _shared(one: Run, other: Run) -> str:
    # The reason why two runs with the same settings cannot be joined, or "".
    if one.fits:
        copies = {fit.origin for fit in one.fits} & {fit.origin for fit in other.fits}
        return "both have the same seed and the same initial weights" if copies else ""
    if one.margins != other.margins:
        return f"their margins are {one.margins} and {other.margins}, unless --margin gives others"
    both = sorted({*one.results.replicate} & {*other.results.replicate})
    return f"both have replicates {', '.join(map(str, both))}" if both else ""


def _by_replicate(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    # In the order of replicates, whatever the order in which workdirs are given.
    return pd.concat(parts).sort_values("replicate", kind="stable", ignore_index=True)


def _labels(runs: Sequence[Run]) -> list[str]:
    # The preset's name, and the settings that tell a run from others of the same preset.
    labels = []
    for run in runs:
        alike = [other.settings for other in runs if other.name == run.name]
        plain = run.settings
        told = {name for other in runs if other.name == run.name for name in other.identity}
        differ = [name for name in plain if name not in _NEVER_NAMED and name in told
                  and any(other.get(name) != plain[name] for other in alike)]
        labels.append(", ".join([run.name, *(_setting(name, plain[name]) for name in differ)]))
    return labels


def _setting(name: str, value: object) -> str:
    # "one shot" needs no name of its setting, but "0.1" does.
    if name in _TITLED:
        return _TITLED[name][str(value)].title
    if isinstance(value, Mapping):
        return f"{name} {', '.join(f'{key}:{item}' for key, item in value.items())}"
    return f"{name} {'/'.join(map(str, value)) or 'none' if isinstance(value, list) else value}"


def _changed(run: Run) -> list[str]:
    # What makes a run another one than its preset, for a title that names the preset.
    if run.config is None or run.name not in PRESETS:
        return []
    preset = PRESETS[run.name]
    plain = preset.scaled(run.config.scale) if run.config.scale < 1 else preset
    named = [_setting(name, value) for name, value in run.config.identity.items()
             if name not in (*_NEVER_NAMED, "seed") and plain.identity.get(name) != value]
    more = len(named) - _NAMED
    if more > 0:
        named[_NAMED:] = [f"{more} more setting{'s'[:more > 1]} changed"]
    return named


def about(runs: Sequence[Run], spread: str) -> str:
    """Returns steps, replicates and scale of runs, for a title; of one what its preset has not.

    Args:
      runs: the runs, at least one.
      spread: how the range over replicates is drawn, such as "bars"; "" if it is not.

    Returns:
      One line if it is the same for all runs, otherwise a line for each group of equal runs.
    """
    alike: dict[str, list[str]] = {}
    for run in runs:
        alike.setdefault(_about(run, spread), []).append(run.label)
    if len(runs) == 1:
        return ", ".join([*alike, *_changed(runs[0])])
    if len(alike) == 1:
        return next(iter(alike))
    return "\n".join(f"{', '.join(labels)}: {line}" for line, labels in alike.items())


def _about(run: Run, spread: str) -> str:
    # A run that is still going on has fewer replicates at its last levels.
    left = trained(run.results)
    counts = left.groupby(["branch", "level"]).replicate.nunique()
    least, most = (counts.min(), counts.max()) if len(counts) else (0, 0)
    replicates = "one replicate" if most == 1 else \
        f"mean of {most if least == most else f'{least} to {most}'} replicates" + (
            f", {spread} from least to greatest" if spread else "")  # As the paper has them.
    if lost := len(run.results) - len(left):
        replicates += f", {lost} training{'s'[:lost > 1]} diverged"
    if run.config is None:
        return ", ".join(filter(None, (run.fits[0].length, replicates)))
    scale = f", scale {run.config.scale:g}" if run.config.scale != 1 else ""
    return f"{run.config.steps:,} steps, {replicates}{scale}"
