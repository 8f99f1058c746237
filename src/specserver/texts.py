"""Parts of messages."""

from collections.abc import Iterable
from typing import Final

_SHOWN: Final = 300


def joined(values: Iterable[object], limit: int = 40) -> str:
    """Join at most ``limit`` values for a message."""
    listed = [str(value) for value in values]
    more = f", … ({len(listed)} in all)" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def shown(value: object) -> str:
    """Return a given value for a message; only the beginning of a long one."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
