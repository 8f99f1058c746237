"""Listings of the service as text, which a notebook shows as a table."""

import re
from html import escape
from typing import Final

from typing_extensions import override

_WORD: Final = re.compile(r"\S+")


class Listing(str):
    """Text of a header line and of rows in columns of equal width."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        header, *rows = self.splitlines() or [""]
        # A column begins where its header does; cells hold blanks, too.
        starts = [word.start() for word in _WORD.finditer(header)]
        places = [slice(*ends) for ends in zip(starts, [*starts[1:], None], strict=True)]

        def row(line: str, tag: str) -> str:
            cells = (f"<{tag}>{escape(line[place].strip())}</{tag}>" for place in places)
            return f"<tr>{''.join(cells)}</tr>"

        body = "".join(row(line, "td") for line in rows)
        return f"<table><thead>{row(header, 'th')}</thead><tbody>{body}</tbody></table>"

    @override
    def __repr__(self) -> str:
        """Return the text itself: its lines, not one line with escapes."""
        return self.rstrip()
