"""The earlier verdict of reports, kept to be shown beside the present one on the same results.

It asked for more than the hypothesis does and for less than its own claims: all of a 95% interval
at or above 0, so that a ticket exactly as good as dense stayed inconclusive; level by level,
uncorrected; and beside it a comparison of means, which said of a run what no level did.
"""

import pandas as pd

from lth_keras.experiments.config.branches import ranges
from lth_keras.experiments.results.statistics import by_replicate, paired

_STEP, _ACCURACY = "early_stop_step", "test_accuracy_early_stop"
# (measure, compared with, 1 if more is better, whether exactly 0 is not enough)
_CONDITIONS = ((_STEP, "dense", -1, False), (_ACCURACY, "dense", 1, False),
               (_ACCURACY, "reinit", 1, True))


def earlier(results: pd.DataFrame) -> str:
    """What a report said of a run: its levels by intervals, and the sparsest that won by means.

    Args:
      results: a row a trained network.
    """
    levels = sorted({*results[(results.branch == "ticket") & (results.level > 0)].level})
    outcomes = {level: _outcome(results, level) for level in levels}
    parts = [f"{outcome} at {', '.join(ranges(found))}"
             for outcome in ("winning", "not winning", "inconclusive")
             if (found := [level for level in levels if outcomes[level] == outcome])]
    winners = [level for level in levels if _wins_by_means(results, level)]
    told = [level for level in winners if outcomes[level] == "winning"]
    best = max(told or winners, default=None)
    doubt = "" if told else ", not told from chance" if (results.branch == "reinit").any() else \
        ", not compared with a re-initialised network"
    run = "No winning ticket" if best is None else f"Winning ticket at level {best}{doubt}"
    return f"{run}; levels: {', '.join(parts)}"


def _outcome(results: pd.DataFrame, level: int) -> str:
    told = []
    for measure, against, sign, strict in _CONDITIONS:
        found = paired(results, measure, level, against)
        if found is None or found.replicates < 2:
            told.append(None)
            continue
        low, high = sorted((sign * found.low, sign * found.high))
        told.append(True if low > 0 or (low == 0 and not strict) else False if high < 0 else None)
    return "not winning" if False in told else "inconclusive" if None in told else "winning"


def _wins_by_means(results: pd.DataFrame, level: int) -> bool:
    replicates = results[(results.branch == "ticket") & (results.level == 0)].replicate.nunique()

    def mean(measure: str, branch: str, at: int) -> float:
        values = by_replicate(results, measure, branch, at)
        return float(values.mean()) if len(values) == replicates else float("nan")
    controlled = any(len(by_replicate(results, _STEP, "reinit", other)) == replicates
                     for other in {*results.level})
    return mean(_STEP, "ticket", level) <= mean(_STEP, "ticket", 0) \
        and mean(_ACCURACY, "ticket", level) >= mean(_ACCURACY, "ticket", 0) \
        and (not controlled or mean(_ACCURACY, "ticket", level) > mean(_ACCURACY, "reinit", level))
