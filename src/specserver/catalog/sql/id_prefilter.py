"""Conditions that begin with identifiers: the identifiers are searched in the sorted column.

``specobjid IN (…)`` with 10,000 of them takes the parser and the database a second; a search in
the sorted identifiers takes milliseconds. Only forms that cannot mean anything else are split off;
other text goes unchanged to `catalog.sql.constraint`, which also explains errors in it.
"""

import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...errors import TooMuch
from ...model.survey import Survey
from .constraint import MAX_LIST

_HEAD: Final = re.compile(r'\s*(?:"(\w+)"|(\w+))\s*(?:(=)|\bin\s*\()', re.IGNORECASE | re.ASCII)
_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]{1,20}(?![\w.])", re.ASCII)
_LIST_BYTES: Final = b"0123456789+-, \t\r\n"
_CLAUSE: Final = re.compile(r"(?:order|limit)\b", re.IGNORECASE)
_AND: Final = re.compile(r"and\b", re.IGNORECASE)
# A text with one of these cannot be split into identifiers and a separate condition.
_UNSURE: Final = re.compile(r"\bor\b|q3c|[+*/%<>=!&|^~-]\s*$", re.IGNORECASE)


def split_ids(text: str, survey: Survey) -> tuple[npt.NDArray[Any] | None, str]:
    """Return the identifiers that a condition begins with, and the rest of it.

    Returns
    -------
    1D[n] in the survey's type or None, and text
        Rows wanted have one of the identifiers and meet the rest; None: the rest is all of it.

    Raises
    ------
    TooMuch
        More identifiers than a list may have.
    """
    head = _HEAD.match(text)
    if head is None:
        return None, text
    name = (head[1] or head[2]).lower()
    listed, rest = _listed(text, head)
    if survey.aliases.get(name, name) != survey.id_column.name or listed is None:
        return None, text
    clause = _AND.match(rest)
    if rest and (_UNSURE.search(rest) or not (clause or _CLAUSE.match(rest))):
        return None, text
    ids = _ids(survey, listed)
    if ids is None or (clause and not rest[clause.end() :].strip()):
        return None, text
    return ids, rest[clause.end() :].strip() if clause else rest


def _listed(text: str, head: re.Match[str]) -> tuple[list[str] | None, str]:
    """Return the numbers behind the head, as text, and what follows them."""
    if head[3]:
        number = _NUMBER.match(text, head.end())
        return ([number[0]], text[number.end() :].strip()) if number else (None, text)
    end = text.find(")", head.end())
    body = text[head.end() : end]
    if end < 0 or not body.isascii() or body.encode().translate(None, _LIST_BYTES):
        return None, text
    return body.split(","), text[end + 1 :].strip()


def _ids(survey: Survey, listed: list[str]) -> npt.NDArray[Any] | None:
    """Return numbers as identifiers; None where one of them is none."""
    if len(listed) > MAX_LIST:
        raise TooMuch("values in a list", len(listed), MAX_LIST)
    try:
        numbers = [
            survey.normal_id(number) if number < 0 else number for number in map(int, listed)
        ]
    except ValueError:
        return None
    limits = np.iinfo(np.dtype(survey.id_column.dtype))
    # 0 stands for a row without an identifier in the sorted column.
    if 0 in numbers or min(numbers) < limits.min or max(numbers) > limits.max:
        return None
    return np.array(numbers, survey.id_column.dtype)
