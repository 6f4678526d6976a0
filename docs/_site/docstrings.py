"""Reads the package's docstrings for the site: their examples are code, their names are linked."""

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Names sections as griffe knows them, before it parses them."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each object that was read from source."""
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
