"""Parts and marks that no reader and no writer needs any more are deleted."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ...data.context import IndexFolder, PartFolder
from ...data.handles import Entry
from .manifest import Manifest, commit_manifest, newest_manifest


@dataclass(slots=True)
class Cleaned:
    """What was deleted."""

    nfiles: int = 0
    """Number of parts and marks."""
    nbytes: int = 0
    """Their bytes."""

    def delete(self, unused: PartFolder | Entry) -> None:
        """Delete a part or marks, and count it."""
        size = unused.nbytes() if isinstance(unused, PartFolder) else unused.stamp()[1]
        unused.delete()
        self.nfiles += 1
        self.nbytes += size


def remove_unused(
    index: IndexFolder, at_work: Callable[[], Callable[[str], bool]], grace_s: float
) -> Cleaned:
    """Delete what newer parts and marks took the place of, and what killed writers left.

    Hold the lock of the index: parts of an index that is made anew belong to no lease.

    Parameters
    ----------
    at_work : looks which writers are at work, and returns whether one is, by its lease's name
    grace_s : time for which readers may still open what is not part of the newest version

    Raises
    ------
    DamagedFile
        The newest manifest is damaged.
    """
    # Listed first: what is made meanwhile is not seen, and what is committed then is in the newest
    # version.
    found: list[PartFolder | Entry] = [*index.parts(), *index.all_marks()]
    is_at_work = at_work()
    newest = newest_manifest(index)
    used = {name for part in newest.parts for name in part.files}
    left_at = newest.superseded
    last = time.time() - grace_s
    cleaned = Cleaned()
    for entry in found:
        if entry.name in left_at:
            is_unused = left_at[entry.name] <= last
        else:
            is_unused = entry.name not in used and not is_at_work(index.lease_of(entry.name))
        if is_unused:
            cleaned.delete(entry)
    gone = {name for name, left in left_at.items() if left <= last}

    def forget(base: Manifest) -> Manifest | None:
        kept = {name: left for name, left in base.superseded.items() if name not in gone}
        return replace(base, superseded=kept) if len(kept) < len(base.superseded) else None

    if gone:
        commit_manifest(index, forget)
    return cleaned
