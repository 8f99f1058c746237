"""The lock of an ingest, and the folder of a context: it is removed if nothing was written."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..files import locked

_LOCK: Final = "ingest.lock"
_INDEX: Final = "index"
_INDEX_LOCK: Final = "lock"


@contextmanager
def sole_writer(data: Path, context: str) -> Iterator[bool]:
    """Make the folder of a context and hold its lock; yield False if another ingest holds it.

    If the folder was made here and holds nothing at the end, it is removed.
    """
    made = [one for one in (data / context, data) if not one.exists()]
    try:
        (data / context).mkdir(parents=True, exist_ok=True)
        with locked(data / context / _LOCK, wait=False) as mine:
            yield mine
    finally:
        if data / context in made:
            with suppress(OSError):
                _remove_empty(data / context)
                for folder in made[1:]:
                    folder.rmdir()


def _remove_empty(folder: Path) -> None:
    """Remove a folder that holds only lock files, unless an ingest holds its lock."""
    index = folder / _INDEX
    with locked(folder / _LOCK, wait=False) as mine:
        if not mine or _names(folder) - {_LOCK, _INDEX} or _names(index) - {_INDEX_LOCK}:
            return
        (index / _INDEX_LOCK).unlink(missing_ok=True)
        if index.exists():
            index.rmdir()
        (folder / _LOCK).unlink()
        folder.rmdir()


def _names(folder: Path) -> set[str]:
    """Return the names in a folder; empty if the folder does not exist."""
    return {one.name for one in folder.iterdir()} if folder.exists() else set()
