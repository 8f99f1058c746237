"""Checks of bodies before they are parsed: the values, fields and depth that they hold are counted.

A byte of JSON or of a form may become a hundred bytes of memory. So the values of JSON and its
depth, the fields of a form, and what is written with ``%`` are bounded by what a request can need.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from ...errors import BadParameter, TooMuch
from ...settings import Settings

MAX_FIELDS: Final = 100
"""Fields of a form, or of a JSON object with those in it: no request has a fifth of them."""
MAX_DEPTH: Final = 8
"""Arrays and objects within each other: a polygon has three."""
_FEW: Final = 1_000
"""Values beside long lists."""
_BLOCK: Final = 2**16

_OUTSIDE: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^"]++|"', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def check_json(body: bytes, settings: Settings) -> None:
    """Count the values of JSON before it is parsed.

    Raises `TooMuch` for more values, fields, arrays or depth than a request can need, and
    `BadParameter` for a body that is not UTF-8: quotes and commas would be other bytes.
    """
    if b"\0" in body:
        raise BadParameter("body", body[:40], "JSON in UTF-8, without NUL")
    most = settings.max_ids + settings.max_polygon_corners + _FEW
    brackets = body.count(b"[") + body.count(b"{")
    if len(body) <= _FEW and brackets <= MAX_DEPTH and body.count(b":") <= MAX_FIELDS:
        # Most bodies: so few bytes hold no more values than are allowed.
        return
    most_arrays = settings.max_polygon_corners + _FEW
    nvalues = nfields = narrays = depth = 0
    for match in _OUTSIDE.finditer(body):
        piece = match[0]
        if piece.startswith(b'"'):
            continue
        nvalues += piece.count(b",")
        nfields += piece.count(b":")
        if nvalues > most:
            raise TooMuch("values in JSON", None, most)
        if nfields > MAX_FIELDS:
            raise TooMuch("fields in JSON", None, MAX_FIELDS)
        for bracket in piece.translate(None, _NOT_BRACKETS):
            opens = bracket in b"[{"
            depth += 1 if opens else -1
            narrays += opens
            if depth > MAX_DEPTH:
                raise TooMuch("arrays within each other in JSON", None, MAX_DEPTH)
            if narrays > most_arrays:
                what = "arrays in JSON, such as corners of a polygon,"
                raise TooMuch(what, None, most_arrays, "max_polygon_corners")


def read_fields(body: bytes) -> dict[str, str]:
    """Return the fields of a URL-encoded form; one sent several times is a list with commas.

    Raises `TooMuch` for more than `MAX_FIELDS`, `BadParameter` for a body that is not UTF-8.
    """
    # The parsers of Starlette and of Python refuse long fields, or take 50 bytes for each `%`.
    nfields = body.count(b"&") + 1
    if nfields > MAX_FIELDS:
        raise TooMuch("fields of a form", nfields, MAX_FIELDS)
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadParameter("form", body[:40], f"a URL-encoded form ({error})") from error
    fields: dict[str, str] = {}
    for part in body.split(b"&"):
        name, _, value = part.partition(b"=")
        if part:
            key, text = _decoded(name), _decoded(value)
            fields[key] = f"{fields[key]},{text}" if key in fields else text
    return fields


def _decoded(part: bytes) -> str:
    """Decode URL encoding, in blocks of bounded size."""
    plain = part.replace(b"+", b" ")
    if b"%" in plain:
        blocks = []
        at = 0
        while at < len(plain):
            end = min(at + _BLOCK, len(plain))
            # Do not cut between a percent sign and its two digits.
            cut = plain.rfind(b"%", max(end - 2, at + 1), end) if end < len(plain) else -1
            end = cut if cut > 0 else end
            blocks.append(unquote_to_bytes(plain[at:end]))
            at = end
        plain = b"".join(blocks)
    return plain.decode("utf-8", "replace")
