"""The distribution of the initial values of the weights that survive pruning.

Frankle & Carbin (ICLR 2019, appendix F, figures 15 to 18) draw these distributions.  Pruning by
magnitude after training removes most weights that began near zero, so in small layers the
survivors' initial values are bimodal.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from lth_keras.core.masks import Array, density
from lth_keras.reports.analyses.analysis import Analysis, in_order, mean_of, WorkdirReader
from lth_keras.reports.plots import analysis_figures

CENTRE = 0.1  # The share of the initial weights that counts as central.
BIMODAL = 5 / 9  # Sarle's coefficient of a uniform distribution; higher values mean two modes.
_BINS = 41  # An odd number, so that one bin is centred at zero.
_MEASURES = {"weight_density": ".1%", "std_ratio": ".2f", "central_share": ".3f",
             "bimodality": ".3f"}


def bimodality(values: Array) -> float:
    """Returns Sarle's bimodality coefficient, (skewness^2 + 1) / kurtosis.

    It is 1/3 for a normal distribution, 5/9 for a uniform one and 1 for two points
    (https://doi.org/10.3389/fpsyg.2013.00700, with the correction for finite samples).

    Args:
      values: any shape; fewer than four values, or only equal ones, give NaN.

    Example:
      >>> bimodality(np.array([-1.0, 1.0] * 1000)) > 0.99
      True
    """
    # The corrections for finite samples matter: a sparse output layer keeps some dozen weights.
    count, exact = np.size(values), np.asarray(values, np.float64)
    if count < 4 or np.ptp(exact) == 0:
        return float("nan")
    centred = exact - np.mean(exact)
    variance = np.mean(centred**2)
    skewness = np.mean(centred**3) / variance**1.5 * np.sqrt(count * (count - 1)) / (count - 2)
    excess = np.mean(centred**4) / variance**2 - 3
    ends = (count - 2) * (count - 3)
    kurtosis = (count - 1) / ends * ((count + 1) * excess + 6) + 3 * (count - 1)**2 / ends
    return float((skewness**2 + 1) / kurtosis)


def measures(initial: Array, mask: Array) -> dict[str, float]:
    """Measures how the survivors of one weight differ from all of its initial values.

    Args:
      initial: theta_0, any shape.
      mask: 0/1 array, same shape.

    Returns:
      survivors: their number; weight_density: their share, in [0, 1]; std_ratio: their standard
      deviation divided by that of all initial values; central_share: the share of survivors among
      the tenth of initial values with the smallest magnitude, 0.1 if survival does not depend on
      magnitude; bimodality: Sarle's coefficient.  NaN if none survives.

    Example:
      >>> initial = np.linspace(-1, 1, 101)
      >>> measures(initial, np.abs(initial) > 0.5)["central_share"]
      0.0
    """
    exact = np.asarray(initial, np.float64)  # Fourth moments of float32 would be too coarse.
    kept, spread = exact[mask != 0], float(np.std(exact))
    edge = np.quantile(np.abs(exact), CENTRE)
    nothing = not len(kept)
    return {"survivors": len(kept), "weight_density": len(kept) / exact.size,
            "std_ratio": float("nan") if nothing or not spread else float(np.std(kept)) / spread,
            "central_share": float("nan") if nothing else float(np.mean(np.abs(kept) <= edge)),
            "bimodality": bimodality(kept)}


def histogram(initial: Array, mask: Array, edges: Array) -> "npt.NDArray[np.float64]":
    """Returns the survivors' probability density in each bin; its integral is 1, or 0 without any.

    Args:
      initial: theta_0, any shape.
      mask: 0/1 array, same shape.
      edges: the edges of the bins, rising, shape (bins + 1,); survivors outside are not counted.

    Returns:
      Array of shape (bins,).

    Example:
      >>> histogram(np.array([0.1, 0.6, 0.7]), np.array([0, 1, 1]), np.array([0.0, 0.5, 1.0]))
      array([0., 2.])
    """
    counts, _ = np.histogram(initial[mask != 0], edges)
    width = np.diff(np.asarray(edges, np.float64))
    return np.asarray(counts / (max(1, counts.sum()) * width), np.float64)


def analyse(run: WorkdirReader, levels: "Iterable[int] | None" = None) -> Analysis:
    """Analyses the initial values of surviving weights, by level and weight.

    Args:
      run: the workdir.
      levels: the levels to analyse. Defaults to all levels that have a ticket.
    """
    initial = {replicate: run.initial(replicate) for replicate in run.replicates}
    rows, drawn = [], []
    edges: dict[str, npt.NDArray[np.float64]] = {}
    for replicate, chosen in run.levels(levels).items():
        weights = initial[replicate]
        for level in chosen:
            masks = run.ticket(replicate, level).masks
            for name in in_order(masks):
                if name not in edges:  # One grid for all levels and replicates, to average them.
                    most = max(float(np.abs(other[name]).max()) for other in initial.values())
                    edges[name] = np.linspace(-(most or 1.0), most or 1.0, _BINS + 1)
                rows.append({"replicate": replicate, "level": level, "density": density(masks),
                             "weight": name, **measures(weights[name], masks[name])})
                drawn.append(pd.DataFrame({
                    "level": level, "weight": name,
                    "value": (edges[name][1:] + edges[name][:-1]) / 2,
                    "probability_density": histogram(weights[name], masks[name], edges[name])}))
    table = pd.DataFrame(rows)
    histograms = mean_of(drawn, ["level", "weight", "value"])
    title = f"{run.title}: initial weights that survive"
    return Analysis(title, table, ("level", "weight"), _MEASURES, {"histogram": histograms},
                    analysis_figures.survivors_figure(histograms, table, title), (
        "central_share: share of the survivors in the central tenth of the initial weights; "
        "bimodality: Sarle's coefficient, the same as at level 0 if survival does not depend on "
        f"the initial value, above {BIMODAL:.3f} with two modes.",))
