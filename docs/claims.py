"""The claims of Frankle & Carbin (ICLR 2019), and how results decide each: fixed beforehand.

And one of Liu et al. (ICLR 2019), on the learning rate.

An effect e of the paper (a difference, or a relative one) is looked for in the paired differences
over replicates, with mean d and Student's 95% interval [low, high], signed so that e > 0:

    reproduced       low > 0 and d >= e / 2: there, and at least half as large
    not reproduced   high < e / 2: smaller than that
    inconclusive     neither: more replicates would tell

"Back to the dense network" is equivalence within half the best effect that the paper reports:
reproduced if the interval lies within that margin, not reproduced if it lies outside.  A claim of
several parts is reproduced if all are, and not reproduced if one is not.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from lth_keras import stats
from lth_keras.stats import Estimate
from lth_keras.survivors import BIMODAL

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"

STEP, ACCURACY = "early_stop_step", "test_accuracy_early_stop"
FINAL, TRAIN = "test_accuracy_final", "train_accuracy_final"
DENSE = ("ticket", 0)

Runs = Mapping[str, pd.DataFrame]


@dataclasses.dataclass(frozen=True)
class Part:
    """One figure that a claim rests on.

    Attributes:
      said: our number and its interval, in words.
      verdict: one of the four.
      replicates: that it rests on.
    """

    said: str
    verdict: str
    replicates: int


@dataclasses.dataclass(frozen=True)
class Claim:
    """A row of the scoreboard.

    Attributes:
      name: as in the list of claims, "L1".
      text: what the paper says.
      runs: names of the results that decide it, in docs/results.
      judge: from those to its parts; None if it is not decided by a program yet.
    """

    name: str
    text: str
    runs: tuple[str, ...] = ()
    judge: "Callable[..., Iterable[Part]] | None" = None


def decide(claim: Claim, runs: Runs) -> tuple[str, list[Part]]:
    """The verdict on a claim, and the parts it rests on.

    Args:
      claim: the claim.
      runs: name -> its results; what is not there was not run.
    """
    if claim.judge is None or any(name not in runs for name in claim.runs):
        return NOT_RUN, []
    parts = list(claim.judge(*(runs[name] for name in claim.runs)))
    verdicts = [part.verdict for part in parts]
    for verdict in (NOT_REPRODUCED, NOT_RUN, INCONCLUSIVE):
        if verdict in verdicts or not verdicts:
            return verdict if verdicts else NOT_RUN, parts
    return REPRODUCED, parts


def series(results: pd.DataFrame, measure: str, which: tuple[str, int]) -> pd.Series:
    """A measure of (branch, level) in each replicate."""
    return stats.by_replicate(results, measure, *which)


def gain(one: pd.Series, other: pd.Series) -> "Estimate | None":
    """Paired differences of accuracies, in points: one less the other."""
    values = ((one - other) * 100).dropna()
    return stats.student(values) if len(values) else None


def earlier(one: pd.Series, other: pd.Series) -> "Estimate | None":
    """By how much one stops earlier than another, in percent of the other's steps."""
    values = ((1 - one / other) * 100).dropna()
    return stats.student(values) if len(values) else None


def faster(one: pd.Series, other: pd.Series) -> "Estimate | None":
    """By how much one is faster than another, in percent: 100 for twice as fast."""
    values = ((other / one - 1) * 100).dropna()
    return stats.student(values) if len(values) else None


def effect(what: str, found: "Estimate | None", paper: float, unit: str = "pt") -> Part:
    """A part that claims an effect of a size.

    Example:
      >>> effect("gain", Estimate(0.4, 0.1, 0.7, 0.2, 5), 0.3).verdict
      'reproduced'
      >>> effect("gain", Estimate(0.1, -0.1, 0.3, 0.2, 5), 0.3).verdict
      'inconclusive'
      >>> effect("gain", Estimate(0.0, -0.1, 0.1, 0.1, 5), 0.3).verdict
      'not reproduced'
    """
    if found is None:
        return Part(f"{what}: not trained", NOT_RUN, 0)
    verdict = INCONCLUSIVE
    if found.high < paper / 2:
        verdict = NOT_REPRODUCED
    elif found.low > 0 and found.mean >= paper / 2:
        verdict = REPRODUCED
    return Part(_said(what, found, unit), verdict, found.replicates)


def sign(what: str, found: "Estimate | None", unit: str = "pt") -> Part:
    """A part that claims a difference above 0 of any size.

    Example:
      >>> sign("above", Estimate(0.4, -0.1, 0.9, 0.2, 5)).verdict
      'inconclusive'
    """
    if found is None:
        return Part(f"{what}: not trained", NOT_RUN, 0)
    verdict = REPRODUCED if found.low > 0 else NOT_REPRODUCED if found.high < 0 else INCONCLUSIVE
    return Part(_said(what, found, unit), verdict, found.replicates)


def equal(what: str, found: "Estimate | None", margin: float, unit: str = "pt") -> Part:
    """A part that claims equality within a margin.

    Example:
      >>> equal("same", Estimate(0.0, -0.1, 0.1, 0.1, 5), 0.15).verdict
      'reproduced'
      >>> equal("same", Estimate(0.3, 0.2, 0.4, 0.1, 5), 0.15).verdict
      'not reproduced'
    """
    if found is None:
        return Part(f"{what}: not trained", NOT_RUN, 0)
    verdict = INCONCLUSIVE
    if -margin <= found.low and found.high <= margin:
        verdict = REPRODUCED
    elif found.low > margin or found.high < -margin:
        verdict = NOT_REPRODUCED
    return Part(_said(what, found, unit), verdict, found.replicates)


def at_least(what: str, values: pd.Series, bound: float) -> Part:
    """A part that claims that a mean over replicates is at least so much, in percent."""
    if values.empty:
        return Part(f"{what}: not trained", NOT_RUN, 0)
    mean = 100 * float(values.mean())
    return Part(f"{what}: {mean:.2f}%", REPRODUCED if mean >= bound else NOT_REPRODUCED,
                len(values))


def _said(what: str, found: Estimate, unit: str) -> str:
    interval = "" if found.replicates < 2 else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{what}: {found.mean:+.2f}{interval} {unit}".rstrip()


def _l1(run: pd.DataFrame) -> Iterable[Part]:
    yield effect("level 7 stops earlier than dense by",
                 earlier(series(run, STEP, ("ticket", 7)), series(run, STEP, DENSE)), 38, "%")


def _l2(run: pd.DataFrame) -> Iterable[Part]:
    yield effect("level 9 less dense, at the early stop",
                 gain(series(run, ACCURACY, ("ticket", 9)), series(run, ACCURACY, DENSE)), 0.3)


def _l3(run: pd.DataFrame) -> Iterable[Part]:
    yield equal("level 15 stops earlier than dense by",
                earlier(series(run, STEP, ("ticket", 15)), series(run, STEP, DENSE)), 19, "%")
    yield equal("level 15 less dense, at the early stop",
                gain(series(run, ACCURACY, ("ticket", 15)), series(run, ACCURACY, DENSE)), 0.15)


def _l4(run: pd.DataFrame) -> Iterable[Part]:
    steps = {level: series(run, STEP, ("ticket", level)) for level in (0, 3, 7, 15)}
    yield sign("level 3 stops earlier than dense by", earlier(steps[3], steps[0]), "%")
    yield sign("level 7 stops earlier than level 3 by", earlier(steps[7], steps[3]), "%")
    yield sign("level 7 stops earlier than level 15 by", earlier(steps[7], steps[15]), "%")


def _l5(run: pd.DataFrame) -> Iterable[Part]:
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


def _l6(run: pd.DataFrame) -> Iterable[Part]:
    yield effect("level 7 is faster than its re-initialisation by", faster(
        series(run, STEP, ("ticket", 7)), series(run, STEP, ("reinit", 7))), 151, "%")
    yield effect("level 7 less its re-initialisation, at the early stop", gain(
        series(run, ACCURACY, ("ticket", 7)), series(run, ACCURACY, ("reinit", 7))), 0.5)


def _l7(run: pd.DataFrame) -> Iterable[Part]:
    dense = series(run, ACCURACY, DENSE)
    for level in (7, 9, 12, 15, 16):
        yield sign(f"dense less re-initialised level {level}",
                   gain(dense, series(run, ACCURACY, ("reinit", level))))
    # The ticket is not below before level 16.
    best = gain(series(run, ACCURACY, ("ticket", 15)), dense)
    below = sign("level 15 less dense", best)
    yield dataclasses.replace(below, verdict=REPRODUCED) \
        if below.verdict == INCONCLUSIVE else below
    yield sign("dense less level 16", gain(dense, series(run, ACCURACY, ("ticket", 16))))


def _l8(run: pd.DataFrame, one_shot: pd.DataFrame) -> Iterable[Part]:
    # The paper's densities 67.5 to 17.6% and 95.0 to 5.17% hold our levels 2 to 7 and 1 to 13.
    dense = {measure: series(one_shot, measure, DENSE) for measure in (STEP, ACCURACY)}
    for level in range(2, 8):
        yield sign(f"one-shot level {level} stops earlier than dense by",
                   earlier(series(one_shot, STEP, ("ticket", level)), dense[STEP]), "%")
    for level in range(1, 14):
        yield sign(f"one-shot level {level} less dense, at the early stop",
                   gain(series(one_shot, ACCURACY, ("ticket", level)), dense[ACCURACY]))
    for level in (12, 15, 16):
        yield sign(f"iterative less one-shot, level {level}", gain(
            series(run, ACCURACY, ("ticket", level)),
            series(one_shot, ACCURACY, ("ticket", level))))


def _l9(run: pd.DataFrame, continued: pd.DataFrame) -> Iterable[Part]:
    for level in (12, 15, 16):
        yield sign(f"resetting less continued training, level {level}", gain(
            series(run, ACCURACY, ("ticket", level)),
            series(continued, ACCURACY, ("ticket", level))))


def _l10(run: pd.DataFrame) -> Iterable[Part]:
    for level in (7, 12, 15):
        yield sign(f"re-initialised less random mask, level {level}", gain(
            series(run, ACCURACY, ("reinit", level)),
            series(run, ACCURACY, ("random_mask", level))))


def _l13(run: pd.DataFrame) -> Iterable[Part]:
    for level in (7, 12):
        reinit = series(run, ACCURACY, ("reinit", level))
        yield equal(f"drawn from the survivors less re-initialised, level {level}", gain(
            series(run, ACCURACY, ("resample", level)), reinit), 0.15)
        yield sign(f"re-initialised less largest at initialisation, level {level}", gain(
            reinit, series(run, ACCURACY, ("magnitude_at_init", level))))


def _l14(run: pd.DataFrame) -> Iterable[Part]:
    for level in (7, 12):
        ticket = series(run, ACCURACY, ("ticket", level))
        yield equal(f"noise of half a deviation less none, level {level}", gain(
            series(run, ACCURACY, ("noise_0.5", level)), ticket), 0.15)
        yield sign(f"noise of 3 deviations less re-initialised, level {level}", gain(
            series(run, ACCURACY, ("noise_3", level)),
            series(run, ACCURACY, ("reinit", level))))


def _l11(run: pd.DataFrame, sgd: pd.DataFrame) -> Iterable[Part]:
    # Sarle's coefficient: 1/3 of a Gaussian; "keeps it" is within half the way to two modes.
    def of(rows: pd.DataFrame, weight: str, level: int) -> pd.Series:
        return rows[(rows.level == level) & (rows.weight == weight)].set_index(
            "replicate").bimodality

    for name in ("fc2/kernel", "fc3/kernel"):
        yield sign(f"Adam, {name}, level 12: bimodality less {BIMODAL:.3f}",
                   _mean(of(run, name, 12) - BIMODAL), "")
    yield equal("Adam, fc1/kernel: bimodality at level 12 less that at level 0",
                _mean(of(run, "fc1/kernel", 12) - of(run, "fc1/kernel", 0)),
                (BIMODAL - 1 / 3) / 2, "")
    for name in ("fc1/kernel", "fc2/kernel", "fc3/kernel"):
        yield sign(f"SGD, {name}, level 12: bimodality less {BIMODAL:.3f}",
                   _mean(of(sgd, name, 12) - BIMODAL), "")


def _l12(run: pd.DataFrame) -> Iterable[Part]:
    # The dense network's weights, those of tickets to be and the others.
    dense = run[(run.trained_level == 0) & (run.weight == "all")]
    for level in (7, 15):
        rows = dense[dense.level == level].set_index("replicate")
        yield sign(f"kept at level {level} moved further than pruned, relative",
                   _mean(100 * (rows.moved_kept / rows.moved_pruned - 1)), "%")
        yield sign(f"kept at level {level} moved away from 0 more often than pruned",
                   _mean(100 * (rows.away_kept - rows.away_pruned)))


def _l15(run: pd.DataFrame) -> Iterable[Part]:
    # Units' connections as uneven as twice those of random masks: the bound of "even".
    rows = run[run.level == 7]
    for name in ("fc1/kernel", "fc2/kernel", "fc3/kernel"):
        of = rows[rows.weight == name].set_index(["direction", "replicate"]).ratio
        yield sign(f"{name}, incoming: 2 less its unevenness over that of chance",
                   _mean(2 - of["incoming"]), "")
        yield sign(f"{name}, outgoing: its unevenness over that of chance, less 2",
                   _mean(of["outgoing"] - 2), "")


def _rate(small: pd.DataFrame, large: pd.DataFrame) -> Iterable[Part]:
    for level in (7, 12):
        gaps = [gain(series(run, FINAL, ("ticket", level)), series(run, FINAL, ("reinit", level)))
                for run in (small, large)]
        yield sign(f"0.01: ticket less re-initialised, level {level}", gaps[0])
        yield equal(f"0.1: ticket less re-initialised, level {level}", gaps[1], 0.15)


def _mean(values: pd.Series) -> "Estimate | None":
    found = values.dropna()
    return stats.student(found) if len(found) else None


LENET, ONE_SHOT, CONTINUED = "lenet_300_100", "lenet_300_100_one_shot", "lenet_300_100_continued"
SGD = "lenet_300_100_sgd"

CLAIMS = (
    Claim("L1", "LeNet at 21.1% (level 7) stops 38% earlier than dense", (LENET,), _l1),
    Claim("L2", "LeNet at 13.5% (level 9): test accuracy at the early stop 0.3 points above dense",
          (LENET,), _l2),
    Claim("L3", "LeNet at 3.6% (level 15) is back at the dense network's early stop and accuracy",
          (LENET,), _l3),
    Claim("L4", "LeNet at 51.3% (level 3) stops before dense, at 21.1% (level 7) before that; "
          "sparser ones later again", (LENET,), _l4),
    Claim("L5", "LeNet after 50,000 steps: test accuracy up to 0.35 points above dense, training "
          "accuracy about 100% while P_m >= 2%", (LENET,), _l5),
    Claim("L6", "LeNet at 21.1% reaches its least validation loss 2.51 times as fast as "
          "re-initialised, 0.5 points more accurate", (LENET,), _l6),
    Claim("L7", "LeNet re-initialised falls below dense from 21.1% (level 7), the ticket only at "
          "2.9% (level 16)", (LENET,), _l7),
    Claim("L8", "LeNet one-shot: stops earlier for 67.5% >= P_m >= 17.6%, is more accurate for "
          "95.0% >= P_m >= 5.17%; iterative is better at small sizes", (LENET, ONE_SHOT), _l8),
    Claim("L9", "Resetting each round beats continued training at small sizes (figures 9, 10)",
          (LENET, CONTINUED), _l9),
    Claim("L10", "LeNet: random sparsity is worse than re-initialisation (appendix E)", (LENET,),
          _l10),
    Claim("L11", "Surviving initial weights: second and output layer bimodal, the first keeps its "
          "Gaussian (Adam); all three bimodal with SGD",
          (f"{LENET}_survivors", f"{SGD}_survivors"), _l11),
    Claim("L12", "Weights of the ticket move further from their initial values, and more often "
          "away from 0, than those pruned (figures 19, 20)", (f"{LENET}_movement",), _l12),
    Claim("L13", "Weights drawn from the survivors' are as good as re-initialised ones; pruning "
          "by magnitude before training is worse", (LENET,), _l13),
    Claim("L14", "Noise of half a deviation hardly matters; with 3 deviations still better than "
          "re-initialised (figure 25)", (LENET,), _l14),
    Claim("L15", "Incoming connections are even over units, outgoing ones very uneven (Adam)",
          (f"{LENET}_connections",), _l15),
    Claim("L16", "Adam's learning rates 2e-4 to 2e-3 give similar accuracy; SGD 0.4 to 0.8 keeps "
          "its early stop down to below 1%"),
    Claim("L17", "Rates of 0.1 and 0.2 a round beat 0.4 and more; initial deviation 0.1 is as good "
          "as Glorot's"),
    Claim("L18", "All widths return to the dense accuracy at about 9,000 to 15,000 weights"),
    Claim("C1", "Best speed-up 3.5 (Conv-2 at 8.8%), 3.5 (Conv-4 at 9.2%), 2.5 (Conv-6 at 15.1%)"),
    Claim("C2", "Best gain in test accuracy 3.4 (Conv-2 at 4.6%), 3.5 (Conv-4 at 11.1%), 3.3 "
          "points (Conv-6 at 26.4%)"),
    Claim("C3", "All three stay above dense accuracy while P_m > 2%"),
    Claim("C4", "Training accuracy 100% at the last step while P_m >= 2%, tickets still more "
          "accurate on test data"),
    Claim("C5", "Re-initialised networks get slower as they are pruned; Conv-2 and Conv-4 first "
          "keep or gain accuracy"),
    Claim("C6", "Dropout: dense +2.1, +3.0, +2.4 points; pruning adds up to +2.3, +4.6, +4.7"),
    Claim("C7", "Dense validation accuracy 67.6, 74.9, 79.1%; tickets 70.9, 78.6, 81.5%"),
    Claim("C8", "Appendix H: speed-ups 4.8, 4.27, 2.61; with dropout 1.58 (Conv-4), 1.5 (Conv-6)"),
    Claim("C9", "Pruning convolutions alone is more accurate and faster; dense layers alone worse"),
    Claim("V1", "VGG-19 at learning rate 0.1: tickets no better than re-initialised"),
    Claim("V2", "VGG-19 at 0.01: within 1 point of its dense network while P_m >= 3.5%"),
    Claim("V3", "VGG-19 at 0.1 with warm-up: dense about +1 point; tickets above it while "
          "P_m >= 1.5%; layer by layer only to 6.9%"),
    Claim("V4", "VGG-19 80% pruned and re-initialised matches dense; far sparser it does not"),
    Claim("R1", "Resnet-18 at 0.01: best ticket 89.5% for 41.7% >= P_m >= 21.9%; dense at 0.1 "
          "90.5%"),
    Claim("R2", "Resnet-18 at 0.1: tickets as re-initialised"),
    Claim("R3", "Resnet-18 at 0.03 with warm-up: 90.5% at 27.1%; tickets to 11.8%"),
    Claim("R4", "Resnet-18 at 0.1: no warm-up works"),
    Claim("T", "Liu et al. 2019, section 6 (there VGG-16 and ResNet-56): tickets are better than "
          "re-initialised at learning rate 0.01, and not at 0.1. Here LeNet, their optimizer and "
          "schedule", (f"{LENET}_rate_0.01", f"{LENET}_rate_0.1"), _rate),
)
