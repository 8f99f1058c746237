"""A filter of requests: their host must be allowed, and a caller may make only so many a second.

A caller is the user of a token, else an address; of IPv6 the network of 64 bits, which is one
customer's. Callers on this machine are not counted.
"""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from math import ceil
from time import monotonic
from typing import Final

from anyio import to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from ...auth import TokenBook
from ...errors import SpecServerError, TooOften, UnknownHost
from ...settings import Settings
from ...wire.headers import TOKEN
from . import error_responses

CALLER: Final = "whose"
"""Key in the state of a request: the caller whose requests are counted together, or None."""
# Callers remembered; the one whose last request is oldest is forgotten.
_MOST_CALLERS: Final = 10_000
_ADDRESSES: Final = 4096
# Longer than any address; a web server in front may pass on a text of any length.
_ADDRESS_CHARS: Final = 64
_KEY, _BEARER = TOKEN.lower().encode(), b"authorization"


class RateLimits:
    """Requests that each caller may still make: so many a second, and a burst after a rest.

    Parameters
    ----------
    per_s : requests a second; 0: any number
    burst : requests that may come at once after a rest
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, float(burst)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many callers are remembered."""
        return len(self._left)

    def take(self, caller: str) -> None:
        """Count one request of a caller; raise `TooOften` if the caller has none left."""
        if not self._per_s:
            return
        now = monotonic()
        left, since = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_s)
        taken = left >= 1.0
        self._left[caller] = (left - taken, now)
        if len(self._left) > _MOST_CALLERS:
            self._left.popitem(last=False)
        if not taken:
            wait_s = max(1, ceil((1.0 - left) / self._per_s))
            raise TooOften("requests a second", self._per_s, "caller_requests_per_s", wait_s)


class Hosts:
    """The names under which the service may be asked.

    Parameters
    ----------
    allowed
        Names; ``*.example.org`` stands for all below it, ``*`` and no name at all for any. An
        address is always allowed, as it cannot be made to lead to another machine.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        names = [name.strip().lower() for name in allowed]
        self._any = not names or "*" in names
        self._names = frozenset(names)

    def check(self, scope: Scope) -> None:
        """Raise `UnknownHost` when a request is for another host."""
        if self._any:
            return
        given = [value for name, value in scope["headers"] if name == b"host"]
        host = given[0].decode("latin-1").lower() if len(given) == 1 else ""
        name = host.partition("]")[0].lstrip("[") if host[:1] == "[" else host.partition(":")[0]
        parts = name.split(".")
        above = {".".join(["*", *parts[at:]]) for at in range(1, len(parts))}
        if not (name in self._names or above & self._names or _is_address(name[:_ADDRESS_CHARS])):
            raise UnknownHost(host)


class RequestFilter:
    """Middleware that refuses requests for other hosts and beyond the rate limit."""

    def __init__(self, app: ASGIApp, settings: Settings, tokens: TokenBook) -> None:
        self.app = app
        self.hosts = Hosts(settings.allowed_hosts)
        self.shares = RateLimits(settings.caller_requests_per_s, settings.caller_burst)
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] == "http":
            try:
                self.hosts.check(scope)
                caller = await self._caller(scope)
                scope.setdefault("state", {})[CALLER] = caller
                if caller is not None:
                    self.shares.take(caller)
            except (UnknownHost, TooOften) as error:
                await error_responses.answer(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _caller(self, scope: Scope) -> str | None:
        """Return the caller whose requests are counted together; None: they are not counted."""
        client = scope.get("client")
        address = caller_address(client[0][:_ADDRESS_CHARS]) if client else "unknown"
        token = _token_of(scope) if address is not None else ""
        if token:
            try:
                caller = await to_thread.run_sync(self._tokens.caller, token, datetime.now(UTC))
            except SpecServerError:
                # Endpoints that need the token answer with the error. Tries count for the address.
                return address
            if not caller.is_anonymous:
                return f"user {caller.user}"
        return address


@lru_cache(_ADDRESSES)
def caller_address(host: str) -> str | None:
    """Return what stands for the caller at an address; None for this machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            network = int(address) >> 64
            return None if address.is_loopback else f"{network:x}::/64"
        address = mapped
    return None if address.is_loopback else str(address)


def _token_of(scope: Scope) -> str:
    """Return the token that a request carries."""
    headers = dict(scope["headers"])
    kind, _, bearer = headers.get(_BEARER, b"").partition(b" ")
    token = headers.get(_KEY) or (bearer if kind.lower() == b"bearer" else b"")
    return token.decode("latin-1").strip()


@lru_cache(_ADDRESSES)
def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
