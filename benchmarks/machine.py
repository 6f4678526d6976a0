"""Where figures were taken: the hardware and the versions of the software."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator

from lth_keras.files.provenance import cores, processor

_PACKAGES = ("lth_keras", "tensorflow", "tf_keras", "tensorflow-model-optimization", "numpy",
             "jax", "torch")


def describe() -> dict[str, str]:
    """The machine and its software, each by a name."""
    installed = [f"{name} {version}" for name, version in _versions()]
    return {"CPU": processor(), "cores": str(cores()), "memory": f"{_memory():.0f} GiB",
            "OS": f"{platform.system()} {platform.release().partition('-')[0]} "
                  f"{platform.machine()}",
            "Python": platform.python_version(), "packages": ", ".join(installed)}


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
