"""The run whose tickets are trained on another data set (`config.transfer`), read as untrusted."""

import os
import pathlib

from lth_keras.core.structures.words import parse
from lth_keras.errors import WorkdirError
from lth_keras.experiments.config import own
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import RETRAININGS, STRATEGIES
from lth_keras.experiments.config.trainings import chain, Training
from lth_keras.experiments.results import paths
from lth_keras.experiments.results.store import Store
from lth_keras.files.ticket import Ticket


def resolved(config: Config) -> Config:
    """Returns the configuration with what its source, its data and its network are known by.

    The path may change, the run in it may not: a workdir goes on with the same source only.

    Args:
      config: the settings; without a source they are returned as they are.

    Raises:
      LotteryError: if the user's own data or network cannot be read.
      WorkdirError: if the source is not a workdir of `lth run`, or was changed.
    """
    config = own.resolved(config)
    return config.from_source(_config_of(config.source).fingerprint) if config.source else config


class SourceRun:
    """The workdir whose tickets a run trains.

    Args:
      config: the settings of the run that trains them, `resolved`.

    Raises:
      WorkdirError: if the source is another run than the settings say, was pruned in another
        structure, has trained weights in its tickets, or lacks one that this run will train.
    """

    def __init__(self, config: Config):
        self._root, self._asked = pathlib.Path(config.source), config
        self._config = _config_of(config.source)
        if self._config.fingerprint != config.source_fingerprint:
            raise WorkdirError("A run goes on with the tickets of one source. Received: source="
                               f"{self._root}, a run with fingerprint {self._config.fingerprint}, "
                               f"not {config.source_fingerprint}.")
        if self._config.structure != config.structure:
            raise WorkdirError("Tickets are trained in the structure that they were pruned in. "
                               f"Received: source={self._root} of structure="
                               f"{self._config.structure}. Run with --set structure="
                               f"{self._config.structure}.")
        if not RETRAININGS[self._config.retraining].rewinds:
            raise WorkdirError("A transfer trains tickets with weights from before training. "
                               f"Received: source={self._root} of retraining="
                               f"{self._config.retraining}, whose tickets hold trained ones.")
        self._store = Store(self._root, self._config)
        # As every run, this one makes one ticket more than it trains, if there can be one more.
        self._last = config.rounds + (0 if parse(config.structure).by_rounds else 1)
        for replicate in config.replicate_numbers:
            self._check_levels(replicate)

    @classmethod
    def of(cls, config: Config) -> "SourceRun | None":
        """Returns the source of a configuration, or None if its tickets come from none."""
        return cls(config) if STRATEGIES[config.strategy].from_source else None

    def tickets(self, training: Training) -> dict[int, Ticket]:
        """Reads the tickets that a training needs: that of its level 0, and that of the next level.

        Args:
          training: the training.

        Returns:
          Level -> ticket.

        Raises:
          DamagedError: if one was changed after it was written.
        """
        replicate, level = training.replicate, training.level
        found = {} if level else {0: self._first(replicate)}
        if training == chain(self._asked, replicate, level) and level < self._last:
            found[level + 1] = self._store.read_ticket(replicate, level + 1)[0]
        return found

    def _first(self, replicate: int) -> Ticket:
        mark = self._store.record(Training(replicate, 0)).ticket
        return Ticket.from_bytes(paths.read_marked(
            self._root, self._store.ticket(replicate, 0), mark))

    def _check_levels(self, replicate: int) -> None:
        for level in range(1, self._last + 1):
            maker = chain(self._config, replicate, level - 1)
            made = self._store.is_done(maker) and self._store.record(maker).following
            if not made:
                enough = f"--rounds {level - 2}" if level > 1 else "other replicates"
                raise WorkdirError(
                    f"A run of {self._asked.rounds} rounds takes tickets of levels 0 to "
                    f"{self._last} from its source. Received: source={self._root}, whose replicate "
                    f"{replicate} has none of level {level}. Finish that run, or ask for less "
                    f"({enough}).")


def _config_of(source: "str | os.PathLike[str]") -> Config:
    root = pathlib.Path(source)
    paths.require(root)
    return paths.read_config(root)
