"""The command `lth`: the parser, the dispatch to commands, and the exit codes.

Exit codes: 0 if everything was done; 1 if a training diverged (0 with `--on_divergence continue`)
or an export could not ship what was asked for; 2 for an error that the user can fix, such as a
wrong flag; 130 after Ctrl-C.
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
from lth_keras.cli import analyse, data, export, report, run
from lth_keras.cli.listing import run_help, show_presets
from lth_keras.errors import DivergedError, LotteryError


class _Parser(argparse_flags.ArgumentParser):
    """argparse with absl's flags, whose errors have this package's form and fit on one line."""

    def error(self, message: str) -> NoReturn:
        # argparse's own messages come in other forms, and after several lines of usage.
        choice = re.match(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)", message)
        if choice:
            # Some versions of Python quote the choices.
            what, received, allowed = (part.replace("'", "") for part in choice.groups())
            message = f"{what} must be one of {allowed}. Received: {received!r}." \
                f"{meant(received, allowed.split(', '))}"
        value = re.match(r"argument (\S+): expected one argument", message)
        if value:
            message = f"{value[1]} must have a value. Received: none."
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        sys.exit(2)

    def flag_names(self) -> list[str]:
        """Returns the flags that this parser's help lists; absl's own flags are hidden in it."""
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

    run.add_flags(command("run", "Searches for winning tickets with a preset: trains, prunes, "
                          "rewinds, and trains controls.", epilog=run_help()))
    report.add_flags(command("report", "Prints results and verdicts of workdirs, draws the "
                             "paper's figures, and writes report.html."))
    analyse.add_flags(command("analyse", "Analyses the weights and masks of a workdir, as a "
                              "table, CSV files and a figure.", epilog=analyse.HELP))
    export.add_flags(command("export", "Exports a ticket's trained network to Keras, SavedModel "
                             "and TF Lite files, and checks every file.", epilog=export.HELP))
    data.add_flags(command("data", "Writes a data set to one file, for machines without "
                           "TensorFlow.", epilog=data.HELP))
    command("presets", "Lists the presets, their sizes and how many steps they train.")
    return top, commands.choices


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    top, commands = _parsers()
    known: argparse.Namespace
    # parse_args would reject unknown flags in argparse's words, without a suggestion.
    known, unknown = top.parse_known_args(argv[1:])
    parser = commands.get(known.command, top)
    if unknown:
        allowed = sorted(parser.flag_names())
        rule = f"A flag must be one of {', '.join(allowed)}" if unknown[0].startswith("-") \
            else "There must be only one argument that is not a flag"
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
        elif arguments.command == "data":
            data.run(arguments, console)
        elif arguments.command == "analyse":
            analyse.run(arguments, console)
        else:
            show_presets(console)
    # A traceback says nothing to a user who mistyped a flag; other errors are bugs and keep theirs.
    except LotteryError as error:
        print(f"lth {arguments.command}: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, DivergedError) else 2
    except OSError as error:  # Such as a full disk, or a folder without permission to write.
        where = f"{error.filename}: " if error.filename else ""
        print(f"lth {arguments.command}: error: A file must be readable and writable. Received: "
              f"{where}{error.strerror or error}. Finished trainings are kept; run the same "
              "command again to continue.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def main() -> None:
    """The entry point of the console script."""
    app.run(_main, flags_parser=_parse)
