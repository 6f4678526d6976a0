"""Tables as wide as the terminal: what is left out of them where it is narrow, and said to be.

rich itself would fold cells, or cut them off.  A file or a pipe is as wide as any table needs
(`cli.output`), so that nothing is left out there.
"""

from collections.abc import Callable, Collection, Sequence

from rich.console import Console
from rich.table import Table


def show(make: Callable[[Collection[str]], Table], parts: Sequence[str], console: Console) -> None:
    """Prints a table without as many of its parts as the console's width asks for.

    Args:
      make: makes the table without some of its parts.
      parts: the names of what can be left out, in the order in which it is.
      console: the console to print to.

    Example:
      >>> def make(without):
      ...     return Table("level", *[name for name in ("steps", "range") if name not in without])
      >>> show(make, ["range"], Console(width=24, legacy_windows=False))
      ┏━━━━━━━┳━━━━━━━┓
      ┃ level ┃ steps ┃
      ┡━━━━━━━╇━━━━━━━┩
      └───────┴───────┘
      Left out for lack of width: range. A wider terminal or a file has it all.
    """
    table, left_out = make(()), []
    for count, part in enumerate(parts, 1):
        width = _width(table, console)
        if width <= console.width:
            break
        table = make(parts[:count])
        if _width(table, console) < width:  # Not every table has every part.
            left_out.append(part)
    console.print(table)
    if left_out:
        console.print(f"Left out for lack of width: {', '.join(left_out)}. A wider terminal or a "
                      "file has it all.", soft_wrap=True, highlight=False, markup=False)


def _width(table: Table, console: Console) -> int:
    # With no cell folded or cut off.
    return console.measure(table, options=console.options.update_width(10_000)).maximum
