"""The names of all files in the folder of a context, which `specserver.data` lists."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Final
from uuid import uuid4

from typing_extensions import override

from ..damage import ABSENT
from ..digests import LISTED
from ..errors import Unavailable
from .handles import Entry, Folder, NamedEntry
from .leases import Lease, LeaseFolder

_SEGMENT: Final = "seg-"
_LEASED: Final = 4
"""Parts of the name of a segment with a lease: ``seg-<number>-<lease>-<hex>``."""
_TABLE: Final = ".parquet"
_RECORD: Final = ".json"
_INDEX: Final = ".index"
_IN_PLACE: Final = ".postgres"
_TARGETS: Final = re.compile(r"targets-[0-9a-f]{16}\.parquet")
_GENERATION: Final = re.compile(r"gen-[0-9a-f]{12}")
_MANIFEST: Final = re.compile(r"([0-9]{8,})\.json")
_PART: Final = "part-"
_MARKS: Final = "marks-"
_HEX: Final = "-[0-9a-f]{8}"
_SEGMENT_NAME: Final = re.compile(rf"seg-[0-9]{{6,}}(?:{_HEX}){{1,2}}")
_PART_NAME: Final = re.compile(rf"part(?:{_HEX}){{2}}")
_MARKS_NAME: Final = re.compile(rf"marks(?:{_HEX}){{2}}\.npy")
_TABLE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FINGERPRINTS: Final = re.compile(r"tree-[0-9a-f]{12}\.npy")


def is_target_table(name: str) -> bool:
    """Return whether a text has the form of the name of a table of targets."""
    return bool(_TARGETS.fullmatch(name))


def is_table_name(name: str) -> bool:
    """Return whether a text can be the name of a value-added table."""
    return bool(_TABLE_NAME.fullmatch(name))


class RecordedFolder(Folder):
    """A folder that counts while it has its record: it is written last and deleted first."""

    __slots__ = ()

    record: ClassVar[NamedEntry]

    @override
    def delete(self) -> None:
        """Delete it and all objects below it; after a crash it counts no more."""
        self.backend.delete_tree(self.key, self.record.name)


class SegmentFolder(RecordedFolder):
    """A segment."""

    __slots__ = ()

    record = NamedEntry("segment.json")
    objects = NamedEntry("objects.parquet")

    def arrays(self, format_version: int) -> Folder:
        """Return its arrays in a format of the store, a Zarr group."""
        return self.below("cube.zarr" if format_version > 1 else "spectra.zarr")

    def check_listed(self, names: Iterable[str]) -> None:
        """Compare some of its files with their digests in its record, if there are any."""
        listed = self.record.record().values.get(LISTED, {})
        self.check({name: listed[name] for name in names if name in listed})

    @property
    def lease(self) -> str:
        """The name of the lease of its writer; empty: an older version made it."""
        parts = self.name.split("-")
        return parts[2] if len(parts) == _LEASED else ""

    def is_committed(self) -> bool:
        """Return whether it is committed."""
        return self.record.exists()


class RowsFolder(RecordedFolder):
    """Rows of an index, with a file for each of their arrays."""

    __slots__ = ()

    def column(self, name: str) -> Entry:
        """Return the file of one array: a column, or the order of a column."""
        return self.entry(f"{name}.npy")


class GenerationFolder(RowsFolder):
    """One generation of an index, which an older version made."""

    __slots__ = ()

    record = NamedEntry("index.json")
    """Record of the rows that it covers, and of the digests of its other files."""
    database = NamedEntry("catalog.duckdb")
    """All columns, as a DuckDB file."""
    columns = NamedEntry("columns.arrow")
    """All columns, as an Arrow file."""


class PartFolder(RowsFolder):
    """One part of an index: some rows, in HEALPix order. It never changes."""

    __slots__ = ()

    record = NamedEntry("part.json")
    """Record of its rows, and of the digests of its other files; written last."""
    core = NamedEntry("core.arrow")
    """The columns that are looked up most."""
    rest = NamedEntry("rest.arrow")
    """All other columns."""
    coverage = NamedEntry("coverage.npy")
    """The HEALPix pixels that hold a row."""


class IndexFolder(Folder):
    """An index: its versions and parts; of older versions, generations."""

    __slots__ = ()

    current = NamedEntry("CURRENT")
    lock = NamedEntry("lock")

    @property
    def manifests(self) -> Folder:
        """The manifests, one for each version."""
        return self.below("manifest")

    def manifest(self, version: int) -> Entry:
        """Return the manifest of a version."""
        return self.manifests.entry(f"{version:08d}.json")

    def versions(self) -> list[int]:
        """Return the versions that have a manifest, ascending."""
        found = map(_MANIFEST.fullmatch, self.manifests.children())
        return sorted(int(match[1]) for match in found if match)

    def part(self, name: str) -> PartFolder:
        """Return a part by its name."""
        return PartFolder(self.backend, f"{self.key}/{name}")

    def new_part(self, lease: str) -> PartFolder:
        """Return a part with a new name, of the holder of a lease; it does not exist yet."""
        return self.part(f"{_PART}{lease}-{uuid4().hex[:8]}")

    def parts(self) -> list[PartFolder]:
        """Return all parts, also those that no manifest names."""
        return [self.part(name) for name in self.folder_names() if _PART_NAME.fullmatch(name)]

    def marks(self, name: str) -> Entry:
        """Return marks by their name."""
        return self.entry(name)

    def new_marks(self, lease: str) -> Entry:
        """Return marks with a new name, of the holder of a lease; they do not exist yet."""
        return self.entry(f"{_MARKS}{lease}-{uuid4().hex[:8]}.npy")

    def all_marks(self) -> list[Entry]:
        """Return all marks, also those that no manifest names."""
        return [self.entry(name) for name in self.children() if _MARKS_NAME.fullmatch(name)]

    def lease_of(self, name: str) -> str:
        """Return the name of the lease in the name of a part or of marks."""
        return name.split("-")[1]

    def is_generation(self, name: str) -> bool:
        """Return whether a text has the form of the name of a generation."""
        return bool(_GENERATION.fullmatch(name))

    def generation(self, name: str) -> GenerationFolder:
        """Return a generation by its name."""
        return GenerationFolder(self.backend, f"{self.key}/{name}")

    def generations(self) -> list[GenerationFolder]:
        """Return all generations, complete or not."""
        return [self.generation(name) for name in self.folder_names() if self.is_generation(name)]


class ContextFolder(Folder):
    """A context."""

    __slots__ = ()

    access = NamedEntry("access.json")
    declaration = NamedEntry("survey.json")
    tree = NamedEntry("tree.json")
    maintenance = NamedEntry("maintain.lock")
    migration = NamedEntry("migration.lock")
    """Held while segments are rewritten."""

    def new_fingerprints(self) -> Entry:
        """Return a file with a new name for the fingerprints of a tree's files."""
        return self.entry(f"tree-{uuid4().hex[:12]}.npy")

    def fingerprints(self) -> list[Entry]:
        """Return all files of fingerprints."""
        return [self.entry(name) for name in self.children() if _FINGERPRINTS.fullmatch(name)]

    def target_table(self, content: bytes) -> Entry:
        """Return the file of a table of targets; its name is a digest of its bytes."""
        return self.entry(f"targets-{blake2b(content, digest_size=8).hexdigest()}.parquet")

    def target_tables(self) -> list[Entry]:
        """Return all tables of targets."""
        return [self.entry(name) for name in self.children() if is_target_table(name)]

    @property
    def index(self) -> IndexFolder:
        """Generations of the context's index."""
        return IndexFolder(self.backend, f"{self.key}/index")

    @property
    def catalogs(self) -> Folder:
        """The value-added tables."""
        return self.below("catalogs")

    def table(self, name: str) -> "TableFiles":
        """Return a value-added table by its name."""
        return TableFiles(self, name)

    def tables(self) -> list[str]:
        """Return the names of the value-added tables, sorted."""
        found = self.catalogs.children()
        return sorted({*_tables_of(found, _TABLE), *_tables_of(found, _IN_PLACE)})

    def kept_tables(self) -> list[str]:
        """Return the names of those that are kept here, sorted: they have indexes."""
        return _tables_of(self.catalogs.children(), _TABLE)

    def delete_detached(self) -> None:
        """Delete drafts, and what is left of tables that are gone; no writer may be at work."""
        self.catalogs.delete_drafts()
        there, found = {*self.kept_tables()}, self.catalogs.children()
        for name in {*_tables_of(found, _RECORD)} - there:
            self.table(name).record.delete()
        for name in {*_tables_of(found, f"{_INDEX}/")} - there:
            self.table(name).index.delete()

    def segment(self, name: str) -> SegmentFolder:
        """Return a segment by its name."""
        return SegmentFolder(self.backend, f"{self.key}/{name}")

    def segments(self) -> list[str]:
        """Return the names of the committed segments, in order."""
        found = self._segments()
        stamps = self.backend.stamps([segment.record.key for segment in found])
        return [
            segment.name for segment, stamp in zip(found, stamps, strict=True) if stamp != ABSENT
        ]

    def first_segment(self) -> SegmentFolder | None:
        """Return the first committed segment, if there is one."""
        return next(filter(SegmentFolder.is_committed, self._segments()), None)

    def is_begun(self) -> bool:
        """Return whether its first ingest is at work, and has committed nothing yet."""
        index = self.index
        return not (index.versions() or index.current.exists()) and self.leases.are_held()

    def uncommitted(self) -> list[SegmentFolder]:
        """Return the segments without a commit record; a link may lead to a disk that is away."""
        found = self._segments()
        stamps = self.backend.stamps([segment.record.key for segment in found])
        left = [
            segment
            for segment, stamp in zip(found, stamps, strict=True)
            if stamp == ABSENT and not segment.is_link()
        ]
        # Some object stores list a folder for minutes after its last object was deleted.
        return [segment for segment in left if self.backend.has_folder(segment.key)]

    def new_segment(self, lease: str) -> SegmentFolder:
        """Make a folder for a new segment of the holder of a lease, and return it."""
        number = len(self._segments()) + 1
        segment = self.segment(f"{_SEGMENT}{number:06d}-{lease}-{uuid4().hex[:8]}")
        segment.make()
        return segment

    @property
    def leases(self) -> LeaseFolder:
        """The leases of its writers."""
        return LeaseFolder(self.backend, f"{self.key}/leases")

    @contextmanager
    def writing(self) -> Iterator[Lease]:
        """Hold a lease of a writer.

        A folder that this call makes is removed if it is empty at the end.
        """
        made = [key for key in (self.key, "") if not self.backend.has_folder(key)]
        try:
            with self.leases.hold() as lease:
                yield lease
        finally:
            if self.key in made:
                with suppress(OSError, Unavailable):
                    self.delete_empty()
                    for key in made[1:]:
                        self.backend.delete(key)

    def remove_left(self, lease: Lease) -> int:
        """Remove the uncommitted segments of writers that have ended; return their number.

        Parameters
        ----------
        lease : of the writer that calls this
        """
        # Listed before the leases: a folder that is made meanwhile has a lease that is not seen.
        found = self.uncommitted()
        with self.leases.others(lease) as others:
            at_work = {*others, lease.name}
        # Asked again: a lease that was live then may have committed, and one that is over cannot.
        left = [segment for segment in found if segment.lease not in at_work]
        return _delete_all(
            segment
            for segment in left
            if not (self.leases.is_known(segment.lease) or segment.is_committed())
        )

    def remove_own(self, lease: Lease) -> int:
        """Remove the uncommitted segments of a lease, whose writers have ended or were lost."""
        return _delete_all(segment for segment in self.uncommitted() if segment.lease == lease.name)

    def delete_empty(self) -> None:
        """Remove the folder if it holds only lock files."""
        locks = [self.index.lock, self.maintenance, self.migration, self.leases.lock]
        keys = [lock.key for lock in locks]
        with self.leases.lock.lock():
            if all(key in keys for key in self.backend.keys(self.key)):
                for key in (*keys, self.index.key, self.leases.key, self.key):
                    self.backend.delete(key)

    def _segments(self) -> list[SegmentFolder]:
        """Return all segments, committed or not, in order of their names."""
        return [self.segment(name) for name in self.folder_names() if _SEGMENT_NAME.fullmatch(name)]


def _delete_all(segments: Iterable[SegmentFolder]) -> int:
    """Delete segments; return their number."""
    number = 0
    for segment in segments:
        # A writer on another machine may not have seen yet that its lease is gone: what it writes
        # meanwhile is left to the next ingest.
        with suppress(OSError, Unavailable):
            segment.delete()
            number += 1
    return number


def _tables_of(names: Iterable[str], end: str) -> list[str]:
    """Return the names of the value-added tables whose files are called so and end so."""
    found = (name.removesuffix(end) for name in names if name.endswith(end))
    return [*filter(is_table_name, found)]


@dataclass(frozen=True, slots=True)
class TableFiles:
    """A value-added table of a context."""

    context: ContextFolder
    name: str

    @override
    def __str__(self) -> str:
        """Return its full name."""
        return f"{self.context.name}.{self.name}"

    @property
    def file(self) -> Entry:
        """The table, Parquet."""
        return self.context.catalogs.entry(f"{self.name}{_TABLE}")

    @property
    def declaration(self) -> Entry:
        """What says where it is, if it stays in PostgreSQL."""
        return self.context.catalogs.entry(f"{self.name}{_IN_PLACE}")

    @property
    def record(self) -> Entry:
        """Its digest."""
        return self.context.catalogs.entry(f"{self.name}{_RECORD}")

    @property
    def index(self) -> IndexFolder:
        """Generations of its index."""
        return IndexFolder(self.context.backend, f"{self.context.catalogs.key}/{self.name}{_INDEX}")
