"""The nearest subset sum: which of some random numbers to keep, so that they sum to a target.

A target weight w becomes a sum of some of n random coefficients.  The nearest of the 2^n sums is
found exactly by meeting in the middle (Horowitz & Sahni 1974): the coefficients are split into two
halves, the sums of one are sorted, and for each sum of the other the nearest partner is looked up.
That takes 2^(n/2) sums and look-ups instead of 2^n.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from lth_keras.errors import LotteryError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]

MOST_COEFFICIENTS = 40  # A half has 2^20 sums then.
_SUMS_AT_ONCE = 2**16  # So many look-ups are made at a time: what they need stays in the caches.


def subset_sum(targets: Any, coefficients: Any) -> tuple[Flags, Floats]:
    """Finds for each target the subset of coefficients whose sum is nearest to it, exactly.

    All sums are of float64.  Of subsets that are equally near, one is chosen, always the same.

    Args:
      targets: numbers, shape (n,).
      coefficients: the numbers to choose from: a row for each target, shape (n, k); or one row that
        all targets share, shape (k,), of which each may take any. k is at most 40; time and memory
        grow with 2^(k/2): some 0.2 ms a target at k = 21, 5 ms at 30, on one core.

    Returns:
      masks, bool of shape (n, k): which coefficients are kept; and errors, float64 of shape (n,):
      how far the sum of the kept ones is from the target, >= 0. With k = 0 all sums are 0.

    Raises:
      LotteryError: if the shapes are others, a number is NaN or infinite, or k is above 40.

    Example:
      >>> masks, errors = subset_sum([0.5, -0.3], [[0.9, -0.4, 0.25], [0.1, -0.2, -0.1]])
      >>> masks.tolist(), errors.round(3).tolist()
      ([[True, True, False], [False, True, True]], [0.0, 0.0])

    Reference: Lueker 1998 (n = O(log 1/error) coefficients suffice); Pensia et al. 2020,
    arXiv:2006.07990, and Orseau et al. 2020, arXiv:2006.12156 (for neural networks).
    """
    wanted, rows = _checked(targets, coefficients)
    masks = np.zeros((len(wanted), rows.shape[1]), bool)
    middle = _middle(rows.shape[1], len(wanted) // len(rows) if len(rows) else 0)
    step = max(1, _SUMS_AT_ONCE >> (rows.shape[1] - middle))
    for start in range(0, len(wanted), step):
        part = slice(start, start + step)
        if len(rows) > 1 or start == 0:
            own = rows if len(rows) == 1 else rows[part]
            halves = _sorted(_sums(own[:, :middle])), _sums(own[:, middle:])
        masks[part] = _nearest(wanted[part], *halves)
    sums = np.where(masks, rows, 0.0).sum(axis=1)
    return masks, np.abs(sums - wanted)


def _middle(count: int, sharing: int) -> int:
    # How many coefficients are in the half that is sorted.  It is sorted once for all targets that
    # share it, so that the more they are, the larger it may be, and the fewer look-ups are left.
    return min((count + int(np.log2(max(sharing, 1)))) // 2, count, MOST_COEFFICIENTS // 2)


def _checked(targets: Any, coefficients: Any) -> tuple[Floats, Floats]:
    # The targets, and the coefficients with a row for each or one row for all.
    arrays = []
    for name, given in (("targets", targets), ("coefficients", coefficients)):
        array = np.asarray(given)
        if array.size and array.dtype.kind not in "iuf":
            raise LotteryError(f"{name} must be real numbers. Received: {array.dtype}.")
        array = array.astype(np.float64)
        bad = int(np.count_nonzero(~np.isfinite(array)))
        if bad:
            raise LotteryError(f"{name} must be finite. Received: {bad} NaN or infinite numbers.")
        arrays.append(array)
    wanted, rows = arrays
    if wanted.ndim != 1 or rows.ndim not in (1, 2) or (rows.ndim == 2 and
                                                       len(rows) != len(wanted)):
        raise LotteryError("targets must have shape (n,), and coefficients (n, k), or (k,) if all "
                           f"targets share them. Received: targets {wanted.shape}, coefficients "
                           f"{rows.shape}.")
    if rows.shape[-1] > MOST_COEFFICIENTS:
        raise LotteryError(f"A target may have at most {MOST_COEFFICIENTS} coefficients. Received: "
                           f"{rows.shape[-1]}. Give it fewer: 30 from U[-1, 1] come within 1e-6 of "
                           "nearly every target from [-1/2, 1/2].")
    return wanted, rows[None] if rows.ndim == 1 else rows


def _nearest(targets: Floats, first: "tuple[Floats, Places]", second: Floats) -> Flags:
    # The masks of some targets, from the sums of the first half, sorted, and of the second.  Both
    # have a row for each target, or one row for all.
    sums, order = first
    rest = targets[:, None] - second
    if len(sums) == 1:
        above = np.searchsorted(sums[0], rest.ravel()).reshape(rest.shape)
    else:
        above = np.stack([np.searchsorted(*pair) for pair in zip(sums, rest, strict=True)])
    every = np.arange(len(targets))
    best = np.full(len(targets), np.inf)
    in_first, in_second = np.zeros((2, len(targets)), np.intp)  # The subset of each half, in bits.
    for place in (np.maximum(above - 1, 0), np.minimum(above, sums.shape[1] - 1)):
        found = sums[0][place] if len(sums) == 1 else np.take_along_axis(sums, place, 1)
        errors = np.abs(found - rest)
        least = errors.argmin(axis=1)
        nearer = errors[every, least] < best
        best = np.where(nearer, errors[every, least], best)
        row = 0 if len(order) == 1 else every
        in_first = np.where(nearer, order[row, place[every, least]], in_first)
        in_second = np.where(nearer, least, in_second)
    bits = [subset[:, None] >> np.arange(int(half.shape[1]).bit_length() - 1)
            for subset, half in ((in_first, sums), (in_second, second))]
    masks: Flags = np.concatenate(bits, axis=1) % 2 == 1
    return masks


def _sums(rows: Floats) -> Floats:
    # All subset sums of each row; bit i of a sum's position says whether coefficient i is in it.
    sums = np.zeros((len(rows), 1))
    for column in rows.T:
        sums = np.concatenate([sums, sums + column[:, None]], axis=1)
    return sums


def _sorted(sums: Floats) -> tuple[Floats, Places]:
    # Stable, so that of equal sums the same subset is taken on every machine.
    order = np.argsort(sums, axis=1, kind="stable")
    return np.take_along_axis(sums, order, 1), order
