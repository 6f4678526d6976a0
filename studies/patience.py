"""What `patience` would have changed in runs that are finished.

    python studies/patience.py WORKDIR...

For each run and several values of the setting: how many trainings of controls it would have ended,
how many steps it would have saved of all of theirs, and how many early stops it would have missed.
It goes by their curves, and is exact: a training that ends early is the same until then.
"""

import argparse
import pathlib
from collections.abc import Iterable, Sequence

import pandas as pd

from lth_keras.controls.known import CONTROLS
from lth_keras.experiments.results import runs
from lth_keras.experiments.training.spec import TrainingRecord

SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # Of a run's steps.
_KEYS = ["replicate", "level", "branch", "branch_index"]


def table(curves: pd.DataFrame, steps: int, every: int,
          shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """A row for each patience, from the curves of one run.

    Args:
      curves: as `Run.curves` has them.
      steps: the run's.
      every: steps between validations.
      shares: of the steps, each rounded to a number of validations.

    Example:
      >>> curves = pd.DataFrame({"replicate": 0, "level": 1, "branch": "reinit", "branch_index": 0,
      ...                        "step": [10, 20, 30, 40], "val_loss": [3.0, 4.0, 4.0, 2.0]})
      >>> table(curves, 40, 10, [0.5, 0.75]).to_numpy().tolist()
      [[20.0, 1.0, 1.0, 0.25, 1.0], [30.0, 1.0, 0.0, 0.0, 0.0]]
    """
    of_controls = [curve for (_, _, branch, _), curve in curves.groupby(_KEYS)
                   if branch in CONTROLS and not CONTROLS[branch].method
                   and curve.val_loss.notna().all()]
    return pd.DataFrame([_row(of_controls, max(1, round(share * steps / every)) * every)
                         for share in shares])


def _row(curves: Iterable[pd.DataFrame], patience: int) -> dict[str, float]:
    trainings, ended, saved, missed, steps = 0, 0, 0, 0, 0
    for curve in curves:
        last = int(curve.step.iloc[-1])
        patient, whole = TrainingRecord(patience, last), TrainingRecord()
        for step, loss in zip(curve.step, curve.val_loss, strict=True):
            whole.add(step, {"val_loss": loss})
            if not patient.over:
                patient.add(step, {"val_loss": loss})
        trainings, steps = trainings + 1, steps + last
        if patient.ended:
            ended, saved = ended + 1, saved + last - patient.ended
        missed += patient.early_stop_step != whole.early_stop_step
    return {"patience": patience, "trainings": trainings, "ended": ended,
            "steps_saved": round(saved / max(1, steps), 3), "early_stops_missed": missed}


def main() -> None:
    """Prints a table for each workdir."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdirs", nargs="+", type=pathlib.Path, metavar="WORKDIR")
    for workdir in parser.parse_args().workdirs:
        run = runs.read(workdir)
        config = run.experiment
        print(f"{workdir}: {config.preset}, {config.steps:,} steps")
        print(table(run.curves, config.steps, config.validation_every).to_string(index=False))


if __name__ == "__main__":
    main()
