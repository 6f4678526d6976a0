"""What is exported: the trained network of a workdir's level, or that of a ticket, trained first.

A ticket is a network before its training.  One that `lth run` made says what it was made with, so
that it can be trained as it was there.
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
from lth_keras.files import atomic, ticket_file
from lth_keras.files.ticket_file import Contents


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network to export.

    Attributes:
      config: what it was trained with.
      training: which it is.
      weights: name -> array of every weight, trained; those that are pruned are zero.
      density: the fraction of prunable weights kept, in [0, 1].
      origin: the file or the folder that it comes from.
      mark: of its trained weights, which tells them from others.
      trained_now: whether it was trained for this, from a ticket.
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


def levels(root: "str | os.PathLike[str]", replicate: int) -> list[int]:
    """The levels of a workdir whose tickets' trained weights were kept.

    Raises:
      WorkdirError: if there are none; a DamagedError, if a record is not what was written.
    """
    root = pathlib.Path(root)
    paths.require(root)
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
    paths.require(pathlib.Path(root))
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
    paths.require(root)
    config = paths.read_config(root)
    there = levels(root, replicate)
    if level not in there:
        raise WorkdirError("--level must be one whose trained weights were kept, of "
                           f"{', '.join(map(str, there))}. Received: {level} of {root}.")
    training = Training(replicate, level)
    return _source(config, training, store.read_trained(root, training, config.fingerprint), root)


def from_file(path: "str | os.PathLike[str]", data: Callable[[Config], Any],
              say: Callable[[str], None] = lambda line: None) -> TrainedNetwork:
    """The trained network of a ticket file: one of trained weights, or a ticket, trained first.

    Args:
      path: a file that `lth run` made.
      data: gives the data set of a configuration; asked for only if there is training to do.
      say: told what is done.

    Raises:
      TicketError: if the file is none, or does not say what it was made with.
      LotteryError: if the training diverges.
    """
    path = pathlib.Path(path)
    contents = ticket_file.read(path)
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


def _made_with(contents: Contents, path: pathlib.Path) -> tuple[Config, Training]:
    said = contents.provenance
    try:
        replicate = said["replicate"]
        return Config.from_plain(said["settings"]), Training(int(replicate), contents.level)
    except (KeyError, TypeError, ValueError) as error:
        raise TicketError(
            "A ticket that is exported by the command is one that `lth run` made, which says what "
            f"it was made with. Received: {path} ({error}). For one of your own network, give it "
            "to lth_keras.export with the network, in Python.") from None


def _source(config: Config, training: Training, contents: Contents,
            origin: pathlib.Path) -> TrainedNetwork:
    return TrainedNetwork(config, training, apply(contents.weights, contents.masks),
                  density(contents.masks), origin, atomic.mark(ticket_file.encode(contents)))
