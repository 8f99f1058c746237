"""Names of spectra within tuples, which are never parsed, and their text in quotes."""

import re
from collections.abc import Sequence
from typing import Final

from ..errors import BadIdentifier
from .ids import NUMBER

_CONTROLS: Final = r"\\'\x00-\x1f\x7f-\x9f\u2028\u2029"
QUOTED: Final = re.compile(rf"[{_CONTROLS}]|^\s|\s$")
"""Characters that are written as escapes between quotes."""
MARKED: Final = re.compile(rf"[{_CONTROLS}#:()\[\]]|^\s|\s$")
"""Those, and the marks of comments, contexts and groups."""
IN_QUOTES: Final = r"""'(?:[^'\\\r\n]++|\\[^\r\n])*+'|"(?:[^"\\\r\n]++|\\[^\r\n])*+\""""
"""Text between quotes, as Python writes it; without backtracking, for it may be long."""
_ESCAPE: Final = re.compile(
    r"\\(?:([\\'\"])|x([0-9a-f]{2})|u([0-9a-f]{4})|U(00(?:0[0-9a-f]|10)[0-9a-f]{4}))"
)
_NAME: Final = re.compile(r"[^\r\n]{1,255}")
_BARE: Final = re.compile(r"[\w.+-]+")
_SAFE_DIGITS: Final = 9
"""A name of at most so many digits is written without quotes: it is no identifier."""


class Word(str):
    """Text of a list that had no quotes; only text in quotes may be a name."""

    __slots__ = ()


def is_name(text: str) -> bool:
    """Return whether text can be the name of a spectrum."""
    return bool(_NAME.fullmatch(text))


def name_of(value: str | bytes) -> str | None:
    """Return the name that a part of a tuple is; None where it allows anything."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if text.strip() in {"", "*"} or (isinstance(value, Word) and text == "None"):
        return None
    if not is_name(text):
        raise BadIdentifier(text[:60], "this part is a name, on one line, up to 255 long")
    return text


def quoted(text: str, odd: re.Pattern[str] = MARKED) -> str:
    """Return text in quotes, with the characters ``odd`` as escapes."""
    return f"'{odd.sub(_escaped, text)}'" if odd.search(text) else f"'{text}'"


def unquoted(text: str) -> str:
    """Return text without its quotes; characters may be escapes as Python writes them."""
    bare = text[1:-1].strip()
    return _ESCAPE.sub(_character, bare) if "\\" in bare else bare


def tuple_text(parts: Sequence[object]) -> str:
    """Return a tuple of the catalogue as text, its parts in quotes where they need them."""
    return f"({','.join(map(_part_text, parts))})"


def _part_text(part: object) -> str:
    text = str(part)
    is_long = len(text) > _SAFE_DIGITS and NUMBER.fullmatch(text)
    is_plain = _BARE.fullmatch(text) and text != "None" and not is_long
    return text if is_plain or not isinstance(part, str) else quoted(text)


def _escaped(odd: re.Match[str]) -> str:
    return f"\\{odd[0]}" if odd[0] in "\\'" else f"\\u{ord(odd[0]):04x}"


def _character(escape: re.Match[str]) -> str:
    return escape[1] or chr(int(escape[escape.lastindex or 0], 16))
