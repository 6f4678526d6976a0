"""What decides the claims on LeNet-300-100: from results to the parts of a claim."""

from collections.abc import Iterable

import pandas as pd
from judging import (
    ACCURACY,
    at_density,
    at_least,
    DENSE,
    earlier,
    effect,
    equal,
    faster,
    FINAL,
    gain,
    mean,
    not_below,
    Part,
    series,
    sign,
    STEP,
    TRAIN,
)

from lth_keras.experiments.results.statistics import Estimate
from lth_keras.reports.analyses.survivors import BIMODAL

# Half of the gains against dense at the early stop (L1, L2): what L3 takes for back at dense, no
# other claim may take for a difference.
NONE = {"%": 19, "pt": 0.15}


def above(what: str, found: "Estimate | None", unit: str = "pt") -> Part:
    """A difference above 0, whose size the paper does not state."""
    return sign(what, found, unit, NONE[unit])


def l1(run: pd.DataFrame) -> Iterable[Part]:
    yield effect("level 7 stops earlier than dense by",
                 earlier(series(run, STEP, ("ticket", 7)), series(run, STEP, DENSE)), 38, "%")


def l2(run: pd.DataFrame) -> Iterable[Part]:
    yield effect("level 9 less dense, at the early stop",
                 gain(series(run, ACCURACY, ("ticket", 9)), series(run, ACCURACY, DENSE)), 0.3)


def l3(run: pd.DataFrame) -> Iterable[Part]:
    yield equal("level 15 stops earlier than dense by",
                earlier(series(run, STEP, ("ticket", 15)), series(run, STEP, DENSE)),
                NONE["%"], "%")
    yield equal("level 15 less dense, at the early stop",
                gain(series(run, ACCURACY, ("ticket", 15)), series(run, ACCURACY, DENSE)),
                NONE["pt"])


def l4(run: pd.DataFrame) -> Iterable[Part]:
    steps = {level: series(run, STEP, ("ticket", level)) for level in (0, 3, 7, 15)}
    # Parts of the way to level 7: any difference counts.
    yield sign("level 3 stops earlier than dense by", earlier(steps[3], steps[0]), "%")
    yield sign("level 7 stops earlier than level 3 by", earlier(steps[7], steps[3]), "%")
    yield sign("level 7 stops earlier than level 15 by", earlier(steps[7], steps[15]), "%")


def l5(run: pd.DataFrame) -> Iterable[Part]:
    levels = sorted(set(run[run.branch == "ticket"].level) & set(range(1, 18)))
    dense = series(run, FINAL, DENSE)
    gains = {level: gain(series(run, FINAL, ("ticket", level)), dense) for level in levels}
    best = max((level for level in levels if gains[level]),
               key=lambda level: gains[level].mean, default=None)  # type: ignore[union-attr]
    if best is not None:
        yield effect(f"best level ({best}) less dense, at the last step", gains[best], 0.35)
    least = min(levels, key=lambda level: series(run, TRAIN, ("ticket", level)).mean(),
                default=0)
    yield at_least(f"least training accuracy at the last step (level {least})",
                   series(run, TRAIN, ("ticket", least)), 99.5)


def l6(run: pd.DataFrame) -> Iterable[Part]:
    yield effect("level 7 is faster than its re-initialisation by", faster(
        series(run, STEP, ("ticket", 7)), series(run, STEP, ("reinit", 7))), 151, "%")
    yield effect("level 7 less its re-initialisation, at the early stop", gain(
        series(run, ACCURACY, ("ticket", 7)), series(run, ACCURACY, ("reinit", 7))), 0.5)


def l7(run: pd.DataFrame) -> Iterable[Part]:
    dense = series(run, ACCURACY, DENSE)
    for level in (7, 9, 12, 15, 16):
        yield above(f"dense less re-initialised level {level}",
                   gain(dense, series(run, ACCURACY, ("reinit", level))))
    # The ticket is not below before level 16.
    yield not_below("level 15 less dense", gain(
        series(run, ACCURACY, ("ticket", 15)), dense), NONE["pt"])
    yield above("dense less level 16", gain(dense, series(run, ACCURACY, ("ticket", 16))))


def l8(run: pd.DataFrame, one_shot: pd.DataFrame) -> Iterable[Part]:
    # The paper's densities 67.5 to 17.6% and 95.0 to 5.17% hold our levels 2 to 7 and 1 to 13.
    dense = {measure: series(one_shot, measure, DENSE) for measure in (STEP, ACCURACY)}
    for level in range(2, 8):
        yield above(f"one-shot level {level} stops earlier than dense by",
                   earlier(series(one_shot, STEP, ("ticket", level)), dense[STEP]), "%")
    for level in range(1, 14):
        yield above(f"one-shot level {level} less dense, at the early stop",
                   gain(series(one_shot, ACCURACY, ("ticket", level)), dense[ACCURACY]))
    for level in (12, 15, 16):
        yield above(f"iterative less one-shot, level {level}", gain(
            series(run, ACCURACY, ("ticket", level)),
            series(one_shot, ACCURACY, ("ticket", level))))


def l9(run: pd.DataFrame, continued: pd.DataFrame) -> Iterable[Part]:
    for level in (12, 15, 16):
        yield above(f"resetting less continued training, level {level}", gain(
            series(run, ACCURACY, ("ticket", level)),
            series(continued, ACCURACY, ("ticket", level))))


def l10(run: pd.DataFrame) -> Iterable[Part]:
    for level in (7, 12, 15):
        yield above(f"re-initialised less random mask, level {level}", gain(
            series(run, ACCURACY, ("reinit", level)),
            series(run, ACCURACY, ("random_mask", level))))


def l13(run: pd.DataFrame) -> Iterable[Part]:
    for level in (7, 12):
        reinit = series(run, ACCURACY, ("reinit", level))
        yield equal(f"drawn from the survivors less re-initialised, level {level}", gain(
            series(run, ACCURACY, ("resample", level)), reinit), NONE["pt"])
        yield above(f"re-initialised less largest at initialisation, level {level}", gain(
            reinit, series(run, ACCURACY, ("magnitude_at_init", level))))


def l14(run: pd.DataFrame) -> Iterable[Part]:
    for level in (7, 12):
        ticket = series(run, ACCURACY, ("ticket", level))
        yield equal(f"noise of half a deviation less none, level {level}", gain(
            series(run, ACCURACY, ("noise_0.5", level)), ticket), NONE["pt"])
        yield above(f"noise of 3 deviations less re-initialised, level {level}", gain(
            series(run, ACCURACY, ("noise_3", level)),
            series(run, ACCURACY, ("reinit", level))))


def l11(run: pd.DataFrame, sgd: pd.DataFrame) -> Iterable[Part]:
    # Sarle's coefficient: 1/3 of a Gaussian; "keeps it" is within half the way to two modes.
    def of(rows: pd.DataFrame, weight: str, level: int) -> pd.Series:
        return rows[(rows.level == level) & (rows.weight == weight)].set_index(
            "replicate").bimodality

    for name in ("fc2/kernel", "fc3/kernel"):
        yield sign(f"Adam, {name}, level 12: bimodality less {BIMODAL:.3f}",
                   mean(of(run, name, 12) - BIMODAL), "")
    yield equal("Adam, fc1/kernel: bimodality at level 12 less that at level 0",
                mean(of(run, "fc1/kernel", 12) - of(run, "fc1/kernel", 0)),
                (BIMODAL - 1 / 3) / 2, "")
    for name in ("fc1/kernel", "fc2/kernel", "fc3/kernel"):
        yield sign(f"SGD, {name}, level 12: bimodality less {BIMODAL:.3f}",
                   mean(of(sgd, name, 12) - BIMODAL), "")


def l12(run: pd.DataFrame) -> Iterable[Part]:
    # The dense network's weights, those of tickets to be and the others.
    dense = run[(run.trained_level == 0) & (run.weight == "all")]
    for level in (7, 15):
        rows = dense[dense.level == level].set_index("replicate")
        yield sign(f"kept at level {level} moved further than pruned, relative",
                   mean(100 * (rows.moved_kept / rows.moved_pruned - 1)), "%")
        yield sign(f"kept at level {level} moved away from 0 more often than pruned",
                   mean(100 * (rows.away_kept - rows.away_pruned)))


def l15(run: pd.DataFrame) -> Iterable[Part]:
    # Units' connections as uneven as twice those of random masks: the bound of "even".
    rows = run[run.level == 7]
    for name in ("fc1/kernel", "fc2/kernel", "fc3/kernel"):
        of = rows[rows.weight == name].set_index(["direction", "replicate"]).ratio
        yield sign(f"{name}, incoming: 2 less its unevenness over that of chance",
                   mean(2 - of["incoming"]), "")
        yield sign(f"{name}, outgoing: its unevenness over that of chance, less 2",
                   mean(of["outgoing"] - 2), "")


def l16(slow: pd.DataFrame, own: pd.DataFrame, quick: pd.DataFrame, *sgd: pd.DataFrame,
        ) -> Iterable[Part]:
    # Written before the runs: Adam 2e-4, 1.2e-3 and 2e-3; SGD 0.4 and 0.8 to level 21, 0.9%.
    for name, run in (("2e-4", slow), ("2e-3", quick)):
        for level in (0, 7, 12):
            which = "ticket", level
            yield equal(f"Adam {name} less 1.2e-3, level {level}", gain(
                series(run, ACCURACY, which), series(own, ACCURACY, which)), NONE["pt"])
    for name, run in zip(("0.4", "0.8"), sgd, strict=True):
        yield not_below(f"SGD {name}: level 21 stops earlier than dense by", earlier(
            series(run, STEP, ("ticket", 21)), series(run, STEP, DENSE)), NONE["%"], "%")


def l17(tenth: pd.DataFrame, fifth: pd.DataFrame, two_fifths: pd.DataFrame,
        three_fifths: pd.DataFrame, normal: pd.DataFrame) -> Iterable[Part]:
    percent = 4  # Every rate has levels beside it.
    for slow, run in ((0.1, tenth), (0.2, fifth)):
        for fast, other in ((0.4, two_fifths), (0.6, three_fifths)):
            yield above(f"rate {slow} less rate {fast}, at {percent}% of the weights", gain(
                at_density(run, ACCURACY, percent), at_density(other, ACCURACY, percent)))
    for level in (7, 12):
        yield equal(f"deviation 0.1 less Glorot's, level {level}", gain(
            series(normal, ACCURACY, ("ticket", level)),
            series(fifth, ACCURACY, ("ticket", level))), NONE["pt"])


def l18(*runs: pd.DataFrame) -> Iterable[Part]:
    # LeNet-100-34, -200-67 and -300-100; one level of each at either end of the paper's range.
    for weights, run in zip((82_140, 170_870, 266_200), runs, strict=True):
        left = run[run.branch == "ticket"].groupby("level").density.mean() * weights
        dense, many, few = (series(run, ACCURACY, ("ticket", level)) for level in (
            0, max(left.index[left >= 15_000]), min(left.index[left < 9_000], default=-1)))
        yield not_below(f"{weights:,} weights: last level with 15,000 less dense",
                        gain(many, dense), NONE["pt"])
        yield above(f"{weights:,} weights: dense less first level below 9,000", gain(dense, few))


def rate(small: pd.DataFrame, large: pd.DataFrame) -> Iterable[Part]:
    for level in (7, 12):
        gaps = [gain(series(run, FINAL, ("ticket", level)), series(run, FINAL, ("reinit", level)))
                for run in (small, large)]
        yield above(f"0.01: ticket less re-initialised, level {level}", gaps[0])
        yield equal(f"0.1: ticket less re-initialised, level {level}", gaps[1], NONE["pt"])
