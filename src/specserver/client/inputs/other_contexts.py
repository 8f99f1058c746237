"""The message about a table without identifiers of its context: which contexts its columns fit."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...errors import SpecServerError, UnknownField
from ...model.id_tables import id_columns
from ...model.ids import IdForm
from ..session import Session, read_id_form

_SHOWN: Final = 20
"""Number of columns or contexts that a message names."""


def raise_explained(
    session: Session, error: SpecServerError, names: Sequence[str], context: str
) -> None:
    """Raise a clearer error if the columns of a table name spectra of other contexts.

    Parameters
    ----------
    error : that there are no identifiers of ``context``
    names : of the columns of the table
    """
    try:
        told = session.listing("contexts", {})
    except SpecServerError:
        # The service cannot be asked: the first error stands.
        return
    if text := explain(names, context, told):
        raise SpecServerError.from_wire(UnknownField.code, text) from error


def explain(names: Sequence[str], context: str, told: Mapping[str, Any]) -> str:
    """Return which contexts the columns of a table fit, and what to do; empty if they fit its own.

    Parameters
    ----------
    names : of its columns
    context : for which the table was read
    told : what the service says of each of its contexts
    """
    forms = {name: read_id_form(one) for name, one in told.items()}
    own = forms.get(context)
    if own is None or _naming(names, own):
        return ""
    found = {name: columns for name, form in forms.items() if (columns := _naming(names, form))}
    # An alias such as default is left out: its release is listed under its own name.
    found = {name: one for name, one in found.items() if told[name].get("resolved", name) == name}
    parts = ", ".join(own.parts[: own.numbers])
    others = "" if own.leads_with_id or not own.numbers else f" (nor {parts})"
    text = (
        f"the table has no column {own.column!r}{others}, which names spectra of {context};"
        f" its columns are {_some(names)}"
    )
    if not found:
        return f"{text}: id_col='…' says which of them has the identifiers"
    by = {columns: [one for one in found if found[one] == columns] for columns in found.values()}
    of = "; ".join(f"{columns}, of {_some(contexts)}" for columns, contexts in by.items())
    first = next(iter(found))
    return (
        f"{text}. It has the identifiers of another context ({of}): give context={first!r}, or"
        f" set_context({first!r}) (--context {first} on the command line)"
    )


def _naming(names: Sequence[str], form: IdForm) -> str:
    """Return the columns that hold identifiers of a context, as text; empty if there are none."""
    try:
        return ", ".join(names[at] for at in id_columns(names, form, None))
    except UnknownField:
        return ""


def _some(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
