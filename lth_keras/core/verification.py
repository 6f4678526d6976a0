"""Compares two trainings step by step, and reports the findings of `lth.verify`.

A training is recorded as a `Recording`: a digest of the bits of every weight and a sample of its
values for every step, and all values after the last step.  So networks of any size are compared at
every step in little memory.
"""

import dataclasses
import hashlib
import html
from collections.abc import Mapping, Sequence

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import InvariantError

SAMPLE = 4096  # How many values of a weight are stored for every step.
# The greatest difference that counts as rounding, as a fraction of how far a weight moves: far more
# than rounding causes, and far less than a lost loss or gradient.
ROUNDING = 1e-3

# The checks in their order: name -> what must hold.
CHECKS = {
    "wrapping": "wrapped, with nothing pruned, it trains as the model does that is not wrapped",
    "rewinding": "a round, a rewinding that prunes nothing, and the round again: the same bits",
    "pruning": "pruned weights stay zero and get no gradient, and the others train",
    "stripping": "stripped, saved and loaded, it predicts the same, and nothing of ours is left",
}
# The same for a model of Keras 3, which is not wrapped.
CHECKS_OF_KERAS_3 = {
    "masking": "with masks that prune nothing, it trains as the model does without masks",
    "rewinding": CHECKS["rewinding"],
    "pruning": CHECKS["pruning"],
    "saving": "saved and loaded, it predicts the same, and nothing of ours is in its file",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault that a check has found.

    Attributes:
      check: the check, such as one of `CHECKS`.
      variable: the name of the weight that is wrong, or "predictions", "loss" and the like.
      says: what is wrong with it.
      step: the first optimizer step after which it is wrong, counted from 1; 0 if it is before
        training; None if there is no such step.
      held_by: the probable cause: an optimizer, a state, a loss, a seed.

    Example:
      >>> print(Finding("pruning", "dense/kernel", "has pruned weights that are not zero", 3))
      dense/kernel: has pruned weights that are not zero, from step 3 on
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
    """The report of `lth.verify`; print it to read it.

    Attributes:
      model: the model's name.
      steps: the number of optimizer steps of each training.
      findings: the faults, in the order of the checks; empty if the model passes.
      skipped: check -> the reason why it was skipped.
      notes: further information, such as kernels that stay dense.
      checks: the checks in their order: name -> what must hold.

    Example:
      >>> report = Verification("small", 5, skipped={"stripping": "the model cannot be called"})
      >>> report.ok, str(report).splitlines()[-2:]
      (True, ['  stripping  skipped  stripped, saved and loaded, it predicts the same, and nothing \
of ours is left', '      the model cannot be called'])
    """

    model: str
    steps: int
    findings: tuple[Finding, ...] = ()
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    checks: Mapping[str, str] = dataclasses.field(default_factory=lambda: CHECKS)

    @property
    def ok(self) -> bool:
        """Whether all checks that were not skipped have passed."""
        return not self.findings

    def raise_if_failed(self) -> None:
        """Raises an error with the whole report if a check has failed.

        Raises:
          InvariantError: if `ok` is false.
        """
        if not self.ok:
            raise InvariantError(f"A model must pass lth.verify. Received: {self}")

    def __repr__(self) -> str:
        found = "passed" if self.ok else f"FAILED with {len(self.findings)} findings"
        return f"<Verification of {self.model!r}, {self.steps} steps: {found}; print it to read it>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def __str__(self) -> str:
        lines = [f"{self.model}, {self.steps} steps: " + ("passed" if self.ok else "FAILED")]
        for check, rule in self.checks.items():
            found = [finding for finding in self.findings if finding.check == check]
            state = "FAILED" if found else "skipped" if check in self.skipped else "passed"
            lines.append(f"  {check:<10} {state:<8} {rule}")
            lines += [f"      {line}" for line in _together(found)]
            if check in self.skipped:
                lines.append(f"      {self.skipped[check]}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _together(findings: Sequence[Finding]) -> list[str]:
    """One line for all findings that differ only in the weight and step; with the earliest step."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.says, finding.held_by), []).append(finding)
    return [str(dataclasses.replace(
        min(group, key=lambda finding: finding.step or 0),
        variable=cut([finding.variable for finding in group]))) for group in alike.values()]


class Recording:
    """The weights of a network after every step of a training.

    Args:
      start: name -> array, the weights before the first step.

    Attributes:
      start: the weights before the first step.
      final: the weights after the last step.
      losses: the training loss of every step.

    Example:
      >>> recording = Recording({"w": np.zeros(2)})
      >>> recording.add({"w": np.array([0.0, 1.0])}, loss=0.5)
      >>> recording.moved()
      {'w': array([False,  True])}
    """

    def __init__(self, start: Arrays):
        self.start: dict[str, Array] = dict(start)
        self.final: dict[str, Array] = dict(start)
        self.losses: list[float] = []
        self._digests: list[dict[str, bytes]] = []
        self._samples: list[dict[str, Array]] = []

    def add(self, weights: Arrays, loss: float = float("nan")) -> None:
        """Adds the weights after one more step.

        Args:
          weights: name -> array; the same names at every step.
          loss: the training loss of the step.
        """
        self.final = dict(weights)
        self.losses.append(loss)
        self._digests.append({name: _digest(value) for name, value in weights.items()})
        self._samples.append({name: _sample(value) for name, value in weights.items()})

    def moved(self) -> dict[str, Array]:
        """Returns weight name -> bool array: where the final value differs from the first."""
        return {name: self.final[name] != value for name, value in self.start.items()}

    def losses_differ(self, other: "Recording", tolerance: float = 0.01) -> int | None:
        """Returns the first step, from 1, at which the losses differ; None if there is none.

        Args:
          other: another training.
          tolerance: the largest difference allowed, as a fraction of the larger loss.
        """
        # Written as "not (within)", so that a loss that is NaN in one training alone differs.
        for step, (mine, theirs) in enumerate(zip(self.losses, other.losses, strict=True), 1):
            if not (abs(mine - theirs) <= tolerance * max(abs(mine), abs(theirs))
                    or (np.isnan(mine) and np.isnan(theirs))):
                return step
        return None

    def first_difference(self, other: "Recording") -> dict[str, int]:
        """Returns the steps, from 1, after which weights first differ in a bit.

        Args:
          other: another training of the same weights.

        Returns:
          Weight name -> step, for weights that differ.

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
        """Returns the steps, from 1, after which weights first differ by more than rounding.

        Args:
          other: another training that started from the same weights.
          tolerance: the largest difference allowed, as a fraction of how far any value of the
            weight moves in the whole training.

        Returns:
          Weight name -> step, for weights that differ by more.

        Example:
          >>> one, other = Recording({"w": np.zeros(2)}), Recording({"w": np.zeros(2)})
          >>> for near, far in ((1.0, 1.0), (2.0, 2.5)):
          ...     one.add({"w": np.array([near, near + 1e-6])})
          ...     other.add({"w": np.array([far, near])})
          >>> one.drift(other)
          {'w': 2}
        """
        # Relative to the movement, not to the values: a weight of 1.0 that trains by 1e-5 must be
        # compared more finely than one that trains by 0.1.
        found: dict[str, int] = {}
        allowed = {name: tolerance * max(_greatest(self.final[name], value),
                                         _greatest(other.final[name], value))
                   for name, value in self.start.items()}
        for step, (mine, theirs) in enumerate(zip(self._samples, other._samples, strict=True), 1):
            for name, value in mine.items():
                if not _greatest(value, theirs[name]) <= allowed[name]:
                    found.setdefault(name, step)
        # All values of the last step, since a difference may lie outside the sample.
        for name, value in self.final.items():
            if not _greatest(value, other.final[name]) <= allowed[name]:
                found.setdefault(name, len(self._samples))
        return found


def unmoved(dense: Recording, pruned: Recording, masks: Arrays) -> dict[str, int]:
    """Finds weights of which no survivor trains, although survivors trained before pruning.

    Args:
      dense: a training of the network before it was pruned.
      pruned: a training of the pruned network.
      masks: weight name -> 0/1 array.

    Returns:
      Weight name -> how many survivors should have changed.

    Example:
      >>> dense, pruned = Recording({"w": np.zeros(2)}), Recording({"w": np.zeros(2)})
      >>> dense.add({"w": np.ones(2)})
      >>> pruned.add({"w": np.zeros(2)})
      >>> unmoved(dense, pruned, {"w": np.array([1, 0])})
      {'w': 1}
    """
    # Only survivors that the dense network trained: one without a gradient there, such as behind an
    # inactive ReLU, may well have none now.
    before, after = dense.moved(), pruned.moved()
    counts = {name: int(np.count_nonzero(before[name] & (mask != 0)))
              for name, mask in masks.items()}
    return {name: count for name, count in counts.items()
            if count and not np.any(after[name] & (masks[name] != 0))}


def differing(one: Arrays, other: Arrays) -> list[str]:
    """Returns the names of arrays that differ in a bit.

    Example:
      >>> differing({"a": np.zeros(1), "b": np.zeros(1)}, {"a": np.zeros(1), "b": -np.zeros(1)})
      ['b']
    """
    return [name for name, value in one.items() if _digest(value) != _digest(other[name])]


def cut(names: Sequence[str], most: int = 3) -> str:
    """Returns a list of names as text, of which all but the first are only counted.

    Args:
      names: the names.
      most: how many names to write out.

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
    # Random places, since a regular pattern might miss whole units; the same for all arrays of a
    # size, since two trainings are compared. A generator of its own leaves users' seeds alone.
    return flat[np.random.default_rng(flat.size).integers(0, flat.size, SAMPLE)]


def _greatest(one: Array, other: Array) -> float:
    # The result is NaN if only one of the values is NaN, and NaN is not within any tolerance.
    if one.size == 0 or one.dtype.kind not in "fiu":
        return float(not np.array_equal(one, other))
    mine, theirs = np.asarray(one, np.float64), np.asarray(other, np.float64)
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    return float(np.max(np.where(same, 0.0, np.abs(mine - theirs))))
