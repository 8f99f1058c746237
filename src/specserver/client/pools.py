"""Pools of HTTP connections: through which proxy, and when a request is sent again.

Proxies are those that the environment names: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY.
"""

import os
import random
from functools import cache, lru_cache
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3
from typing_extensions import override
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
)

from ..errors import BadParameter
from ..wire.headers import TOKEN

_SCHEMES: Final = ("http", "https")
_LONGEST_MESSAGE: Final = 300
# Idle connections to one service that are kept: as many as threads may ask at once.
_MOST_KEPT: Final = 64


class _PoliteRetry(urllib3.Retry):
    """Waits a little longer than asked, so that clients refused together do not come together."""

    @override
    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Return how long to wait, s, or None if the answer does not state it."""
        told_s = super().get_retry_after(response)
        return None if told_s is None else told_s * random.uniform(1.0, 1.5)  # noqa: S311


# Every request may be repeated if no connection came about, and if the service answered 503 with
# a Retry-After, of which no more than half a minute is honoured at a time. In both cases nothing
# was done. A token stays with the service that it was meant for.
RETRY: Final = _PoliteRetry(
    total=4,
    connect=2,
    read=False,
    other=False,
    status=3,
    redirect=2,
    allowed_methods=("GET", "POST", "PUT", "DELETE"),
    remove_headers_on_redirect={*urllib3.Retry.DEFAULT_REMOVE_HEADERS_ON_REDIRECT, TOKEN},
    status_forcelist=(),
    backoff_factor=0.1,
    raise_on_status=False,
    retry_after_max=30,
)


def proxy_for(url: str) -> str:
    """Return the URL of the proxy through which an address is reached; empty: none.

    The variables are read at each request, in small or capital letters, as ``curl`` and
    ``requests`` read them. Addresses of this machine are always reached directly.

    Raises
    ------
    BadParameter
        The proxy is of a kind that is not supported, such as SOCKS.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_loopback(host):
        return ""
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if urlsplit(proxy).scheme not in _SCHEMES:
        allowed = f"{' or '.join(_SCHEMES)}://HOST:PORT; NO_PROXY={host} reaches it directly"
        raise BadParameter(f"{parts.scheme.upper()}_PROXY", shown(proxy), allowed)
    return proxy


@cache
def open_pool(proxy: str) -> urllib3.PoolManager:
    """Return this process' connections, through a proxy or, when it is empty, direct ones.

    All clients share them: of Dask, each task has a client of its own.
    """
    if not proxy:
        return urllib3.PoolManager(maxsize=_MOST_KEPT)
    parts = urlsplit(proxy)
    headers = None
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=secret)
    return urllib3.ProxyManager(proxy, maxsize=_MOST_KEPT, proxy_headers=headers)


# A child must not write into the connections of its parent.
os.register_at_fork(after_in_child=open_pool.cache_clear)


def shown(proxy: str) -> str:
    """Return a proxy's URL without its user and password, for a message."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def send(
    pool: urllib3.PoolManager, method: str, url: str, **options: Any
) -> urllib3.BaseHTTPResponse:
    """Send one request, and send it again if an idle connection turns out to be closed.

    A server closes connections that have been idle for long. If it does so while a request is
    under way, the request fails on that connection before anything of an answer came; so it is
    repeated on another one. On a new connection it is not.

    Parameters
    ----------
    options : as `urllib3.PoolManager.request` takes them
    """
    connections: Any = pool.connection_from_url(url)
    while True:
        made = connections.num_connections
        try:
            return pool.request(method, url, **options)
        except ProtocolError:
            # Each failure takes one idle connection away, so that this comes to an end.
            if connections.num_connections != made:
                raise
        if hasattr(options.get("body"), "seek"):
            options["body"].seek(0)


def reason(error: HTTPError) -> str:
    """Return why there is no connection, in a few words."""
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    # A refused connection is a subclass of this error, but did not run out of time.
    if isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError):
        return "no connection in time"
    below = cause.__cause__ or cause
    return str(getattr(below, "strerror", None) or below)[:_LONGEST_MESSAGE]
