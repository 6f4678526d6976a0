"""A user's own data in one file of arrays, as numpy.savez writes it, read as untrusted."""

import hashlib
import io
import os
import pathlib
import zipfile

import numpy as np

from lth_keras.arguments import one_line
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def read(path: "str | os.PathLike[str]", checksum: str = "") -> dict[str, Array]:
    """Reads a user's own data from a file of numpy.savez, which is not trusted.

    Args:
      path: the file, with the arrays x_train and x_test, numbers of shape (examples, ...), and
        y_train and y_test, whole numbers of shape (examples,): the classes, from 0 on.
      checksum: the start of the file's SHA-256, which it must have.

    Returns:
      The arrays: examples as float32, but uint8 pixels as they are; classes as int32.

    Raises:
      LotteryError: if the file is another, or does not hold such arrays.

    Example:
      >>> import tempfile
      >>> x, y = np.ones((4, 3)), np.array([0, 1, 2, 1])
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(f"{folder}/mine.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
      ...     found = read(f"{folder}/mine.npz")
      >>> found["x_train"].dtype.name, found["y_test"].dtype.name
      ('float32', 'int32')
    """
    try:
        data = pathlib.Path(path).read_bytes()
        if checksum and not hashlib.sha256(data).hexdigest().startswith(checksum):
            raise LotteryError(f"A run goes on with the data that it began with. Received: {path}, "
                               "which has changed since. Use another --workdir, or name the file "
                               "as it was with data_dir (--data_dir).")
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            missing = [key for key in ARRAYS if key not in found]
            if missing:
                raise _refused(path, f"which holds {', '.join(found) or 'nothing'!s:.100}, not "
                                    f"{', '.join(missing)}")
            arrays = {key: found[key] for key in ARRAYS}
    except OSError as error:
        if isinstance(error, zipfile.BadZipFile):
            raise
        raise LotteryError(f"A file of data must be readable. Received: {path} "
                           f"({error.strerror or error}).") from None
    except LotteryError:
        raise
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _refused(path, one_line(error)) from None
    for part in ("train", "test"):
        _check(path, arrays, part)
    seen, asked = int(arrays["y_train"].max()), int(arrays["y_test"].max())
    if asked > seen or seen < 1:
        raise _refused(path, f"with classes up to {asked} in y_test, and up to {seen} in y_train")
    return arrays


def _check(path: "str | os.PathLike[str]", arrays: dict[str, Array], part: str) -> None:
    # Converts examples and classes to the types that are trained on.
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    shape = f"with x_{part} of {x.dtype}{list(x.shape)}, y_{part} of {y.dtype}{list(y.shape)}"
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise _refused(path, f"{shape}: classes are one number an example; give y.argmax(1) of "
                             "rows with one 1")
    if not (np.issubdtype(y.dtype, np.integer) or y.dtype == bool) or (len(y) and y.min() < 0):
        raise _refused(path, f"{shape}: classes are whole numbers from 0 on")
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or \
            np.issubdtype(x.dtype, np.complexfloating):
        raise _refused(path, f"{shape}: examples are numbers")
    if x.ndim < 2 or len(x) != len(y) or not len(y):
        raise _refused(path, f"{shape}: there are as many examples as classes, at least one")
    if x.shape[1:] != arrays["x_train"].shape[1:]:
        raise _refused(path, f"{shape}: x_train and x_test have examples of one shape, not "
                             f"{list(arrays['x_train'].shape[1:])} and {list(x.shape[1:])}")
    x = x if x.dtype == np.uint8 else x.astype(np.float32)
    if x.dtype == np.float32 and not np.isfinite(x).all():
        raise _refused(path, f"whose x_{part} has numbers that are not finite")
    arrays[f"x_{part}"], arrays[f"y_{part}"] = x, y.astype(np.int32)


def _refused(path: "str | os.PathLike[str]", why: str) -> LotteryError:
    return LotteryError(
        f"A file of data must hold the arrays {', '.join(ARRAYS)}: examples, and the number of "
        f"each one's class. Received: {path}, {why}. Write it with numpy.savez(\"NAME.npz\", "
        "x_train=x, y_train=y, ...).")
