"""Writes a run for TensorBoard: scalars over levels, learning curves, hparams.

    DIR/RUN/by_level/replicate_0/ticket_0/        over levels: early-stop step, accuracies, the
                                                  density of all weights and of each
    DIR/RUN/curves/replicate_0/level_03/ticket_0/ over steps: losses and accuracies; and the
                                                  training's settings and results as hparams
    DIR/RUN/verdict/                              the run's verdict and its levels', as text

The package tensorboard writes the events (`pip install "lth_keras[tensorboard]"`); it does not
need TensorFlow for this.  Events contain no time of day, so equal runs give equal files.
"""

import collections
import contextlib
import dataclasses
import hashlib
import io
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config, EXTENT
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import paths, record, store
from lth_keras.experiments.results.record import DENSITY
from lth_keras.experiments.results.runs import Run
from lth_keras.experiments.results.statistics import measures
from lth_keras.files import atomic

# TensorBoard finds files by "tfevents" in their name. The number is a time stamp elsewhere: a fixed
# one lets a later call replace the file.
_NAME = "events.out.tfevents.0000000000.lth_keras"
_KEYS = ["replicate", "level", "branch", "branch_index"]


def require() -> None:
    """Checks that the package tensorboard is installed.

    Raises:
      LotteryError: if it is not.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise LotteryError("--tensorboard needs the package tensorboard, which is not installed. "
                           "Received: no such package. Run: "
                           'python -m pip install "lth_keras[tensorboard]"') from None


def folder_name(run: Run) -> str:
    """Returns a run's label as the name of a folder: only letters, digits, "_", "-" and ".".

    Example:
      >>> folder_name(Run(pathlib.Path("."), None, None, "conv2, one shot (a/b)"))
      'conv2_one_shot_a_b'
    """
    return re.sub(r"[^0-9A-Za-z.-]+", "_", run.label).strip("_.") or "run"


def write_all(runs: Sequence[Run], folder: pathlib.Path) -> None:
    """Writes runs for TensorBoard, each to a folder of its own in the folder; see `write`."""
    for run, name in zip(runs, folder_names(runs), strict=True):
        write(run, folder / name)


def folder_names(runs: Sequence[Run]) -> list[str]:
    """Returns a name of a folder for each run; those that would be equal end in a label's hash.

    Example:
      >>> folder_names([Run(None, None, None, label) for label in ("fit (a/b)", "fit (a_b)")])
      ['fit_a_b_c1bd1278', 'fit_a_b_145013ba']
    """
    # Some file systems do not tell capital letters from small ones.
    names = [folder_name(run) for run in runs]
    alike = collections.Counter(map(str.casefold, names))
    return [name if alike[name.casefold()] == 1 else
            f"{name}_{hashlib.sha256(run.label.encode(errors='surrogateescape')).hexdigest()[:8]}"
            for name, run in zip(names, runs, strict=True)]


def write(run: Run, folder: pathlib.Path) -> None:
    """Writes a run for TensorBoard, replacing what an earlier call wrote to the folder.

    Args:
      run: the run.
      folder: the run's folder.

    Raises:
      OSError: if a file cannot be written.
    """
    curves = {Training(*map(_plain, key)): table for key, table in run.curves.groupby(_KEYS)} \
        if len(run.curves) else {}
    chains: dict[tuple[int, str, int], list[dict[str, Any]]] = {}
    for row in run.rows:
        training = Training(*(row[name] for name in _KEYS))
        chains.setdefault((training.replicate, training.branch, training.branch_index),
                          []).append(row)
        if training in curves:
            _write_curve(run, row, curves[training], folder)
    _write(folder / "verdict", [_text("verdict", run.verdict.sentence), *(
        _text(f"verdict/level_{item.level:02d}", str(item), item.level)
        for item in run.verdict.levels)])
    for rows in chains.values():
        _write(_chain(folder, rows[0]),
               [event for row in rows for event in _results(run.results, row, row["level"])])


class LiveEvents:
    """Writes each training of a run for TensorBoard when it is finished, while the run goes on.

    The files are those of `write`, but for the verdict, which a run has at its end.  At the first
    row it also writes what the workdir has already, in place of what an earlier run left there.

    Args:
      root: the workdir of the run.
      config: its settings.
      folder: the folder for all runs.

    Raises:
      LotteryError: if the package tensorboard is not installed.
    """

    def __init__(self, root: pathlib.Path, config: Config, folder: pathlib.Path):
        require()
        self._run = Run(root, config, record.table([]), config.preset)
        self._root, self._folder = root, folder / folder_name(self._run)
        self._begun = False

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Writes the row of a finished training, and its learning curve.

        Raises:
          OSError: if a file cannot be written.
        """
        rows = [dict(row)]
        if not self._begun:
            for path in self._folder.rglob(_NAME):
                path.unlink()
            rows = dataclasses.replace(self._run, results=store.results(self._root)).rows
            self._begun = True
        for each in rows:
            self._add(each)

    def _add(self, row: dict[str, Any]) -> None:
        run = dataclasses.replace(self._run, results=record.table([row]))
        training = Training(*(row[name] for name in _KEYS))
        mark = paths.read_record(self._root, training).curve
        _write_curve(run, run.rows[0], paths.read_curve(self._root, training, mark), self._folder)
        # TensorBoard reads on in a file that grows; it would not look again into one replaced.
        with _opened(_chain(self._folder, row) / _NAME) as writer:
            for event in _results(run.results, run.rows[0], row["level"]):
                writer.write(event.SerializeToString(deterministic=True))


def _chain(folder: pathlib.Path, row: Mapping[str, Any]) -> pathlib.Path:
    # The folder of the levels of a branch in a replicate, one line in TensorBoard.
    return folder / "by_level" / f"replicate_{row['replicate']}" / \
        f"{row['branch']}_{row['branch_index']}"


def _write_curve(run: Run, row: Mapping[str, Any], curve: pd.DataFrame,
                 folder: pathlib.Path) -> None:
    where = f"replicate_{row['replicate']}/level_{row['level']:02d}"
    _write(folder / "curves" / where / f"{row['branch']}_{row['branch_index']}",
           [*_hparams(run, row), *_curve(curve, row),
            *_results(run.results, row, int(curve.step.max()))])


def _results(results: pd.DataFrame, row: Mapping[str, Any], step: int) -> Iterable[Any]:
    # The columns density_WEIGHT become density/WEIGHT: TensorBoard groups by the part before "/".
    layers = [name for name in results.columns if str(name).startswith(DENSITY)]
    named = {name: f"results/{name}" for name in measures(results)} | {
        name: f"density/{name.removeprefix(DENSITY)}" for name in layers}
    return [_scalar(tag, row[name], step) for name, tag in named.items() if _is_number(row[name])]


def _curve(curve: pd.DataFrame, row: Mapping[str, Any]) -> Iterable[Any]:
    # Each event gets its share of the training's seconds as its time, which TensorBoard shows as
    # relative time.
    pace = row["seconds"] / max(1, int(curve.step.max()))
    for point in curve.drop(columns=_KEYS, errors="ignore").to_dict("records"):
        step = int(point.pop("step"))
        yield from (_scalar(f"curve/{name}", value, step, step * pace)
                    for name, value in point.items() if _is_number(value))


def _scalar(tag: str, value: float, step: int, time: float = 0.0) -> Any:
    from tensorboard.compat.proto import event_pb2, summary_pb2
    return event_pb2.Event(wall_time=time, step=step, summary=summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=tag, simple_value=float(value))]))


def _text(tag: str, words: str, step: int = 0) -> Any:
    from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
    from tensorboard.plugins.text import metadata
    kind = metadata.create_summary_metadata(display_name="", description="")
    value = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[words.encode()])
    return event_pb2.Event(step=step, summary=summary_pb2.Summary(value=[
        summary_pb2.Summary.Value(tag=tag, metadata=kind, tensor=value)]))


def _hparams(run: Run, row: Mapping[str, Any]) -> Iterable[Any]:
    # One training is one session of TensorBoard's hparams: its settings, and how it ended.
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=0.0)
    # Fits that are replicates of one search differ in their seed.
    plain = run.fits[int(row["replicate"])].plain if run.fits else run.settings
    settings = {name: value for name, value in plain.items() if name not in EXTENT}
    for name, value in {**settings, **{name: row[name] for name in _KEYS}}.items():
        if isinstance(value, (int, float)):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    status = api_pb2.STATUS_FAILURE if _is_number(row["diverged_at_step"]) \
        else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=row["seconds"])
    data = plugin_data_pb2.HParamsPluginData
    return [_metadata(metadata.SESSION_START_INFO_TAG, data(session_start_info=start)),
            _metadata(metadata.SESSION_END_INFO_TAG, data(session_end_info=end))]


def _metadata(tag: str, data: Any) -> Any:
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.hparams import metadata
    return event_pb2.Event(summary=summary_pb2.Summary(value=[summary_pb2.Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)]))


def _write(folder: pathlib.Path, events: Iterable[Any]) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter
    data = io.BytesIO()
    writer = RecordWriter(data)
    for event in (_version(), *events):
        writer.write(event.SerializeToString(deterministic=True))
    atomic.write(folder / _NAME, data.getvalue())


def _version() -> Any:
    # The first event of a file must hold the version of its format.
    from tensorboard.compat.proto import event_pb2
    return event_pb2.Event(file_version="brain.Event:2")


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    from tensorboard.summary.writer.record_writer import RecordWriter
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        writer = RecordWriter(file)
        if not file.tell():
            writer.write(_version().SerializeToString())
        yield writer


def _is_number(value: Any) -> bool:
    # TensorBoard draws NaN as a gap with a warning: values that are missing are left out.
    return isinstance(value, (int, float)) and math.isfinite(value)


def _plain(value: Any) -> Any:
    # pandas groups by NumPy's numbers; the keys of a Training are Python's.
    return value if isinstance(value, str) else int(value)
