"""The provenance of a result: package versions, the machine, and a fingerprint of settings."""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from lth_keras.errors import LotteryError
from lth_keras.files.checksums import canonical_json

# What results depend on beside lth_keras and NumPy, by the Keras that trains.
TF_KERAS = ("tensorflow", "tf-keras", "tensorflow-model-optimization")
KERAS = {"jax": ("keras", "jax", "jaxlib"), "tensorflow": ("keras", "tensorflow"),
         "torch": ("keras", "torch")}


def versions(packages: Sequence[str] = TF_KERAS) -> dict[str, str]:
    """Returns the versions of the packages that results depend on.

    Args:
      packages: the packages beside lth_keras and NumPy, such as `TF_KERAS`, `KERAS["jax"]`.

    Example:
      >>> sorted(versions())[:2]
      ['lth_keras', 'numpy']
    """
    found = {}
    for package in ("lth_keras", *packages, "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # Run from a source tree.
            found[package] = "not installed"
    return found


def machine() -> str:
    """Describes the machine: its cores, processor and operating system.

    Example:
      >>> machine() == machine()
      True
    """
    return f"{cores()} cores, {processor()}, {platform.system()}"


def cores() -> int:
    """Returns the number of cores that this process may use.

    Example:
      >>> cores() >= 1
      True
    """
    # os.cpu_count has all cores, also those that a container or taskset withholds.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Returns the processor's name, with its family and model if they are known.

    A virtual machine may hide the name, but it shows these numbers.
    """
    facts: dict[str, str] = {}
    described = pathlib.Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    number = f" (family {facts['cpu family']}, model {facts['model']})" \
        if {"cpu family", "model"} <= facts.keys() else ""
    return name + number


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Returns ten hexadecimal digits that identify settings; equal settings have equal digits.

    Example:
      >>> fingerprint({"a": 1, "b": 2.0}) == fingerprint({"b": 2.0, "a": 1})
      True
    """
    try:
        text = canonical_json(settings)
    except (TypeError, ValueError) as error:
        raise LotteryError("Settings and provenance must be what JSON can hold. "
                           f"Received: {settings!r:.200} ({error}).") from None
    return hashlib.sha256(text.encode()).hexdigest()[:10]
