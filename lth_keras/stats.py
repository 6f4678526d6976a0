"""From rows of results to statements: means over replicates, and the verdict."""

import dataclasses

import pandas as pd

MEASURES = ("density", "early_stop_step", "val_loss_min", "test_accuracy_early_stop",
            "test_accuracy_final", "train_accuracy_final", "seconds")
_KEYS = ["branch", "level"]


def trained(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the trainings that did not diverge: those with measures."""
    return results[results.early_stop_step.notna()]


def diverged(results: pd.DataFrame) -> str:
    """How many trainings diverged, as a sentence; nothing if none did."""
    count = len(results) - len(trained(results))
    return f"{count} of {len(results)} trainings diverged." if count else ""


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Mean, least and greatest of every measure over the replicates that did not diverge.

    Args:
      results: a row a trained network, with the columns of `store.COLUMNS`.

    Returns:
      Indexed by (branch, level); columns (measure, "mean" | "min" | "max"), and
      ("replicates", "count").

    Example:
      >>> rows = pd.DataFrame({"replicate": [0, 1], "branch": "ticket", "level": 0,
      ...                      **{name: [1.0, 3.0] for name in MEASURES}})
      >>> summarise(rows).loc[("ticket", 0), "early_stop_step"].tolist()
      [2.0, 1.0, 3.0]
    """
    groups = trained(results).groupby(_KEYS)
    summary = groups[list(MEASURES)].agg(["mean", "min", "max"])
    summary[("replicates", "count")] = groups["replicate"].nunique()
    return summary


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a search found winning tickets.

    Attributes:
      level: the sparsest winning level, or None.
      sentence: the verdict in one line, with its figures and how many replicates it rests on.
    """

    level: int | None
    sentence: str


def verdict(results: pd.DataFrame) -> Verdict:
    """Whether a run has a winning ticket, judged on means over replicates.

    A level wins if its ticket stops no later than the dense network, with test accuracy
    at early stop no lower, and, where the control was trained, higher than that of the
    re-initialised network.  (Frankle & Carbin, ICLR 2019, section 1, define the first two;
    the control shows that the initialisation matters.)  Trainings that diverged count as
    not trained; the sentence says how many they are.
    """
    judged = _judge(trained(results))
    return dataclasses.replace(
        judged, sentence=f"{judged.sentence} {diverged(results)}".rstrip())


def _judge(results: pd.DataFrame) -> Verdict:
    if results.empty or not ((results.branch == "ticket") & (results.level == 0)).any():
        return Verdict(None, "No verdict: the dense network is not trained yet.")
    # Means are compared only where they are of the same replicates.
    counts = results.groupby(_KEYS).replicate.nunique()
    replicates = int(counts["ticket", 0])
    complete = counts[counts == replicates].index
    means = results.groupby(_KEYS)[list(MEASURES)].mean().loc[complete]
    tickets = means.loc["ticket"]
    dense, pruned = tickets.loc[0], tickets.drop(0)
    basis = "one replicate, so it may be chance" if replicates == 1 \
        else f"means of {replicates} replicates"
    if pruned.empty:
        return Verdict(None, "No verdict: no level but the dense network's is trained in each of "
                             f"the replicates ({replicates}).")
    wins = (pruned.early_stop_step <= dense.early_stop_step) & \
        (pruned.test_accuracy_early_stop >= dense.test_accuracy_early_stop)
    compared = "reinit" in means.index.get_level_values("branch")
    if compared:
        control = means.loc["reinit"].test_accuracy_early_stop.reindex(pruned.index)
        wins &= pruned.test_accuracy_early_stop > control
    if not wins.any():
        asked = " and beats its re-initialisation" if compared else ""
        return Verdict(None, "No winning ticket: at no level does the ticket stop as early as the "
                             f"dense network, with test accuracy as high{asked} ({basis}).")
    level = int(wins[wins].index.max())
    best = pruned.loc[level]
    against = f", re-initialised {control.loc[level]:.2%}" if compared \
        else "; not compared with a re-initialised network"
    return Verdict(level, (
        f"Winning ticket at level {level} with {best.density:.1%} of the weights: early stop at "
        f"step {best.early_stop_step:,.0f} (dense {dense.early_stop_step:,.0f}), test accuracy "
        f"{best.test_accuracy_early_stop:.2%} (dense {dense.test_accuracy_early_stop:.2%}"
        f"{against}); {basis}."))
