"""The spectra that a caller names: identifier and context of each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from ...errors import BadIdentifier, BadParameter, SpecServerError, UnknownField
from ...model.id_contexts import ContextText
from ...model.id_tables import Gaps, id_columns
from ...model.id_tuple import IdPattern, format_ids, marked_id
from ...model.ids import USUAL_FORM, IdForm
from ...texts import joined
from ..messages import some_of, warn
from ..request import RequestOptions
from ..session import Session
from ..storage import Storage
from .held_tables import is_shared, is_spectrum, row_of
from .identifiers import IdentifierReader

_SHOWN: Final = 20
"""Number of columns or contexts that a message names."""
_WORD: Final = re.compile(r"cannot read ['\"(]*([A-Za-z]\w*)")
"""The word that an error about an identifier begins with: perhaps a context."""
_FLUXES: Final = (
    "it has fluxes and no identifiers, which the service needs; plot and prospect draw spectra"
    " that you hold"
)
ONE_OR_MORE: Final = "one spectrum or more: identifiers in any form, or a file or table of them"
"""The input that errors about empty lists ask for."""


@dataclass(frozen=True, slots=True)
class Named:
    """Identifiers, and the context of each."""

    ids: Sequence[int | IdPattern]
    single: bool
    """Whether one spectrum was named by itself, not as a list."""
    contexts: list[str] | None = None
    """Context of each; None: all are of the context of the call."""

    @property
    def several(self) -> list[str]:
        """The contexts, each once, in the order of their first identifiers."""
        return list(dict.fromkeys(self.contexts or ()))

    @property
    def text(self) -> str:
        """The identifiers as a request states them; if of several contexts, each with its own."""
        if len(self.several) < 2:
            return format_ids(self.ids)
        pairs = zip(self.contexts or (), self.ids, strict=True)
        return "\n".join(f"{context}:{marked_id(named)}" for context, named in pairs)

    def within(self, options: RequestOptions) -> RequestOptions:
        """Return the options with the context of the identifiers, if all are of one."""
        several = self.several
        return replace(options, context=several[0]) if len(several) == 1 else options


def read_ids(session: Session, given: Any, id_col: str | None, options: RequestOptions) -> Named:
    """Return the identifiers in what a caller gave, and which context each is of.

    Raises
    ------
    BadIdentifier, NoIdentifier, UnknownField
        As `IdentifierReader.read`.
    """
    if isinstance(given, Named):
        return given
    numbers = _are_numbers(given)
    plain = options.context or session.context
    # Numbers are read alike in every context: the service is not asked for its form.
    form_of = (lambda _: USUAL_FORM) if numbers else partial(session.id_form, options=options)
    reader = IdentifierReader(
        ContextText(plain, form_of, partial(session.has_context, options=options)),
        id_col,
        partial(Storage(session).get, token=options.token),
        Gaps(skip=options.missing == "skip"),
        mixed=not numbers,
    )
    try:
        named = Named(*reader.read(given))
    except (UnknownField, BadIdentifier) as error:
        first = given[0] if isinstance(given, list | tuple) and len(given) else given
        if is_spectrum(first):
            raise BadIdentifier(type(first).__name__, _FLUXES) from error
        word = _WORD.match(error.message)
        lower = word[1].lower() if word else ""
        if word and word[1] != lower and session.has_context(lower, options):
            text = f"{error.message}; names of contexts are in lower case: {lower!r}"
            raise error.saying(text, *error.settings) from error
        row = row_of(given)
        names = row[0] if row else getattr(error, "known", ())
        if names and not id_col:
            _raise_explained(session, error, names, options)
        raise
    if reader.gaps.rows:
        rows, lacking = sorted(reader.gaps.rows), " or ".join(reader.gaps.lacking)
        warn(f"{len(rows):,} rows have no {lacking} and are left out: {some_of(rows)}")
    if is_shared(given):
        warn(
            "some rows of this column are not the best spectrum of their identifier, and by itself"
            " it means the best: give the table, its rows, or what query answers with"
            " fields='tuple'"
        )
    return named


def read_some_ids(
    session: Session, given: Any, id_col: str | None, options: RequestOptions, what: str
) -> Named:
    """Return identifiers for ``what``, which needs some; raise `BadParameter` if there are none."""
    named = read_ids(session, given, id_col, options)
    if not named.ids:
        raise BadParameter("id_list", "an empty list", f"{what} takes {ONE_OR_MORE}")
    return named


def _are_numbers(given: object) -> bool:
    """Return whether identifiers are whole numbers beyond doubt: no form is needed to read them."""
    if isinstance(given, np.ndarray):
        return given.dtype.kind in "iu"
    if isinstance(given, list):
        return set(map(type, given)) <= {int, np.int64, np.uint64}
    return isinstance(given, int | np.integer)


def _raise_explained(
    session: Session, error: SpecServerError, names: Sequence[str], options: RequestOptions
) -> None:
    """Raise a clearer error if the columns of a table name spectra of other contexts.

    Parameters
    ----------
    error : that there are no identifiers of the context of the call
    names : of the columns of the table
    """
    context = options.context or session.context
    try:
        told = session.listing("contexts", {}, options=options)
    except SpecServerError:
        # The service cannot be asked: the first error stands.
        return
    forms = {name: IdForm.from_json(said) for name, said in told.items()}
    own = forms.get(context)
    if own is None or _naming(names, own):
        return
    found = {
        name: columns
        for name, form in forms.items()
        # An alias such as default is left out: its release is listed under its own name.
        if told[name].get("resolved", name) == name and (columns := _naming(names, form))
    }
    parts = ", ".join(own.parts[: own.numbers])
    others = "" if own.leads_with_id or not own.numbers else f" (nor {parts})"
    text = (
        f"the table has no column {own.column!r}{others}, which names spectra of {context};"
        f" its columns are {joined(names, _SHOWN)}"
    )
    first = next(iter(found), None)
    if first is None:
        text += ": id_col='…' says which of them has the identifiers"
    else:
        by = {
            columns: [name for name in found if found[name] == columns]
            for columns in found.values()
        }
        of = "; ".join(f"{columns}, of {joined(some, _SHOWN)}" for columns, some in by.items())
        text += f". It has the identifiers of another context ({of}): give context={first!r}"
    raise UnknownField.saying(text, "id_col='…'", f"context={first!r}") from error


def _naming(names: Sequence[str], form: IdForm) -> str:
    """Return the columns that hold identifiers of a context, as text; empty if there are none."""
    try:
        return ", ".join(names[at] for at in id_columns(names, form, None))
    except UnknownField:
        return ""
