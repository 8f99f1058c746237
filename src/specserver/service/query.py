"""The query: a region and a condition in, columns of the catalogue out."""

from dataclasses import dataclass

import pyarrow as pa

from ..catalog.constraint import ConeArgs, parse_constraint
from ..errors import BadParameter
from ..model.region import Cone, Polygon, cone, polygon
from .archive import Archive, Holding

TUPLE = "tuple"
"""Field name that stands for the parts of the tuple form of an identifier."""


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


def run_query(archive: Archive, request: QueryRequest) -> pa.Table:
    """Answer a query; columns are named as they were asked for."""
    context, primary = request.context, request.primary
    if request.catalog:
        context, primary = archive.find_catalog(context, request.catalog)
    holding = archive.holding(context)
    catalog = holding.catalog
    named = wanted_fields(holding, request.fields)
    condition = parse_constraint(request.constraint, catalog.columns, holding.survey.aliases)
    region = request.region
    if condition.region is not None:
        if region is not None:
            raise BadParameter("constraint", request.constraint, "give the position only once")
        given = condition.region
        region = (
            cone(given.ra_deg, given.dec_deg, given.radius_deg)
            if isinstance(given, ConeArgs)
            else polygon(given.vertices)
        )
    rows = None if region is None else catalog.in_region(region)
    table = catalog.query(
        list(dict.fromkeys(named.values())),
        condition,
        rows,
        primary=primary,
        timeout_s=request.timeout_s,
    )
    return pa.table([table.column(column) for column in named.values()], names=list(named))


def wanted_fields(holding: Holding, fields: tuple[str, ...]) -> dict[str, str]:
    """Return output name → column for the fields asked for; none means the identifier."""
    survey = holding.survey
    if not fields:
        return {survey.id_column.name: survey.id_column.name}
    expanded = [
        part for field in fields for part in (survey.id_parts if field == TUPLE else (field,))
    ]
    if "*" in expanded:
        expanded = list(holding.catalog.columns)
    return {field.strip().lower(): holding.catalog.spelling(field) for field in expanded}
