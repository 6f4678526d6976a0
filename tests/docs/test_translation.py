"""README.zh.md says what README.md says: its programs, commands, outputs, links and figures."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
LANGUAGES = {"README.md", "README.zh.md"}


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def programs(name):
    """The fenced blocks without their comments, which are translated."""
    found = re.findall(r"^```(.*?)\n(.*?)^```", text(name), re.DOTALL | re.MULTILINE)
    return [(kind, re.sub(r" *# .*$", "", program, flags=re.MULTILINE)) for kind, program in found]


def links(name):
    return sorted({*re.findall(r"\]\(([^)]+)\)", text(name))} - LANGUAGES)


def numbers(name):
    """The percentages, identifiers and fractions of the prose."""
    prose = re.sub(r"^```.*?^```", "", text(name), flags=re.DOTALL | re.MULTILINE)
    return {*re.findall(r"\d+(?:\.\d+)?%|arXiv:[\d.]+|\d/\d+|\d+\.\d+", prose)}


def test_programs_commands_and_outputs_are_the_same():
    assert len(programs("README.md")) >= 6
    assert programs("README.zh.md") == programs("README.md")


def test_the_readmes_link_to_each_other_and_to_the_same_pages():
    assert links("README.zh.md") == links("README.md")
    assert "](README.zh.md)" in text("README.md") and "](README.md)" in text("README.zh.md")


def test_the_figures_of_the_prose_are_the_same():
    ours = numbers("README.zh.md")
    assert numbers("README.md") <= ours
    explained = {*re.findall(r"\d+(?:\.\d+)?%?", "\n".join(
        program for _, program in programs("README.md")))}
    assert ours - numbers("README.md") <= explained  # The verdict is said in Chinese too.


def test_there_are_as_many_headings_and_rows_in_the_same_order():
    for pattern in (r"^#+ ", r"^\|", r"^- "):
        counts = {len(re.findall(pattern, text(name), re.MULTILINE)) for name in LANGUAGES}
        assert len(counts) == 1
