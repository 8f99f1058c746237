"""A trial of what is needed of an object store, before anything relies on it.

Some servers answer a conditional put, or a range from the end, as if there were no condition and no
range: two ingests would overwrite each other's commits, and shards could not be read.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import obstore

from ...errors import StoreError, Unavailable
from .client import Changed, Stores, asked, is_refusal, state_of
from .locks import OURS

if TYPE_CHECKING:
    from obstore import GetOptions

_CONTENT: Final = b"specserver: may be deleted"
_OTHER: Final = {"e_tag": '"0123456789abcdef0123456789abcdef"', "version": "1"}
"""The state of an object that there is not."""
_NEEDED: Final = "specserver needs a store that has it, such as Amazon S3, Ceph, SeaweedFS or MinIO"


def probe(stores: Stores, url: str, *, writing: bool) -> None:
    """Try conditional puts and ranges on an object of our own, which is deleted again.

    A reader without the right to write tries ranges on an object that is there.

    Raises
    ------
    StoreError
        There is no such bucket, the credentials are refused, or the store lacks what is needed.
    Unavailable
        It does not answer.
    """
    key = f"{OURS}probe-{uuid4().hex}"
    try:
        _try_puts(stores, url, key)
        _try_ranges(stores, url, key, _CONTENT)
    except Unavailable as error:
        if not is_refusal(error):
            raise
        if writing:
            raise StoreError(
                url,
                "the object store refuses these credentials: it may not be written to; set"
                " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where it is not Amazon's,"
                " AWS_ENDPOINT_URL",
            ) from error
        _try_reading(stores, url)
    except FileNotFoundError as error:
        raise StoreError(url, "there is no such bucket: make it, or name another") from error
    finally:
        with suppress(Exception):
            obstore.delete(stores.quick, key)


def _try_puts(stores: Stores, url: str, key: str) -> None:
    """Try the puts by which an ingest commits, and by which locks are taken over."""

    def put(mode: Any) -> Any:
        with asked(url):
            return state_of(obstore.put(stores.quick, key, _CONTENT, mode=mode))

    state = put("create")
    with suppress(FileExistsError):
        put("create")
        raise StoreError(url, f"it ignores the header If-None-Match of a put: {_NEEDED}")
    with suppress(Changed, FileExistsError):
        put({name: _OTHER[name] for name in state})
        raise StoreError(url, f"it ignores the header If-Match of a put: {_NEEDED}")
    put(state)


def _try_ranges(stores: Stores, url: str, key: str, content: bytes) -> None:
    """Try a range from the end, and one from the middle."""
    trials: list[tuple[GetOptions, bytes]] = [
        ({"range": {"suffix": 7}}, content[-7:]),
        ({"range": (3, 9)}, content[3:9]),
    ]
    for options, expected in trials:
        with asked(url):
            result = obstore.get(stores.quick, key, options=options)
            found = bytes(result.bytes())
        if found != expected:
            raise StoreError(url, f"it answers a range with other bytes: {_NEEDED}")


def _try_reading(stores: Stores, url: str) -> None:
    """Try ranges on an object that is there."""
    try:
        with asked(url):
            for some in obstore.list(stores.quick, chunk_size=20):
                small = [meta["path"] for meta in some if 10 < meta["size"] < 2**20]
                if small:
                    content = bytes(obstore.get(stores.quick, small[0]).bytes())
                    _try_ranges(stores, url, small[0], content)
                    return
    except Unavailable as error:
        if not is_refusal(error):
            raise
        raise StoreError(
            url,
            "the object store refuses these credentials: it may not be read; set"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from error
