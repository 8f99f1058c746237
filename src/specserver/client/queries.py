"""Queries of the catalogues of one context, or of several."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..errors import BadConstraint, BadParameter
from ..model.ids import USUAL_FORM
from ..wire.columns import CONTEXT, ID, TELLING
from .inputs.sky_region import positions_by_kind, read_sky_region
from .messages import sum_up, warn
from .request import (
    RequestOptions,
    Values,
    catalog_context,
    read_contexts,
    split_names,
    whole_number,
)
from .results.query_results import TUPLE, besides, in_form, read_form, to_columns, write_rows
from .session import HasSession, Session, query_timeout_s
from .storage import open_file, read_ending

if TYPE_CHECKING:
    from .results.columns import Columns

_MOST: Final = 2**63 - 1
"""Greatest number in a condition; no catalogue has as many rows."""
_TEXTS: Final = ("", ".txt", ".csv", ".id", ".ids")
"""Endings of files that have one identifier a line, or CSV."""


@positions_by_kind
def query(
    client: HasSession,
    ra: Any = None,
    dec: Any = None,
    size: Any = None,
    constraint: str | None = None,
    out: str | os.PathLike[str] | None = None,
    context: str | Sequence[str] | None = None,
    profile: str | None = None,
    *,
    coord: Any = None,
    pos: Any = None,
    region: Any = None,
    fields: Values = None,
    primary: bool | None = None,
    catalog: str | None = None,
    limit: int | None = None,
    fmt: str | None = None,
    timeout: float | None = None,
    token: str | None = None,
    debug: bool = False,
    verbose: bool = False,
) -> Any:
    """Find spectra by position, by condition, or by both.

    ``query(ra, dec, size)``, ``query(coord, size)``, ``query(region)`` and
    ``query(constraint=…)``; constraint, out, context, profile may follow each, in this order.
    ``query(fields=…)`` alone is of the whole sky, within the service's limit of rows.

    Parameters
    ----------
    ra, dec, size
        Centre and radius of a cone, degrees; right ascensions wrap: 361 is 1.
    coord, pos
        A SkyCoord in any frame, or a pair ra, dec.
    region
        Vertices ``[(ra, dec), …]`` or ``[ra, dec, ra, dec, …]``, degrees; great-circle edges.
    constraint
        A SQL condition; may end in ``ORDER BY`` and ``LIMIT``, or consist of these.
    out
        A file to write, or ``vos://name``, of the kind that its name ends in: ``.fits``,
        ``.parquet``, ``.vot``, ``.ecsv`` a table; ``.csv``, ``.txt``, ``.id`` or nothing one
        identifier a line (``context:id`` of several contexts), or a CSV for several fields.
    context
        A data release, or several: ``'a,b'`` or a list. The query runs in each context
        separately; a ``LIMIT`` applies to each. Names of columns may be those of any survey.
    fields
        Columns wanted; ``tuple`` stands for plate, mjd, fiberid, run2d. Default: identifiers.
    primary
        The best spectrum of each object (True), or all (False). When it is not given it is
        True, and a warning says how many others were left out, where that is cheap to count.
    catalog
        Another catalogue, ``name`` of the context or ``context.name``. A value-added table is
        joined with its context's own by identifier: ``fields`` and ``constraint`` may name
        columns of both, ``specobj.z`` and ``myvac.z`` where both have a ``z``; ``z`` alone is
        then the table's.
    limit
        Most rows to return, of each context, as a ``LIMIT`` at the end of the constraint.
    fmt
        ``table``, ``array`` (of several columns a structured one) or ``pandas``. By default the
        form follows the fields.
    timeout
        Seconds after which the service gives up.

    Returns
    -------
    array, list of tuples, Table or ``'OK'``
        Identifiers (uint64) or the one column asked for; tuples; ``'OK'`` when a file was
        written. Several columns are a Table that `getSpec` takes: the identifier first and, if
        spectra can share one, the columns that distinguish them last. Several contexts give
        pairs ``(context, id)``, which `getSpec` takes, or ``(context, tuple)``; with fields a
        Table that has context and id before them. With ``primary=False`` or a catalogue, if
        spectra can share an identifier, pairs hold the tuple, and the Table has the columns
        that distinguish them.

    Examples
    --------
    >>> spec.query(constraint="class = 'QSO' and z > 2 order by z limit 2")
    array([9414843861057165312, 9414851282760652800], dtype=uint64)
    >>> table = spec.query(58.5, 0.0, 5.0, fields="z,class", constraint="zwarning = 0")
    >>> table.colnames
    ['specobjid', 'z', 'class']
    >>> spec.query(constraint="z > 2", out="distant.csv")
    'OK'
    """
    from .results.table_file import TABLES, table_bytes

    where = {"ra": ra, "dec": dec, "size": size, "coord": coord, "pos": pos, "region": region}
    place = read_sky_region(where | {"constraint": constraint})
    patient_s = query_timeout_s(timeout)
    options = RequestOptions(None, profile, "error", patient_s, token, debug, verbose)
    condition = _limited(str(constraint or ""), limit)
    names, form = split_names(fields, "fields"), read_form(fmt)
    if place.cone is None and place.polygon is None and not (condition.strip() or names):
        allowed = "give a position, a region, a constraint or fields"
        raise BadParameter("constraint", condition, allowed)
    session, contexts = client.session, read_contexts(context)
    alone = context if isinstance(context, str) and contexts is None else None
    body = session.where(alone, profile) | {
        "cone": place.cone,
        "polygon": place.polygon,
        "constraint": condition,
        "catalog": catalog or None,
        "primary": primary is None or bool(primary),
        "timeout_s": timeout,
    }
    if contexts is None:
        body["context"] = catalog_context(catalog, str(body["context"]))
    if primary is None and not catalog:
        body["count_others"] = True
    ending = read_ending(out, (".txt", *TABLES, *_TEXTS)) if out else ""
    write = open_file(session, out, token) if out else None
    tuples = None
    if contexts is None:
        with _naming(limit):
            rows = _rows(session, body, names, options)
        if body["primary"]:
            _warn_of_others(session, str(body["context"]), rows)
    else:
        with _naming(limit):
            rows = _rows_of_several(session, contexts, body, names, options)
        tuples = _tuple_columns(session, contexts, body, names, options)
    if write is None:
        return in_form(form, rows, names, tuples)
    if ending in _TEXTS:
        text = StringIO()
        write_rows(rows, names, text, tuples)
        write(text.getvalue().encode())
    else:
        write(table_bytes(to_columns(rows, names, tuples), ending))
    return "OK"


def _limited(condition: str, limit: Any) -> str:
    """Return a condition that ends with the limit, if there is one."""
    if limit is None:
        return condition
    if (number := whole_number("limit", limit)) < 0:
        raise BadParameter("limit", limit, "a number of rows, 0 or more")
    return f"{condition.strip().removesuffix(';').rstrip()} limit {min(number, _MOST)}".strip()


@contextmanager
def _naming(limit: Any) -> Iterator[None]:
    """Name the parameter ``limit`` in an error of the constraint that it stands in."""
    try:
        yield
    except BadConstraint as error:
        if limit is None:
            raise
        said = f"limit={limit}"
        text = f"{error.message}; {said} was put at its end"
        raise error.saying(text, *error.settings, said) from None


def _rows(
    session: Session, body: Mapping[str, Any], names: Sequence[str], options: RequestOptions
) -> "Columns":
    """Return the rows of one context: the identifier alone, or what was asked for.

    A tuple alone is computed from the identifier where it is packed from it; else, and among
    others, it stands for its parts. Of several columns the identifier is the first.
    """
    context = str(body["context"])
    if list(names) == [TUPLE]:
        columns = _fetch_columns(session, {**body, "fields": []}, options)
        if USUAL_FORM.column in columns.values:
            return columns
        # The identifiers of other surveys are not packed from the parts.
        parts = list(session.id_form(context, options).parts)
        return _fetch_columns(session, {**body, "fields": parts}, options)
    fields = list(names)
    if not body["primary"] and not body["catalog"]:
        # The count tells whether identifiers alone mean other rows.
        body = {**body, "count_others": True}
    if len(fields) > 1:
        column = session.id_form(context, options).column
        fields = [column, *(name for name in fields if name.lower() != column)]
        # So that each row of the table names its spectrum and no other of the identifier.
        fields += [TELLING] if session.id_form(context, options).leads_with_id else []
    columns = _fetch_columns(session, {**body, "fields": fields}, options)
    if len(columns.values) == 1:
        _warn_of_repeated(session, body, columns, options)
    elif columns.nothers and not body["primary"]:
        columns = replace(columns, shared=session.id_form(context, options).column)
    return columns


def _warn_of_others(session: Session, context: str, columns: "Columns") -> None:
    """Warn of rows left out as not primary: of each empty answer, else once a context."""
    nfound = len(next(iter(columns.values.values()), ()))
    if not columns.nothers or (nfound and context in session.told_of_others):
        return
    session.told_of_others.add(context)
    single = columns.nothers == 1
    if nfound:
        which = "is no primary spectrum" if single else "are not the survey's primary spectra"
        text = f"{columns.nothers:,} more {which}"
    else:
        others = "other" if single else "others"
        text = f"no primary spectrum is found, but {columns.nothers:,} {others}"
    warn(f"{text}: primary=False finds all", "primary=False")


def _tuple_columns(
    session: Session,
    contexts: Sequence[str],
    body: Mapping[str, Any],
    names: Sequence[str],
    options: RequestOptions,
) -> dict[str, list[str]]:
    """Return the columns of the tuple form of contexts whose rows are named by tuples."""
    forms = {context: session.id_form(context, options) for context in contexts}
    return {
        name: [ID, *form.parts[1:]] if form.leads_with_id else list(form.parts)
        for name, form in forms.items()
        if list(names) == [TUPLE] or (form.leads_with_id and not _are_best(body))
    }


def _warn_of_repeated(
    session: Session, body: Mapping[str, Any], columns: "Columns", options: RequestOptions
) -> None:
    """Warn if identifiers alone mean other rows: `getSpec` gives the best ones."""
    context = str(body["context"])
    if _are_best(body) or context in session.told_of_repeated:
        return
    name, ids = next(iter(columns.values.items()))
    nrepeated = len(ids) - len(np.unique(ids)) if ids.dtype.kind in "iu" else 0
    # The form of identifiers is requested only where it matters.
    if not (nrepeated or columns.nothers) or name != session.id_form(context, options).column:
        return
    if not session.id_form(context, options).leads_with_id:
        return
    session.told_of_repeated.add(context)
    which = f"{nrepeated:,} of {len(ids):,} identifiers repeat another"
    if not nrepeated:
        which = f"{columns.nothers:,} of {len(ids):,} rows are not the best of their identifier"
    warn(
        f"{which}: several spectra share one, and alone it means the best of them;"
        " fields='tuple' names each spectrum",
        "fields='tuple'",
    )


def _rows_of_several(
    session: Session,
    contexts: Sequence[str],
    body: Mapping[str, Any],
    names: Sequence[str],
    options: RequestOptions,
) -> "Columns":
    """Return the rows of several contexts: context, identifier, and what was asked for."""
    from .results.columns import Columns

    fields = [TUPLE] if list(names) == [TUPLE] else besides(names)
    asked = {**body, "context": list(contexts), "fields": fields}
    columns = _fetch_columns(session, asked, options)
    if body["primary"]:
        found = columns.values[CONTEXT]
        for context, count in columns.others.items():
            mine = Columns({ID: columns.values[ID][found == context]}, {}, count)
            _warn_of_others(session, context, mine)
    # The service answers names in lower case.
    spelt = {field.lower(): field for field in fields}
    return Columns(
        {spelt.get(name, name): values for name, values in columns.values.items()},
        {spelt.get(name, name): unit for name, unit in columns.units.items()},
    )


def _fetch_columns(session: Session, body: Mapping[str, Any], options: RequestOptions) -> "Columns":
    """Ask for catalogue columns."""
    from .results.columns import read_columns

    began = perf_counter()
    with session.ask("bulk/query", body, options) as answer:
        columns = read_columns(answer.source())
    sum_up(options, f"{len(next(iter(columns.values.values()), ())):,} rows", began)
    return columns


def _are_best(body: Mapping[str, Any]) -> bool:
    """Return whether each row of an answer is the best spectrum of its identifier."""
    return bool(body["primary"]) and not body["catalog"]
