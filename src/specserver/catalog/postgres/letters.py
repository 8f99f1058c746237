"""What a database knows of letters: their case, and which of them are blank."""

from dataclasses import dataclass
from typing import Final

_BLANKS: Final = (
    " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u202f\u205f\u3000"
)
"""Unicode's category Zs, which DuckDB's ``trim`` takes."""


@dataclass(frozen=True, slots=True)
class Letters:
    """What a condition on text is written with."""

    case_collation: str
    """Quoted name of the collation by which upper and lower case are told."""
    blanks: str
    """What ``trim`` takes away, as far as the database can have it."""


def blanks_in(encoding: str) -> str:
    r"""Return the blanks of an encoding, by its name in PostgreSQL.

    Examples
    --------
    >>> blanks_in("LATIN1")
    ' \xa0'
    """
    if encoding == "UTF8":
        return _BLANKS
    name = "koi8_r" if encoding == "KOI8R" else encoding.replace("WIN", "cp")
    try:
        return "".join(blank for blank in _BLANKS if blank.encode(name, "ignore"))
    except LookupError:
        return " "
