"""Makes the description that PyPI shows of README.md, whose links are to files of the repository.

`url` in setup.cfg is the repository's public address.  Where it is given, links and pictures go
there; until then the description has their text alone, so that no link in it is dead.
"""

import configparser
import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:)([^)]+)\)")


def description() -> str:
    """Returns README.md with links that work outside the repository."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    url = setup["metadata"].get("url", "").rstrip("/")

    def absolute(match: "re.Match[str]") -> str:
        picture, text, target = match.groups()
        if url:
            return f"{picture}[{text}]({url}/{'raw' if picture else 'blob'}/HEAD/{target})"
        return "" if picture else text
    # Programs have brackets too, which are no links.
    parts = re.split(r"(^```.*?^```)", (ROOT / "README.md").read_text("utf-8"),
                     flags=re.DOTALL | re.MULTILINE)
    parts[::2] = [LINK.sub(absolute, part) for part in parts[::2]]
    return re.sub(r"\n{3,}", "\n\n", "".join(parts))


if __name__ == "__main__":
    setuptools.setup(long_description=description(),
                     long_description_content_type="text/markdown")
