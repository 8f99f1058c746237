"""The rewriting of segments of format 1 in format 2, while they are read.

The new arrays are written beside the old ones, flushed, and compared with them bit for bit. Then
the commit record is replaced: from then on readers take the new arrays, and those who began before
have some time to end. A migration that is killed loses nothing, and the next one goes on.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np

from ..data.context import ContextFolder, SegmentFolder
from ..data.handles import Folder
from ..digests import seal
from ..errors import IngestError, StoreError
from .layout import FORMAT_VERSION, SegmentInfo, is_shard, list_segments
from .writer import Cube, write_cube, write_group
from .zarr import GROUP, Segment

GRACE_S: Final = 60.0
"""Time for which old arrays stay for those who are reading them."""
_BLOCK: Final = 100
"""Spectra in memory at once: some 15 MB decoded."""
_OLD: Final = 1
"""The format of segments that are rewritten."""
_MARGIN: Final = 1.1
"""Space that must be free, in bytes of the segment that is rewritten."""
_COPIED: Final = ("id", "first", "count", "wavelength")
Progress: TypeAlias = Callable[[int, int], object]
"""Shows the progress of long work: so many spectra, files or rows are done, of so many."""


@dataclass(slots=True)
class MigrationSummary:
    """The result of a migration of a context."""

    context: str
    segments: int = 0
    """Segments that were rewritten."""
    already: int = 0
    """Segments that were of format 2 before."""
    nspec: int = 0
    """Spectra that were rewritten."""
    nbytes: int = 0
    """Bytes of their segments."""
    freed: int = 0
    """Bytes of old arrays that were deleted."""
    faults: list[str] = field(default_factory=list)
    """Segments that are damaged, and stay as they are."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What is to be rewritten of a context."""

    old: Sequence[SegmentInfo]
    """Segments of format 1."""
    new: Sequence[SegmentInfo]
    """The others."""

    @classmethod
    def of(cls, context: ContextFolder) -> "MigrationPlan":
        """Return the plan of a context."""
        infos = list_segments(context)
        old = [info for info in infos if info.format_version == _OLD]
        return cls(old, [info for info in infos if info.format_version != _OLD])

    @property
    def nspec(self) -> int:
        """Spectra to rewrite."""
        return sum(info.nspec for info in self.old)

    @property
    def nbytes(self) -> int:
        """Bytes to write."""
        return sum(info.nbytes for info in self.old)

    @property
    def needed(self) -> int:
        """Bytes that must be free: those of the largest segment, and some more."""
        return int(_MARGIN * max((info.nbytes for info in self.old), default=0))

    @property
    def most(self) -> int:
        """Bytes that it takes at most, while no old arrays are deleted, if so many are free."""
        return int(_MARGIN * self.nbytes)


def migrate(
    context: ContextFolder,
    *,
    grace_s: float = GRACE_S,
    begin: Callable[[MigrationPlan], object] = lambda _: None,
    progress: Progress | None = None,
    waiting: Callable[[float], object] = lambda _: None,
) -> MigrationSummary:
    """Rewrite the segments of a context; those that are damaged stay as they are.

    Parameters
    ----------
    grace_s : time for which old arrays stay for those who are reading them
    begin : is called before the first segment is rewritten
    waiting : is called before it waits for the end of that time, with the seconds

    Raises
    ------
    IngestError
        Another migration of the context is at work, or the disk has no space.
    """
    begun = time.monotonic()
    with context.migration.lock(wait=False) as mine:
        if not mine:
            raise IngestError(f"another migration of {context.name} is at work; wait for its end")
        plan, left = MigrationPlan.of(context), _Left(context, grace_s, waiting)
        begin(plan)
        summary = MigrationSummary(context.name, already=len(plan.new))
        for info in plan.new:
            left.add(info.name)
        for info in plan.old:
            left.delete(until_free=int(_MARGIN * info.nbytes))
            try:
                made = _rewrite(context.segment(info.name), info)
            except StoreError as error:
                summary.faults.append(f"{info.name}: {error.message}")
                _clear(context.segment(info.name))
            else:
                left.add(info.name)
                summary.segments += 1
                summary.nspec += info.nspec
                summary.nbytes += made.nbytes
            if progress is not None:
                progress(summary.nspec, plan.nspec)
        left.delete()
    summary.freed = left.freed
    summary.seconds = time.monotonic() - begun
    return summary


def remove_leftovers(context: ContextFolder, *, grace_s: float = GRACE_S) -> None:
    """Delete what a migration that was killed has left, unless one is at work."""
    with context.migration.lock(wait=False) as mine:
        if mine:
            plan, left = MigrationPlan.of(context), _Left(context, grace_s)
            for info in plan.old:
                _clear(context.segment(info.name))
            for info in plan.new:
                left.add(info.name)
            left.delete(until_free=0)


class _Left:
    """Old arrays of segments that are rewritten, to be deleted when nobody reads them any more."""

    def __init__(
        self,
        context: ContextFolder,
        grace_s: float,
        waiting: Callable[[float], object] = lambda _: None,
    ) -> None:
        self.freed = 0
        """Bytes that were deleted."""
        self._tell = waiting
        self._context = context
        self._grace_s = grace_s
        self._waiting: deque[tuple[float, Folder]] = deque()

    def add(self, name: str) -> None:
        """Add a segment, if it has old arrays."""
        segment = self._context.segment(name)
        arrays = segment.arrays(_OLD)
        if arrays.children():
            changed_s = segment.record.stamp()[-1] / 1e9
            self._waiting.append((changed_s + self._grace_s, arrays))

    def delete(self, until_free: int | None = None) -> None:
        """Delete all that nobody reads any more; wait for the others, or only for enough space."""
        while self._waiting:
            # The clock may be turned back meanwhile.
            wait_s = min(self._waiting[0][0] - time.time(), self._grace_s)
            if wait_s > 0:
                if until_free is not None and self._context.nfree() >= until_free:
                    return
                self._tell(wait_s)
                time.sleep(wait_s)
            arrays = self._waiting.popleft()[1]
            nbytes = arrays.nbytes()
            arrays.delete()
            self.freed += nbytes
        if until_free is not None and self._context.nfree() < until_free:
            raise IngestError(
                f"the disk of {self._context} has {self._context.nfree():,} bytes free, and the"
                f" next segment needs {until_free:,}: free some, and run the same command again"
            )


def _clear(segment: SegmentFolder) -> None:
    """Delete what a migration has written of a segment that is still of format 1."""
    segment.arrays(FORMAT_VERSION).delete()
    segment.record.delete_drafts()


def _rewrite(segment: SegmentFolder, info: SegmentInfo) -> SegmentInfo:
    """Rewrite a segment; return its new commit record."""
    # A shard of sound chunks may be in the place of another: its digest tells.
    segment.check_listed(filter(is_shard, info.digests))
    old, new, rows = Segment(segment), segment.arrays(FORMAT_VERSION), segment.objects
    _clear(segment)
    _write(old, new)
    new.inherit_access()
    new.sync()
    digests = {f"{new.name}/{name}": told for name, told in new.digests(new.files()).items()}
    made = replace(
        info,
        format_version=FORMAT_VERSION,
        nbytes=new.nbytes() + rows.stamp()[1],
        digests={**digests, rows.name: info.digests.get(rows.name) or rows.digest()},
    )
    _compare(old, Segment(segment, made))
    segment.record.replace(seal(asdict(made)))
    return made


def _write(old: Segment, new: Folder) -> None:
    """Write the arrays of a segment again."""
    group = json.loads(old.arrays.entry(GROUP).read())["attributes"]
    kinds: dict[str, list[dict[str, Any]]] = {}
    for name in old.vectors:
        array = json.loads(old.arrays.entry(f"{name}/{GROUP}").read())
        kinds.setdefault(array["data_type"], []).append({"name": name, **array["attributes"]})
    cubes = [Cube(kind, old.npix, vectors) for kind, vectors in kinds.items()]
    del group["specserver_format"]
    write_group(new, group, cubes)
    for name in _COPIED:
        before, after = old.arrays.below(name), new.below(name)
        for file in before.files():
            after.entry(file).create(before.entry(file).read())
    for cube in cubes:
        write_cube(new, cube, old.nspec, _frames(old, cube.names))


def _frames(old: Segment, names: Sequence[str]) -> Iterator[bytes]:
    """Yield the encoded chunks of some vectors, row by row."""
    for at in range(0, old.nspec, _BLOCK):
        cells = old.request_cells(names, np.arange(at, min(at + _BLOCK, old.nspec)))()
        ends = {name: np.cumsum(cells.sizes[name]) for name in names}
        begins = {name: (ends[name] - cells.sizes[name]).tolist() for name in names}
        places = {name: (np.empty(ends[name][-1], np.uint8), begins[name]) for name in names}
        cells.copy_to(places)
        bounds = [zip(begins[name], ends[name].tolist(), strict=True) for name in names]
        for row in zip(*bounds, strict=True):
            for name, (begin, end) in zip(names, row, strict=True):
                yield places[name][0][begin:end].tobytes()


def _compare(old: Segment, new: Segment) -> None:
    """Raise `StoreError` unless two segments hold the same bits."""
    for at in range(0, old.nspec, _BLOCK):
        rows = np.arange(at, min(at + _BLOCK, old.nspec))
        before = old.request(old.vectors, rows, old.window)()
        after = new.request(old.vectors, rows, old.window)()
        for name, values in before.items():
            bits = f"u{values.itemsize}"
            if not np.array_equal(values.view(bits), after[name].view(bits)):
                raise StoreError(str(new.arrays), f"{name} is not what was read: run it again")
