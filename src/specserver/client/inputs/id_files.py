"""Files of identifiers, here or in virtual storage: their text, or the table that they hold."""

from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, Final

from ...errors import BadIdentifier
from ...model.id_tuple import parse_printed, shortened
from ...model.ids import IdForm
from ...model.spacename import in_space

MAX_FILE_NAME: Final = 1024  # longer text cannot be opened on common systems, so it is none
ReadVos = Callable[[str], str | bytes]
"""Reads a file in virtual storage, by its name."""


def decoded(given: bytes | bytearray) -> str:
    """Return bytes as text."""
    try:
        return bytes(given).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadIdentifier(shortened(bytes(given[:60])), "the bytes are no text") from None


def read_file(path: Path) -> Any:
    """Return the text or the table of a file of identifiers."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadIdentifier(str(path), f"the file cannot be read ({error.strerror})") from error
    return _content(raw, str(path))


def _content(raw: str | bytes, name: str) -> Any:
    """Return the text that bytes are, or the table that they hold."""
    if isinstance(raw, str):
        return raw
    from ..results.table_file import read_table

    table = read_table(raw, name)
    if table is not None:
        return table
    if b"\0" in raw:
        reason = "the file is no text; read it, as with astropy's Table.read, and give the table"
        raise BadIdentifier(name, reason)
    return decoded(raw)


def _file_named(text: str) -> Path | None:
    """Return the file of that name, or None; a name of digits only is a number."""
    name = text.strip()
    if "\n" in name or not name or len(name) > MAX_FILE_NAME or name.isdecimal():
        return None
    with suppress(OSError, RuntimeError, ValueError):
        path = Path(name).expanduser()
        return path if path.is_file() else None
    return None


def file_content(given: str | PathLike[str], read_vos: ReadVos | None, form: IdForm) -> Any:
    """Return the text or the table of the file that a caller named; None for text that names none.

    A table is one that `table_of` knows. A file with the name of a spectrum holds that spectrum,
    and no identifiers: it is not read.
    """
    if parse_printed(str(given).strip(), form) is not None:
        return None
    if not isinstance(given, str):
        return read_file(Path(given).expanduser())
    if in_space(given):
        if read_vos is None:
            raise BadIdentifier(shortened(given), "there is no virtual storage to read it from")
        return _content(read_vos(given.strip()), given.strip())
    path = _file_named(given)
    return None if path is None else read_file(path)
