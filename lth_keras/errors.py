"""The errors that tell a user what to change.

Each is also a `ValueError`, so that code which does not know this package can catch it.
A message gives the rule, then "Received: ...", then what to do.
"""


class LotteryError(ValueError):
    """Raised for a value, model or setting that the package cannot work with.

    Example:
      >>> from lth_keras.arguments import check_whole
      >>> try:
      ...     check_whole("rounds", -1, least=0)
      ... except LotteryError as error:
      ...     print(error)
      rounds must be a whole number >= 0. Received: -1.
    """


class TicketError(LotteryError):
    """Raised for a ticket that cannot be read, or does not fit the model."""


class WorkdirError(LotteryError):
    """Raised for a workdir that is damaged, in use, or from another experiment."""


class DivergedError(LotteryError):
    """Raised when the loss or weights of a training become NaN or infinite.

    No ticket is made from such a training: its scores would say nothing.
    """


class InvariantError(LotteryError):
    """Raised when a guarantee of the package itself does not hold: please report it as a bug."""
