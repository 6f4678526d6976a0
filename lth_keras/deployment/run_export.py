"""Exports the networks of `lth run`: one level of a run, or all of them with the same settings.

    WORKDIR/deployment/0a1b2c3d4e/replicate_0/level_03/   the files of a level, deployment.json

The ten digits are a hash of settings, formats, versions and machine: what was measured with the
same before is not measured again.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lth_keras import quiet
from lth_keras.core.seeding import generator
from lth_keras.deployment import manifest, trained_networks
from lth_keras.deployment.manifest import COMPACTIONS, Deployment, REPRESENTATIVE, TOLERANCE
from lth_keras.deployment.trained_networks import TrainedNetwork
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.results import paths
from lth_keras.experiments.training import datasets
from lth_keras.experiments.training.datasets import Data, scaled
from lth_keras.files import provenance, workdir_lock
from lth_keras.files.provenance import fingerprint


@dataclasses.dataclass(frozen=True)
class Settings:
    """What measurements depend on beside the network.

    Attributes:
      tolerance: points of accuracy that a format may lose against Keras, >= 0.
      compaction: one of `manifest.COMPACTIONS`.
      examples: the first so many of the test set that files are compared on, or None for all.
      threads: cores that files are timed on, >= 1.
    """

    tolerance: float = TOLERANCE
    compaction: str = COMPACTIONS[0]
    examples: "int | None" = None
    threads: int = 1


class RunExporter:
    """Exports networks of `lth run`, compared on the test set of their data.

    Args:
      settings: how.
      data_dir: where tensorflow-datasets keeps its data, or None for its default.
      say: called with a line for the user on each step.
    """

    def __init__(self, settings: Settings, data_dir: "str | None" = None,
                 say: Callable[[str], None] = lambda line: None):
        self._settings = settings
        self._data_dir = data_dir
        self._say = say
        self._data: dict[str, Data] = {}

    def data(self, config: Config) -> Data:
        """The data set of a configuration."""
        if config.dataset not in self._data:
            self._data[config.dataset] = datasets.load(config.dataset, self._data_dir)
        return self._data[config.dataset]

    def from_file(self, path: pathlib.Path) -> TrainedNetwork:
        """The network of a ticket file, see `trained_networks.from_file`."""
        with quiet.loading():
            import tensorflow as _  # noqa: F401
        return trained_networks.from_file(path, self.data, self._say)

    def export(self, source: TrainedNetwork, out: pathlib.Path, formats: Sequence[str],
               dense: "TrainedNetwork | None" = None) -> Deployment:
        """Exports a network.

        Args:
          source: the network.
          out: the folder for the files.
          formats: their names.
          dense: the dense network of its run, to compare with.
        """
        with quiet.loading():
            from lth_keras.deployment.export import export
        found, settings = self.data(source.config), self._settings
        rng = generator(source.config.seed, "representative")
        some = np.sort(rng.permutation(len(found.x_train))[:REPRESENTATIVE])
        level = source.training.level
        return export(
            source.network(found), out, formats=formats,
            data=(scaled(found.x_test[:settings.examples]), found.y_test[:settings.examples]),
            representative=scaled(found.x_train[some]), tolerance=settings.tolerance,
            compaction=settings.compaction, threads=settings.threads,
            dense=dense.network(found) if dense else None,
            facts={**source.about, "name": f"{source.config.preset}, level {level}",
                   "pixels": found.x_train.dtype == np.uint8,
                   "asked": self._asked(source, formats)},
            on_format=lambda name: self._say(f"level {level}: {name}"))

    def survey(self, root: pathlib.Path, replicate: int, formats: Sequence[str]) -> pd.DataFrame:
        """Exports every level of a workdir whose trained weights were kept.

        Args:
          root: the workdir.
          replicate: whose networks.
          formats: their names.

        Returns:
          The rows of all, by level, with `manifest.COLUMNS`.

        Raises:
          WorkdirError: if no trained weights were kept.
        """
        trained_networks.require(root)
        tables = []
        for level in trained_networks.levels(root, replicate):
            source = trained_networks.from_workdir(root, level, replicate)
            asked = self._asked(source, formats)
            folder = root / "deployment" / fingerprint({**asked, "weights": ""}) \
                / f"replicate_{replicate}" / f"level_{level:02d}"
            paths.check_inside(root, folder / manifest.FILE)
            with workdir_lock.held(root / "deployment"):
                made = _earlier(folder, asked) or self.export(source, folder, formats)
            tables.append(made.rows)
        return pd.concat(tables, ignore_index=True)

    def _asked(self, source: TrainedNetwork, formats: Sequence[str]) -> dict[str, Any]:
        # What an earlier export must agree with to stand for a new one.
        with quiet.loading():
            from lth_keras.deployment import measuring
        return {**dataclasses.asdict(self._settings), "formats": list(formats),
                "weights": source.mark, "versions": measuring.versions(),
                "machine": provenance.machine()}


def _earlier(folder: pathlib.Path, asked: dict[str, Any]) -> "Deployment | None":
    try:
        made = manifest.read(folder)
    except LotteryError:  # There is none, or it was not finished.
        return None
    return made if made.facts.get("asked") == asked else None
