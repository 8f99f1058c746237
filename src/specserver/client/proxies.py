"""HTTP proxies that the environment names: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3

from ..errors import BadParameter

_SCHEMES: Final = ("http", "https")


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


def open_pool(proxy: str) -> urllib3.PoolManager:
    """Return a pool of connections, through a proxy or, when it is empty, direct ones."""
    if not proxy:
        return urllib3.PoolManager(maxsize=8)
    parts = urlsplit(proxy)
    headers = None
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=secret)
    return urllib3.ProxyManager(proxy, maxsize=8, proxy_headers=headers)


def shown(proxy: str) -> str:
    """Return a proxy's URL without its user and password, for a message."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
