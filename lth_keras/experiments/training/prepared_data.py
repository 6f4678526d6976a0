"""Data sets in one file: for machines that have neither TensorFlow nor a network.

`lth data prepare mnist --out mnist.npz` writes it, and `--data_dir mnist.npz` reads it.  It is a
compressed NumPy archive of five arrays without pickled objects, so reading one runs no code.
"""

import io
import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.files import atomic

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_MOST = 16 * 2**30  # Bytes of all arrays, above any that one device could hold.


def write(path: "str | os.PathLike[str]", name: str, arrays: dict[str, Array]) -> None:
    """Writes a data set to a file, whole or not at all.

    Args:
      path: the file; its name ends in ".npz".
      name: the name of the data set.
      arrays: x_train, x_test, of shape (examples, ...), uint8 or float32, and y_train, y_test, the
        classes, of shape (examples,), int32.

    Raises:
      LotteryError: if the file's name has another ending, or the arrays are not such.
    """
    path = check_name(path)
    _check(arrays, path)
    held = io.BytesIO()
    held_arrays: dict[str, Any] = {"name": np.array(name), **arrays}
    np.savez_compressed(held, **held_arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, held.getvalue())


def check_name(path: "str | os.PathLike[str]") -> pathlib.Path:
    """Returns the path of a prepared data set.

    Raises:
      LotteryError: if its name does not end in ".npz".
    """
    path = pathlib.Path(path)
    if path.suffix != ".npz":
        raise LotteryError(f"A prepared data set must be a file NAME.npz. Received: {path}.")
    return path


def read(path: "str | os.PathLike[str]", name: str) -> dict[str, Array]:
    """Reads a data set from a file of `write`, which is not trusted.

    Args:
      path: the file.
      name: the name of the data set that it must hold.

    Raises:
      LotteryError: if the file holds another data set, or is not such a file.

    Example:
      >>> import tempfile
      >>> x, y = np.zeros((4, 2, 2), np.uint8), np.array([0, 1, 2, 1], np.int32)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = f"{folder}/tiny.npz"
      ...     write(path, "tiny", dict(x_train=x, y_train=y, x_test=x, y_test=y))
      ...     read(path, "tiny")["y_test"].tolist()
      [0, 1, 2, 1]
    """
    again = _again(name)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MOST:
            raise LotteryError(f"A prepared data set must have at most {_MOST / 2**30:.0f} GiB. "
                               f"Received: {path}, of {size / 2**30:,.0f} GiB.")
        with np.load(path, allow_pickle=False) as found:
            held = str(found["name"])
            arrays = {key: found[key] for key in _ARRAYS}
    except LotteryError:
        raise
    except OSError as error:
        raise _unreadable(path, name, error) from None
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise LotteryError(f"A prepared data set must hold the arrays name, {', '.join(_ARRAYS)}. "
                           f"Received: {path} ({error!s:.100}). {again}") from None
    if held != name:
        raise LotteryError(f"The file must hold the data set of the run, {name}. Received: {path}, "
                           f"which holds {held!r:.60}. {again}")
    _check(arrays, path)
    return arrays


def check_there(path: "str | os.PathLike[str]", name: str) -> None:
    """Checks that a file can be opened; `read` checks what is in it.

    Raises:
      LotteryError: if it cannot.
    """
    try:
        open(path, "rb").close()
    except OSError as error:
        raise _unreadable(path, name, error) from None


def _unreadable(path: "str | os.PathLike[str]", name: str, error: OSError) -> LotteryError:
    return LotteryError(f"A prepared data set must be readable. Received: {path} "
                        f"({error.strerror or error}). {_again(name)}")


def _again(name: str) -> str:
    return f"Write it with `lth data prepare {name} --out FILE.npz`."


def find(name: str, data_dir: "str | None") -> "pathlib.Path | None":
    """Finds the file of a data set: `data_dir` itself, or NAME.npz in it; None if there is none."""
    if data_dir is None:
        return None
    path = pathlib.Path(data_dir)
    if path.suffix == ".npz":
        return path
    return inside if (inside := path / f"{name}.npz").is_file() else None


def _check(arrays: dict[str, Array], path: pathlib.Path | str | os.PathLike[str]) -> None:
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        wrong = f"x_{part} {x.dtype}{x.shape}, y_{part} {y.dtype}{y.shape}"
        if x.dtype not in (np.uint8, np.float32) or y.dtype != np.int32 or x.ndim < 2 \
                or y.shape != x.shape[:1] or not len(y) or y.min() < 0 \
                or x.shape[1:] != arrays["x_train"].shape[1:]:
            raise LotteryError(
                "A prepared data set must hold examples of one shape, uint8 or float32, and as "
                f"many classes, int32 and >= 0. Received: {path} with {wrong}.")
        if x.dtype == np.float32 and not np.isfinite(x).all():
            raise LotteryError("A prepared data set must hold finite numbers. Received: "
                               f"{path}, whose x_{part} has some that are not.")
