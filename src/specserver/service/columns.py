"""Catalogue columns of spectra, gathered from the sources that hold them, and facts of pictures."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import BadParameter, naming
from ..model.lines import SKY_FIBRE
from ..model.survey import Fact
from ..wire.columns import REDSHIFT, SHOWN_NAME
from .selection import Selection, by_source
from .source import SpectrumSource

_OF_OBJECTS: Final = frozenset({"class", "subclass", "z", "±"})
"""Labels of facts that a fibre on the sky does not have."""


def read_columns(
    selection: Selection, columns: Sequence[str], take: npt.NDArray[np.int64]
) -> pa.Table:
    """Return catalogue columns of some spectra of a selection, named as asked for, each once.

    Parameters
    ----------
    take : 1D[n] int, which of the selection

    Raises
    ------
    UnknownField
        A column that a catalogue does not have.
    """

    def named(source: SpectrumSource) -> dict[str, str]:
        catalog = source.catalog
        return {
            column: catalog.spelling(source.survey.z_column if column == REDSHIFT else column)
            for column in columns
        }

    return gather_columns(selection, take, named)


def recorded(selection: Selection, columns: Sequence[str]) -> pa.Table:
    """Return columns of all spectra, hidden ones too, in their order.

    Those that an older version did not write are null, or left out where no spectrum has them.
    """

    def held(source: SpectrumSource) -> dict[str, str]:
        return {name: name for name in columns if source.catalog.holds(name)}

    return gather_columns(selection, np.arange(selection.nspec), held)


def gather_columns(
    selection: Selection,
    take: npt.NDArray[np.int64],
    named: Callable[[SpectrumSource], Mapping[str, str]],
) -> pa.Table:
    """Return catalogue columns of some spectra, 1D[n] int, null where a catalogue has none.

    Parameters
    ----------
    named : name in the answer → column of a source's catalogue
    """
    parts, order = [], []
    # If there is no spectrum, the types of the columns are those of the first catalogue.
    nothing = np.empty(0, np.int64)
    for source, where, rows in list(by_source(selection, take)) or [
        (selection.sources[0], nothing, nothing)
    ]:
        with naming([source.release.context] if selection.is_of_several else []):
            fields = named(source)
        found = source.catalog.columns_of(list(dict.fromkeys(fields.values())), rows)
        parts.append(
            pa.table([found.column(field) for field in fields.values()], names=list(fields))
        )
        order.append(where)
    return join_tables(parts, "columns").take(pa.array(np.argsort(np.concatenate(order))))


def join_tables(tables: Sequence[pa.Table], parameter: str) -> pa.Table:
    """Return the rows of all tables, null where a table has no such column.

    Raises
    ------
    BadParameter
        The columns that ``parameter`` asks for have types that do not go together.
    """
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError as error:
        names = dict.fromkeys(name for table in tables for name in table.column_names)
        allowed = "of several contexts, columns that have one type in all of them: ask for others"
        allowed += f" context by context ({error})"
        raise BadParameter(parameter, ", ".join(names), allowed) from error


def facts_of(selection: Selection, take: npt.NDArray[np.int64]) -> pa.Array:
    """Return facts (`wire.columns.FACTS`), 1D[n] string, of spectra ``take``, 1D[n]."""
    return _texts(selection, take, _facts)


def fits_of(selection: Selection, take: npt.NDArray[np.int64]) -> pa.Array:
    """Return further fits (`wire.columns.FITS`), 1D[n] string, of spectra ``take``, 1D[n]."""
    return _texts(selection, take, _fits)


def _texts(
    selection: Selection,
    take: npt.NDArray[np.int64],
    say: Callable[[SpectrumSource, npt.NDArray[np.int64]], list[str]],
) -> pa.Array:
    """Return what ``say`` gives for the rows of each catalogue, in the order of ``take``."""
    found = np.empty(len(take), object)
    for source, where, rows in by_source(selection, take):
        found[where] = say(source, rows)
    return pa.array(found, pa.string())


def _fits(source: SpectrumSource, rows: npt.NDArray[np.int64]) -> list[str]:
    """Return the further fits of rows of one catalogue, each as JSON."""
    survey = source.survey
    fits = [fit for fit in survey.fits if all(map(source.catalog.holds, (*fit.kind, fit.z)))]
    if not fits:
        return ["[]"] * len(rows)
    names = [name for fit in fits for name in (*fit.kind, fit.z)]
    table = source.catalog.columns_of([*dict.fromkeys([survey.z_column, *names])], rows)
    said: list[list[tuple[str, str, float]]] = [[] for _ in rows]
    for fit in fits:
        for at, row in enumerate(table.select([*fit.kind, fit.z, survey.z_column]).to_pylist()):
            kind = "  ".join(text for name in fit.kind if (text := (row[name] or "").strip()))
            if kind and row[fit.z] is not None and row[fit.z] != row[survey.z_column]:
                said[at].append((fit.name, kind, row[fit.z]))
    return [json.dumps(each) for each in said]


def _facts(source: SpectrumSource, rows: npt.NDArray[np.int64]) -> list[str]:
    """Return the facts of rows of one catalogue, each as JSON."""
    survey = source.survey
    declared = survey.facts or (Fact("z", survey.z_column, ".5f"),)
    facts = [fact for fact in declared if source.catalog.holds(fact.column)]
    columns = dict.fromkeys((*survey.name_columns, *(fact.column for fact in facts)))
    warning, _ = survey.z_warning or ("", 0)
    if warning and source.catalog.holds(warning):
        columns[warning] = None
    table = source.catalog.columns_of(list(columns), rows)
    found = []
    for row in table.to_pylist():
        said = {SHOWN_NAME: survey.name_of(row)}
        said |= {fact.label: text for fact in facts if (text := fact.text(row[fact.column]))}
        if survey.is_sky(row):
            said = {label: said[label] for label in said if label not in _OF_OBJECTS}
            said["class"] = SKY_FIBRE
        found.append(json.dumps(list(said.items()), ensure_ascii=False))
    return found
