"""What goes into one training and what comes out of it, between whoever trains and the store."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd

from lth_keras.files.ticket import Ticket


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
    curve: pd.DataFrame
    drawn: Ticket | None = None
    following: Ticket | None = None
    trained: Ticket | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """What a training starts from.

    Attributes:
      ticket: that of its level, or None at level 0, whose first training draws it.
      mark: the mark of the ticket's file, if it has one.
      taken: level -> trained network, of those that `trainings.takes_from` names.
      theta: the ticket that holds theta_k, for a training that repeats the dense network's from
        step k on; None for any other.
    """

    ticket: Ticket | None = None
    mark: str | None = None
    taken: Mapping[int, Ticket] = dataclasses.field(default_factory=dict)
    theta: Ticket | None = None


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a network trains here.

    Attributes:
      compilation: seconds until the program is compiled, paid once a process.
      step: seconds a step.
      validation: seconds a validation.
      evaluation: seconds for the evaluations at a training's end, at that rate.
    """

    compilation: float
    step: float
    validation: float
    evaluation: float
