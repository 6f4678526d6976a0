"""What decides the directions of Conv-2, -4 and -6 at a protocol that two cores can afford.

Written before the runs.  Steps are two fifths of the paper's for Conv-2 and three tenths for the
others, and a level is two of the paper's: it prunes 1 - keep^2 of a layer.  So sizes of effects are
not those of the paper, and only their directions are judged, over paired replicates.  A dense
network whose early stop lies near the last step has not been trained long enough: all stays open
then.  (Conv-2 was to be trained for a quarter of the steps, and the others for a tenth.  The first
dense network of Conv-2 had its least validation loss at step 4,500 of 5,000, so the steps were
raised before anything sparser was looked at.)

    lth run conv2 --scale 0.4 --replicates 5       with --rounds 8 --branches
        ticket,reinit@2/4/5/7,random_mask@5/7 --set fraction=Conv2D:0.19,default:0.36,output:0.19
        --set dtype_policy=mixed_bfloat16
    lth run conv4 --scale 0.3 --replicates 3       likewise, with --rounds 10 and random masks and
        re-initialised networks at the levels below; conv6 with Conv2D:0.2775

All is trained in bfloat16, with float32 weights, if that changes little: the dense network and the
tickets of replicate 0 are trained in float32 too, to level 4, and over these levels the mean
differences of accuracies and of early stops must be equal within half of the paper's effects
(D0).  Where that is not shown, all stays open.
"""

from collections.abc import Callable, Iterable, Iterator

import convnets
import pandas as pd
from judging import (
    ACCURACY,
    DENSE,
    earlier,
    equal,
    gain,
    mean,
    not_below,
    of_one,
    opened,
    Part,
    series,
    sign,
    STEP,
)

REACHED = 0.8  # Of the steps: where the dense networks' early stops must lie before.
# Of each network: the level nearest to that of the paper's greatest gain in speed, and in accuracy.
SPEED = {2: 5, 4: 6, 6: 5}
GAIN = {2: 7, 4: 5, 6: 4}
STEPS = {2: 8000, 4: 7500, 6: 9000}
REPLICATES = {2: 5, 4: 3, 6: 3}
NAMES = {2: "conv2_shorter", 4: "conv4_shorter", 6: "conv6_shorter"}
DENSER = 2  # About 40% of the weights, the paper's level 4.


def d0(run: pd.DataFrame, float32: pd.DataFrame, number: int) -> Iterable[Part]:
    """Tickets and dense networks that are trained in float32 come to the same."""
    (_, points), (_, speed) = convnets.GAIN[number], convnets.SPEED[number]
    steps = 100 - 100 / (1 + speed / 100)
    yield of_one(equal("float32 less bfloat16, at the early stop", mean(
        100 * _over_levels(float32, run, ACCURACY, pd.Series.sub)), points / 2))
    yield of_one(equal("float32 stops earlier than bfloat16 by", mean(
        100 * (1 - _over_levels(float32, run, STEP, pd.Series.div))), steps / 2, "%"))


def d1(run: pd.DataFrame, number: int) -> Iterable[Part]:
    """Tickets learn faster than dense networks."""
    level = SPEED[number]
    yield from _open_if_short(run, number, [
        sign(f"level {level} stops earlier than dense by", earlier(
            series(run, STEP, ("ticket", level)), series(run, STEP, DENSE)), "%")])


def d2(run: pd.DataFrame, number: int) -> Iterable[Part]:
    """Tickets are more accurate than dense networks."""
    level = GAIN[number]
    yield from _open_if_short(run, number, [
        sign(f"level {level} less dense, at the early stop", gain(
            series(run, ACCURACY, ("ticket", level)), series(run, ACCURACY, DENSE)))])


def d3(run: pd.DataFrame, number: int) -> Iterable[Part]:
    """Re-initialised networks learn slower than tickets, and get less accurate."""
    levels = sorted({SPEED[number], GAIN[number]})
    yield from _open_if_short(run, number, [part for level in levels for part in (
        sign(f"ticket stops earlier than re-initialised, level {level}, by", earlier(
            series(run, STEP, ("ticket", level)), series(run, STEP, ("reinit", level))), "%"),
        sign(f"ticket less re-initialised, level {level}, at the early stop", gain(
            series(run, ACCURACY, ("ticket", level)), series(run, ACCURACY, ("reinit", level)))))])


def d4(run: pd.DataFrame, number: int) -> Iterable[Part]:
    """Re-initialised networks lose nothing at first."""
    yield from _open_if_short(run, number, [
        not_below(f"re-initialised level {DENSER} less dense, at the early stop", gain(
            series(run, ACCURACY, ("reinit", DENSER)), series(run, ACCURACY, DENSE)),
            convnets.GAIN[number][1] / 2)])


def d5(run: pd.DataFrame, number: int) -> Iterable[Part]:
    """Random masks are worse than re-initialised ones (appendix E, there LeNet)."""
    yield from _open_if_short(run, number, [
        sign(f"re-initialised less random masks, level {level}, at the early stop", gain(
            series(run, ACCURACY, ("reinit", level)),
            series(run, ACCURACY, ("random_mask", level))))
        for level in sorted({SPEED[number], GAIN[number]})])


def _over_levels(one: pd.DataFrame, other: pd.DataFrame, measure: str,
                 compare: Callable[[pd.Series, pd.Series], pd.Series]) -> pd.Series:
    """Compares a measure of the tickets of replicate 0, level by level."""
    found = [run[(run.branch == "ticket") & (run.replicate == 0)].set_index("level")[measure]
             for run in (one, other)]
    return compare(*found).dropna()


def _open_if_short(run: pd.DataFrame, number: int, parts: list[Part]) -> Iterator[Part]:
    stops = series(run, STEP, DENSE)
    late = int((stops > REACHED * STEPS[number]).sum())
    return opened(parts, "the dense network's early stop lies in the last fifth of the steps in "
                  f"{late} of {len(stops)} replicates" if late else "")
