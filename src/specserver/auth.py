"""Callers and what they may see: tokens, private contexts.

=========================== ==================================================================
file of `data.root`         content
=========================== ==================================================================
``tokens``                  {"version": 1, "tokens": [{id, user, digest, …}]}
``private``                 {"version": 1, "contexts": […]}: the private contexts
a context's ``access``      {"private": true}: invisible without a token that names the context
=========================== ==================================================================

A context is private when either file says so: the loss of one of them opens nothing. A file that
is damaged closes the contexts that it names. The folder of a private context, and all that is
written into it, is readable by its owner only.

A token reads ``specserver.<id>.<secret>``. The secret is 256 random bits and is shown once; the
file holds its SHA-256. A slow, salted hash guards passwords, which can be guessed; of 2^256
secrets none can be, so a fast one takes nothing away and costs a request microseconds.

``anonymous.0.0.anon_access``, which the predecessor's client sends for every user, and other tokens
of the Data Lab (``user.uid.gid.hash``) prove nothing here: their bearers are anonymous.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from .damage import ABSENT, Identity
from .data.context import ContextFolder
from .data.handles import Entry
from .data.root import DataRoot
from .errors import BadParameter, NotAuthenticated, StoreError
from .files import disk_error

_VERSION: Final = 1
_PREFIX: Final = "specserver"
_TOKEN: Final = re.compile(r"specserver\.([0-9a-f]{10})\.([A-Za-z0-9_-]{43})")
_DATALAB: Final = re.compile(r"[^\s.]+\.[0-9]+\.[0-9]+\.\S+")
_USER: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_SPAN: Final = re.compile(r"([0-9]{1,5}) ?([hdwy])")
_HOURS: Final = {"h": 1, "d": 24, "w": 168, "y": 8766}
# Compared with when no token has the id, so that an unknown id takes the time of a wrong secret.
_NO_DIGEST: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request."""

    user: str = ""
    """Empty for a visitor without a token."""
    is_admin: bool = False
    contexts: frozenset[str] = frozenset()
    """Private contexts that the token names."""

    @property
    def is_anonymous(self) -> bool:
        """Whether the caller has no token."""
        return not self.user

    def may_see(self, context: str) -> bool:
        """Return whether a private context is visible to the caller."""
        return self.is_admin or context in self.contexts


ANONYMOUS: Final = Caller()


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """The record of a token."""

    id: str
    user: str
    digest: str
    """SHA-256 of the secret, in hexadecimal."""
    is_admin: bool
    contexts: tuple[str, ...]
    created: datetime
    expires: datetime | None

    def caller(self) -> Caller:
        """Return the caller who has the token."""
        return Caller(self.user, self.is_admin, frozenset(self.contexts))


def check_user(user: str) -> str:
    """Return a user's name; raise `BadParameter` for one that cannot name a user."""
    if _USER.fullmatch(user) is None or user == "anonymous":
        allowed = "1 to 64 of a-z 0-9 . _ -, a letter or digit first and last, not 'anonymous'"
        raise BadParameter("user", user, allowed)
    return user


def parse_expiry(text: str, now: datetime) -> datetime | None:
    """Return the end of ``30d``, ``12h``, ``2027-01-01``, a full ISO time, or ``never``.

    A date, and a time without a zone, is UTC. Raises `BadParameter` for other text or a past time.
    """
    given = text.strip().lower()
    if given == "never":
        return None
    allowed = "a span such as 30d (h, d, w, y), a date such as 2027-01-01 (UTC) to come, or never"
    span = _SPAN.fullmatch(given)
    try:
        if span is not None:
            end = now + timedelta(hours=int(span[1]) * _HOURS[span[2]])
        else:
            end = datetime.fromisoformat(given)
            end = end.replace(tzinfo=UTC) if end.tzinfo is None else end.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadParameter("expires", text, allowed) from error
    if end <= now:
        raise BadParameter("expires", text, allowed)
    return end


class TokenBook:
    """The tokens of a data folder; safe to share between threads and processes."""

    def __init__(self, data: DataRoot) -> None:
        self._file = data.tokens
        self._lock = data.tokens_lock

    def create(
        self,
        user: str,
        *,
        is_admin: bool = False,
        contexts: Sequence[str] = (),
        expires: datetime | None = None,
        now: datetime,
    ) -> str:
        """Return a new token; it cannot be shown again."""
        check_user(user)
        secret = secrets.token_urlsafe(32)
        named = tuple(sorted(set(contexts)))
        record = TokenRecord(
            secrets.token_hex(5), user, _digest(secret), is_admin, named, now, expires
        )
        self._change(lambda known: known.update({record.id: record}))
        return f"{_PREFIX}.{record.id}.{secret}"

    def revoke(self, token_id: str) -> TokenRecord:
        """Take a token back, by its id or itself; raise `BadParameter` when there is none."""
        wanted = token_id.strip().removeprefix(f"{_PREFIX}.").partition(".")[0]
        removed: list[TokenRecord] = []

        def remove(known: dict[str, TokenRecord]) -> None:
            if wanted not in known:
                listed = ", ".join(known) or "none"
                raise BadParameter("ID", wanted, f"known tokens: {listed}")
            removed.append(known.pop(wanted))

        self._change(remove)
        return removed[0]

    def records(self) -> list[TokenRecord]:
        """Return the records of all tokens, in the order they were made."""
        return list(self._read().values())

    def caller(self, token: str, now: datetime) -> Caller:
        """Return the caller who sends a token; no token, or one of the Data Lab, is anonymous.

        Raises `NotAuthenticated` for a token that is none of ours, was revoked, or has expired.
        """
        given = token.strip()
        if not given or _DATALAB.fullmatch(given):
            return ANONYMOUS
        match = _TOKEN.fullmatch(given)
        if match is None:
            raise NotAuthenticated("the token is not of the form specserver.<id>.<secret>")
        record = self._read().get(match[1])
        digest = record.digest if record else _NO_DIGEST
        if not hmac.compare_digest(digest, _digest(match[2])) or record is None:
            raise NotAuthenticated(f"the token {match[1]} is unknown here, or was revoked")
        if record.expires is not None and record.expires <= now:
            raise NotAuthenticated(f"the token {match[1]} expired at {record.expires:%F %H:%M} UTC")
        return record.caller()

    def _read(self) -> Mapping[str, TokenRecord]:
        """Return the tokens by id; read anew when another process has replaced the file."""
        try:
            stamp = self._file.stamp()
            return {} if stamp == ABSENT else _tokens_at(self._file, stamp)
        except (OSError, ValueError, KeyError, TypeError, BadParameter) as error:
            # If the file cannot be read, every token is refused; no sender counts as anonymous.
            raise StoreError(str(self._file), f"the tokens cannot be read ({error})") from error

    def _change(self, change: Callable[[dict[str, TokenRecord]], object]) -> None:
        """Read, change and replace the tokens, one process at a time."""
        try:
            with self._lock.lock():
                known = dict(self._read())
                change(known)
                rows = [asdict(record) for record in known.values()]
                document = {"version": _VERSION, "tokens": rows}
                text = json.dumps(document, indent=1, default=datetime.isoformat)
                self._file.replace(text.encode(), owner_only=True)
        except OSError as error:
            raise StoreError(str(self._file), f"cannot be written ({disk_error(error)})") from error


def is_private(data: DataRoot, context: str) -> bool:
    """Return whether a context is for tokens that name it only."""
    stated = _stated(data.context(context))
    if stated:
        return True
    try:
        return context in _register(data)
    except StoreError:
        # The contexts that it named are not known: only those stated to be public are open.
        return stated is None


def set_private(data: DataRoot, context: str, *, private: bool) -> None:
    """Hide a context, or show it to all; it need not hold anything yet.

    A damaged register is made anew from the contexts' own files.
    """
    folder = data.context(context)
    try:
        with data.private_lock.lock():
            if private:
                _register_private(data, {context}, set())
                folder.access.replace(b'{"private": true}\n', owner_only=True)
                folder.set_access(private=True)
            elif is_private(data, context):
                _register_private(data, set(), {context})
                folder.set_access(private=False)
                folder.access.delete()
    except OSError as error:
        raise StoreError(str(folder.access), f"cannot be written ({disk_error(error)})") from error


def check_private(data: DataRoot) -> list[str]:
    """Return messages for the operator about private contexts; mend what can be mended.

    A context whose own file says that it is private, and that the register lacks, is registered:
    data folders of older versions have no register.
    """
    faults = []
    stated = _all_stated(data)
    try:
        registered = _register(data)
    except StoreError as error:
        hint = "until it is restored or deleted, every context is private; if deleted, it is made"
        return [f"{error.message}; {hint} anew from the contexts' own files"]
    for context in sorted(registered - stated):
        folder = data.context(context)
        if folder.exists():
            hint = f"specserver context private {context}"
            faults.append(f"{folder.access} is lost: the context stays private; {hint}")
    if stated - registered:
        try:
            with data.private_lock.lock():
                _register_private(data, stated, set())
        except OSError as error:
            faults.append(f"{data.private} cannot be written ({error.strerror})")
    return faults


def _all_stated(data: DataRoot) -> set[str]:
    """Return the contexts whose own file says that they are private."""
    return {context.name for context in data.folders() if _stated(context)}


def _stated(context: ContextFolder) -> bool | None:
    """Return whether a context's own file says that it is private; None: there is no file."""
    try:
        # Each request asks: mostly there is no file, and an exception takes longer than this look.
        if context.access.stamp() == ABSENT:
            return None
        said = json.loads(context.access.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return True  # a damaged file hides the context rather than showing it
    return not isinstance(said, dict) or said.get("private") is not False


def _register(data: DataRoot) -> frozenset[str]:
    """Return the private contexts that the register names; raise `StoreError` for a damaged one."""
    file = data.private
    try:
        stamp = file.stamp()
    except OSError as error:
        raise StoreError(str(file), f"cannot be read ({error.strerror})") from error
    return frozenset() if stamp == ABSENT else _register_at(file, stamp)


@lru_cache(maxsize=16)
def _register_at(file: Entry, stamp: Identity) -> frozenset[str]:
    """Return what the register named when it had that state."""
    del stamp
    try:
        document = json.loads(file.read())
        version, contexts = document["version"], frozenset(map(str, document["contexts"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(str(file), f"the private contexts cannot be read ({error})") from error
    if version != _VERSION:
        raise StoreError(str(file), f"version {version}, not {_VERSION}")
    return contexts


def _register_private(data: DataRoot, added: set[str], removed: set[str]) -> None:
    """Change the register; call under its lock."""
    try:
        known = _register(data)
    except StoreError:
        known = frozenset(_all_stated(data))
    document = {"version": _VERSION, "contexts": sorted((known | added) - removed)}
    data.private.replace(json.dumps(document, indent=1).encode(), owner_only=True)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@lru_cache(maxsize=16)
def _tokens_at(file: Entry, stamp: Identity) -> Mapping[str, TokenRecord]:
    """Return the tokens by id, as the file had them when it had that state."""
    del stamp
    document: dict[str, Any] = json.loads(file.read())
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']}, not {_VERSION}")
    return {row["id"]: _record(row) for row in document["tokens"]}


def _record(row: dict[str, Any]) -> TokenRecord:
    expires = row["expires"]
    return TokenRecord(
        id=str(row["id"]),
        user=check_user(row["user"]),
        digest=str(row["digest"]),
        is_admin=row["is_admin"] is True,
        contexts=tuple(map(str, row["contexts"])),
        created=datetime.fromisoformat(row["created"]),
        expires=None if expires is None else datetime.fromisoformat(expires),
    )
