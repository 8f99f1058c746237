"""Names in virtual storage, and the rules for them."""

import unicodedata
from typing import Final

from ..errors import BadParameter

PREFIX: Final = "vos://"

_MAX_PART_BYTES: Final = 255  # of the usual file systems
_MAX_NAME_BYTES: Final = 1024
_MAX_DEPTH: Final = 16
# Control and format characters (also those that reverse the text), surrogates, unassigned, line
# ends; the backslash, a slash to other systems; and the mark of bytes that are not text.
_KINDS: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
_CHARACTERS: Final = frozenset({"\\", "\ufffd"})


def split_name(name: str) -> tuple[str, ...]:
    """Return the parts of a name, in Unicode's composed form; the empty name has none.

    ``vos://`` at the beginning and a slash at the end are ignored.

    Raises
    ------
    BadParameter
        The name is absolute or too long, or has ``.``, ``..``, a hidden part, a backslash or a
        control character.

    Examples
    --------
    >>> split_name("vos://qso/ids.txt")
    ('qso', 'ids.txt')
    """
    normal = unicodedata.normalize("NFC", name.removeprefix(PREFIX))
    if normal == "":
        return ()
    parts = tuple(normal.removesuffix("/").split("/"))
    if len(parts) > _MAX_DEPTH or len(normal.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        allowed = f"a name has at most {_MAX_NAME_BYTES} bytes and {_MAX_DEPTH} parts"
        raise BadParameter("name", name[:80], allowed)
    for part in parts:
        reason = _fault(part)
        if reason:
            raise BadParameter("name", name, f"{reason}; give a name such as 'ids.txt' or 'a/b'")
    return parts


def split_file_name(name: str) -> tuple[str, ...]:
    """Return the parts of a file's name, at least one; errors: those of `split_name`."""
    parts = split_name(name)
    if not parts or name.endswith("/"):
        raise BadParameter("name", name, "a file has a name without a slash at its end")
    return parts


def _fault(part: str) -> str:
    """Return what is wrong with a part of a name; empty text if nothing is."""
    if not part:
        return "a part is empty (a name does not begin with a slash)"
    if part.startswith("."):
        return "a part begins with a dot"
    if part != part.strip():
        return "a part begins or ends with a blank"
    if _CHARACTERS & set(part) or _KINDS & {unicodedata.category(character) for character in part}:
        return "it has a character that names do not have"
    if len(part.encode()) > _MAX_PART_BYTES:
        return f"a part has more than {_MAX_PART_BYTES} bytes"
    return ""


def in_space(name: object) -> bool:
    """Return whether a name is one in virtual storage."""
    return isinstance(name, str) and name.lstrip().startswith(PREFIX)
