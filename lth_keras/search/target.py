"""What a network may cost at most, at which a search ends: `until={"macs": 0.5}`."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from lth_keras import providers
from lth_keras.errors import LotteryError

# What can be asked for -> what it is.
COSTS = {"macs": "multiply-adds for one example",
         "parameters": "weights, biases and statistics",
         "weights": "prunable weights, the paper's P_m",
         "bytes": "the TF Lite file in float32, without pruned filters",
         "latency": "the time of one example in it, on this machine"}
_OF_FILES = ("bytes", "latency")


@dataclasses.dataclass(frozen=True)
class Target:
    """Shares of the dense network's costs; a network that has no more of any of them reaches it.

    Attributes:
      shares: the name of a cost -> the share of it that may be left, in (0, 1).

    Raises:
      LotteryError: if a cost is not known, or a share is not within its range.

    Example:
      >>> Target({"macs": 0.5})
      Target(shares={'macs': 0.5})
      >>> str(Target({"macs": 0.5, "weights": 0.25}))
      'macs:0.5,weights:0.25'
    """

    shares: Mapping[str, float]

    @classmethod
    def of(cls, until: "Mapping[str, float] | str | None",
           costs: Collection[str] = tuple(COSTS)) -> "Target | None":
        """Returns the target that an argument `until` asks for; None if it asks for none.

        Args:
          until: shares by the name of a cost, or text such as "macs:0.5,weights:0.3"; None or ""
            asks for none.
          costs: the costs that the caller knows.

        Raises:
          LotteryError: if it asks for a cost that is not one of these, or a share is not allowed.

        Example:
          >>> Target.of("macs:0.5"), Target.of("")
          (Target(shares={'macs': 0.5}), None)
        """
        if until is None or until == "":
            return None
        given = _parsed(until) if isinstance(until, str) else until
        if isinstance(given, Mapping) and {*given} & {*COSTS} - {*costs}:
            raise LotteryError(f"until can be of {' and '.join(costs)} here. Received: {until!r}.")
        return cls(given)

    def __post_init__(self) -> None:
        shares = self.shares
        if not (isinstance(shares, Mapping) and shares and set(shares) <= set(COSTS) and all(
                isinstance(share, (int, float)) and 0 < share < 1 for share in shares.values())):
            known = ", ".join(f"{name} ({what})" for name, what in COSTS.items())
            raise LotteryError("until must say what share of the dense network may be left, each "
                               f"in (0, 1), such as {{\"macs\": 0.5}}; of {known}. Received: "
                               f"{shares!r}.")
        object.__setattr__(self, "shares", {name: float(share) for name, share in shares.items()})

    def __str__(self) -> str:
        return ",".join(f"{name}:{share:g}" for name, share in self.shares.items())

    def left(self, model: Any) -> dict[str, float]:
        """The share of each cost that is left of a model; only a latency may be above 1."""
        of_files = [name for name in self.shares if name in _OF_FILES]
        found = providers.provider(providers.FILE_COSTS)(model, of_files) if of_files else {}
        if len(of_files) < len(self.shares):
            profile = providers.provider(providers.PROFILE)(model)
            found |= {name: profile.density if name == "weights" else
                      getattr(profile, f"{name}_kept") / max(getattr(profile, name), 1)
                      for name in self.shares if name not in of_files}
        return {name: found[name] for name in self.shares}

    def is_reached(self, left: Mapping[str, float]) -> bool:
        """Whether no more is left than is asked for.

        Example:
          >>> target = Target({"macs": 0.5, "parameters": 0.3})
          >>> target.is_reached({"macs": 0.5, "parameters": 0.2}), target.is_reached(
          ...     {"macs": 0.4, "parameters": 0.4})
          (True, False)
        """
        # A file need not have what was not asked for when it was written.
        return all(left.get(name) is not None and left[name] <= share
                   for name, share in self.shares.items())


def _parsed(text: str) -> Any:
    # What is not of this form is left as it is, for the message that says the rule.
    try:
        pairs = [part.partition(":")[::2] for part in text.split(",")]
        shares = {name.strip(): float(share) for name, share in pairs}
    except ValueError:
        return text
    return shares if len(shares) == len(pairs) else text
