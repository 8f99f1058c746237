"""The catalogue of a context joined to a value-added table: columns of the spectra of its rows.

A row means the spectrum with its identifier; where several share it, the index of the table has
the other parts of the tuple form of that one (`links.with_spectra`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from ...model.survey import Survey
from ..base import Catalogue, Rows
from ..row_columns import RowColumns
from ..search import IdSearch


@dataclass(frozen=True, slots=True)
class Links:
    """The spectra that the rows of a table mean, in one version of their catalogue."""

    spectra: Catalogue
    rows: Rows
    """1D[nrow] of the table, row of the spectrum of each; -1: it is not held."""


class JoinedColumns:
    """Columns of a table and of the spectra that its rows mean; safe to share between threads.

    Parameters
    ----------
    own : the columns of the table
    ids : the identifiers of its rows
    spectra : the catalogue of the table's context
    before : the same rows joined to an earlier version of that catalogue
    """

    def __init__(
        self,
        own: RowColumns,
        ids: IdSearch,
        spectra: Catalogue,
        before: "JoinedColumns | None" = None,
    ) -> None:
        name = next(iter(spectra.survey.tables))
        self.of_spectra = {f"{name}.{column}": kind for column, kind in spectra.columns.items()}
        """Column of the spectra → kind."""
        self._own = own
        self._ids = ids
        self._spectra = spectra
        self.known: Links | None = before.known if before else None
        """The links that were found last, if any."""

    @cached_property
    def _links(self) -> Rows:
        """Row of the spectrum of each row of the table, 1D[n] int64; -1: it is not held."""
        known = self.known
        if known is None:
            links = self._find(np.arange(self._own.nrows))
        else:
            links, changed = self._spectra.carried(known.rows, known.spectra)
            rows = self._ids.rows(changed)
            links[rows] = self._find(rows)
        self.known = Links(self._spectra, links)
        return links

    def _find(self, rows: Rows) -> Rows:
        """Return the row of the spectrum of some rows of the table, 1D[n]; -1: it is not held."""
        survey = self._spectra.survey
        ids = self._own.gather("part.ids", rows)
        if not survey.told_by:
            found = self._spectra.with_ids(ids)
        else:
            names = survey.id_parts[-1:] if survey.last_open else survey.id_parts[1:]
            found = self._spectra.best_with(ids, self._own.take(names, rows))
        return np.where(ids == 0, -1, found)

    def with_spectrum(self, rows: Rows | None) -> Rows:
        """Return those of some rows of the table, None: all, whose spectrum is held, in order."""
        if rows is None:
            return self._own.in_order(np.flatnonzero(self._links >= 0))
        return rows[self._links[rows] >= 0]

    def take(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows of the table, in the order of ``rows``, duplicates kept.

        Those of the spectra are null where the spectrum is not held.

        Parameters
        ----------
        fields : names in their one spelling, each once
        rows : 1D[n] int64
        """
        of_spectra = [field for field in fields if field in self.of_spectra]
        if not of_spectra:
            return self._own.take(fields, rows)
        own = [field for field in fields if field not in self.of_spectra]
        tables = self._own.take(own, rows), self._take_of_spectra(of_spectra, rows)
        found = {name: table.column(name) for table in tables for name in table.column_names}
        return pa.table({field: found[field] for field in fields})

    def _take_of_spectra(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        at = self._links[rows]
        held = at >= 0
        names = [field.partition(".")[2] for field in fields]
        found = self._spectra.columns_of(names, at if held.all() else at[held])
        if len(found) < len(rows):
            found = found.take(pa.array(np.cumsum(held) - 1, mask=~held))
        return found.rename_columns(list(fields))


def joined_survey(
    table: Survey, name: str, columns: Iterable[str], spectra: Catalogue | None
) -> Survey:
    """Return the survey of a table; it has the columns of the spectra, too.

    Its aliases are all spellings of both. A plain name means the table's own column; where the
    table has none, it means that of the spectra. A name that begins with a table or catalogue of
    the context, ``myvac.z`` or ``specobj.z``, means the column of just that one.

    Parameters
    ----------
    columns : the table's own
    """
    own = {**table.aliases, **{column: column for column in columns}}
    aliases = {**table.aliases, **{f"{name}.{spelling}": own[spelling] for spelling in own}}
    if spectra is None:
        return replace(table, aliases=aliases)
    survey = spectra.survey
    meant = {alias: column for alias, column in survey.aliases.items() if column in spectra.columns}
    meant |= {column: column for column in spectra.columns}
    first = next(iter(survey.tables))
    for spelling, column in meant.items():
        aliases |= {f"{catalogue}.{spelling}": f"{first}.{column}" for catalogue in survey.tables}
        if spelling not in own:
            aliases[spelling] = f"{first}.{column}"
    described = (replace(column, name=f"{first}.{column.name}") for column in survey.columns)
    return replace(table, aliases=aliases, columns=(*table.columns, *described))
