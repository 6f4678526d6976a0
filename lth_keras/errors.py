"""The errors that tell a user what to change.

Each is also a `ValueError`, so code that does not know this package can catch it.
A message gives the rule first, then "Received: ...", then what to do.
"""


class LotteryError(ValueError):
    """A value, model or setting that the package cannot work with."""


class TicketError(LotteryError):
    """A ticket that cannot be read, or that does not fit a model."""


class WorkdirError(LotteryError):
    """A run's folder that cannot be used as asked."""


class DivergedError(LotteryError):
    """A round whose loss or weights are no longer finite: no ticket is made of it."""


class InvariantError(LotteryError):
    """A promise of the package that did not hold while it ran: never expected."""
