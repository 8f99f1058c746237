"""What to say of a table that names no spectrum of its context: of which ones its columns do."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import UnknownField
from ..model.idrows import id_columns
from ..model.ids import IdForm
from .connection import form_told

_SHOWN: Final = 20
"""Columns and contexts that a message names."""


def explain(names: Sequence[str], context: str, told: Mapping[str, Any]) -> str:
    """Return what a table looks like, and what to do; nothing where it does name spectra.

    Parameters
    ----------
    names : of its columns
    context : that it was read for
    told : what the service says of each of its contexts
    """
    forms = {name: form_told(one) for name, one in told.items()}
    own = forms.get(context)
    if own is None or _naming(names, own):
        return ""
    found = {name: columns for name, form in forms.items() if (columns := _naming(names, form))}
    # A name such as default stands for a release that is there under its own.
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
    """Return the columns that name spectra of a context, as text; empty where there are none."""
    try:
        return ", ".join(names[at] for at in id_columns(names, form, None))
    except UnknownField:
        return ""


def _some(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
