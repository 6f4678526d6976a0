"""The command `lth completion`: a script that completes commands, flags and names in a shell.

What can stand where is read off the parsers of the commands, so that a new flag, preset or setting
is completed without a word here.  All of it is in the script: completing starts no Python.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lth_keras.arguments import check_choice
from lth_keras.cli import flags

if TYPE_CHECKING:
    from rich.console import Console

HELP = """\
Put a line into the file that your shell reads when it starts, or run it for one session:
  bash   eval "$(lth completion bash)"      in ~/.bashrc
  zsh    eval "$(lth completion zsh)"       in ~/.zshrc, after compinit
  fish   lth completion fish | source       in ~/.config/fish/config.fish"""
_Commands = dict[str, "Words"]


@dataclasses.dataclass(frozen=True)
class Words:
    """What can follow a command.

    Attributes:
      text: what the command does.
      flags: flag -> the words that its value can be; () for a number or a file, None if it takes
        no value.
      arguments: for each place of an argument that is not a flag, the words that it can be; () for
        a file.

    Example:
      >>> commands()["completion"].arguments
      [('bash', 'zsh', 'fish')]
    """

    text: str
    flags: dict[str, "tuple[str, ...] | None"]
    arguments: list[tuple[str, ...]]


def commands() -> _Commands:
    """Returns command -> what can follow it, as the commands' parsers have it."""
    from lth_keras.cli import main  # Which imports this module when the command is named.
    found = {}
    for name, text in main.COMMANDS.items():
        parser = main.parser_of(name)
        found[name] = Words(text, {
            flag: None if action.nargs == 0 else flags.words_of(action)
            for flag, action in parser.flags().items()},
            [flags.words_of(action) for action in parser.arguments()])
    return found


def epilog() -> str:
    """Returns what the help says below the flags."""
    return HELP


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `lth completion` to its parser."""
    flags.completed(parser.add_argument("shell", metavar="SHELL", nargs="?",
                                        help=" or ".join(SHELLS)), SHELLS)


def run(arguments: argparse.Namespace, console: "Console") -> None:
    """Runs `lth completion`.

    Raises:
      LotteryError: if no script can be written for the shell.
    """
    check_choice("SHELL", arguments.shell, SHELLS)
    print(SHELLS[arguments.shell](commands()))


# Not the `words` that bash splits: it splits at "=" too, as in --set strategy=one_shot.
_BASH = """\
_lth() {
    local line="${COMP_LINE:0:COMP_POINT}" before cur answers="" files=""
    cur="${line##*[[:space:]]}"
    read -ra before <<< "${line%"$cur"}"
    local count=${#before[@]}
    local prev="${before[count-1]}"
    case "${before[1]} $prev" in
@VALUES@
    *)
        case "${before[1]}:$cur" in
@FLAGS@
        *) case "${before[1]}:$count" in
@ARGUMENTS@
        :*) answers="@COMMANDS@ --help --version" ;;
        *) files=yes ;;
        esac ;;
        esac ;;
    esac
    if [[ -n $files ]]; then
        compopt -o filenames 2> /dev/null
        COMPREPLY=($(compgen -f -- "$cur"))
        return
    fi
    COMPREPLY=($(compgen -W "$answers" -- "$cur"))
    if [[ ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2> /dev/null; fi
    # What stands before the last word break is on the line already.
    if [[ $cur == *=* && $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*=}"}"}")
    fi
}
complete -F _lth lth"""

_ZSH = """\
#compdef lth
_lth() {
    local command=$words[2] prev=$words[CURRENT-1] cur=$words[CURRENT]
    (( CURRENT == 2 )) && { compadd -- @COMMANDS@ --help --version; return }
    case "$command $prev" in
@VALUES@
    *)
        case "$command:$cur" in
@FLAGS@
        *) case "$command:$((CURRENT - 1))" in
@ARGUMENTS@
        *) _files ;;
        esac ;;
        esac ;;
    esac
}
compdef _lth lth"""


def _bash(found: _Commands) -> str:
    return _filled(_BASH, found, lambda words: f'answers="{" ".join(words)}"', "files=yes")


def _zsh(found: _Commands) -> str:
    # -S "": after KEY= comes its value, so no space.
    return _filled(_ZSH, found, lambda words: "; ".join(
        f"compadd {end}-- {' '.join(some)}" for end, some in (
            ("", [word for word in words if not word.endswith("=")]),
            ("-S '' ", [word for word in words if word.endswith("=")])) if some), "_files")


def _filled(script: str, found: _Commands, say: Callable[[Sequence[str]], str],
            files: str) -> str:
    # The two shells have the same `case`, and differ in how words are offered.
    values, of_flags, places = [], [], []
    for name, words in found.items():
        for flag, value in words.flags.items():
            if value is not None:
                values.append(f'    "{name} {flag}") {say(value) if value else files} ;;')
        of_flags.append(f"        {name}:-*) {say([*words.flags])} ;;")
        places += [f"        {name}:{place}) {say(value) if value else files} ;;"
                   for place, value in enumerate(words.arguments, 2)]
    for mark, lines in (("@VALUES@", values), ("@FLAGS@", of_flags), ("@ARGUMENTS@", places)):
        script = script.replace(mark, "\n".join(lines))
    return script.replace("@COMMANDS@", " ".join(found))


def _fish(found: _Commands) -> str:
    lines = ["complete -c lth -f", "complete -c lth -n __fish_use_subcommand -l version",
             "complete -c lth -n __fish_use_subcommand -l help"]
    for name, words in found.items():
        lines.append(f"complete -c lth -n __fish_use_subcommand -a {name} -d {_quoted(words.text)}")
        within = f"complete -c lth -n '__fish_seen_subcommand_from {name}'"
        for flag, value in words.flags.items():
            takes = " -r" if value == () else f" -x -a {_quoted(' '.join(value))}" if value else ""
            lines.append(f"{within} -l {flag.removeprefix('--')}{takes}")
        for place, value in enumerate(words.arguments, 2):
            test = "-eq" if value else "-ge"  # There may be several files.
            here = f"complete -c lth -n '__fish_seen_subcommand_from {name}; and test " \
                f"(count (commandline -opc)) {test} {place}'"
            lines.append(f"{here} -a {_quoted(' '.join(value))}" if value else f"{here} -F")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
