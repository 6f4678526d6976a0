"""Trained networks to export: of a level of a workdir, or of a ticket file, trained first.

A ticket holds the weights before training.  One that `lth run` made also holds the settings of its
run, so it can be trained in the same way.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

from lth_keras.core.masks import apply, Arrays, density
from lth_keras.errors import LotteryError, TicketError, WorkdirError
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import paths, store
from lth_keras.experiments.results.outcome import Start
from lth_keras.experiments.results.store import Store
from lth_keras.files import checksums, workdir_lock
from lth_keras.files.ticket import Ticket


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network to export.

    Attributes:
      config: the settings that it was trained with.
      training: which of the run's trainings it is the result of.
      weights: name -> array of every weight, trained; those that are pruned are zero.
      density: the fraction of prunable weights kept, in [0, 1].
      origin: the file or the folder that it comes from.
      mark: a hash of its trained weights.
      trained_now: whether it was trained for this export, from a ticket.
    """

    config: Config
    training: Training
    weights: Arrays
    density: float
    origin: pathlib.Path
    mark: str
    trained_now: bool = False

    def network(self, data: Any) -> Any:
        """The network itself, as a tf_keras model without wrappers.

        Args:
          data: the data set that it was trained on, which says the shapes of input and output.
        """
        from lth_keras.experiments.training import models
        from lth_keras.keras2.masking.weight_names import named_weights
        model = models.build(self.config, data.input_shape, data.classes)
        for name, variable in named_weights(model).items():
            variable.assign(self.weights[name])
        return model

    @property
    def about(self) -> dict[str, Any]:
        """Where it comes from, as plain data."""
        return {"origin": self.origin.name, "preset": self.config.preset,
                "network": self.config.network, "dataset": self.config.dataset,
                "level": self.training.level, "replicate": self.training.replicate,
                "density": self.density, "settings": self.config.identity,
                "fingerprint": self.config.fingerprint, "trained_now": self.trained_now}


def require(root: pathlib.Path) -> None:
    """Checks that a folder is the workdir of an `lth run`.

    Raises:
      WorkdirError: if it is not; for the workdir of a search in `fit`, which holds neither the
        model nor its data, the message says how to export from Python.
    """
    if any(os.path.lexists(root / name) for name in workdir_lock.SEARCH.files):
        raise WorkdirError(
            "`lth export` takes a folder that `lth run` made. Received: "
            f"{root}, which a LotteryTicketCallback made and which does not hold the model. After "
            "fit, call lth_keras.export(model, out, data=(x_test, y_test)) in Python.")
    paths.require(root)


def levels(root: "str | os.PathLike[str]", replicate: int) -> list[int]:
    """The levels of a workdir whose tickets' trained weights were kept.

    Raises:
      WorkdirError: if there are none; a DamagedError, if a record is not what was written.
    """
    root = pathlib.Path(root)
    require(root)
    kept = [training.level for training in paths.found(root)
            if training == Training(replicate, training.level)
            and paths.read_record(root, training).trained is not None]
    if not kept:
        raise WorkdirError("An export needs the trained weights of a ticket, which `lth run` keeps "
                           f"unless keep_trained=none. Received: {root}, which has none of "
                           f"replicate {replicate}.")
    return sorted(kept)


def best_level(root: "str | os.PathLike[str]", replicate: int) -> int:
    """The sparsest level that is as accurate as the dense network, on the validation examples.

    Accuracies are those at the last step, whose weights are exported, in the mean over the
    replicates that have both.  The test set has no part in the choice.

    Args:
      root: the workdir.
      replicate: the one to be exported, whose trained weights are there.

    Raises:
      WorkdirError: if the dense network is not trained.
    """
    require(pathlib.Path(root))
    curves = store.curves(root)
    of_tickets = curves[(curves.branch == TICKET) & (curves.branch_index == 0)]
    last = of_tickets.sort_values("step").groupby(["level", "replicate"]).val_accuracy.last()
    accuracy = last.unstack("replicate")
    if 0 not in accuracy.index:
        raise WorkdirError("The best level is as accurate as the dense network, which must be "
                           f"trained. Received: {root}, where it is not; name a --level.")
    gains = (accuracy - accuracy.loc[0]).mean(axis=1)
    return max((level for level in levels(root, replicate) if gains.get(level, -1.0) >= 0),
               default=0)


def from_workdir(root: "str | os.PathLike[str]", level: int, replicate: int) -> TrainedNetwork:
    """The trained network of a level's ticket.

    Raises:
      WorkdirError: if the folder is no workdir, or those weights were not kept; a DamagedError, if
        a file is not what was written.
    """
    root = pathlib.Path(root)
    require(root)
    config = paths.read_config(root)
    there = levels(root, replicate)
    if level not in there:
        raise WorkdirError("--level must be one whose trained weights were kept, of "
                           f"{', '.join(map(str, there))}. Received: {level} of {root}.")
    training = Training(replicate, level)
    return _source(config, training, Store(root, config).read_trained(training), root)


def from_file(path: "str | os.PathLike[str]", data: Callable[[Config], Any],
              say: Callable[[str], None] = lambda line: None) -> TrainedNetwork:
    """The trained network of a ticket file: one of trained weights, or a ticket, trained first.

    Args:
      path: a file that `lth run` made.
      data: gives the data set of a configuration; asked for only if there is training to do.
      say: called with a line for the user when training begins.

    Raises:
      TicketError: if the file is no ticket, or does not hold the settings of its run.
      LotteryError: if the training diverges.
    """
    path = pathlib.Path(path)
    contents = Ticket.load(path)
    config, training = _made_with(contents, path)
    if "trained_to" in contents.provenance:
        return _source(config, training, contents, path)
    say(f"{path} is a network before its training: it is trained first, for {config.steps:,} "
        f"step{'s'[:config.steps != 1]} as {config.preset}.")
    from lth_keras.experiments.training.round_runner import RoundRunner
    trained = RoundRunner(config.replace(keep_trained="tickets"), data(config)).train(
        training, Start(contents)).trained
    if trained is None:
        raise LotteryError("What is exported is trained. Received: a ticket whose training "
                           f"diverged, {path}.")
    return dataclasses.replace(_source(config, training, trained, path), trained_now=True)


def _made_with(contents: Ticket, path: pathlib.Path) -> tuple[Config, Training]:
    said = contents.provenance
    try:
        replicate = said["replicate"]
        return Config.from_plain(said["settings"]), Training(int(replicate), contents.level)
    except (KeyError, TypeError, ValueError) as error:
        raise TicketError(
            "`lth export` takes a ticket that `lth run` made, since it holds the settings to train "
            f"it with. Received: {path}, which does not hold them ({type(error).__name__}: "
            f"{error}). For a ticket of your own model, call lth_keras.export(ticket, out, "
            "data=(x_test, y_test), model=model, train=train) in Python.") from None


def _source(config: Config, training: Training, contents: Ticket,
            origin: pathlib.Path) -> TrainedNetwork:
    return TrainedNetwork(config, training, apply(contents.weights, contents.masks),
                  density(contents.masks), origin, checksums.mark(contents.to_bytes()))
