"""What decides the claims on Conv-2, -4 and -6: from results to the parts of a claim."""

from collections.abc import Iterable

import pandas as pd
from judging import (
    ACCURACY,
    at_least,
    DENSE,
    earlier,
    effect,
    faster,
    FINAL,
    gain,
    mean,
    not_below,
    NOT_RUN,
    Part,
    series,
    sign,
    STEP,
    TRAIN,
)

# Of each network: the level and the paper's greatest gain in speed, in percent (100 for twice as
# fast), and in accuracy, in points; and the sparsest level with P_m >= 2%.
SPEED = {2: (11, 250), 4: (12, 250), 6: (10, 150)}
GAIN = {2: (14, 3.4), 4: (11, 3.5), 6: (7, 3.3)}
SPARSEST = {2: 17, 4: 21, 6: 21}


def c1(run: pd.DataFrame, number: int) -> Iterable[Part]:
    level, paper = SPEED[number]
    yield effect(f"level {level} is faster than dense by", faster(
        series(run, STEP, ("ticket", level)), series(run, STEP, DENSE)), paper, "%")


def c2(run: pd.DataFrame, number: int) -> Iterable[Part]:
    level, paper = GAIN[number]
    yield effect(f"level {level} less dense, at the early stop", gain(
        series(run, ACCURACY, ("ticket", level)), series(run, ACCURACY, DENSE)), paper)


def c3(run: pd.DataFrame, number: int) -> Iterable[Part]:
    worst = _worst(run, number, ACCURACY)
    if worst is None:
        yield _untrained(number)
        return
    yield sign(f"worst level ({worst}) less dense, at the early stop", gain(
        series(run, ACCURACY, ("ticket", worst)), series(run, ACCURACY, DENSE)))


def c4(run: pd.DataFrame, number: int) -> Iterable[Part]:
    worst, least = _worst(run, number, FINAL), _worst(run, number, TRAIN)
    if worst is None or least is None:
        yield _untrained(number)
        return
    yield at_least(f"least training accuracy at the last step (level {least})",
                   series(run, TRAIN, ("ticket", least)), 99.5)
    yield sign(f"worst level ({worst}) less dense, at the last step", gain(
        series(run, FINAL, ("ticket", worst)), series(run, FINAL, DENSE)))


def c5(run: pd.DataFrame, number: int) -> Iterable[Part]:
    level, _ = SPEED[number]
    found = earlier(series(run, STEP, DENSE), series(run, STEP, ("reinit", level)))
    yield sign(f"dense stops earlier than re-initialised level {level} by", found, "%")
    if number < 6:
        found = gain(series(run, ACCURACY, ("reinit", 3)), series(run, ACCURACY, DENSE))
        yield not_below("re-initialised level 3 less dense, at the early stop", found,
                        GAIN[number][1] / 2)


def _worst(run: pd.DataFrame, number: int, measure: str) -> "int | None":
    """The level with the least mean of a measure; None if not all were trained."""
    levels = range(1, SPARSEST[number] + 1)
    means = {level: mean(series(run, measure, ("ticket", level))) for level in levels}
    if not all(means.values()):
        return None
    return min(levels, key=lambda level: means[level].mean)  # type: ignore[union-attr]


def _untrained(number: int) -> Part:
    return Part(f"levels 1 to {SPARSEST[number]}: not all trained", NOT_RUN, 0)
