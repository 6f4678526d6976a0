"""Exports the networks of an `lth run` workdir: one level, or all levels to compare them.

    WORKDIR/deployment/0a1b2c3d4e/replicate_0/level_03/   the files of a level, deployment.json

The ten digits are a hash of the settings, formats, package versions and machine.  A level that was
measured before under the same hash is read, not measured again.
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
from lth_keras.deployment.comparison.held_out import REPRESENTATIVE
from lth_keras.deployment.manifest import COMPACTIONS, Deployment
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
    """The settings of an export that change its measurements.

    Attributes:
      tolerance: percentage points of accuracy that a file may lose against Keras, >= 0; None for
        the default of `lth_keras.export`.
      compaction: one of `manifest.COMPACTIONS`.
      examples: how many test examples files are compared on, counted from the first; None for
        all.
      threads: CPU threads of the runtime while a file is timed, >= 1.

    Example:
      >>> Settings(examples=100)
      Settings(tolerance=None, compaction='units', examples=100, threads=1)
    """

    tolerance: "float | None" = None
    compaction: str = COMPACTIONS[0]
    examples: "int | None" = None
    threads: int = 1


class RunExporter:
    """Exports networks that `lth run` trained, and compares the files on their test set.

    Args:
      settings: how files are checked and measured.
      data_dir: the folder of tensorflow-datasets, or None for its default.
      say: called with a line of progress for the user at each step.
    """

    def __init__(self, settings: Settings, data_dir: "str | None" = None,
                 say: Callable[[str], None] = lambda line: None):
        self._settings = settings
        self._data_dir = data_dir
        self._say = say
        self._data: dict[str, Data] = {}  # Loaded once, though every level asks for it.

    def data(self, config: Config) -> Data:
        """Returns the data set of a configuration."""
        key = f"{config.dataset} {config.data_checksum}"
        if key not in self._data:
            self._data[key] = datasets.of(config, self._data_dir)
        return self._data[key]

    def from_file(self, path: pathlib.Path) -> TrainedNetwork:
        """Returns the network of a ticket file; see `trained_networks.from_file`."""
        with quiet.loading():
            import tensorflow as _  # noqa: F401
        return trained_networks.from_file(path, self.data, self._say)

    def export(self, source: TrainedNetwork, out: pathlib.Path, formats: Sequence[str],
               dense: "TrainedNetwork | None" = None) -> Deployment:
        """Exports a network; see `lth_keras.export`.

        Args:
          source: the network.
          out: the folder for the files.
          formats: the names of the formats.
          dense: the dense network of the same run, to compare size and latency with.
        """
        with quiet.loading():
            from lth_keras.deployment.export import export
        found, settings = self.data(source.config), self._settings
        # Drawn by the run's own seed, so that the same command makes the same int8 file.
        rng = generator(source.config.seed, "representative")
        # Sorted, since data may be memory-mapped: reading in order is faster.
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
          replicate: the replicate whose networks are exported.
          formats: the names of the formats.

        Returns:
          A table of all levels' rows, with the columns `manifest.COLUMNS`.

        Raises:
          WorkdirError: if no trained weights were kept.
        """
        trained_networks.require(root)
        tables = []
        for level in trained_networks.levels(root, replicate):
            source = trained_networks.from_workdir(root, level, replicate)
            asked = self._asked(source, formats)
            # All levels share the folder of one hash, so the weights are left out of it; that
            # they are the same is checked in _earlier.
            folder = root / "deployment" / fingerprint({**asked, "weights": ""}) \
                / f"replicate_{replicate}" / f"level_{level:02d}"
            paths.check_inside(root, folder / manifest.FILE)
            with workdir_lock.held(root / "deployment"):
                made = _earlier(folder, asked) or self.export(source, folder, formats)
            tables.append(made.rows)
        return pd.concat(tables, ignore_index=True)

    def _asked(self, source: TrainedNetwork, formats: Sequence[str]) -> dict[str, Any]:
        # Everything that the measurements depend on: an earlier export is used again only if
        # all of it is the same.
        with quiet.loading():
            from lth_keras.deployment import measuring
        return {**dataclasses.asdict(self._settings), "formats": list(formats),
                "weights": source.mark, "versions": measuring.versions(),
                "machine": provenance.machine()}


def _earlier(folder: pathlib.Path, asked: dict[str, Any]) -> "Deployment | None":
    # An export of the folder that answers the same question, if there is one.
    try:
        made = manifest.read(folder)
    except LotteryError:  # There is no export, or one that was killed before it was complete.
        return None
    return made if made.facts.get("asked") == asked else None
