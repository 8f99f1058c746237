"""Connections of this process to object stores, and their errors in our words."""

import asyncio
import atexit
import errno
import math
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

from obstore import exceptions as failures
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from ...errors import BadParameter, StoreError, Unavailable
from ...transfers import TRANSFERS
from .options import SCHEMES

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ClientConfig, RetryConfig

Store: TypeAlias = S3Store | GCSStore | AzureStore
_T = TypeVar("_T")
_REFUSED: Final = "it refuses these credentials"
"""Why it does not answer: they may have expired. No file is damaged by that."""
_END_S: Final = 3.0
"""Longest time for a request at the end of a process."""
_SETTLED_S: Final = 0.1
_CLEARING_S: Final = 4.0
"""Time after Ctrl-C in which requests are taken for those that clear up."""
_AT_ONCE: Final = 128
"""Requests of this process at once: with fewer, a store with 15 ms of latency waits for us."""
_LARGE_CALL: Final = 2**18
"""Bytes of a call that is a large one."""
_LARGE_AT_ONCE: Final = 16
"""Large calls of this process at once, of 2 MB at most. With the small calls they fetch 64 MB at
once, which a network of 10 MB/s sends within the time limit of a request."""
_QUICK_S: Final = {True: 30, False: 8}
"""Longest time of a request for some kB: then it is sent again."""
_LONG_S: Final = 300
"""Longest time of a request that moves a shard or a piece of a large file."""
_TRYING_S: Final = {True: 170, False: 8}
"""Time after which a request is not sent again: a writer is patient, for what it has done would be
in vain; a user gets 503."""
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FIRST_LINE: Final = re.compile(r"(?:Generic \w+ error: )?(?:Error performing )?(.*)")


class Stores(NamedTuple):
    """One object store, with a time limit for small requests, and one for large ones."""

    quick: Store
    large: Store


@lru_cache(maxsize=16)
def stores(url: str, *, patient: bool = True) -> Stores:
    """Return the store at an address; credentials and endpoint are those of the environment.

    Parameters
    ----------
    patient : send requests again for minutes where the store does not answer

    Raises
    ------
    BadParameter
        It is no address of an object store, or the environment does not say how it is reached.
    """
    bucket, prefix = _parts(url)
    retry: RetryConfig = {
        "max_retries": _TRYING_S[patient],
        "retry_timeout": timedelta(seconds=_TRYING_S[patient]),
        "backoff": {
            "init_backoff": timedelta(milliseconds=50),
            "max_backoff": timedelta(seconds=3),
            "base": 2,
        },
    }

    for name in _ENDPOINTS:
        endpoint = os.environ.get(name, "http:")
        if not endpoint.startswith(("http:", "https:")):
            raise BadParameter(name, endpoint, "it begins with http:// or https://")

    def made(limit_s: int) -> Any:
        options: ClientConfig = {
            "timeout": timedelta(seconds=limit_s),
            "connect_timeout": timedelta(seconds=5),
            # An endpoint that is given as http:// is meant so.
            "allow_http": any(os.environ.get(name, "")[:5] == "http:" for name in _ENDPOINTS),
        }
        # Each character stands for itself, as for programs that copy: of a URL, what follows # or
        # ? would be dropped, and two data folders be one.
        whole = f"{bucket}/{quote(prefix, errors='surrogateescape')}"
        return from_url(whole, client_options=options, retry_config=retry)

    try:
        return Stores(made(_QUICK_S[patient]), made(_LONG_S))
    except failures.BaseError as error:
        allowed = f"an object store that can be reached: {_said(error)}"
        raise BadParameter("data", url, allowed) from error


def _parts(url: str) -> tuple[str, str]:
    """Return scheme and bucket of an address, and the prefix; raise `BadParameter` if it is none.

    There is one way to write an address: locks and copies are told apart by it.
    """
    if url.partition(":")[0] not in SCHEMES:
        raise BadParameter("data", url, "a folder, s3://bucket/prefix, gs://… or az://…")
    bucket, slash, prefix = url.partition("://")[2].partition("/")
    scheme = f"{url.partition(':')[0]}://"
    if "@" in bucket:
        # What follows may be more of a password.
        shown = f"{scheme}…@{url.rpartition('@')[2]}"
        raise BadParameter("data", shown, "s3://bucket/prefix; keys are given in the environment")
    if not _BUCKET.fullmatch(bucket):
        raise BadParameter("data", url, f"{scheme}bucket/prefix, with the name of a bucket")
    if slash and {"", ".", ".."} & {*prefix.split("/")}:
        raise BadParameter("data", url, "a prefix without parts that are empty, '.' or '..'")
    return scheme + bucket, prefix


@contextmanager
def asked(name: str) -> Iterator[None]:
    """Raise errors of the library as those that `Backend` names.

    Parameters
    ----------
    name : address of the object, for messages
    """
    if _fork.in_child:
        raise StoreError(
            name,
            "this process was forked after an object store was used, which hangs: start it with"
            " multiprocessing.get_context('spawn')",
        )
    _fork.used = True
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from error
    except failures.AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, "there is an object", name) from error
    except failures.PreconditionError as error:
        raise Changed(errno.ESTALE, "another writer has changed the object", name) from error
    except (failures.PermissionDeniedError, failures.UnauthenticatedError) as error:
        raise Unavailable(name, _REFUSED) from error
    except (failures.InvalidPathError, failures.NotSupportedError) as error:
        raise StoreError(name, _said(error)) from error
    except failures.BaseError as error:
        # Lists do not tell these from other failures.
        if "403 Forbidden" in str(error) or "401 Unauthorized" in str(error):
            raise Unavailable(name, _REFUSED) from error
        if "404 Not Found" in str(error):
            raise StoreError(name, "there is no such bucket: make it, or name another") from error
        raise Unavailable(name, _said(error)) from error


async def content_of(result: "GetResult", name: str) -> memoryview:
    """Return the bytes of an answer; raise `Unavailable` if it has not as many as it states.

    The library does not look, and zeros would stand in a copy where bytes are lacking.
    """
    begin, end = result.range
    content = memoryview(await result.bytes_async())
    require_whole(content, begin, end, name)
    TRANSFERS.add(fetched_bytes=len(content))
    return content


def require_whole(content: memoryview, begin: int, end: int, name: str) -> None:
    """Raise `Unavailable` for bytes that are not as many as those of a range."""
    if len(content) != end - begin:
        raise Unavailable(name, f"it sent {len(content)} bytes of {end - begin}: it cut them short")


def _is_failure(error: BaseException) -> bool:
    """Return whether a store did not do what it was asked; that there is no object is an answer."""
    answers = FileNotFoundError, FileExistsError, Changed
    stated = failures.AlreadyExistsError, failures.PreconditionError
    return not isinstance(error, (*answers, *stated))


def is_refusal(error: Unavailable) -> bool:
    """Return whether an error says that the store refuses the credentials."""
    return error.reason == _REFUSED


def state_of(about: Any) -> Any:
    """Return the state of an object, the mode of a put that replaces just this state.

    Parameters
    ----------
    about : what the library says of an object, or of a put
    """
    # One of them is enough; a store that has no versions refuses to be told one.
    return {name: about[name] for name in ("e_tag", "version") if about.get(name)}


class _Fork:
    """Whether this process has used an object store, or was forked from one that had.

    The library's threads are not in the child, which would wait for them without end.
    """

    used = False
    in_child = False

    def note(self) -> None:
        """Note that this process was forked."""
        self.in_child = self.used


_fork = _Fork()
os.register_at_fork(after_in_child=_fork.note)


class Changed(OSError):
    """Another writer has changed or deleted an object since it was looked at."""


def _said(error: Exception) -> str:
    """Return the first line of what the library says, which is followed by its internals."""
    text = str(error).partition("\n")[0].strip()
    found = _FIRST_LINE.fullmatch(text)
    return (found[1] if found else text) or type(error).__name__


class Loop:
    """The event loop of this process, in a thread: many requests at once need one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._has_ended = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots: asyncio.Semaphore | None = None
        self._large_slots: asyncio.Semaphore | None = None
        self._interrupted = -math.inf

    def submit(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        """Begin some work; the future returned can be waited for in any thread."""
        try:
            with asked("the object store"):
                return asyncio.run_coroutine_threadsafe(work, self._running())
        except StoreError:
            work.close()
            raise

    def run(self, work: Coroutine[Any, Any, _T], within_s: float | None = None) -> _T:
        """Do some work, and return what it returns; raise `Unavailable` if it takes too long.

        Ctrl-C ends the waiting, which it does not in the library's own calls.
        """
        if threading.current_thread() is self._thread:
            # The collector of garbage runs in any thread, and destructors in it.
            work.close()
            raise StoreError(
                "the object store",
                "it is asked by the thread that asks it, which would wait for itself: do not read"
                " or write in __del__",
            )
        future = self.submit(work)
        try:
            return future.result(_END_S if self._is_interrupted() else within_s)
        except KeyboardInterrupt:
            self._interrupted = time.monotonic()
            raise
        except TimeoutError as error:
            if self._is_interrupted():
                self._interrupted = time.monotonic()
                raise KeyboardInterrupt from error
            raise Unavailable("the object store", "it did not answer in time") from error
        finally:
            future.cancel()

    def _is_interrupted(self) -> bool:
        """Return whether Ctrl-C ended this thread's work just now, which is being cleared up.

        A store that hangs must not hold that up, request after request.
        """
        is_main = threading.current_thread() is threading.main_thread()
        return is_main and time.monotonic() - self._interrupted < _CLEARING_S

    def each(self, calls: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T | BaseException]:
        """Make some requests at once; return the result or the error of each."""
        return self.run(self._each(calls))

    def begin_each(
        self, calls: Sequence[Callable[[], Awaitable[_T]]]
    ) -> "Future[list[_T | BaseException]]":
        """Start the requests that `each` makes; return the future of its result."""
        return self.submit(self._each(calls))

    async def _each(self, calls: Sequence[Callable[[], Awaitable[_T]]]) -> list[Any]:
        return await asyncio.gather(*map(self.limited, calls), return_exceptions=True)

    async def limited(
        self, call: Callable[[], Awaitable[_T]], count: int = 1, nbytes: int = 0
    ) -> _T:
        """Make a request, or so many in one call, when few enough calls are under way.

        Parameters
        ----------
        nbytes : bytes that the answers have, if they are many
        """
        assert self._slots is not None
        assert self._large_slots is not None
        async with self._large_slots if nbytes > _LARGE_CALL else nullcontext(), self._slots:
            try:
                found = await call()
            except BaseException as error:
                has_failed = _is_failure(error)
                TRANSFERS.add(failed=int(has_failed), answered=int(not has_failed))
                raise
            TRANSFERS.add(answered=count)
            return found

    def _running(self) -> asyncio.AbstractEventLoop:
        """Return the loop; a forked process has another."""
        with self._lock:
            if self._has_ended:
                raise StoreError(
                    "the object store",
                    "this process is ending, and makes no requests any more: make them before, not"
                    " in __del__ or in a function that atexit calls",
                )
            if self._loop is None or self._process != os.getpid():
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, daemon=True, name="object store")
                thread.start()
                atexit.register(self._end, loop, thread, os.getpid())
                # Last, as Ctrl-C may come at each line: a loop that never runs would be waited for.
                self._slots, self._thread = asyncio.Semaphore(_AT_ONCE), thread
                self._large_slots = asyncio.Semaphore(_LARGE_AT_ONCE)
                self._process, self._loop = os.getpid(), loop
            return self._loop

    def _end(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread, process: int) -> None:
        """Let what is under way end before the interpreter does: the library would call it back.

        Requests that take longer are given up.
        """
        if os.getpid() != process:
            return
        with self._lock:
            self._has_ended = True

        async def finish() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                _, left = await asyncio.wait(others, timeout=_END_S)
                for task in left:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

        with suppress(TimeoutError, CancelledError):
            asyncio.run_coroutine_threadsafe(finish(), loop).result(2 * _END_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_END_S)
        # After an answer the library's threads give back what they hold of Python. One that comes
        # to that when the interpreter has ended aborts the process.
        time.sleep(_SETTLED_S)


LOOP: Final = Loop()
"""The event loop of this process."""
