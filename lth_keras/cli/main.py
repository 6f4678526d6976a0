"""The command `lth`: the parser, the dispatch to commands, and the exit codes.

Exit codes: 0 if everything was done; 1 if a training diverged (0 with `--on_divergence continue`)
or an export could not ship what was asked for; 2 for an error that the user can fix, such as a
wrong flag; 130 after Ctrl-C, 143 after SIGTERM; 141 if what reads the output was closed, as by
`| head`.

A command's module, and what it works with, is imported when the command is named: a page of help
does not wait for pandas.
"""

import argparse
import importlib
import os
import platform
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from lth_keras._version import __version__
from lth_keras.arguments import meant
from lth_keras.errors import DivergedError, LotteryError
from lth_keras.extras import needed_for

# Command -> a line for the help. A command is the module of this name beside this one, with its
# `add_flags`, `epilog` and `run`.
COMMANDS = {
    "run": "Searches for winning tickets with a preset: trains, prunes, rewinds, and trains "
           "controls.",
    "report": "Prints results and verdicts of workdirs, draws the paper's figures, and writes "
              "report.html.",
    "analyse": "Analyses the weights and masks of a workdir, as a table, CSV files and a figure.",
    "export": "Exports a ticket's trained network to Keras, SavedModel and TF Lite files, and "
              "checks every file.",
    "data": "Writes a data set to one file, for machines without TensorFlow.",
    "presets": "Lists the presets, their sizes and how many steps they train.",
    "completion": "Prints a script that completes commands, flags and names in bash, zsh or fish.",
}
_INTERRUPTED, _CLOSED = 130, 141  # As of programs that end by SIGINT and SIGPIPE.
_ENDING = ("SIGTERM", "SIGHUP")  # What schedulers and closed terminals send.


class Parser(argparse.ArgumentParser):
    """argparse, whose errors have this package's form and fit on one line."""

    def error(self, message: str) -> NoReturn:
        # argparse's own messages come in other forms, and after several lines of usage.
        value = re.match(r"argument (\S+): expected one argument", message)
        if value:
            message = f"{value[1]} must have a value. Received: none."
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        sys.exit(2)

    def flags(self) -> dict[str, argparse.Action]:
        """Returns the flags that this parser's help lists, by name."""
        return {action.option_strings[-1]: action for action in self._actions
                if action.option_strings}

    def arguments(self) -> list[argparse.Action]:
        """Returns the arguments that are not flags, in order."""
        return [action for action in self._actions if not action.option_strings]


def top_parser() -> Parser:
    """Returns the parser of what stands before a command."""
    top = Parser(prog="lth", allow_abbrev=False, usage="lth COMMAND [ARGUMENTS...]",
                 formatter_class=argparse.RawDescriptionHelpFormatter,
                 description="Finds winning tickets in Keras networks (Frankle & Carbin 2019).",
                 epilog="\n".join(["commands:", *(f"  {name:<11} {text}"
                                                  for name, text in COMMANDS.items()),
                                   "", "`lth COMMAND --help` describes a command; that of `lth "
                                   "run` lists presets, networks, data sets\nand settings.  "
                                   "`lth run digits` needs no data, and takes a minute."]))
    top.add_argument("--version", action="version", help="print the version and exit",
                     version=f"lth_keras {__version__} (Python {platform.python_version()})")
    return top


def parser_of(command: str) -> Parser:
    """Imports the module of a command, and returns the parser of its flags."""
    module = _module(command)
    parser = Parser(prog=f"lth {command}", description=COMMANDS[command], epilog=module.epilog(),
                    allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    module.add_flags(parser)
    return parser


def _module(command: str) -> Any:
    try:
        with needed_for(f"lth {command}"):
            return importlib.import_module(f"lth_keras.cli.{command}")
    except LotteryError as error:
        top_parser().error(str(error))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    command, *rest = argv[1:] or ["--help"]
    if command not in COMMANDS:
        _refuse_unknown(command, rest)
    parser = parser_of(command)
    # parse_args would reject unknown flags in argparse's words, without a suggestion.
    known, unknown = parser.parse_known_args(rest)
    if unknown:
        allowed = sorted(parser.flags())
        rule = f"A flag must be one of {', '.join(allowed)}" if unknown[0].startswith("-") \
            else "There must be only one argument that is not a flag"
        parser.error(f"{rule}. Received: {' '.join(unknown)}.{meant(unknown[0], allowed)}")
    known.command = command
    return known


def _refuse_unknown(word: str, rest: Sequence[str]) -> NoReturn:
    # What is no command: help and the version, which end the program, or a mistake.
    top = top_parser()
    if word in ("-h", *top.flags()):
        top.parse_args([word])
    what, allowed = ("A flag", [*top.flags()]) if word.startswith("-") else (
        "COMMAND", [*COMMANDS])
    top.error(f"{what} must be one of {', '.join(allowed)}. Received: {word!r}."
              f"{meant(word, allowed)}")


def _main(arguments: argparse.Namespace) -> int:
    try:
        with needed_for(f"lth {arguments.command}"):
            from lth_keras.cli.output import console
            return _module(arguments.command).run(arguments, console()) or 0
    # A traceback says nothing to a user who mistyped a flag; other errors are bugs and keep theirs.
    except LotteryError as error:
        print(f"lth {arguments.command}: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, DivergedError) else 2
    except BrokenPipeError:
        raise
    except OSError as error:  # Such as a full disk, or a folder without permission to write.
        where = f"{error.filename}: " if error.filename else ""
        print(f"lth {arguments.command}: error: A file must be readable and writable. Received: "
              f"{where}{error.strerror or error}. Finished trainings are kept; run the same "
              "command again to continue.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED


def _end(number: int, frame: object) -> NoReturn:
    # A second signal ends the process at once, should closing take long.
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def main() -> None:
    """The entry point of the console script."""
    # Paths need not be UTF-8, and a terminal need not know all letters: both are shown escaped.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # Python would end at once, and leave processes, semaphores and temporary folders behind.
    for name in _ENDING:
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        code: Any = _INTERRUPTED
        try:
            code = _main(_parse(sys.argv))
        except KeyboardInterrupt:  # While a command's module was imported.
            pass
        except SystemExit as ended:  # Of argparse, and of rich after a closed pipe.
            code = ended.code
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends, and would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _CLOSED
    sys.exit(code)
