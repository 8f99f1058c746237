"""A service, and HTTP to it: keep-alive, time limits, retries, errors rebuilt from the wire."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from ..errors import (
    BadParameter,
    ServiceError,
    SpecServerError,
    StoreError,
    UnknownContext,
    Unreachable,
)
from ..model.ids import IdForm
from ..wire.error import read_error
from ..wire.headers import TOKEN
from ..wire.media_types import JSON
from .messages import say, shortened_body
from .request import USUAL, RequestOptions, positive_s
from .results.listing import Listing

if TYPE_CHECKING:
    # urllib3 sets warning filters when it is imported: importing the client must not import it.
    import urllib3

DEFAULT_URL: Final = "http://127.0.0.1:6998/spec"
URL_VARIABLE: Final = "SPECSERVER_URL"
TOKEN_VARIABLE: Final = "SPECSERVER_TOKEN"  # noqa: S105  # the name of a variable

_FORMATS: Final = ("text", "json", "csv")
_CONNECT_TIMEOUT_S: Final = 5.0
# Silence allowed between two pieces of an answer: a long query may take time for its first row.
_READ_TIMEOUT_S: Final = 300.0
# The network and the queue may take this much longer than the time limit of the caller.
_GRACE_S: Final = 10.0
_LONGEST_MESSAGE: Final = 300
_NOT_FINITE: Final = re.compile(r"\b(NaN|Infinity)\b")
# Longest piece of a body that is not sent in chunks; those of a chunked one come as they are sent.
_PIECE: Final = 2**18


def environment_url() -> str:
    """Return the URL of the service that the environment names; empty if it names none."""
    return os.environ.get(URL_VARIABLE, "")


class ResponseBody:
    """The body of an answer, read as pyarrow reads a file.

    Pieces are laid in place as they come, while they are in the processor's cache: read at once,
    a batch of 24 MB took four times as long.
    """

    closed = False

    def __init__(self, response: "urllib3.BaseHTTPResponse") -> None:
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
        """Return the rest of the body."""
        begun, self._rest = self._rest, memoryview(b"")
        return b"".join([begun, *self._pieces])

    def source(self) -> "ResponseBody | bytes":
        """Return what to read an Arrow stream from: all bytes of a short answer, else this.

        A reader asks a file for each part of a message, which takes as long as a short answer.
        """
        stated = self.headers.get("Content-Length", "")
        return self.read_all() if stated.isdigit() and int(stated) <= _PIECE else self

    def drain(self) -> None:
        """Read the rest of the body, with the end mark of the transfer."""
        self._rest = memoryview(b"")
        for _ in self._pieces:
            pass


class Session:
    """A service, with the context and profile of requests that name none.

    Making one contacts nothing. All sessions of a process share its connections, which are kept
    for later requests. Parameters are those of `SpecClient`.
    """

    def __init__(
        self, context: str = "default", profile: str = "default", svc_url: str | None = None
    ) -> None:
        self.context = context
        self.profile = profile
        self.chosen_url = svc_url
        self.chosen_token: str | None = None
        """None follows ``SPECSERVER_TOKEN``, '' sends none."""
        self.told_of_others: set[str] = set()
        """Contexts whose queries have warned that rows which are not primary were left out."""
        self.told_of_repeated: set[str] = set()
        """Contexts whose queries have warned that identifiers repeat."""
        self._id_forms: dict[tuple[str, str, str], IdForm] = {}

    @override
    def __getstate__(self) -> dict[str, Any]:
        """Pickle the service that requests go to: another process has another environment."""
        said = {"chosen_url": self.root, "chosen_token": self.token or self.chosen_token}
        return vars(self) | said

    @override
    def __str__(self) -> str:
        """Return the service, and who asks it: the token without its secret, which is its end."""
        shown = self.token.rpartition(".")[0]
        who = f"token {shown}.…" if shown else "a token" if self.token else "a visitor"
        return f"{self.root}, as {who}"

    @property
    def root(self) -> str:
        """Root URL of the service."""
        return (self.chosen_url or environment_url() or DEFAULT_URL).rstrip("/")

    @property
    def token(self) -> str:
        """Token of requests that name none; empty for a visitor."""
        if self.chosen_token is not None:
            return self.chosen_token
        return os.environ.get(TOKEN_VARIABLE, "")

    def url(self, path: str) -> str:
        """Return the URL of an endpoint."""
        return f"{self.root}/{path}"

    def where(self, context: str | None, profile: str | None) -> dict[str, str]:
        """Return the context and profile of a request."""
        return {"context": context or self.context, "profile": profile or self.profile}

    def id_form(self, context: str, options: RequestOptions) -> IdForm:
        """Return the form of a context's identifiers; the service is asked once for each caller."""
        key = (self.root, options.token or self.token, context)
        if key not in self._id_forms:
            told = self.listing("contexts", {"context": context}, options=options)
            self._id_forms[key] = IdForm.from_json(told)
        return self._id_forms[key]

    def has_context(self, name: str, options: RequestOptions) -> bool:
        """Return whether the service has a context that the caller may see."""
        try:
            self.id_form(name, options)
        except UnknownContext:
            return False
        return True

    def listing(
        self,
        path: str,
        fields: Mapping[str, str],
        fmt: str = "json",
        options: RequestOptions = USUAL,
    ) -> Any:
        """Return one of the lists of the service: text, or Python objects of ``json``.

        The description of one context or profile is a dict, whatever the form.
        """
        form = fmt.lower()
        if form not in _FORMATS:
            raise BadParameter("fmt", fmt, ", ".join(_FORMATS))
        asked = {name: value for name, value in fields.items() if value} | {"format": form}
        text = self.get_text(
            self.url(path), fields=asked, token=options.token, timeout_s=options.timeout_s
        )
        # One context or profile alone is described as JSON, also where text is asked for.
        if form == "json" or text.startswith("{"):
            return json.loads(text)
        return Listing(text) if form == "text" else text

    def ask(
        self, path: str, body: Mapping[str, Any], options: RequestOptions, *accepted: str
    ) -> AbstractContextManager[ResponseBody]:
        """Post a request to an endpoint and yield the body of the answer: `send`.

        Parameters
        ----------
        accepted : media types of the answer, the preferred one first; none: the endpoint's own
        """
        url = self.url(path)
        if options.debug:
            say(f"POST {url} {shortened_body(body)}")
        headers = {"Accept": ", ".join(accepted)} if accepted else {}
        return self.send(
            "POST", url, body, headers=headers, token=options.token, timeout_s=options.timeout_s
        )

    def get_text(self, url: str, method: str = "GET", **options: Any) -> str:
        """Send a request and return the text of the answer; options and errors: those of `send`."""
        with self.send(method, url, **options) as answer:
            return answer.read_all().decode("utf-8", "replace")

    @contextmanager
    def send(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | bytes | BinaryIO | None = None,
        *,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        token: str | None = None,
        timeout_s: float | None = None,
        retry: bool = True,
    ) -> Iterator[ResponseBody]:
        """Send a request and yield the body of the answer, which the caller reads while it arrives.

        Parameters
        ----------
        body
            A mapping, sent as JSON; or bytes or an open file, which ``headers`` describe.

        Raises
        ------
        SpecServerError
            The error of the service, `Unreachable`, or `StoreError` when the answer breaks off.
        """
        # The chunks inside an answer are compressed already.
        sent = {"Accept-Encoding": "identity", **headers}
        asking = token or self.token
        if not isinstance(asking, str):
            raise BadParameter("token", type(asking).__name__, "the text of a token")
        if shown := asking.strip():
            sent[TOKEN] = shown
        if isinstance(body, Mapping):
            sent["Content-Type"] = JSON
            body = _encoded(body)
        response = self._request(
            method, url, timeout_s, headers=sent, fields=fields, body=body, retry=retry
        )
        with _reading(response, url):
            answer = ResponseBody(response)
            yield answer
            # The end mark of the transfer lies behind the last byte that a reader asks for;
            # taking it shows that the answer is whole, and frees the connection for the next.
            answer.drain()

    def _request(
        self,
        method: str,
        url: str,
        timeout_s: float | None,
        *,
        retry: bool,
        **sent: Any,
    ) -> "urllib3.BaseHTTPResponse":
        """Send one request; return the answer when its status is a good one."""
        import urllib3
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        from .pools import RETRY, open_pool, proxy_for, reason, send, shown

        read_s = _READ_TIMEOUT_S if timeout_s is None else positive_s(timeout_s)
        timeout = urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, read_s), read=read_s)
        proxy = proxy_for(url)
        try:
            response = send(
                open_pool(proxy),
                method,
                url,
                timeout=timeout,
                retries=RETRY if retry else False,
                preload_content=False,
                decode_content=False,
                **sent,
            )
        except ReadTimeoutError as error:
            raise ServiceError(
                f"{url} sent nothing for {read_s:g} s; ask for less, or raise timeout=",
                "timeout=",
            ) from error
        except HTTPError as error:
            through = f", through the proxy {shown(proxy)}" if proxy else ""
            why = reason(error)
            if "CERTIFICATE_VERIFY_FAILED" in why:
                why += "; if you trust it, name its certificate in SSL_CERT_FILE"
            raise Unreachable(url, f"{why}{through}") from error
        if response.status >= 400:
            with _reading(response, url):
                text = response.read().decode("utf-8", "replace")
            raise _error(response.status, text, url)
        return response


class HasSession(Protocol):
    """An object with a session: what the public functions of the client are methods of."""

    @property
    def session(self) -> Session:
        """The service, and connections to it."""


def _encoded(body: Mapping[str, Any]) -> bytes:
    """Return a request as JSON, which has no infinity and no NaN."""
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError:
        for name, value in body.items():
            if _NOT_FINITE.search(json.dumps(value)):
                raise BadParameter(name, value, "finite numbers") from None
        raise


def query_timeout_s(asked_s: float | None) -> float | None:
    """Return how long to wait for a query that was given so long by the caller."""
    return None if asked_s is None else positive_s(asked_s) + _GRACE_S


@contextmanager
def _reading(response: "urllib3.BaseHTTPResponse", url: str) -> Iterator[None]:
    """Give the connection back after a whole answer, drop it after any other."""
    from urllib3.exceptions import HTTPError

    from .pools import reason

    try:
        yield
    except HTTPError as error:
        response.close()
        raise StoreError(f"answer of {url}", f"cut off ({reason(error)})") from error
    except BaseException:
        response.close()
        raise
    response.release_conn()


def _error(status: int, text: str, url: str) -> SpecServerError:
    """Rebuild the error of an answer."""
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    hint = "; is it the root of a service, such as http://host:6998/spec?"
    hint = hint if status == 404 and "Not Found" in text else ""
    if isinstance(said, dict) and isinstance(said.get("code"), str):
        return read_error(said | {"message": f"{url}: {said['message']}{hint}"} if hint else said)
    shown = " ".join(text.split())[:_LONGEST_MESSAGE]
    return ServiceError(f"{url} answered with status {status}: {shown or 'no reason given'}{hint}")
