"""What decides the directions of Conv-2, -4 and -6 at a protocol that two cores can afford.

Written before the runs.  Steps are a quarter of the paper's for Conv-2 and a tenth for the others,
and a level is two of the paper's: it prunes 1 - keep^2 of a layer.  So sizes of effects are not
those of the paper, and only their directions are judged, over paired replicates.  A dense network
whose early stop lies near the last step has not been trained long enough: all stays open then.

    lth run conv2 --scale 0.25 --replicates 5      with --rounds 8 --branches
        ticket,reinit@2/4/5/7,random_mask@5/7 --set fraction=Conv2D:0.19,default:0.36,output:0.19
    lth run conv4 --scale 0.1 --replicates 3       likewise, with --rounds 10 and random masks and
        re-initialised networks at the levels below; conv6 with Conv2D:0.2775
"""

import dataclasses
from collections.abc import Iterable, Iterator

import pandas as pd
from judging import (
    ACCURACY,
    DENSE,
    earlier,
    gain,
    INCONCLUSIVE,
    not_below,
    Part,
    series,
    sign,
    STEP,
)

REACHED = 0.8  # Of the steps: where the dense networks' early stops must lie before.
# Of each network: the level nearest to that of the paper's greatest gain in speed, and in accuracy.
SPEED = {2: 5, 4: 6, 6: 5}
GAIN = {2: 7, 4: 5, 6: 4}
STEPS = {2: 5000, 4: 2500, 6: 3000}
NAMES = {2: "conv2_quarter", 4: "conv4_tenth", 6: "conv6_tenth"}
DENSER = 2  # About 40% of the weights, the paper's level 4.


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
            series(run, ACCURACY, ("reinit", DENSER)), series(run, ACCURACY, DENSE)))])


def d5(run: pd.DataFrame, number: int) -> Iterable[Part]:
    """Random masks are worse than re-initialised ones (appendix E, there LeNet)."""
    yield from _open_if_short(run, number, [
        sign(f"re-initialised less random masks, level {level}, at the early stop", gain(
            series(run, ACCURACY, ("reinit", level)),
            series(run, ACCURACY, ("random_mask", level))))
        for level in sorted({SPEED[number], GAIN[number]})])


def _open_if_short(run: pd.DataFrame, number: int, parts: list[Part]) -> Iterator[Part]:
    stops = series(run, STEP, DENSE)
    late = int((stops > REACHED * STEPS[number]).sum())
    for part in parts:
        yield part if not late else dataclasses.replace(
            part, verdict=INCONCLUSIVE, needed="",
            said=f"{part.said} (the dense network's early stop lies in the last fifth of the steps "
                 f"in {late} of {len(stops)} replicates)")
