"""HTTP to one service: keep-alive, time limits, polite retries, errors rebuilt from the wire."""

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
)

from ..errors import BadParameter, ServiceError, SpecServerError, StoreError, Unreachable
from ..wire.media_types import JSON, OCTETS
from .proxies import open_pool, proxy_for, shown

AUTH_HEADER: Final = "X-DL-AuthToken"

_CONNECT_TIMEOUT_S: Final = 5.0
# Silence allowed between two pieces of an answer: a long query may think before its first row.
_READ_TIMEOUT_S: Final = 300.0
# What the network and the queue may add to the time that the caller gave the query itself.
_GRACE_S: Final = 10.0


class _PoliteRetry(urllib3.Retry):
    """Comes again a little later than told: those refused together must not come together."""

    def get_retry_after(  # type: ignore[explicit-override]  # typing has it from Python 3.12 on
        self, response: urllib3.BaseHTTPResponse
    ) -> float | None:
        """Return how long to wait, s, or None when nothing was said of it."""
        told_s = super().get_retry_after(response)
        return None if told_s is None else told_s * random.uniform(1.0, 1.5)  # noqa: S311


# Every request may be repeated: when no connection came about, and when the service said 503 with
# a Retry-After, of which no more than half a minute is honoured at a time. In both cases nothing
# was done. A token stays with the service that it was meant for.
_RETRY: Final = _PoliteRetry(
    total=4,
    connect=2,
    read=False,
    other=False,
    status=3,
    redirect=2,
    allowed_methods=("GET", "POST", "PUT", "DELETE"),
    remove_headers_on_redirect={*urllib3.Retry.DEFAULT_REMOVE_HEADERS_ON_REDIRECT, AUTH_HEADER},
    status_forcelist=(),
    backoff_factor=0.1,
    raise_on_status=False,
    retry_after_max=30,
)
_LONGEST_MESSAGE: Final = 300
# Longest piece of a body that is not sent in chunks; those of a chunked one come as they are sent.
_PIECE: Final = 2**18


class Body:
    """The body of an answer, read as pyarrow reads a file.

    Pieces are laid in place as they come, while they are in the processor's cache: read at once,
    a batch of 24 MB took four times as long.
    """

    closed = False

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._pieces = response.stream(_PIECE)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes | npt.NDArray[np.uint8]:
        """Return so many bytes, fewer at the end; a long piece as an array, which saves a copy."""
        whole = np.empty(size, dtype=np.uint8)
        place, done = whole.data, 0
        while done < size:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            part = self._rest[: size - done]
            self._rest = self._rest[len(part) :]
            place[done : done + len(part)] = part
            done += len(part)
        return whole[:done] if size > _PIECE else whole[:done].tobytes()

    def read_all(self) -> bytes:
        """Return what is left."""
        begun, self._rest = self._rest, memoryview(b"")
        return b"".join([begun, *self._pieces])

    def drain(self) -> None:
        """Read what is left, the end mark of the transfer among it."""
        self._rest = memoryview(b"")
        for _ in self._pieces:
            pass


class Session:
    """Requests to a service, over connections that are kept.

    Parameters
    ----------
    token
        Returns the token of calls that are given none.
    """

    def __init__(self, token: Callable[[], str] = str) -> None:
        self._token = token
        self._pools: dict[str, urllib3.PoolManager] = {}
        """By the URL of the proxy; empty: direct connections."""
        self._process = 0

    def get_text(
        self,
        url: str,
        fields: Mapping[str, str] | None = None,
        *,
        token: str | None = None,
        timeout_s: float | None = None,
        retry: bool = True,
    ) -> str:
        """Return the text of a GET.

        Raises
        ------
        SpecServerError
            What the service answered, or `Unreachable`.
        """
        headers = self._headers(token)
        response = self._request("GET", url, headers, timeout_s, fields=fields, retry=retry)
        with _reading(response, url):
            return response.read().decode("utf-8", "replace")

    @contextmanager
    def get(self, url: str, *, token: str | None = None) -> Iterator[Body]:
        """Lend the body of a GET, to be read while it arrives; errors as of `post`."""
        response = self._request("GET", url, self._headers(token), None)
        with _reading(response, url):
            yield Body(response)

    def send(
        self,
        method: str,
        url: str,
        *,
        fields: Mapping[str, str] | None = None,
        body: bytes | BinaryIO | None = None,
        nbytes: int = 0,
        token: str | None = None,
    ) -> str:
        """Send a change, with the bytes or so many of an open file; return the text of the answer.

        Raises
        ------
        SpecServerError
            What the service answered, or `Unreachable`.
        """
        headers = self._headers(token) | {"Content-Type": OCTETS}
        if body is not None:
            headers["Content-Length"] = str(nbytes)
        response = self._request(method, url, headers, None, fields=fields, body=body)
        with _reading(response, url):
            return response.read().decode("utf-8", "replace")

    @contextmanager
    def post(
        self,
        url: str,
        body: Mapping[str, Any],
        *,
        token: str | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Body]:
        """Post JSON and lend the body of the answer, to be read while it arrives.

        Raises
        ------
        SpecServerError
            What the service answered, `Unreachable`, or `StoreError` when the answer breaks off.
        """
        sent = json.dumps(body, allow_nan=False).encode()
        with self.upload(url, sent, JSON, token=token, timeout_s=timeout_s) as answer:
            yield answer

    @contextmanager
    def upload(
        self,
        url: str,
        sent: bytes,
        media_type: str,
        *,
        token: str | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Body]:
        """Post bytes of a media type and lend the body of the answer; errors as of `post`."""
        headers = self._headers(token) | {"Content-Type": media_type}
        response = self._request("POST", url, headers, timeout_s, body=sent)
        with _reading(response, url):
            answer = Body(response)
            yield answer
            # The end mark of the transfer lies behind the last byte that a reader asks for;
            # taking it shows that the answer is whole, and frees the connection for the next.
            answer.drain()

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        timeout_s: float | None,
        *,
        fields: Mapping[str, str] | None = None,
        body: bytes | BinaryIO | None = None,
        retry: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request; return the answer when its status is a good one."""
        read_s = _READ_TIMEOUT_S if timeout_s is None else _positive_s(timeout_s)
        timeout = urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, read_s), read=read_s)
        proxy = proxy_for(url)
        try:
            response = self._connections(proxy).request(
                method,
                url,
                fields=fields,
                body=body,
                headers=headers,
                timeout=timeout,
                retries=_RETRY if retry else False,
                preload_content=False,
                decode_content=False,
            )
        except ReadTimeoutError as error:
            raise ServiceError(
                f"{url} sent nothing for {read_s:g} s; ask for less, or raise timeout="
            ) from error
        except HTTPError as error:
            through = f", through the proxy {shown(proxy)}" if proxy else ""
            raise Unreachable(url, f"{_reason(error)}{through}") from error
        if response.status >= 400:
            with _reading(response, url):
                text = response.read().decode("utf-8", "replace")
            raise _error(response.status, text, url)
        return response

    def _headers(self, token: str | None) -> dict[str, str]:
        """Return the headers of every request."""
        headers = {"Accept-Encoding": "identity"}  # the chunks inside are compressed already
        sent = (token or self._token()).strip()
        if sent:
            headers[AUTH_HEADER] = sent
        return headers

    def _connections(self, proxy: str) -> urllib3.PoolManager:
        """Return the pool of this process: a forked child must not write into its parent's."""
        if self._process != os.getpid():
            self._pools, self._process = {}, os.getpid()
        if proxy not in self._pools:
            self._pools[proxy] = open_pool(proxy)
        return self._pools[proxy]


def query_timeout_s(asked_s: float | None) -> float | None:
    """Return how long to wait for a query that was given so long by the caller."""
    return None if asked_s is None else _positive_s(asked_s) + _GRACE_S


def _positive_s(timeout_s: float) -> float:
    """Return a time limit that is one."""
    if not timeout_s > 0:
        raise BadParameter("timeout", timeout_s, "seconds, more than 0; None for the usual limit")
    return timeout_s


@contextmanager
def _reading(response: urllib3.BaseHTTPResponse, url: str) -> Iterator[None]:
    """Give the connection back after a whole answer, drop it after any other."""
    try:
        yield
    except HTTPError as error:
        response.close()
        raise StoreError(f"answer of {url}", f"cut off ({_reason(error)})") from error
    except BaseException:
        response.close()
        raise
    response.release_conn()


def _reason(error: HTTPError) -> str:
    """Return why there is no connection, in a few words."""
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    # Of its kind by inheritance, but a refused connection did not run out of time.
    if isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError):
        return "no connection in time"
    below = cause.__cause__ or cause
    return str(getattr(below, "strerror", None) or below)[:_LONGEST_MESSAGE]


def _error(status: int, text: str, url: str) -> SpecServerError:
    """Rebuild the error of an answer."""
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("code"), str):
        return SpecServerError.from_wire(said["code"], str(said.get("message", "")))
    shown = " ".join(text.split())[:_LONGEST_MESSAGE]
    return ServiceError(f"{url} answered with status {status}: {shown or 'no reason given'}")
