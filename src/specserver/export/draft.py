"""A folder that is there whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..data.root import DataRoot, is_address
from ..errors import BadParameter, IngestError
from ..files import locked, sync


def require_empty(folder: Path) -> None:
    """Raise `BadParameter` where there is something else than an empty folder, or nothing.

    A mount point is refused, too: no folder can be renamed to it, and what lies beside it is on
    another disk.
    """
    if folder.resolve().is_mount():
        inside = f"name a folder inside it, such as {folder / 'hats'}"
        raise BadParameter("DIR", str(folder), f"it is a mount point; {inside}")
    inside_of = next((parent for parent in folder.parents if parent.exists()), folder)
    if not inside_of.is_dir():
        raise BadParameter("DIR", str(folder), f"{inside_of} is a file, not a folder")
    if folder.is_dir():
        if any(folder.iterdir()):
            raise BadParameter("DIR", str(folder), "it is not empty; name a new folder")
    elif folder.exists():
        raise BadParameter("DIR", str(folder), "it is a file; name a new folder")


def require_outside(folder: Path, data: DataRoot) -> None:
    """Raise `BadParameter` where a folder is the data folder, or in it: that holds contexts."""
    for place in data.names():
        if not is_address(place) and folder.resolve().is_relative_to(Path(place).resolve()):
            allowed = f"it is in the data folder {place}; name a folder elsewhere"
            raise BadParameter("DIR", str(folder), allowed)


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which at the end is renamed to ``folder``; after an error, deleted.

    It lies beside it, so that no reader sees a part of what is written. What a killed process has
    left there is deleted.

    Raises
    ------
    BadParameter
        ``folder`` is not empty.
    IngestError
        Another process is writing it.
    """
    folder = folder.resolve()
    require_empty(folder)
    draft = folder.with_name(f".{folder.name}.draft")
    lock = draft.with_name(f"{draft.name}.lock")
    with locked(lock, wait=False) as mine:
        if not mine:
            raise IngestError(f"another export into {folder} is at work; wait for its end")
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            yield draft
            require_empty(folder)
            # Another folder than an empty one is never replaced: the system refuses it.
            draft.rename(folder)
            sync(folder.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            lock.unlink(missing_ok=True)
