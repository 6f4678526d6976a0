"""Makes one site of `docs/`, the pages outside it that it links to, notebooks, and linked sources.

The pages are written to be read in the repository too, so their links go to files in it.  Here a
link that leaves `docs/` goes to a page of the site with the same text, and a link to a notebook to
the page made of it.
"""

import pathlib
import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any

import jinja2
import nbconvert
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = pathlib.Path(__file__).parents[2]
# File of the repository -> page of the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "README.zh.md": "zh.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "studies/README.md": "studies.md",
}
# Whose content is a page already.
SAME = {"README.md": "index.md", "docs": "index.md"}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)
# What a program prints looks other than the program.
NOTEBOOK = nbconvert.MarkdownExporter(template_file="notebook.md", extra_loaders=[
    jinja2.DictLoader({"notebook.md": "{% extends 'markdown/index.md.j2' %}{% block stream %}\n"
                       "``` { .text .output }\n{{ output.text }}```\n{% endblock %}"})])
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that do not lie in docs/, and the sources that pages link to."""
    for source, uri in PAGES.items():
        _add(files, config, uri, content=(ROOT / source).read_text(encoding="utf-8"))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        _add_notebook(files, config, notebook)
    for file in files.documentation_pages():
        place = _place(file.src_uri)
        for target in _targets(file.content_string, place):
            if not target.startswith("docs/") and target not in {*PAGES, *SAME} \
                    and (ROOT / target).exists():
                _add_source(files, config, target)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links to files of the repository into links to pages of the site."""
    place = _place(page.file.src_uri)
    if place == "docs/index.md":
        page.meta["hide"] = ["navigation"]

    def moved(match: "re.Match[str]") -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), match[1]))
        uri = posixpath.relpath(_uri(target), posixpath.dirname(page.file.src_uri) or ".")
        return uri + (match[2] or "")
    return _outside_fences(markdown, lambda text: LINK.sub(moved, text))


@event_priority(-100)  # After the search has written what it found.
def on_post_build(config: Any) -> None:
    """Writes the search's index as a script too, which a page that lies in a folder can load."""
    index = pathlib.Path(config.site_dir) / "search" / "search_index.json"
    index.with_suffix(".js").write_text(f"var __index = {index.read_text('utf-8')}", "utf-8")


def _place(uri: str) -> str:
    """Where in the repository a page comes from."""
    for source, page in PAGES.items():
        if uri == page:
            return source
    return f"docs/{uri}"


def _uri(target: str) -> str:
    """Where in the site a file of the repository is."""
    if target in PAGES or target in SAME:
        return {**PAGES, **SAME}[target]
    if target.endswith(".ipynb"):
        return target.removeprefix("docs/").removesuffix(".ipynb") + ".md"
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return _source_uri(target)


def _source_uri(target: str) -> str:
    """CSV files are downloads; what else is linked to is shown on a page."""
    return f"source/{target}" if target.endswith(".csv") else f"source/{target}.md"


def _targets(markdown: str, place: str) -> Iterator[str]:
    for part in FENCE.split(markdown)[::2]:
        for match in LINK.finditer(part):
            yield posixpath.normpath(posixpath.join(posixpath.dirname(place), match[1]))


def _outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    parts = FENCE.split(markdown)
    parts[::2] = [change(part) for part in parts[::2]]
    return "".join(parts)


def _add(files: Files, config: Any, uri: str, **content: Any) -> None:
    # Sources that pages link to are no part of the navigation.
    level = InclusionLevel.NOT_IN_NAV if uri.startswith("source/") else InclusionLevel.INCLUDED
    if files.get_file_from_path(uri) is None:
        files.append(File.generated(config, uri, inclusion=level, **content))


def _add_source(files: Files, config: Any, target: str) -> None:
    path, uri = ROOT / target, _source_uri(target)
    if path.is_dir():
        names = sorted(str(file.relative_to(path)) for file in path.rglob("*")
                       if file.is_file() and "__pycache__" not in file.parts)
        text = "\n".join(f"- `{name}`" for name in names)
        _add(files, config, uri, content=f"{UNSEARCHED}# {target}/\n\n"
             f"Files in this folder of the repository:\n\n{text}\n")
    elif uri.endswith(".md"):
        language = {".py": "python", ".cff": "yaml"}.get(path.suffix, "text")
        _add(files, config, uri, content=f"{UNSEARCHED}# {target}\n\n````{language}\n"
             f"{path.read_text(encoding='utf-8')}````\n")
    else:
        _add(files, config, uri, abs_src_path=str(path))


def _add_notebook(files: Files, config: Any, notebook: pathlib.Path) -> None:
    """Adds the page of a notebook, with its pictures; the notebook itself is copied as it is."""
    text, resources = NOTEBOOK.from_filename(str(notebook))
    title, _, rest = text.strip().partition("\n")
    name = notebook.stem
    _add(files, config, f"notebooks/{name}.md", content=(
        f"{title}\n\n<p><a href=\"{name}.ipynb\" download>Download this notebook</a></p>\n{rest}"
    ).replace("](output_", f"]({name}_output_"))
    for file, data in resources["outputs"].items():
        _add(files, config, f"notebooks/{name}_{file}", content=data)
