"""Margins: how much worse than the dense network a ticket may be and still be as good.

"Commensurate" (Frankle & Carbin, ICLR 2019, section 1) is not "equal": that a ticket is exactly as
good, no number of replicates shows.  That it is not worse by more than a stated margin, they can.
The defaults come from the literature, and are to be changed before a run rather than after it:

    accuracy  0.002  0.2 points: a subnetwork "matches" if it loses less (Frankle et al., "Linear
                     Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020)
    steps     0.19   19% of the dense network's steps: half of the 38% by which LeNet's ticket stops
                     earlier (Frankle & Carbin, section 2), so that not even half of the effect
                     that is claimed can be lost
    loss      0.01   1% of the dense network's, where a fit measures no accuracy: MLPerf Inference
                     asks for 99% of the reference's quality (Reddi et al., ISCA 2020)
"""

import dataclasses
from collections.abc import Mapping

from lth_keras.arguments import check_choice
from lth_keras.errors import LotteryError

RULE = ("shares in [0, 1) by name, as in accuracy:0.002,steps:0.19 for 0.2 points and 0.19 of the "
        "dense network's steps")
_RULE = f"margin must be {RULE}"


@dataclasses.dataclass(frozen=True)
class Margins:
    """How much worse than the dense network still counts as good, each a share in [0, 1).

    Attributes:
      accuracy: that a ticket's accuracy may be lower: 0.002 is 0.2 points.
      steps: that its early stop may be later, as a share of the dense network's.
      loss: that its least validation loss may be higher, as a share of the dense network's; for
        fits that measure no accuracy.

    Example:
      >>> str(Margins(accuracy=0.005))
      'accuracy:0.005,steps:0.19,loss:0.01'
    """

    accuracy: float = 0.002
    steps: float = 0.19
    loss: float = 0.01

    def __str__(self) -> str:
        return ",".join(f"{name}:{value:g}" for name, value in dataclasses.asdict(self).items())


DEFAULT = Margins()


def parse(given: "str | Mapping[str, float] | Margins") -> Margins:
    """Margins from text, or from a mapping of names to shares; what is not named has its default.

    Raises:
      LotteryError: for a name that is none, one named twice, or a share outside [0, 1).

    Example:
      >>> str(parse("accuracy:0.01")), parse({"steps": 0.1}).steps
      ('accuracy:0.01,steps:0.19,loss:0.01', 0.1)
    """
    if isinstance(given, Margins):
        return given
    if isinstance(given, str):
        pairs = [part.partition(":")[::2] for part in given.split(",") if part.strip()]
        if len({name.strip() for name, _ in pairs}) < len(pairs):
            raise LotteryError(f"{_RULE}, each once. Received: {given!r:.100}.")
        named: Mapping[str, object] = {name.strip(): value for name, value in pairs}
    else:
        named = given if isinstance(given, Mapping) else {}
    if not named:
        raise LotteryError(f"{_RULE}. Received: {given!r:.100}.")
    for name in named:
        check_choice("A margin", name, [field.name for field in dataclasses.fields(Margins)])
    return Margins(**{name: _share(value, given) for name, value in named.items()})


def _share(value: object, given: object) -> float:
    try:
        share = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        share = -1.0
    if isinstance(value, bool) or not 0 <= share < 1:
        raise LotteryError(f"{_RULE}. Received: {given!r:.100}.")
    return share
