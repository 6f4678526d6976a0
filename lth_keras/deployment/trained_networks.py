"""Loads the trained networks that `lth export` exports: from a workdir, or from a ticket file.

A ticket holds the weights before training.  A ticket file of `lth run` also holds the settings of
its run, so the network can be trained again in the same way and then be exported.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

from lth_keras import quiet
from lth_keras.core.best_level import sparsest_as_good
from lth_keras.core.masks import apply, Arrays, density
from lth_keras.errors import LotteryError, TicketError, WorkdirError
from lth_keras.experiments import worker
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.remaining import unfinished
from lth_keras.experiments.results import paths, runs, store
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.results.store import Store
from lth_keras.files import checksums, workdir_lock
from lth_keras.files.ticket import Ticket


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """The weights of a trained network, and where they come from.

    Attributes:
      config: the settings that the network was trained with.
      training: which training of the run it is: its replicate, level and branch.
      weights: name -> trained array of every weight; pruned weights are zero.
      density: the fraction of prunable weights kept, in [0, 1].
      origin: the workdir or ticket file that it was loaded from.
      mark: a hash of the trained weights.
      trained_now: whether it was trained from a ticket for this export.
      verdict: the verdict of its run, and that of its level, in words; None if there is no run.
    """

    config: Config
    training: Training
    weights: Arrays
    density: float
    origin: pathlib.Path
    mark: str
    trained_now: bool = False
    verdict: dict[str, str] | None = None

    def network(self, data: Any) -> Any:
        """Builds the tf_keras model, without pruning wrappers, and assigns the trained weights.

        Args:
          data: the data set of the run, which determines the shapes of input and output.
        """
        # Imported here: `lth export --help` and the checks of arguments load no TensorFlow.
        with quiet.loading():
            from lth_keras.experiments.training_keras2 import models
            from lth_keras.keras2.masking.weight_names import named_weights
        model = models.build(self.config, data.input_shape, data.classes)
        for name, variable in named_weights(model).items():
            variable.assign(self.weights[name])
        return model

    @property
    def about(self) -> dict[str, Any]:
        """The network's origin and settings as plain data, for deployment.json and the card."""
        return {"origin": self.origin.name, "preset": self.config.preset,
                "network": self.config.network, "dataset": self.config.dataset,
                "level": self.training.level, "replicate": self.training.replicate,
                "density": self.density, "settings": self.config.identity,
                "fingerprint": self.config.fingerprint, "trained_now": self.trained_now,
                "verdict": self.verdict}


def require(root: pathlib.Path) -> None:
    """Checks that a folder is the workdir of `lth run`.

    Raises:
      WorkdirError: if it is not. The workdir of a LotteryTicketCallback holds neither the model
        nor its data; for it, the message says how to export in Python.
    """
    if any(os.path.lexists(root / name) for name in workdir_lock.SEARCH.files):
        raise WorkdirError(
            "`lth export` needs a workdir that `lth run` made. Received: "
            f"{root}, which a LotteryTicketCallback made and which does not hold the model. After "
            "fit, call lth_keras.export(model, out, data=(x_test, y_test)) in Python.")
    paths.require(root)


def levels(root: "str | os.PathLike[str]", replicate: int) -> list[int]:
    """Returns the levels whose trained ticket can be exported, in rising order.

    Raises:
      WorkdirError: if no trained weights were kept.
      DamagedError: if a record was changed after it was written.
    """
    root = pathlib.Path(root)
    require(root)
    kept = [training.level for training in paths.found(root)
            if training == Training(replicate, training.level)
            and paths.read_record(root, training).trained is not None]
    if not kept:
        raise WorkdirError("An export needs trained weights, which `lth run` keeps unless it is "
                           f"run with --set keep_trained=none. Received: {root}, which has none "
                           f"of replicate {replicate}.")
    return sorted(kept)


def to_come(root: "str | os.PathLike[str]") -> str:
    """Returns a sentence that says what an unfinished run has still to train; "" if it is finished.

    Raises:
      WorkdirError: if the folder is not a workdir.
      DamagedError: if its settings were changed.
    """
    root = pathlib.Path(root)
    require(root)
    config, done = paths.read_config(root), paths.found(root)
    try:
        waiting = unfinished(config, Store(root, config))
    except WorkdirError:  # A damaged record of a network that may not be the one to export.
        return ""
    if not waiting:
        return ""
    return (f"{root} is unfinished: {len(done):,} of {len(done) + len(waiting):,} networks are "
            f"trained, up to level {max((training.level for training in done), default=0)} of "
            f"{config.rounds}. What is exported is chosen among these; `lth run` with the same "
            "settings trains the others.")


def best_level(root: "str | os.PathLike[str]", replicate: int) -> int:
    """Returns the sparsest level that is as accurate as the dense network on validation examples.

    The accuracies are those at the last step, whose weights are exported; their difference is
    averaged over the replicates that have both.  The test set is not used, so that the accuracy
    reported for the export is not selected for.

    Args:
      root: the workdir.
      replicate: the replicate whose trained weights are exported.

    Raises:
      WorkdirError: if the dense network has not been trained yet.
    """
    require(pathlib.Path(root))
    curves = store.curves(root)
    # Repeats of a ticket differ in data order; the first is the one whose weights are exported.
    of_tickets = curves[(curves.branch == TICKET) & (curves.branch_index == 0)]
    last = of_tickets.sort_values("step").groupby(["level", "replicate"]).val_accuracy.last()
    accuracy = last.unstack("replicate")
    if 0 not in accuracy.index:
        raise WorkdirError("level \"best\" (--level best) compares with the dense network, which "
                           f"must have been trained. Received: {root}, where it was not; name a "
                           "level instead.")
    gains = (accuracy - accuracy.loc[0]).mean(axis=1)
    return sparsest_as_good({level: gains.get(level, -1.0) for level in levels(root, replicate)})


def from_workdir(root: "str | os.PathLike[str]", level: int, replicate: int) -> TrainedNetwork:
    """Loads the trained network of a level's ticket.

    Raises:
      WorkdirError: if the folder is not a workdir, or these weights were not kept.
      DamagedError: if a file was changed after it was written.
    """
    root = pathlib.Path(root)
    require(root)
    config = paths.read_config(root)
    there = levels(root, replicate)
    if level not in there:
        raise WorkdirError("level (--level) must be a level whose trained weights were kept, one "
                           f"of {', '.join(map(str, there))}. Received: {level} of {root}.")
    training = Training(replicate, level)
    source = _source(config, training, Store(root, config).read_trained(training), root)
    return dataclasses.replace(source, verdict=_verdict(root, level))


def _verdict(root: pathlib.Path, level: int) -> "dict[str, str] | None":
    # Damage to other trainings of the run is no reason to refuse the export of this one.
    try:
        found = runs.read(root).verdict
    except WorkdirError:
        return None
    own = next((str(item) for item in found.levels if item.level == level), "the dense network")
    return {"run": found.sentence, "level": own}


def from_file(path: "str | os.PathLike[str]", data: Callable[[Config], Any],
              say: Callable[[str], None] = lambda line: None) -> TrainedNetwork:
    """Loads the trained network of a file that `lth run` made; a ticket is trained first.

    Args:
      path: a ticket file, or a file of trained weights.
      data: returns the data set of a configuration; called only if a ticket is trained.
      say: called with a line of progress for the user when training begins.

    Raises:
      TicketError: if the file is not a ticket, or does not hold the settings of its run.
      LotteryError: if the training diverges.
    """
    path = pathlib.Path(path)
    contents = Ticket.load(path)
    config, training = _made_with(contents, path)
    if "trained_to" in contents.provenance:
        return _source(config, training, contents, path)
    say(f"{path} holds the weights before training. Training it first, for {config.steps:,} "
        f"step{'s'[:config.steps != 1]} with the settings of {config.preset}.")
    # The run itself may have been told to keep no trained weights.
    trained = worker.engine_of(config).round_runner(
        config.replace(keep_trained="tickets"), data(config)).train(
        training, StartingPoint(contents)).trained
    if trained is None:
        raise LotteryError("A network to export must have finite weights. Received: "
                           f"{path}, whose training diverged.")
    return dataclasses.replace(_source(config, training, trained, path), trained_now=True)


def _made_with(contents: Ticket, path: pathlib.Path) -> tuple[Config, Training]:
    # The settings come from a file that anyone may have written: every error is the ticket's.
    provenance = contents.provenance
    try:
        replicate = provenance["replicate"]
        config = _located(Config.from_plain(provenance["settings"]),
                             path.absolute().parent.parent.parent)
        return config, Training(int(replicate), contents.level)
    except (KeyError, TypeError, ValueError) as error:
        raise TicketError(
            "`lth export` needs a ticket that `lth run` made, which holds the settings to train it "
            f"with. Received: {path}, which does not hold them ({type(error).__name__}: "
            f"{error}). For a ticket of your own model, call lth_keras.export(ticket, out, "
            "data=(x_test, y_test), model=model, train=train) in Python.") from None


def _located(config: Config, workdir: pathlib.Path) -> Config:
    # A ticket knows what a user's own data and network hold, not where they lie, which the folder
    # that would be its workdir knows.
    there = None
    if config.data_checksum or config.network_checksum:
        with contextlib.suppress(WorkdirError, OSError):
            there = paths.read_config(workdir)
    if there is None or there.fingerprint != config.fingerprint:
        return config
    return dataclasses.replace(config, data=there.data, network_file=there.network_file)


def _source(config: Config, training: Training, contents: Ticket,
            origin: pathlib.Path) -> TrainedNetwork:
    return TrainedNetwork(config, training, apply(contents.weights, contents.masks),
                  density(contents.masks), origin, checksums.mark(contents.to_bytes()))
