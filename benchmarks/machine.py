"""Where figures were taken: the hardware and the versions of the software."""

import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Iterator

_PACKAGES = ("lth_keras", "tensorflow", "tf_keras", "tensorflow-model-optimization", "numpy",
             "jax", "torch")


def describe() -> dict[str, str]:
    """The machine and its software, each by a name."""
    installed = [f"{name} {version}" for name, version in _versions()]
    return {"CPU": _cpu(), "cores": str(cores()), "memory": f"{_memory():.0f} GiB",
            "OS": f"{platform.system()} {platform.release().partition('-')[0]} "
                  f"{platform.machine()}",
            "Python": platform.python_version(), "packages": ", ".join(installed)}


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue


def _cpu() -> str:
    facts = {}
    described = pathlib.Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    # A virtual machine may hide the name, but not family and model.
    number = f" (family {facts['cpu family']}, model {facts['model']})" if "model" in facts else ""
    return name + number


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
