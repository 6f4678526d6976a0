"""The workdir: where the results of a run lie, and what is done.

    config.json                                   the configuration last asked for
    results.csv                                   a row a trained network
    replicate_0/level_03/ticket.safetensors       theta_0 and the mask of that level
    replicate_0/level_03/reinit_0/curve.csv       loss and accuracy over its training
    replicate_0/level_03/reinit_0/result.json     its row; once this is there, it is done
    plots/                                        the pictures

Every file is whole or absent.  A run goes on from what it finds here: nothing else
tells it what has been done.
"""

import dataclasses
import json
import os
import pathlib
import re
from typing import Any

import pandas as pd

from lth_keras import files
from lth_keras.config import Config
from lth_keras.errors import LotteryError, WorkdirError

COLUMNS = ("replicate", "branch", "branch_index", "level", "density", "early_stop_step",
           "val_loss_min", "test_accuracy_early_stop", "test_accuracy_final",
           "train_accuracy_final", "seconds")
CURVE_COLUMNS = ("step", "loss", "accuracy", "val_loss", "val_accuracy")


@dataclasses.dataclass(frozen=True)
class Training:
    """Which of an experiment's trainings: the key of everything that is kept of it."""

    replicate: int
    level: int
    branch: str = "ticket"
    branch_index: int = 0

    def __str__(self) -> str:
        return f"replicate {self.replicate}, level {self.level}, {self.branch}"


class Store:
    """The workdir of one run.

    Args:
      root: the folder.
      config: the run's configuration.

    Raises:
      WorkdirError: if the folder holds a run of other settings.
    """

    def __init__(self, root: "str | os.PathLike[str]", config: Config):
        self.root = pathlib.Path(root)
        self._config = config
        self._check_same(config)

    def begin(self) -> None:
        """Makes the folder the run's: only now, so that a run that fails to start leaves none.

        Raises:
          WorkdirError: if it cannot be written.
        """
        try:
            files.write(self.root / "config.json",
                        json.dumps(self._config.to_dict(), indent=2) + "\n")
        except OSError as error:
            raise WorkdirError("A workdir must be a folder that can be written. Received: "
                               f"{self.root}: {error.strerror}.") from None

    def _check_same(self, config: Config) -> None:
        path = self.root / "config.json"
        try:
            if not path.exists():
                return
            there = Config.from_json(path.read_text()).identity
        except (LotteryError, OSError, UnicodeDecodeError) as error:
            raise WorkdirError(f"{path} must be a run's configuration: {error}") from None
        here = config.identity
        differ = [f"{name}={there.get(name, 'default')} there, {here.get(name, 'default')} asked"
                  for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
        if differ:
            raise WorkdirError(f"A workdir holds one experiment. Received: {self.root}, with "
                               f"{'; '.join(differ)}. Use another --workdir.")

    def ticket(self, replicate: int, level: int) -> pathlib.Path:
        """Where the ticket of a level lies."""
        return self.root / f"replicate_{replicate}" / f"level_{level:02d}" / "ticket.safetensors"

    def folder(self, training: Training) -> pathlib.Path:
        """Where the results of a training lie."""
        level = self.ticket(training.replicate, training.level).parent
        return level / f"{training.branch}_{training.branch_index}"

    def is_done(self, training: Training) -> bool:
        """Whether a training is finished."""
        return (self.folder(training) / "result.json").exists()

    def finish(self, training: Training, result: dict[str, Any], curve: pd.DataFrame) -> None:
        """Keeps a training's results; its row is written last and marks it done."""
        folder = self.folder(training)
        files.write(folder / "curve.csv", curve.to_csv(index=False))
        row = {**dataclasses.asdict(training), **result}
        files.write(folder / "result.json",
                    json.dumps({name: row[name] for name in COLUMNS}, indent=2) + "\n")
        self.write_results()

    def write_results(self) -> None:
        """Writes results.csv from the trainings that are done."""
        files.write(self.root / "results.csv", results(self.root).to_csv(index=False))


def results(root: "str | os.PathLike[str]") -> pd.DataFrame:
    """The rows of the trainings done in a workdir, by replicate, level and branch.

    Raises:
      WorkdirError: if a row cannot be read; the message names its file.
    """
    rows = []
    for path in _found(root, "result.json").values():
        try:
            row = json.loads(path.read_text())
            rows.append({name: row[name] for name in COLUMNS})
        except (ValueError, TypeError, KeyError) as error:
            raise WorkdirError(f"{path} is damaged ({error!r}). Delete it to train that network "
                               "again.") from None
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = ["replicate", "level", "branch", "branch_index"]
    return table.sort_values(order, ignore_index=True)


def curves(root: "str | os.PathLike[str]") -> pd.DataFrame:
    """The learning curves in a workdir, one under the other.

    Returns:
      Columns replicate, level, branch, branch_index, then those of the curves: step,
      loss, accuracy, val_loss, val_accuracy; rows in the order of the former.

    Raises:
      WorkdirError: if a curve cannot be read; the message names its file.
    """
    tables = {}
    for key, path in _found(root, "curve.csv").items():
        try:
            tables[key] = pd.read_csv(path)
        except ValueError as error:
            raise WorkdirError(f"{path} is damaged ({error!r}). Delete its folder to train that "
                               "network again.") from None
    names = ["replicate", "level", "branch", "branch_index"]
    if not tables:
        return pd.DataFrame(columns=[*names, *CURVE_COLUMNS])
    return pd.concat(tables, names=names).reset_index(names).reset_index(drop=True)


def _found(root: "str | os.PathLike[str]", name: str) -> dict[tuple[int, int, str, int],
                                                              pathlib.Path]:
    # Only what the store itself named: a copy beside it is not a result.
    paths = {}
    for path in pathlib.Path(root).glob(f"replicate_*/level_*/*/{name}"):
        parts = re.fullmatch(r"replicate_(\d+)/level_(\d+)/(\w+)_(\d+)/.*",
                             path.relative_to(root).as_posix())
        if parts:
            replicate, level, branch, index = parts.groups()
            paths[int(replicate), int(level), branch, int(index)] = path
    return dict(sorted(paths.items()))
