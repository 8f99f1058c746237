"""Catalogue rows, of one context or of several → what the caller asked for."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np

from ..errors import BadParameter, SpecServerError
from ..model.ids import USUAL_FORM
from ..wire.columns import TELLING
from .connection import Connection
from .request import RequestOptions, split_names
from .results.query_results import TUPLE, to_result, to_tuples, write_csv, write_rows
from .transfer import caller_depth, say, shortened

if TYPE_CHECKING:
    from .results.columns import Columns

CONTEXT: Final = "context"
ID: Final = "id"


class Asking(Connection):
    """A connection that asks for catalogue rows."""

    def _rows(
        self, body: Mapping[str, Any], names: Sequence[str], call: RequestOptions
    ) -> "Columns":
        """Return the rows of one context: the identifier alone, or what was asked for.

        A tuple alone is computed from the identifier where it is packed from it; else, and among
        others, it stands for its parts. Of several columns the identifier is the first.
        """
        columns = self._answered(body, names, call)
        if body["primary"]:
            self._warn_of_others(str(body["context"]), columns)
        return columns

    def _answered(
        self, body: Mapping[str, Any], names: Sequence[str], call: RequestOptions
    ) -> "Columns":
        """Return the rows of one context, as `_rows` says."""
        context = str(body["context"])
        if list(names) == [TUPLE]:
            columns = self._fetch_columns({**body, "fields": []}, call)
            if USUAL_FORM.column in columns.values:
                return columns
            # Of other surveys the identifier does not tell the parts.
            parts = list(self._id_form(context).parts)
            return self._fetch_columns({**body, "fields": parts}, call)
        fields = list(names)
        if not body["primary"] and not body["catalog"]:
            # The count tells whether identifiers alone mean other rows.
            body = {**body, "count_others": True}
        if len(fields) > 1:
            column = self._id_column(context)
            fields = [column, *(name for name in fields if name.lower() != column)]
            # So that each row of the table names its spectrum and no other of the identifier.
            fields += [TELLING] if self._id_form(context).leads_with_id else []
        columns = self._fetch_columns({**body, "fields": fields}, call)
        if len(columns.values) == 1:
            self._warn_of_repeated(body, columns)
        elif columns.nothers and not body["primary"]:
            columns = replace(columns, shared=self._id_column(context))
        return columns

    def _warn_of_others(self, context: str, columns: "Columns") -> None:
        """Warn of rows left out as not primary: of each empty answer, else once a context."""
        nfound = len(next(iter(columns.values.values()), ()))
        if not columns.nothers or (nfound and context in self._told_of_others):
            return
        self._told_of_others.add(context)
        one = columns.nothers == 1
        if nfound:
            which = "is no primary spectrum" if one else "are not the survey's primary spectra"
            text = f"{columns.nothers:,} more {which}"
        else:
            others = "other" if one else "others"
            text = f"no primary spectrum is found, but {columns.nothers:,} {others}"
        warnings.warn(
            f"{text}: primary=False (--all on the command line) finds all",
            UserWarning,
            stacklevel=caller_depth(),
        )

    def _told_apart(
        self, contexts: Sequence[str], body: Mapping[str, Any]
    ) -> Mapping[str, Sequence[str]]:
        """Return the columns that tell rows of a context apart, of contexts that need some."""
        if _are_best(body):
            return {}
        forms = {context: self._id_form(context) for context in contexts}
        return {name: form.parts[1:] for name, form in forms.items() if form.leads_with_id}

    def _warn_of_repeated(self, body: Mapping[str, Any], columns: "Columns") -> None:
        """Warn if identifiers alone mean other rows: `getSpec` gives the best ones."""
        context = str(body["context"])
        if _are_best(body) or context in self._told_of_repeated:
            return
        name, ids = next(iter(columns.values.items()))
        nrepeated = len(ids) - len(np.unique(ids)) if ids.dtype.kind in "iu" else 0
        # What identifiers look like is asked for only where it matters.
        if not (nrepeated or columns.nothers) or name != self._id_column(context):
            return
        if not self._id_form(context).leads_with_id:
            return
        self._told_of_repeated.add(context)
        which = f"{nrepeated:,} of {len(ids):,} identifiers repeat another"
        if not nrepeated:
            which = f"{columns.nothers:,} of {len(ids):,} rows are not the best of their identifier"
        warnings.warn(
            f"{which}: several spectra share one, and by itself it means the best of them;"
            " fields='tuple' (--fields tuple on the command line) names each spectrum",
            UserWarning,
            stacklevel=caller_depth(),
        )

    def _rows_of_each(
        self,
        contexts: Sequence[str],
        body: Mapping[str, Any],
        names: Sequence[str],
        call: RequestOptions,
    ) -> "dict[str, Columns]":
        """Return the rows of several contexts: identifier, then what was asked for."""
        fields = _besides(names)
        answers = {}
        for context in contexts:
            with _told_of(context):
                asked = list(names) if list(names) == [TUPLE] else []
                if fields:
                    # The name by itself asks for one column, without the identifier.
                    asked = [self._id_column(context), *fields]
                elif not asked and not _are_best(body) and self._id_form(context).leads_with_id:
                    # The number alone would mean the best spectrum that has it.
                    asked = [TUPLE]
                answers[context] = self._rows({**body, "context": context}, asked, call)
        return answers

    def _fetch_columns(self, body: Mapping[str, Any], call: RequestOptions) -> "Columns":
        """Ask for catalogue columns."""
        from .results.columns import read_columns
        from .session import query_timeout_s

        url, began = self._url("bulk/query"), perf_counter()
        if call.debug:
            say(f"POST {url} {shortened(body)}")
        wait_s = query_timeout_s(call.timeout_s)
        with self._http().post(url, body, token=call.token, timeout_s=wait_s) as answer:
            columns = read_columns(answer)
        if call.verbose:
            nrow = len(next(iter(columns.values.values()), ()))
            say(f"{nrow:,} rows in {perf_counter() - began:.2f} s")
        return columns


def one_result(columns: "Columns", names: Sequence[str], file: TextIO | None) -> Any:
    """Return the rows of one context in the form asked for, or write them to a file."""
    if file is None:
        return to_result(columns, names)
    write_rows(columns, names, file)
    return "OK"


def joint_result(
    answers: "Mapping[str, Columns]",
    names: Sequence[str],
    apart: Mapping[str, Sequence[str]],
    file: TextIO | None,
) -> Any:
    """Return the rows of several contexts in the form asked for, or write them to a file.

    Pairs ``(context, id)``, or ``(context, tuple)``; with other fields a Table with the columns
    context and id before them, and ``apart`` after them: what tells spectra of one id apart.
    """
    fields = _besides(names)
    if not fields and file is None:
        return _pairs(answers, names)
    if not fields and file is not None:
        for context, value in _pairs(answers, names):
            text = f"({','.join(map(str, value))})" if isinstance(value, tuple) else str(value)
            file.write(f"{context}:{text}\n")
        return "OK"
    columns = join_columns(answers, fields, apart)
    if file is None:
        return to_result(columns, names)
    write_csv(columns, file)
    return "OK"


def joint_columns(
    answers: "Mapping[str, Columns]", names: Sequence[str], apart: Mapping[str, Sequence[str]]
) -> "Columns":
    """Return the rows of several contexts as the columns of one table.

    Raises
    ------
    BadParameter
        Tuples, whose parts differ.
    """
    if list(names) == [TUPLE]:
        allowed = "tuples of several contexts are written as text: a name that ends in .txt"
        raise BadParameter("out", TUPLE, allowed)
    return join_columns(answers, _besides(names), apart)


def read_contexts(given: object) -> list[str] | None:
    """Return the contexts of a list, or of text with commas; None where it is a single one.

    Raises
    ------
    BadParameter
        A list that holds none.
    """
    if given is None or (isinstance(given, str) and "," not in given):
        return None
    names = split_names(given)  # type: ignore[arg-type]  # text, or anything with names in it
    if not names:
        raise BadParameter("context", given, "name one context, or several in a list")
    return names


def _are_best(body: Mapping[str, Any]) -> bool:
    """Return whether each row of an answer is the best spectrum of its identifier."""
    return bool(body["primary"]) and not body["catalog"]


def _different(units: Sequence[str]) -> list[str]:
    """Return the different units among some; of equal units, the first spelling."""
    met = list(dict.fromkeys(units))
    if len(met) < 2:
        return met
    from astropy.units import Unit

    return list({Unit(one, parse_strict="silent"): one for one in reversed(met)}.values())


def _besides(names: Sequence[str]) -> list[str]:
    """Return the columns to show besides context and id; empty for these alone, or for tuples."""
    if TUPLE in names and len(names) > 1:
        allowed = "of several contexts tuples come alone: their parts differ"
        raise BadParameter("fields", ", ".join(names), allowed)
    return [] if list(names) == [TUPLE] else [one for one in names if one not in {CONTEXT, ID}]


@contextmanager
def _told_of(context: str) -> Iterator[None]:
    """Say in every error which context it is of."""
    try:
        yield
    except SpecServerError as error:
        text = error.message if context in error.message else f"{context}: {error.message}"
        raise SpecServerError.from_wire(error.code, text) from error


def _pairs(answers: "Mapping[str, Columns]", names: Sequence[str]) -> list[tuple[str, Any]]:
    """Return ``(context, id)`` of every row, or ``(context, tuple)`` when tuples are asked for."""
    pairs: list[tuple[str, Any]] = []
    for context, columns in answers.items():
        if list(names) == [TUPLE] or len(columns.values) > 1:
            values: list[Any] = to_tuples(columns)
        else:
            values = next(iter(columns.values.values())).tolist()
        pairs += [(context, value) for value in values]
    return pairs


def join_columns(
    answers: "Mapping[str, Columns]",
    fields: Sequence[str],
    apart: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> "Columns":
    """Return the rows of all contexts: context, id, and the fields asked for.

    Parameters
    ----------
    answers
        By context: the identifier, then what was asked for; of ``*`` what all have comes.
    fields
        Names, as the caller gave them.
    apart
        By context: columns that tell spectra of one identifier apart, where there are such.

    Raises
    ------
    BadParameter
        Values of one name are in different units.
    """
    from .results.columns import Columns
    from .results.joined import join_ids, join_some, join_values

    parts = list(answers.values())
    ids = [next(iter(one.values)) for one in parts]
    if "*" in fields:
        known = [one for one in parts[0].values if all(one in part.values for part in parts)]
        fields = [one for one in known if one not in ids]
    counts = [len(one.values[name]) for one, name in zip(parts, ids, strict=True)]
    values: dict[str, Any] = {
        CONTEXT: np.repeat(np.array(list(answers)), counts),
        ID: join_ids([one.values[name] for one, name in zip(parts, ids, strict=True)]),
    }
    units: dict[str, str] = {}
    for field in fields:
        name = field.lower()
        values[field] = join_values([one.values[name] for one in parts])
        stated = _different([one.units[name] for one in parts if name in one.units])
        if len(stated) > 1:
            allowed = (
                f"its units differ ({', '.join(sorted(stated))}): ask for it context by context"
            )
            raise BadParameter("fields", field, allowed)
        units |= dict.fromkeys([field] if stated else [], next(iter(stated), ""))
    taken = {field.lower() for field in values}
    for name in dict.fromkeys(one for some in apart.values() for one in some):
        own = [
            part.values.get(name) if name in apart.get(context, ()) else None
            for context, part in answers.items()
        ]
        if name not in taken and any(one is not None for one in own):
            values[name] = join_some(own, counts)
    return Columns(values, units)
