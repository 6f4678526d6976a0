"""What a training starts from, and what it leaves behind, as workers and the store see them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TYPE_CHECKING

from lth_keras.files.ticket import Ticket

if TYPE_CHECKING:  # `lth run --help` comes by here, and pandas would double its time.
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What one training leaves behind.

    Attributes:
      result: the measures of its row in results.csv.
      curve: its learning curve.
      drawn: the ticket of level 0, if the training drew it.
      following: the ticket of the next level, if that is made from it.
      trained: its trained weights and its masks, if they are kept.
    """

    result: dict[str, Any]
    curve: "pd.DataFrame"
    drawn: Ticket | None = None
    following: Ticket | None = None
    trained: Ticket | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class StartingPoint:
    """What a training starts from.

    Attributes:
      ticket: that of its level, or None at level 0, whose first training draws it.
      mark: the mark of the ticket's file, if it has one.
      taken: level -> trained network, of those that `trainings.takes_from` names.
      theta: the ticket that holds theta_k, for a training that repeats the dense network's from
        step k on; None for any other.
      source: level -> ticket of another run, of those that `source.SourceRun.tickets` gives.
    """

    ticket: Ticket | None = None
    mark: str | None = None
    taken: Mapping[int, Ticket] = dataclasses.field(default_factory=dict)
    theta: Ticket | None = None
    source: Mapping[int, Ticket] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Speed:
    """The measured speed of a process that trains a network.

    Attributes:
      compilation: seconds to compile the program, once in each process.
      step: seconds for a training step.
      validation: seconds for a validation.
      evaluation: seconds for the evaluations at the end of a training, estimated from that.
      together: how many networks the process trains at the same time. The seconds are those of
        all of them, but for `compilation`.
      timed: over how many steps their speed was measured.
      note: what a user should know of the network that is pruned; may be "".

    Example:
      >>> Speed(compilation=2.0, step=0.001, validation=0.03, evaluation=0.2).step
      0.001
    """

    compilation: float
    step: float
    validation: float
    evaluation: float
    together: int = 1
    timed: int = 0
    note: str = ""
