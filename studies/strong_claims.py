"""What decides the claims on strong tickets: from the figures in studies/strong to their parts.

Malach et al. (ICML 2020), Pensia et al. (NeurIPS 2020), da Cunha et al. (ICLR 2022).  Their
theorems say how errors fall; the bounds here, on slopes and ratios, were written before the runs.
The figures are of one seed, so that no part has an interval.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from judging import NOT_REPRODUCED, Part, REPRODUCED

FIGURES = pathlib.Path(__file__).resolve().parent / "strong"
EPSILON = 0.01  # Of an output, in Malach et al.'s theorem.
FEW = 100  # Neurons, below which one of the right sign may be missing.


def b1(found: "pd.DataFrame | None" = None) -> Iterable[Part]:
    """How the error of a subset sum falls with its coefficients."""
    found = _figures("coefficients") if found is None else found
    slope = float(np.polyfit(found.coefficients, np.log10(found["median"]), 1)[0])
    yield _part(f"logarithm of the median error: {slope:+.3f} for each coefficient",
                -0.33 <= slope <= -0.25)


def b2(found: "Mapping[str, Any] | None" = None) -> Iterable[Part]:
    """Pensia et al.'s network of random coefficients, 21 for each weight."""
    found = found or json.loads((FIGURES / "pensia.json").read_text())
    accuracy, weights = found["target"]["accuracy"], found["target"]["weights"]
    for name, sharing in (("of each weight's own", "own"), ("shared by a neuron", "shared")):
        row = found[sharing]["21"]
        error = row["largest_error"]
        yield _part(f"coefficients {name}: largest error {error:.3g}", error <= 0.01)
        yield _part(f"accuracy {row['accuracy'] - accuracy:+.2f} pt",
                    abs(row["accuracy"] - accuracy) <= 0.1)
        ratio = row["kept"] / weights
        yield _part(f"{ratio:.1f} kept for each weight", 9 <= ratio <= 11)


def b3(found: "pd.DataFrame | None" = None) -> Iterable[Part]:
    """How errors fall with the number of neurons of a weight."""
    found = _figures("width") if found is None else found
    medians = {method: rows.set_index("width")["median"] for method, rows in
               found.groupby("method")}
    for method, wanted in (("malach", -0.5), ("product", -1.0)):
        many = medians[method][medians[method].index >= FEW]
        slope = float(np.polyfit(np.log10(many.index), np.log10(many), 1)[0])
        yield _part(f"{method}: slope {slope:.2f} ({wanted:g})", abs(slope - wanted) <= 0.1)
    sums = medians["subset_sum"]
    best = pd.concat([medians["malach"], medians["product"]], axis=1).min(axis=1)
    for width in sorted({*sums.index} & {*best.index}):
        if width >= 10:
            yield _part(f"{width} neurons: subset sum {sums[width]:.3g}, one neuron "
                        f"{best[width]:.3g}", sums[width] < best[width])


def b4(found: "pd.DataFrame | None" = None) -> Iterable[Part]:
    """Random networks of two and three layers, computed by subnetworks of random ones."""
    found = _figures("targets") if found is None else found
    for layers, rows in found.groupby("layers"):
        enough = rows[rows.factor == 16]
        yield _part(f"{layers} layers, 16 neurons for each weight and sign: {len(enough)} "
                    f"targets, largest error {enough.output_error.max():.2g}",
                    bool((enough.output_error <= EPSILON).all()))
        kept = (rows.kept / rows.weights).groupby(rows.factor).median()
        errors = np.log10(rows.groupby("factor").output_error.median())
        slope = float(np.polyfit(kept, errors, 1)[0])
        yield _part(f"{layers} layers: logarithm of the median error {slope:+.2f} for each weight "
                    "kept in place of one", slope <= -0.1 and kept.is_monotonic_increasing)


def b5(found: "pd.DataFrame | None" = None) -> Iterable[Part]:
    """Neurons of a random network against its weights, for one ReLU neuron."""
    found = _figures("neurons") if found is None else found
    medians = found.groupby("inputs").median()
    for method in ("ridge", "nnls", "greedy"):
        errors = medians[method]
        yield _part(f"{method}: {errors.iloc[0]:.2g} at {errors.index[0]} inputs, "
                    f"{errors.iloc[-1]:.2g} at {errors.index[-1]}",
                    bool(np.all(np.diff(errors) > 0)))
    errors = medians["weights"]
    yield _part(f"weights: at most {errors.max():.2g}", bool(errors.max() < 0.01))


def b6(found: "pd.DataFrame | None" = None) -> Iterable[Part]:
    """Convolutions: what five coefficients more do to the largest error of an output."""
    found = _figures("convolutions") if found is None else found
    errors = found[found["of"] == "sums"].set_index("coefficients").output_error
    for less, more in zip(errors.index[1:-1], errors.index[2:], strict=True):
        ratio = errors[less] / errors[more]
        yield _part(f"{less} to {more} coefficients: {ratio:.1f} times less", ratio >= 10)


def _figures(name: str) -> pd.DataFrame:
    return pd.read_csv(FIGURES / f"{name}.csv")


def _part(said: str, holds: bool) -> Part:
    return Part(said, REPRODUCED if holds else NOT_REPRODUCED, 1)
