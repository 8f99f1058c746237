"""Catalogue rows of several contexts in one table: context after context, with context and id."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from astropy.units import Unit

from ..catalog.deadline import Deadline
from ..errors import BadParameter, TooMuch, naming
from ..wire.columns import CONTEXT, ID, OTHERS, UNIT
from .archive import Archive
from .columns import join_tables
from .open_contexts import QueryTable
from .query import TUPLE, QueryRequest, run_query, unit_field

_ALL: Final = "*"


def query_contexts(
    archive: Archive,
    request: QueryRequest,
    contexts: Sequence[str],
    *,
    max_rows: int | None = None,
    max_corners: int | None = None,
) -> pa.Table:
    """Answer a query of several contexts: `CONTEXT`, `ID`, the fields, and parts of the tuple form.

    The constraint, with its ``LIMIT``, applies to each context. Names of columns may be those of
    any of the contexts (`names_of_others`). Parts of the tuple form follow if spectra of a context
    can share an identifier and not only the best are wanted; in other rows they are null. The
    field ``tuple``, alone, stands for all parts of the tuple form of each context; ``*`` for the
    columns that all have. The metadata `OTHERS` are a JSON object, by context.

    Parameters
    ----------
    contexts : names, as they are to stand in the answer
    max_rows : refuse to answer more, of all contexts together
    max_corners : of a polygon that the constraint begins with

    Raises
    ------
    BadParameter
        Values of one name are in different units, tuples are asked for among other fields, or the
        catalogue is of another context.
    SpecServerError
        Those of `query.run_query`, which name the context.
    """
    deadline = Deadline.after(request.timeout_s)
    schema, _, table = (request.catalog or "").strip().lower().rpartition(".")
    if schema and {archive.resolve(schema)} != set(map(archive.resolve, contexts)):
        allowed = f"it is of one context; of several name the table alone, such as {table!r}"
        raise BadParameter("catalog", request.catalog, allowed)
    names = [field for field in request.fields if field.strip().lower() not in {CONTEXT, ID}]
    if TUPLE in names and len(names) > 1:
        allowed = "of several contexts tuples come alone: their parts differ"
        raise BadParameter("fields", ", ".join(names), allowed)
    answers: dict[str, pa.Table] = {}
    apart: dict[str, tuple[str, ...]] = {}
    known: dict[str, dict[str, str]] = {}
    for context in contexts:
        with naming([context]):
            known[context] = _names(archive.table(context, request.catalog, primary=False))
    left = max_rows
    for context, mine in known.items():
        with naming([context]):
            survey = archive.survey(context)
            is_best = request.primary and not request.catalog
            parts = survey.id_form.parts if survey.id_form.leads_with_id and not is_best else ()
            apart[context] = survey.id_form.parts if names == [TUPLE] else parts[1:]
            fields = [] if names == [TUPLE] else names
            asked = [survey.id_column.name, *fields, *apart[context]]
            answers[context] = run_query(
                archive,
                replace(request, context=context, fields=tuple(dict.fromkeys(asked))),
                max_rows=left,
                max_corners=max_corners,
                deadline=deadline,
                aliases=names_of_others(mine, known.values()),
            )
        if left is not None:
            left -= answers[context].num_rows
            if left < 0 and max_rows is not None:
                raise TooMuch("rows", None, max_rows, "max_rows")
    shown = [] if names == [TUPLE] else [name.strip().lower() for name in names]
    if _ALL in shown:
        shown = _in_all(list(answers.values()))
    return _joined(
        answers, shown, [name for name in dict.fromkeys(chain(*apart.values())) if name != ID]
    )


def _names(asked: QueryTable) -> dict[str, str]:
    """Return every name of the columns of a catalogue, with the column that it means."""
    columns = {**asked.catalog.columns, **asked.catalog.spectrum_columns}
    others = {name: column for name, column in asked.survey.aliases.items() if column in columns}
    return others | {name: name for name in columns}


def names_of_others(mine: Mapping[str, str], others: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return names that only other catalogues have, with the column that they mean here.

    A name means the column that has one of the other names of the same column there: ``spectype``
    means ``class`` if another catalogue knows both for one column. A name that would mean several
    columns means none.

    Parameters
    ----------
    mine, others : names of columns in a catalogue, with the columns that they mean
    """
    found: dict[str, set[str]] = {}
    for other in others:
        same: dict[str, set[str]] = {}
        for name, column in other.items():
            same.setdefault(column, set()).add(name)
        for names in same.values():
            for name in names.difference(mine):
                found.setdefault(name, set()).update(
                    mine[known] for known in names if known in mine
                )
    return {name: columns.pop() for name, columns in found.items() if len(columns) == 1}


def _in_all(tables: Sequence[pa.Table]) -> list[str]:
    """Return the columns that all answers have, the identifiers left out."""
    ids = {table.column_names[0] for table in tables}
    return [
        name
        for name in tables[0].column_names
        if name not in ids and all(name in table.column_names for table in tables)
    ]


def _joined(answers: dict[str, pa.Table], fields: Sequence[str], apart: Sequence[str]) -> pa.Table:
    """Return the rows of all contexts as one table."""
    tables = list(answers.values())
    ids = _joined_ids([table.column(0) for table in tables])
    fields = list(dict.fromkeys(fields))
    names = [*fields, *(name for name in apart if name not in fields)]
    rest = join_tables(
        [table.select([name for name in names if name in table.column_names]) for table in tables],
        "fields",
    )
    contexts = [pa.array([name] * table.num_rows, pa.string()) for name, table in answers.items()]
    schema = [pa.field(CONTEXT, pa.string()), pa.field(ID, ids.type)]
    for name in names:
        unit = _unit(name, tables) if name in fields else ""
        schema.append(unit_field(name, rest.field(name).type, unit))
    others = {
        context: int(table.schema.metadata[OTHERS])
        for context, table in answers.items()
        if OTHERS in (table.schema.metadata or {})
    }
    about = {OTHERS: json.dumps(others)} if others else None
    columns = [pa.chunked_array(contexts, pa.string()), ids, *map(rest.column, names)]
    return pa.table(columns, schema=pa.schema(schema, about))


def _joined_ids(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return identifiers in a type that holds all digits: 64 bits, or else decimal."""
    if len({column.type for column in columns}) > 1:
        ends = [pc.min_max(column).as_py() for column in columns]
        low = min((end["min"] for end in ends if end["min"] is not None), default=0)
        high = max((end["max"] for end in ends if end["max"] is not None), default=0)
        kind = pa.uint64() if low >= 0 else pa.int64() if high < 2**63 else pa.decimal128(20)
        columns = [column.cast(kind) for column in columns]
    return pa.chunked_array(
        [chunk for column in columns for chunk in column.chunks], columns[0].type
    )


def _unit(name: str, tables: Sequence[pa.Table]) -> str:
    """Return the unit of a column; raise `BadParameter` where it differs."""
    stated = [(table.field(name).metadata or {}).get(UNIT, b"").decode() for table in tables]
    units = {Unit(text, parse_strict="silent"): text for text in reversed(stated) if text}
    if len(units) > 1:
        allowed = (
            f"its units differ ({', '.join(sorted(units.values()))}): ask for it context by context"
        )
        raise BadParameter("fields", name, allowed)
    return next(iter(units.values()), "")
