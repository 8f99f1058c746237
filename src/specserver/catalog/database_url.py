"""URLs of databases, and what of them may be shown and kept."""

from typing import Final
from urllib.parse import parse_qsl, urlencode

_BEGINNINGS: Final = ("postgresql://", "postgres://")
_SECRET: Final = frozenset({"password", "sslpassword"})


def is_url(text: str) -> bool:
    """Return whether a text is the URL of a database."""
    return text.startswith(_BEGINNINGS)


def without_password(url: str) -> str:
    """Return the URL of a database without a password.

    Examples
    --------
    >>> without_password(
    ...     "postgresql://spec:secret@db.example.org/survey?password=x&connect_timeout=3"
    ... )
    'postgresql://spec@db.example.org/survey?connect_timeout=3'
    """
    base, _, query = url.partition("?")
    kind, _, rest = base.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    authority = f"{user.partition(':')[0]}{at}{host}"
    said = [(name, value) for name, value in parse_qsl(query) if name not in _SECRET]
    return f"{kind}://{authority}{slash}{path}" + (f"?{urlencode(said)}" if said else "")
