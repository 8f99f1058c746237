"""What an object store answers about objects and folders, many questions at once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import obstore

from ...damage import ABSENT, Identity
from .client import LOOP, Store, asked
from .locks import OURS
from .memory import CHILDREN, FOLDER, STAMP, Question


def stamp_of(meta: Any) -> Identity:
    """Return the stamp of an object, from what the store says of it."""
    e_tag = blake2b((meta["e_tag"] or "").encode(), digest_size=7).digest()
    modified_ns = int(meta["last_modified"].timestamp() * 1e6) * 1000
    return int.from_bytes(e_tag) + 1, meta["size"], modified_ns


def answers_of(store: Store, url: str, questions: Sequence[Question]) -> list[Any]:
    """Ask a store several questions at once; return the answer to each, or its error.

    Parameters
    ----------
    url : its address, for messages
    questions : what (see `_CALLS`), and the key
    """
    return LOOP.each([partial(_answer, store, url, *question) for question in questions])


def begin_answers(store: Store, url: str, questions: Sequence[Question]) -> "Future[list[Any]]":
    """Start to ask what `answers_of` asks; return the future of its result."""
    return LOOP.begin_each([partial(_answer, store, url, *question) for question in questions])


async def _answer(store: Store, url: str, what: str, key: str) -> Any:
    """Return the answer to one question."""
    with asked(f"{url}/{key}".rstrip("/")):
        return await _CALLS[what](store, key)


async def _stamp(store: Store, key: str) -> Identity:
    """Return the stamp of an object; `ABSENT`: there is none."""
    with suppress(FileNotFoundError):
        return stamp_of(await obstore.head_async(store, key))
    return ABSENT


async def _is_folder(store: Store, prefix: str) -> bool:
    """Return whether there is an object below a prefix."""
    async for some in obstore.list(store, prefix or None, chunk_size=2):
        if any(not meta["path"].startswith(OURS) for meta in some):
            return True
    return False


async def _children(store: Store, prefix: str) -> tuple[str, ...]:
    """Return the names directly below a prefix; those of folders end in a slash."""
    found = await obstore.list_with_delimiter_async(store, prefix or None)
    names = [meta["path"].rpartition("/")[2] for meta in found["objects"]]
    folders = [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]
    return (*filter(None, names), *(f"{name}/" for name in folders if f"{name}/" != OURS))


_CALLS: Final[Mapping[str, Callable[[Store, str], Awaitable[Any]]]] = {
    STAMP: _stamp,
    FOLDER: _is_folder,
    CHILDREN: _children,
}
