"""The query: a region and a condition in, columns of the catalogue out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..catalog.constraint import Condition, ConeArgs, parse_constraint
from ..catalog.deadline import Deadline
from ..catalog.duckdb import Rows
from ..catalog.idlist import split_ids
from ..errors import BadParameter
from ..model.region import Cone, Polygon, cone, polygon
from .archive import Archive, Holding, QueryTable

TUPLE = "tuple"
"""Field name that stands for the parts of the tuple form of an identifier."""
TELLING = "@telling"
"""Field name that stands for `telling`."""


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """What a caller asks of the catalogue."""

    context: str = "default"
    region: Cone | Polygon | None = None
    constraint: str = ""
    """SQL condition; may begin with a q3c position as the old client writes it."""
    fields: tuple[str, ...] = ()
    catalog: str | None = None
    primary: bool = True
    timeout_s: float | None = None


def run_query(archive: Archive, request: QueryRequest, *, max_rows: int | None = None) -> pa.Table:
    """Answer a query; columns are named as they were asked for.

    Parameters
    ----------
    max_rows : refuse to answer more, before their columns are read

    Raises
    ------
    TooMuch
        More rows than ``max_rows``.
    QueryTimeout
        No answer within the time that the request gives.
    """
    deadline = Deadline.after(request.timeout_s)
    asked = archive.table(request.context, request.catalog, primary=request.primary)
    catalog = asked.catalog
    named = wanted_fields(asked, request.fields)
    condition, rows = narrow(asked, request.constraint, request.region, deadline)
    fields = list(dict.fromkeys(named.values()))
    table = catalog.query(
        fields,
        condition,
        rows,
        primary=asked.primary or _asks_for_spectra(asked, fields),
        deadline=deadline,
        max_rows=max_rows,
    )
    return pa.table([table.column(column) for column in named.values()], names=list(named))


def narrow(
    asked: QueryTable | Holding, constraint: str, region: Cone | Polygon | None, deadline: Deadline
) -> tuple[Condition, Rows | None]:
    """Return the condition that is left, and the only rows it can be true of; None: any.

    Parameters
    ----------
    constraint : may itself begin with a position, where no region is given
    """
    catalog = asked.catalog
    ids, rest = split_ids(constraint, asked.survey)
    condition = parse_constraint(rest, catalog.columns, asked.survey.aliases)
    if condition.region is not None:
        if region is not None:
            raise BadParameter("constraint", constraint, "give the position only once")
        given = condition.region
        region = (
            cone(given.ra_deg, given.dec_deg, given.radius_deg)
            if isinstance(given, ConeArgs)
            else polygon(given.vertices)
        )
    rows = None if region is None else catalog.in_region(region, deadline)
    if ids is not None:
        named_rows = catalog.all_with_ids(ids)
        rows = named_rows if rows is None else np.intersect1d(rows, named_rows)
    return condition, rows


def _asks_for_spectra(asked: QueryTable, fields: Sequence[str]) -> bool:
    """Tell whether only rows with a spectrum can answer, which not all of a table may have."""
    identifying = (set(asked.survey.id_parts), {asked.survey.id_column.name})
    return asked.attached and set(fields) in identifying


def telling(asked: QueryTable) -> tuple[str, ...]:
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
    groups = {TUPLE: survey.id_parts, TELLING: telling(asked)}
    expanded = [part for field in fields for part in groups.get(field, (field,))]
    if "*" in expanded:
        expanded = list(asked.catalog.columns)
    return {field.strip().lower(): asked.catalog.spelling(field) for field in expanded}
