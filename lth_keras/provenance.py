"""Where a result came from: versions, settings and a fingerprint of them."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from lth_keras.errors import LotteryError
from lth_keras.files import canonical_json

_PACKAGES = ("lth_keras", "tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy")


def versions() -> dict[str, str]:
    """The versions of the packages that a result depends on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # Run from a source tree.
            found[package] = "not installed"
    return found


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits that stand for settings: equal settings, equal digits.

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
