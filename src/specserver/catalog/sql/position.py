"""The position at the front of a constraint, as the old client writes it."""

import math
import re
from typing import Final

from ...errors import BadConstraint
from .expressions import ConeArgs, PolygonArgs

REAL: Final = r"(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?"
"""A number without a sign, as a regular expression."""
_NUMBER: Final = rf"\s*+([+-]?{REAL})\s*+"
_PAIR: Final = rf"(?:\({_NUMBER},{_NUMBER}\)|\[{_NUMBER},{_NUMBER}\])"
_OPENING: Final = re.compile(r"\s*+(?:AND\s++)?(?:WHERE\s++)?(?=q3c_)", re.ASCII | re.IGNORECASE)
_Q3C: Final = re.compile(
    rf"q3c_(?:radial_query\s*+\(\s*+ra\s*+,\s*+dec\s*+,{_NUMBER},{_NUMBER},{_NUMBER}\)"
    r"|poly_query\s*+\(\s*+ra\s*+,\s*+dec\s*+,\s*+ARRAY\s*+\[(?P<list>[-+\d.eE,()\[\]\s]*)\]\s*+\))",
    re.ASCII | re.IGNORECASE,
)
_VERTICES: Final = re.compile(
    rf"\s*+{_PAIR}(?:\s*+,\s*+{_PAIR})*+\s*+|{_NUMBER},{_NUMBER}(?:,{_NUMBER},{_NUMBER})*+",
    re.ASCII,
)


def cut_region(text: str) -> tuple[ConeArgs | PolygonArgs | None, str]:
    """Return the position at the front, and the text behind it."""
    opening = _OPENING.match(text)
    if opening is None:
        return None, text
    call = _Q3C.match(text, opening.end())
    if call is None:
        raise BadConstraint(
            text,
            "the position must read q3c_radial_query(ra,dec,R,D,S) or"
            " q3c_poly_query(ra,dec,ARRAY[(r,d),…]) with plain numbers",
        )
    if call["list"] is None:
        numbers = [float(number) for number in call.groups()[:3]]
    elif _VERTICES.fullmatch(call["list"]):
        numbers = [float(number) for number in re.findall(rf"[+-]?{REAL}", call["list"])]
    else:
        raise BadConstraint(text, "the polygon must be pairs of numbers: ARRAY[(r,d),(r,d),…]")
    if not all(map(math.isfinite, numbers)):
        raise BadConstraint(text, "the position holds a number beyond double precision")
    if call["list"] is None:
        return ConeArgs(*numbers), text[call.end() :]
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return PolygonArgs(tuple(pairs)), text[call.end() :]
