"""The command `lth`: flags in, errors in one line.

Exit codes: 0 if all is done, 1 if a run stopped for a training that diverged (0 under
`--on_divergence continue`) or an export could not ship what was asked for, 2 for what a user can
mend, 130 after Ctrl-C.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import app
from absl.flags import argparse_flags
from rich.console import Console

from lth_keras.arguments import meant
from lth_keras.cli import analyse, export, report, run
from lth_keras.cli.listing import run_help, show_presets
from lth_keras.errors import DivergedError, LotteryError


class _Parser(argparse_flags.ArgumentParser):
    """argparse, with absl's flags, whose errors are one line: rule, received, allowed."""

    def error(self, message: str) -> NoReturn:
        choice = re.match(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)", message)
        if choice:
            # Some versions of Python quote the choices.
            what, received, allowed = (part.replace("'", "") for part in choice.groups())
            message = f"{what} must be one of {allowed}. Received: {received!r}." \
                f"{meant(received, allowed.split(', '))}"
        value = re.match(r"argument (\S+): expected one argument", message)
        if value:
            message = f"{value[1]} takes one value. Received: none."
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        sys.exit(2)

    def flag_names(self) -> list[str]:
        """The flags that this parser's own help lists."""
        return [action.option_strings[-1] for action in self._actions
                if action.option_strings and action.help != argparse.SUPPRESS]


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    layout = argparse.RawDescriptionHelpFormatter
    top = _Parser(prog="lth", allow_abbrev=False, formatter_class=layout,
                  description="Finds winning tickets in Keras networks (Frankle & Carbin 2019).",
                  epilog="`lth COMMAND --help` describes a command.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str, **options: object) -> _Parser:
        parser: _Parser = commands.add_parser(name, help=text, description=text,
                                              allow_abbrev=False, formatter_class=layout, **options)
        return parser

    run.add_flags(command("run", "Runs a preset's search: train, prune, rewind, with controls.",
                          epilog=run_help()))
    report.add_flags(command("report", "Prints tables and verdicts of workdirs, draws the paper's "
                             "figures of them, and writes a page."))
    analyse.add_flags(command("analyse", "Looks into a workdir: table, CSV and picture.",
                              epilog=analyse.HELP))
    export.add_flags(command("export", "Writes a ticket's network as files that are checked: "
                             "Keras, SavedModel, TF Lite.", epilog=export.HELP))
    command("presets", "Lists the presets and what they cost.")
    return top, commands.choices


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    top, commands = _parsers()
    known: argparse.Namespace
    known, unknown = top.parse_known_args(argv[1:])
    parser = commands.get(known.command, top)
    if unknown:
        allowed = sorted(parser.flag_names())
        rule = f"A flag must be one of {', '.join(allowed)}" if unknown[0].startswith("-") \
            else "There is one argument beside flags"
        parser.error(f"{rule}. Received: {' '.join(unknown)}.{meant(unknown[0], allowed)}")
    if known.command is None:
        top.error(f"COMMAND must be one of {', '.join(commands)}. Received: none.")
    return known


def _main(arguments: argparse.Namespace) -> int:
    console = Console()
    try:
        if arguments.command == "run":
            run.run(arguments, console)
        elif arguments.command == "report":
            report.run(arguments, console)
        elif arguments.command == "export":
            return export.run(arguments, console)
        elif arguments.command == "analyse":
            analyse.run(arguments, console)
        else:
            show_presets(console)
    except LotteryError as error:
        print(f"lth {arguments.command}: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, DivergedError) else 2
    except OSError as error:  # A full disk, a folder that cannot be written.
        where = f"{error.filename}: " if error.filename else ""
        print(f"lth {arguments.command}: error: A file must be readable and writable. Received: "
              f"{where}{error.strerror or error}. What is finished is kept; the same command goes "
              "on from there.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def main() -> None:
    """The entry point of the console script."""
    app.run(_main, flags_parser=_parse)
