"""Files of visually inspected spectra, which the page of `prospect` writes and reads."""

import csv
import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..errors import BadParameter
from ..render.inspection import ALIASES, INSPECTION_COLUMNS, InspectionColumn
from ..tracebacks import short
from .inputs.held_tables import table_of

if TYPE_CHECKING:
    from pandas import DataFrame

_COMMA: Final = re.compile(r"delimiter: *['\"]?,")
_NOT_SAID: Final = {"float64": "nan", "int8": "-1"}
_MISSING: Final = {"None", "nan", "<NA>", "--"}
_NEEDED: Final = "a CSV or ECSV file of the page of prospect(), or a table with its column id"


@short
def read_inspection(file: str | os.PathLike[str]) -> "DataFrame":
    """Read the results of visual inspection on the page of `prospect`.

    Parameters
    ----------
    file
        A CSV or ECSV file of the page. Files of DESI's viewer of the same name are read too: their
        ``TARGETID`` becomes ``id``.

    Returns
    -------
    DataFrame
        A row for each inspected spectrum. Columns: ``id``, ``context``,
        ``class``: text; ``z``: float64; ``VI_quality``: int8, 0 (no signal) to 4 (certain), or -1;
        ``VI_issue``: text, of the letters R (redshift), C (class) and S (spectrum); ``VI_z``:
        float64, the corrected redshift, or NaN; ``VI_spectype``: GALAXY, QSO, STAR or empty;
        ``VI_comment``, ``VI_scanner``: text. A column that the file lacks is without values.

    Raises
    ------
    BadParameter
        There is no such file, it has no column ``id``, or a value is none of its column.

    Examples
    --------
    >>> from pandas import DataFrame
    >>> said = DataFrame({"id": [299489676975171584], "VI_quality": [4], "VI_comment": "clear"})
    >>> said.to_csv("seen.csv", index=False)
    >>> spec.read_inspection("seen.csv")["VI_quality"].tolist()
    [4]
    """
    import pandas as pd

    rows = inspected(file)
    columns = {}
    for column in INSPECTION_COLUMNS:
        name = column.name
        kind: Any = column.datatype
        texts = [row[name] or _NOT_SAID.get(kind, "") for row in rows]
        values = pd.Series(texts, dtype=str)
        columns[name] = values if kind == "string" else values.astype(np.dtype(kind))
    return pd.DataFrame(columns)


def inspected(given: Any) -> list[dict[str, str]]:
    """Return the rows of a file or a table of inspected spectra: texts by the names of columns.

    Raises
    ------
    BadParameter
        As `read_inspection`.
    """
    held = table_of(given)
    names, rows = _read(given) if held is None else _rows(*held)
    known = [ALIASES.get(name, name) for name in names]
    if "id" not in known:
        raise BadParameter("inspection", ", ".join(names) or "an empty file", _NEEDED)
    found = [dict(zip(known, row, strict=False)) for row in rows]
    return [
        {column.name: _checked(column, row.get(column.name, "")) for column in INSPECTION_COLUMNS}
        for row in found
    ]


def _checked(column: InspectionColumn, text: str) -> str:
    """Return a value; refuse one that its column cannot have."""
    text = text.strip()
    if text and not re.fullmatch(column.pattern, text):
        raise BadParameter(column.name, text, column.description)
    return str(int(float(text))) if column.datatype == "int8" and text else text


def _rows(
    names: list[str], column: Callable[[int], Any]
) -> tuple[list[str], Iterable[Sequence[str]]]:
    """Return names of columns, and the rows, of a table that a caller holds."""
    columns = [np.ma.asarray(column(at)) for at in range(len(names))]
    for name, values in zip(names, columns, strict=True):
        if ALIASES.get(name, name) == "id" and values.dtype.kind == "f":
            raise BadParameter(name, "decimals", "identifiers are integers or text")
    return names, zip(*([_text(value) for value in values] for values in columns), strict=True)


def _text(value: Any) -> str:
    """Return a value of a table as text, empty where it is missing."""
    text = str(value)
    return "" if text in _MISSING and not isinstance(value, str) else text


def _read(given: Any) -> tuple[list[str], Iterable[Sequence[str]]]:
    """Return names of columns, and the rows, of a CSV or ECSV file."""
    try:
        text = Path(given).expanduser().read_text("utf-8-sig")
    except (TypeError, ValueError, OSError) as error:
        reason = f"{error.strerror}; give " if isinstance(error, OSError) else ""
        raise BadParameter("inspection", given, reason + _NEEDED) from error
    lines = text.splitlines(keepends=True)
    heading = list(takewhile(lambda line: line.startswith("#"), lines))
    # ECSV separates columns by blanks unless its heading says otherwise.
    ecsv = any("%ECSV" in line for line in heading)
    blanks = ecsv and not any(map(_COMMA.search, heading))
    rows = csv.reader(lines[len(heading) :], delimiter=" " if blanks else ",")
    return [name.strip() for name in next(rows, [])], [row for row in rows if row]
