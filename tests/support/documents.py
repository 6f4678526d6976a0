"""The documents as a reader sees them."""

import re


def headings(path):
    """The anchors of headings, as GitHub names them, and those that names have on the site."""
    lines = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            for text in re.findall(r"^#+ (.*)$", lines, re.MULTILINE)} | {
        *re.findall(r"^::: (\S+)$", lines, re.MULTILINE)}
