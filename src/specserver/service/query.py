"""The query: a region and a condition in, columns of the catalogue out."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..catalog.base import Catalogue, Rows
from ..catalog.deadline import Deadline
from ..catalog.sql.constraint import parse_constraint
from ..catalog.sql.expressions import Condition, ConeArgs
from ..catalog.sql.id_prefilter import split_ids
from ..errors import BadParameter, Replaced, TooMuch
from ..model.region import Cone, Polygon, cone, polygon
from ..wire.columns import OTHERS, TELLING, UNIT
from .archive import Archive
from .open_contexts import OpenRelease, QueryTable

TUPLE = "tuple"
"""Field name that stands for the parts of the tuple form of an identifier."""
_FEW_ROWS = 100
"""Largest answer for which a second search counts the rows that are not primary; for a larger one
they are counted only where that takes no scan."""
_POSITION = frozenset({"ra", "dec"})
_LOOKS: Final = 3
"""How often a query is asked while spectra are replaced in between."""
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A query of the catalogue."""

    context: str = "default"
    region: Cone | Polygon | None = None
    constraint: str = ""
    """SQL condition; may begin with a q3c position as the old client writes it."""
    fields: tuple[str, ...] = ()
    catalog: str | None = None
    primary: bool = True
    timeout_s: float | None = None
    count_others: bool = False
    """State in the table's metadata `OTHERS` how many rows are not primary: rows left out, or,
    without ``primary``, rows of the answer."""


def run_query(
    archive: Archive,
    request: QueryRequest,
    *,
    max_rows: int | None = None,
    max_corners: int | None = None,
    deadline: Deadline | None = None,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> pa.Table:
    """Answer a query; columns are named as they were asked for.

    Parameters
    ----------
    max_rows : refuse to answer more, before their columns are read
    max_corners : of a polygon that the constraint begins with
    deadline : by when it is to be answered; None: after the time that the request gives
    aliases : other spellings of column names, besides those of the survey

    Raises
    ------
    TooMuch
        More rows than ``max_rows``, or corners than ``max_corners``.
    QueryTimeout
        No answer within the time that the request gives.
    """
    deadline = deadline or Deadline.after(request.timeout_s)
    asked = archive.table(request.context, request.catalog, primary=request.primary)
    if aliases:
        survey = replace(asked.survey, aliases={**aliases, **asked.survey.aliases})
        asked = replace(asked, survey=survey)
    catalog = asked.catalog
    named = wanted_fields(asked, request.fields)
    fields = list(dict.fromkeys(named.values()))
    marking = _marking(asked) if request.count_others else ""
    fields += [marking] if marking and marking not in fields else []

    def found() -> tuple[pa.Table, int]:
        condition, rows = narrow(
            asked, request.constraint, request.region, deadline, fields, max_corners=max_corners
        )
        table = catalog.query(
            fields,
            condition,
            rows,
            primary=asked.primary or _asks_for_spectra(asked, fields),
            deadline=deadline,
            max_rows=max_rows,
        )
        if request.count_others and asked.primary:
            return table, _count_others(catalog, condition, rows, table.num_rows, deadline)
        return table, _count_second(asked, table.column(marking)) if marking else 0

    table, others = unreplaced(found)
    columns = [table.column(column) for column in named.values()]
    schema = pa.schema(
        field_of(asked, name, table.schema.field(column)) for name, column in named.items()
    )
    answer = pa.table(columns, schema=schema)
    return answer.replace_schema_metadata({OTHERS: str(others)}) if others else answer


def unreplaced(look: Callable[[], Found]) -> Found:
    """Return what is found, looked at again if spectra were replaced meanwhile.

    Raises
    ------
    Replaced
        They are replaced again and again.
    """
    for _ in range(_LOOKS - 1):
        with suppress(Replaced):
            return look()
    return look()


def field_of(asked: QueryTable, name: str, column: pa.Field) -> pa.Field:
    """Return the Arrow field of a catalogue column in an answer, with its unit if it is known."""
    # These two are always in degrees, whatever unit a table states for its own position.
    if column.name.rpartition(".")[2] in _POSITION:
        unit = "deg"
    else:
        known = asked.survey.columns
        unit = next((other.unit for other in known if other.name == column.name), "")
    return unit_field(name, column.type, unit)


def unit_field(name: str, kind: pa.DataType, unit: str) -> pa.Field:
    """Return an Arrow field that states a unit, if there is one."""
    return pa.field(name, kind, metadata={UNIT: unit} if unit else None)


def _marking(asked: QueryTable) -> str:
    """Return the column that marks the best spectrum of an identifier that several can share.

    Empty if only marked rows are asked for, or if identifiers are not shared.
    """
    column = asked.survey.primary[0]
    shared = asked.survey.id_form.leads_with_id and not (asked.primary or asked.attached)
    return column if shared and column in asked.catalog.columns else ""


def _count_second(asked: QueryTable, marks: pa.ChunkedArray) -> int:
    """Return how many rows are not the best spectrum of their identifier."""
    best = pc.equal(marks.cast("int64"), int(asked.survey.primary[1]))
    return len(marks) - int(pc.sum(best).as_py() or 0)


def _count_others(
    catalog: Catalogue, condition: Condition, rows: Rows | None, nfound: int, deadline: Deadline
) -> int:
    """Return how many rows meet a condition besides the primary ones that were found.

    0 also where the limit cut the answer, and where counting would take a second scan though the
    answer has many rows.

    Parameters
    ----------
    rows : 1D[n] int64, the only rows to look at; None: all
    """
    if condition.limit is not None and nfound >= condition.limit:
        return 0
    if condition.where is None:
        # A catalogue in a database may have more rows than when it was counted.
        return max(0, (catalog.count(primary=False) if rows is None else len(rows)) - nfound)
    if nfound > _FEW_ROWS:
        return 0
    every = replace(condition, order=(), limit=None)
    column = catalog.survey.id_column.name
    found = catalog.query([column], every, rows, primary=False, deadline=deadline)
    return len(found) - nfound


def narrow(
    asked: QueryTable | OpenRelease,
    constraint: str,
    region: Cone | Polygon | None,
    deadline: Deadline,
    fields: Sequence[str] = (),
    *,
    max_corners: int | None = None,
) -> tuple[Condition, Rows | None]:
    """Return the condition that is left, and the rows it can be true of, 1D[n] int; None: any.

    Parameters
    ----------
    constraint : may itself begin with a position, where no region is given
    fields : columns that the caller reads next, with `Catalogue.query`

    Raises
    ------
    BadParameter
        The position is given twice.
    TooMuch
        The polygon has more than ``max_corners`` corners.
    SpecServerError
        Those of `parse_constraint`, `cone` and `polygon`.
    """
    catalog = asked.catalog
    ids, rest = split_ids(constraint, asked.survey)
    columns = {**catalog.columns, **catalog.spectrum_columns}
    condition = parse_constraint(rest, columns, asked.survey.aliases, asked.survey.columns)
    if condition.region is not None:
        if region is not None:
            raise BadParameter("constraint", constraint, "give the position only once")
        given = condition.region
        if isinstance(given, ConeArgs):
            region = cone(given.ra_deg, given.dec_deg, given.radius_deg)
        else:
            check_corners(len(given.vertices), max_corners)
            region = polygon(given.vertices, deadline.check)
    # Columns of all rows are of no use if a condition or identifiers choose among the rows.
    wanted = fields if condition.is_any and ids is None else ()
    rows = None if region is None else catalog.in_region(region, deadline, wanted)
    if ids is not None:
        named_rows = catalog.all_with_ids(ids)
        rows = named_rows if rows is None else rows[np.isin(rows, named_rows)]
    return condition, rows


def check_corners(corners: int, most: int | None) -> None:
    """Raise `TooMuch` for a polygon with more corners than a request may have."""
    if most is not None and corners > most:
        raise TooMuch("corners of a polygon", corners, most, "max_polygon_corners")


def _asks_for_spectra(asked: QueryTable, fields: Sequence[str]) -> bool:
    """Return whether only rows with a spectrum count; some rows of a table may have none."""
    identifying = (set(asked.survey.id_parts), {asked.survey.id_column.name})
    return asked.attached and set(fields) in identifying


def distinguishing_columns(asked: QueryTable) -> tuple[str, ...]:
    """Return the columns that with the identifier name one spectrum, where it alone does not.

    None where the catalogue, which may be a value-added table, lacks one of them.
    """
    form = asked.survey.id_form
    parts = form.parts[1:] if form.leads_with_id else ()
    return parts if all(part in asked.catalog.columns for part in parts) else ()


def wanted_fields(asked: QueryTable, fields: tuple[str, ...]) -> dict[str, str]:
    """Return output name → column for the fields asked for; none means the identifier."""
    survey = asked.survey
    if not fields:
        return {survey.id_column.name: survey.id_column.name}
    groups = {TUPLE: survey.id_parts, TELLING: distinguishing_columns(asked)}
    expanded = [part for field in fields for part in groups.get(field, (field,))]
    if "*" in expanded:
        expanded = list(asked.catalog.columns)
    aliases, spelling = survey.aliases, asked.catalog.spelling
    return {
        name: spelling(aliases.get(name, field))
        for name, field in ((field.strip().lower(), field) for field in expanded)
    }
