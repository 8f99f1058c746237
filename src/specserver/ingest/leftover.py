"""The folder of a context into which nothing came: it is not left behind."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..files import locked

LOCK: Final = "ingest.lock"
_INDEX: Final = "index"
_INDEX_LOCK: Final = "lock"


@contextmanager
def no_empty_folder(data: Path, context: str) -> Iterator[None]:
    """Remove the folder of a context at the end if it was made meanwhile and nothing is in it."""
    made = [one for one in (data / context, data) if not one.exists()]
    try:
        yield
    finally:
        if data / context in made:
            with suppress(OSError):
                _remove_empty(data / context)
                for folder in made[1:]:
                    folder.rmdir()


def _remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing but locks, unless an ingest is at work there."""
    index = folder / _INDEX
    with locked(folder / LOCK, wait=False) as mine:
        if not mine or _names(folder) - {LOCK, _INDEX} or _names(index) - {_INDEX_LOCK}:
            return
        (index / _INDEX_LOCK).unlink(missing_ok=True)
        if index.exists():
            index.rmdir()
        (folder / LOCK).unlink()
        folder.rmdir()


def _names(folder: Path) -> set[str]:
    """Return the names in a folder, none where there is no folder."""
    return {one.name for one in folder.iterdir()} if folder.exists() else set()
