"""What `lth.verify` compares and reports: two trainings, step by step.

A training is recorded as a `Recording`: for every step the bits of every weight, as a digest, and
a sample of its values; after the last step all of its values.  So a network of any size is
compared at every step in little memory.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import InvariantError

SAMPLE = 4096  # Values of a weight that are kept of every step.
ROUNDING = 1e-3  # Of how far a weight moves: far above rounding, far below a lost loss or gradient.

# The checks, in the order in which they are made: name -> what must hold.
CHECKS = {
    "wrapping": "wrapped, with nothing pruned, it trains as the model does that is not wrapped",
    "rewinding": "a round, a rewinding that prunes nothing, and the round again: the same bits",
    "pruning": "pruned weights stay zero and get no gradient, and the others train",
    "stripping": "stripped, saved and loaded, it predicts the same, and nothing of ours is left",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that a model does and must not do.

    Attributes:
      check: one of `CHECKS`.
      variable: the name of the weight, or what else differs: "predictions", "loss".
      says: what is wrong with it.
      step: the first optimizer step after which it is so, counted from 1; 0 for before training.
      held_by: what probably holds what went wrong: an optimizer, a state, a loss, a seed.
    """

    check: str
    variable: str
    says: str
    step: int | None = None
    held_by: str = ""

    def __str__(self) -> str:
        when = "" if self.step is None else \
            ", before any step" if self.step == 0 else f", from step {self.step} on"
        probably = f"; probably: {self.held_by}" if self.held_by else ""
        return f"{self.variable}: {self.says}{when}{probably}"


@dataclasses.dataclass(frozen=True)
class Verification:
    """The report of `lth.verify`.

    Attributes:
      model: the model's name.
      steps: how many optimizer steps each training had.
      findings: what is wrong, in the order of the checks; none if the model passes.
      skipped: check -> why it could not be made.
      notes: what is worth knowing, such as kernels that are left dense.
    """

    model: str
    steps: int
    findings: tuple[Finding, ...] = ()
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every check that was made has passed."""
        return not self.findings

    def raise_if_failed(self) -> None:
        """Raises InvariantError with the whole report, if a check has failed.

        Raises:
          InvariantError: if `ok` is false.
        """
        if not self.ok:
            raise InvariantError(f"A model must pass lth.verify. Received: {self}")

    def __str__(self) -> str:
        lines = [f"{self.model}, {self.steps} steps: " + ("passed" if self.ok else "FAILED")]
        for check, rule in CHECKS.items():
            found = [finding for finding in self.findings if finding.check == check]
            state = "FAILED" if found else "skipped" if check in self.skipped else "passed"
            lines.append(f"  {check:<10} {state:<8} {rule}")
            lines += [f"      {line}" for line in _together(found)]
            if check in self.skipped:
                lines.append(f"      {self.skipped[check]}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _together(findings: Sequence[Finding]) -> list[str]:
    """A line for all findings that say the same of several weights, from the first step on."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.says, finding.held_by), []).append(finding)
    return [str(dataclasses.replace(
        min(group, key=lambda finding: finding.step or 0),
        variable=cut([finding.variable for finding in group]))) for group in alike.values()]


class Recording:
    """The weights of a network after every step of a training."""

    def __init__(self, start: Arrays):
        self.start: dict[str, Array] = dict(start)
        self.final: dict[str, Array] = dict(start)
        self.losses: list[float] = []
        self._digests: list[dict[str, bytes]] = []
        self._samples: list[dict[str, Array]] = []

    def add(self, weights: Arrays, loss: float = float("nan")) -> None:
        """Adds the weights after one more step.

        Args:
          weights: name -> array, for the same weights at every step.
          loss: the training loss of the step.
        """
        self.final = dict(weights)
        self.losses.append(loss)
        self._digests.append({name: _digest(value) for name, value in weights.items()})
        self._samples.append({name: _sample(value) for name, value in weights.items()})

    def moved(self) -> dict[str, Array]:
        """Weight name -> where its final value is not its first, as bools."""
        return {name: self.final[name] != value for name, value in self.start.items()}

    def losses_differ(self, other: "Recording", tolerance: float = 0.01) -> int | None:
        """The first step, from 1, whose loss differs by more than this share of it, or None."""
        for step, (mine, theirs) in enumerate(zip(self.losses, other.losses, strict=True), 1):
            if not (abs(mine - theirs) <= tolerance * max(abs(mine), abs(theirs))
                    or (np.isnan(mine) and np.isnan(theirs))):
                return step
        return None

    def first_difference(self, other: "Recording") -> dict[str, int]:
        """The steps, from 1, after which weights first differ in a bit.

        Returns:
          Weight name -> step; none for weights that never differ.

        Example:
          >>> one, other = Recording({"w": np.zeros(2)}), Recording({"w": np.zeros(2)})
          >>> for step in (1.0, 2.0):
          ...     one.add({"w": np.full(2, step)})
          ...     other.add({"w": np.full(2, min(step, 1.5))})
          >>> one.first_difference(other)
          {'w': 2}
        """
        found: dict[str, int] = {}
        for step, (mine, theirs) in enumerate(zip(self._digests, other._digests, strict=True), 1):
            for name, digest in mine.items():
                if digest != theirs[name]:
                    found.setdefault(name, step)
        return found

    def drift(self, other: "Recording", tolerance: float = ROUNDING) -> dict[str, int]:
        """The steps, from 1, after which weights first differ by more than rounding.

        Args:
          other: a training from the same weights.
          tolerance: the greatest difference allowed, as a share of how far the weight's values
            move at most in the whole training.

        Returns:
          Weight name -> step; none for weights that never differ so much.
        """
        found: dict[str, int] = {}
        allowed = {name: tolerance * max(_greatest(self.final[name], value),
                                         _greatest(other.final[name], value))
                   for name, value in self.start.items()}
        for step, (mine, theirs) in enumerate(zip(self._samples, other._samples, strict=True), 1):
            for name, value in mine.items():
                if not _greatest(value, theirs[name]) <= allowed[name]:
                    found.setdefault(name, step)
        for name, value in self.final.items():
            if not _greatest(value, other.final[name]) <= allowed[name]:
                found.setdefault(name, len(self._samples))
        return found


def unmoved(dense: Recording, pruned: Recording, masks: Arrays) -> dict[str, int]:
    """Weights of which no survivor moves, though it did before pruning.

    Args:
      dense: a training of the network before it is pruned.
      pruned: one of the pruned network.
      masks: weight name -> 0/1 array.

    Returns:
      Weight name -> how many survivors should have moved.
    """
    before, after = dense.moved(), pruned.moved()
    counts = {name: int(np.count_nonzero(before[name] & (mask != 0)))
              for name, mask in masks.items()}
    return {name: count for name, count in counts.items()
            if count and not np.any(after[name] & (masks[name] != 0))}


def differing(one: Arrays, other: Arrays) -> list[str]:
    """The names of arrays that differ in a bit."""
    return [name for name, value in one.items() if _digest(value) != _digest(other[name])]


def cut(names: Sequence[str], most: int = 3) -> str:
    """Some of a list of names, and how many more there are.

    Example:
      >>> cut(["a", "b", "c", "d", "e"])
      'a, b, c and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _digest(value: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).digest()


def _sample(value: Array) -> Array:
    flat = np.ravel(value)
    if flat.size <= SAMPLE:
        return flat.copy()
    # The same places of every array of this size, spread by a generator of its own.
    return flat[np.random.default_rng(flat.size).integers(0, flat.size, SAMPLE)]


def _greatest(one: Array, other: Array) -> float:
    # NaN where one of them is NaN alone, which no tolerance allows.
    if one.size == 0 or one.dtype.kind not in "fiu":
        return float(not np.array_equal(one, other))
    mine, theirs = np.asarray(one, np.float64), np.asarray(other, np.float64)
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    return float(np.max(np.where(same, 0.0, np.abs(mine - theirs))))
