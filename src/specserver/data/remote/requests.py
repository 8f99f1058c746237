"""Requests to an object store, each waited for.

They run on the event loop: Ctrl-C does not end a call of the library that waits for a store which
does not answer.
"""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore

from ...transfers import TRANSFERS
from .client import LOOP, Store, asked, content_of

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta, PutResult

_T = TypeVar("_T")
END_S: Final = 5.0
"""Longest time that the end of a process waits for a store that hangs to clear up."""
_END: Final = object()
"""What stands for the end of a stream."""


def get(
    store: Store, key: str, name: str, options: "GetOptions | None" = None
) -> tuple[bytes, "ObjectMeta"]:
    """Return the bytes of an object, or of a range of it, and what the store says of it.

    Parameters
    ----------
    name : address of the object, for messages
    """

    async def work() -> "tuple[bytes, ObjectMeta]":
        result = await obstore.get_async(store, key, options=options)
        return bytes(await content_of(result, name)), result.meta

    return _made(work, name)


def head(store: Store, key: str, name: str) -> "ObjectMeta":
    """Return what the store says of an object."""

    async def work() -> "ObjectMeta":
        return await obstore.head_async(store, key)

    return _made(work, name)


def put(
    store: Store,
    key: str,
    name: str,
    content: "bytes | memoryview | Path",
    *,
    within_s: float | None = None,
    **options: Any,
) -> "PutResult":
    """Write an object; see ``obstore.put`` for the options."""

    async def work() -> "PutResult":
        return await obstore.put_async(store, key, content, **options)

    return _made(work, name, within_s)


def delete(store: Store, keys: Sequence[str], name: str, *, within_s: float | None = None) -> None:
    """Delete objects; that there are none is no error of most stores."""

    async def work() -> None:
        await obstore.delete_async(store, keys)

    _made(work, name, within_s)


def listed(store: Store, prefix: str, name: str) -> "Iterator[ObjectMeta]":
    """Yield what the store says of all objects below a prefix."""

    async def begin() -> Any:
        return obstore.list(store, prefix or None).__aiter__()

    for some in _each(_made(begin, name), name):
        yield from some


def streamed(store: Store, key: str, name: str, nbytes: int) -> Iterator[Any]:
    """Yield the bytes of an object, about so many at a time."""

    async def begin() -> Any:
        result = await obstore.get_async(store, key)
        return result.stream(min_chunk_size=nbytes).__aiter__()

    for some in _each(_made(begin, name), name):
        TRANSFERS.add(fetched_bytes=len(some))
        yield some


def _made(
    work: Callable[[], Coroutine[Any, Any, _T]], name: str, within_s: float | None = None
) -> _T:
    """Make a request, and return what it returns."""
    with asked(name):
        return LOOP.run(LOOP.limited(work), within_s)


def _each(stream: Any, name: str) -> Iterator[Any]:
    """Yield what a stream has."""

    async def following() -> Any:
        try:
            return await stream.__anext__()
        except StopAsyncIteration:
            return _END

    with asked(name):
        while (some := LOOP.run(following())) is not _END:
            yield some
