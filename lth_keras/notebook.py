"""What objects show in a notebook: tables of HTML, without colours, for light and dark pages."""

import html
import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"[-+]?[\d.,]*(e[-+]?\d+)?%?")  # As it is shown; "" and "-" for none.
_MOST = 50  # Rows: a notebook is scrolled through, and a large model has hundreds of weights.


def page(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]],
         *notes: str) -> str:
    """Returns a title, a table and notes as HTML; every text is escaped.

    The table has no style but alignment, so that it looks as the notebook's own tables do.

    Args:
      title: one line.
      columns: the names of the columns; without rows they are left out.
      rows: the cells of each row; numbers stand at the right.  A long table is cut, and says so.
      *notes: lines below the table.

    Example:
      >>> page("<a>", ["name", "kept"], [["w", 3]], "2 more")
      '<p><b>&lt;a&gt;</b></p><table><thead><tr><th style="text-align: left">name</th>\
<th style="text-align: right">kept</th></tr></thead><tbody><tr><td style="text-align: left">w</td>\
<td style="text-align: right">3</td></tr></tbody></table><p>2 more</p>'
    """
    cells = [[*row] for row in rows]
    if len(cells) > _MOST:
        notes = (f"{len(cells) - _MOST:,} more rows are not shown.", *notes)
    sides = ["right" if all(_NUMBER.fullmatch(str(row[place])) for row in cells) else "left"
             for place in range(len(columns))]
    head = "".join(_cell("th", *each) for each in zip(columns, sides, strict=True))
    body = "".join(f"<tr>{''.join(_cell('td', *each) for each in zip(row, sides, strict=True))}"
                   "</tr>" for row in cells[:_MOST])
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if cells else ""
    return (f"<p><b>{html.escape(title)}</b></p>{table}"
            f"{''.join(f'<p>{html.escape(note)}</p>' for note in notes)}")


def _cell(tag: str, value: object, side: str) -> str:
    return f'<{tag} style="text-align: {side}">{html.escape(str(value))}</{tag}>'
