"""What CONTRIBUTING.md lists, each in an environment of its own: `nox`, or `nox -s docs`.

    tests      all but the thorough and the long ones, and the examples of docstrings
    thorough   what takes seconds each
    lint       ruff and mypy
    docs       the documentation site, without a warning; `nox -s docs -- serve` shows it

`nox -R` uses an environment again as it is.
"""

import configparser
import pathlib

import nox

nox.options.sessions = ["lint", "tests", "docs"]


def _packages(extra: str) -> list[str]:
    """Returns what setup.cfg requires for an extra."""
    setup = configparser.ConfigParser()
    setup.read(pathlib.Path(__file__).with_name("setup.cfg"), encoding="utf-8")
    lines = setup["options.extras_require"][extra].split("\n")
    return [line.strip() for line in lines if line.strip()]


@nox.session
def tests(session: nox.Session) -> None:
    """All but the thorough and the long tests; arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def thorough(session: nox.Session) -> None:
    """The tests that take seconds each."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "-m", "thorough and not long", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".[test]")
    session.run("ruff", "check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, which is read from the source: the package is not installed."""
    session.install(*_packages("docs"))
    session.run("mkdocs", *(session.posargs or ("build", "--strict")),
                env={"NO_MKDOCS_2_WARNING": "1"})
