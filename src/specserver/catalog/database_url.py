"""URLs of databases, and what of them may be shown and kept."""

import re
from typing import Final
from urllib.parse import unquote

_BEGINNINGS: Final = ("postgresql://", "postgres://")
_SECRET: Final = frozenset({"password", "sslpassword"})
_HOST: Final = re.compile(r"(\[[^]]*\]|[^:]*)(:\d*)?")
"""A name or an address, and a port."""


def is_url(text: str) -> bool:
    """Return whether a text is the URL of a database."""
    return text.startswith(_BEGINNINGS)


def is_readable(url: str) -> bool:
    """Return whether all readers of a URL of a database take the same part of it as a password.

    A password with ``/``, ``@`` or ``?`` as it is would be read as host, port or name, and shown.
    """
    place, _, query = url.partition("://")[2].partition("?")
    authority, _, name = place.partition("/")
    user, _, hosts = authority.rpartition("@")
    return "@" not in user + name + query and all(map(_HOST.fullmatch, hosts.split(",")))


def without_password(url: str) -> str:
    """Return the URL of a database without a password.

    Examples
    --------
    >>> without_password(
    ...     "postgresql://spec:secret@db.example.org/survey?password=x&connect_timeout=3"
    ... )
    'postgresql://spec@db.example.org/survey?connect_timeout=3'
    """
    kind, _, rest = url.partition("://")
    # Whatever a password has in it, it ends before the last sign of that kind.
    user, at, place = rest.rpartition("@")
    base, _, query = place.partition("?")
    said = [pair for pair in query.split("&") if unquote(pair.partition("=")[0]) not in _SECRET]
    name = user.partition(":")[0]
    return f"{kind}://{name}{at}{base}" + (f"?{'&'.join(said)}" if any(said) else "")
