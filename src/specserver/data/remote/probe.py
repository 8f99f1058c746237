"""A trial of what is needed of an object store, before anything relies on it.

Some servers answer a conditional put, or a range from the end, as if there were no condition and no
range: two ingests would overwrite each other's commits, and shards could not be read.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from ...errors import StoreError, Unavailable
from . import requests
from .client import Changed, Stores, is_refusal, state_of
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
            text = f"{error.reason}: is the store up, and AWS_ENDPOINT_URL its address?"
            raise Unavailable(url, text) from error
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
            requests.delete(stores.quick, [key], url, within_s=requests.END_S)


def _try_puts(stores: Stores, url: str, key: str) -> None:
    """Try the puts by which an ingest commits, and by which locks are taken over."""

    def put(mode: Any) -> Any:
        return state_of(requests.put(stores.quick, key, url, _CONTENT, mode=mode))

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
        found, _ = requests.get(stores.quick, key, url, options)
        if found != expected:
            raise StoreError(url, f"it answers a range with other bytes: {_NEEDED}")


def _try_reading(stores: Stores, url: str) -> None:
    """Try ranges on an object that is there."""
    try:
        for meta in requests.listed(stores.quick, "", url):
            if 10 < meta["size"] < 2**20:
                content, _ = requests.get(stores.quick, meta["path"], url)
                _try_ranges(stores, url, meta["path"], content)
                return
    except Unavailable as error:
        if not is_refusal(error):
            raise
        raise StoreError(
            url,
            "the object store refuses these credentials: it may not be read; set"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from error
