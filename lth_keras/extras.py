"""What only some users need is installed by extras: names the one that brings a missing package.

A search in `fit` needs neither scikit-learn nor matplotlib nor a runtime of TF Lite.  Where these
are first imported, `needed_for` says which extra has them.
"""

import contextlib
import importlib.util
from collections.abc import Iterator

from lth_keras.errors import LotteryError

# Extra of setup.cfg -> what it brings: the name that is imported -> the package.
EXTRAS = {
    "experiments": {
        "jinja2": "jinja2", "joblib": "joblib", "matplotlib": "matplotlib", "rich": "rich",
        "scipy": "scipy", "sklearn": "scikit-learn", "tensorflow_datasets": "tensorflow-datasets"},
    "deploy": {"ai_edge_litert": "ai-edge-litert"},
}


@contextlib.contextmanager
def needed_for(what: str) -> Iterator[None]:
    """Turns the error of a missing package into one that names the extra; also a decorator.

    Args:
      what: what needs the package, as the beginning of a sentence.

    Raises:
      LotteryError: if a package is missing that an extra brings.

    Example:
      >>> with needed_for("lth.run"):  # doctest: +IGNORE_EXCEPTION_DETAIL
      ...     raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: lth.run needs the package scikit-learn, which is ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = _missing(what, error.name or "")
        if missing is None:
            raise
        raise missing from None


def check(module: str, what: str) -> None:
    """Checks that a package is installed, without importing it, if an extra brings it.

    Raises:
      LotteryError: if it is not.

    Example:
      >>> check("scipy.stats", "The verdict")
    """
    package = module.partition(".")[0]
    missing = _missing(what, package)
    if missing is not None and importlib.util.find_spec(package) is None:
        raise missing


def _missing(what: str, module: str) -> "LotteryError | None":
    name = module.partition(".")[0]
    for extra, packages in EXTRAS.items():
        if name in packages:
            return LotteryError(
                f"{what} needs the package {packages[name]}, which is not installed. Received: no "
                f'such package. Run: python -m pip install "lth_keras[{extra}]"')
    return None
