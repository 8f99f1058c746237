"""A tree of original files as a source: found by identifier, for the time of one request."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..catalog.base import Place, Rows
from ..catalog.deadline import NEVER, Deadline
from ..catalog.field_names import FieldNames
from ..catalog.segment_rows import declared_type, plain_value
from ..data.root import DataRoot
from ..digests import crc_of
from ..errors import StoreError, TooMuch, UnknownField
from ..model.id_tuple import IdPattern, Span
from ..store.fits import FitsBlock, FitsTree, TreeFile
from ..store.trees import FINGERPRINT, Fingerprints, TreeInfo, write_tree
from ..surveys import find_release

MAX_FILES: Final = 20_000
"""Spectra of one request from a tree: each is a file that is opened before the answer begins."""


class FitsTreeSource:
    """The spectra of a tree that one request has found so far.

    A tree has no catalogue: rows are numbers in the order of finding, and mean nothing to another
    request. It is its own `SpectrumFinder`.
    """

    def __init__(self, tree: FitsTree) -> None:
        self.tree, self.survey, self.release = tree, tree.survey, tree.release
        self._files: list[TreeFile] = []
        self._row: dict[int, int] = {}
        self._blocks: list[FitsBlock] = []

    @property
    def catalog(self) -> "FitsTreeSource":
        """The finder of its spectra: itself."""
        return self

    def with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the row of each of ``ids``, 1D[n]: 1D[n] int64; -1 where the tree has no file."""
        found = self.tree.find_ids(ids)
        return np.array([-1 if file is None else self._take(file) for file in found], np.int64)

    def matching(self, pattern: IdPattern, deadline: Deadline = NEVER) -> tuple[Rows, pa.Table]:
        """Return the rows that a tuple with wildcards names, 1D[n] int64, and their id parts."""

        def wanted(index: int, number: int) -> bool:
            deadline.check()
            part = pattern.parts[index]
            return part is None or any(
                isinstance(span, Span) and span.low <= number <= span.high for span in part
            )

        last = pattern.parts[-1]
        reductions = None if last is None else [str(run) for run in last]
        rows, parts = [], []
        for numbers, reduction in sorted(self.tree.search(wanted, reductions)):
            file = self.tree.find(numbers, reduction)
            if file is not None:
                rows.append(self._take(file))
                parts.append((*numbers, reduction))
        names = self.survey.id_parts
        columns = list(zip(*parts, strict=True)) or [() for _ in names]
        table = pa.table({name: list(values) for name, values in zip(names, columns, strict=True)})
        return np.array(rows, np.int64), table

    def linked(self, parts: pa.Table) -> pa.Table:
        """Return ``asking``, ``row`` and ``reduction`` of the spectra that tuples name."""
        names = self.survey.id_parts[:-1]
        listed = zip(*(parts.column(name).to_pylist() for name in names), strict=True)
        found: list[tuple[int, int, str]] = []
        for asking, numbers in zip(parts.column("asking").to_pylist(), listed, strict=True):
            for reduction in self.tree.reductions:
                file = self.tree.find(numbers, reduction)
                if file is not None:
                    found.append((asking, self._take(file), reduction))
        columns = list(zip(*found, strict=True)) or [(), (), ()]
        kinds = (pa.int64(), pa.int64(), pa.string())
        arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        return pa.table(arrays, ["asking", "row", "reduction"])

    def place(self, rows: Rows) -> Place:
        """Return identifiers, stores and rows in them, 1D[n] each, of ``rows``, 1D[n] int64."""
        distinct, back = np.unique(rows, return_inverse=True)
        files = [self._files[row] for row in distinct.tolist()]
        places = self.tree.measure(files)
        segment = np.zeros(len(files), np.int32)
        row = np.zeros(len(files), np.int32)
        for on_lattice in (True, False):
            members = [i for i, place in enumerate(places) if place.on_lattice == on_lattice]
            if members:
                segment[members] = len(self._blocks)
                row[members] = np.arange(len(members))
                chosen = [files[i] for i in members], [places[i] for i in members]
                self._blocks.append(FitsBlock(self.tree, *chosen))
        ids = np.array([file.id for file in files], self.survey.id_column.dtype)
        return Place(ids[back], segment[back], row[back])

    def identifier(self, row: int) -> int:
        """Return the identifier of a row; its file is not read."""
        return self._files[row].id

    def segment(self, number: int) -> FitsBlock:
        """Return a block of files that are read together."""
        return self._blocks[number]

    @property
    def columns(self) -> dict[str, str]:
        """Column name → kind: the survey's columns, and others of the first file found."""
        kinds = {column.name: kind_of(np.dtype(column.dtype)) for column in self.survey.columns}
        if self._files:
            row = self.tree.read(self._files[0]).row
            kinds = {name: kind_of(np.asarray(value).dtype) for name, value in row.items()} | kinds
        return kinds

    def spelling(self, field: str) -> str:
        """Return the one spelling of a column name; raise `UnknownField` for none."""
        name = field.strip().strip('"').lower()
        name = self.survey.aliases.get(name, name)
        if name not in (known := self.columns):
            names = FieldNames(known, self.survey.aliases, self.survey.columns)
            raise UnknownField(field, list(known), names.near(field))
        return name

    def holds(self, column: str) -> bool:
        """Return whether there is a column, hidden or not."""
        return column.startswith("_") or column in self.columns

    def columns_of(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, 1D[n]: of the files' own tables, or hidden ones of the files."""
        files = [self._files[row] for row in rows.tolist()]
        found: dict[str, list[Any]] = {field: [] for field in fields}
        for file in files:
            row: dict[str, Any] = dict(self.tree.about(file))
            if not row.keys() >= found.keys():
                row = {**self.tree.read(file).row, **row}
            for field, values in found.items():
                value = row.get(field)
                values.append(plain_value(value))
        types = {column.name: declared_type(column.dtype) for column in self.survey.columns}
        return pa.table(
            {field: pa.array(values, types.get(field)) for field, values in found.items()}
        )

    def _take(self, file: TreeFile) -> int:
        """Return the row of a file, a new one when it is met for the first time."""
        row = self._row.setdefault(file.id, len(self._files))
        if row == len(self._files):
            if row == MAX_FILES:
                raise TooMuch("spectra from original files", row + 1, MAX_FILES)
            self._files.append(file)
        return row


def kind_of(dtype: np.dtype[Any]) -> str:
    """Return the kind of a column as conditions know it."""
    return {"u": "uint", "i": "int", "f": "float", "b": "bool"}.get(dtype.kind, "str")


def open_tree(info: TreeInfo, fingerprints: Fingerprints | None = None) -> FitsTree:
    """Return the tree that a declaration describes."""
    survey, release = find_release(info.context)
    return FitsTree(
        Path(info.root),
        survey,
        release,
        info.reductions,
        nfiles=info.nfiles,
        follow_links=info.follow_links,
        fingerprints=fingerprints,
    )


def add_tree(
    data: DataRoot,
    context: str,
    root: Path,
    *,
    reductions: Sequence[str] = (),
    follow_links: bool = False,
    fingerprints: bool = True,
) -> TreeInfo:
    """Declare a folder of original files as a source of a context, after a look through it.

    Parameters
    ----------
    reductions : served besides those of the release
    fingerprints : read all files, so that damage to one is noticed later

    Raises
    ------
    StoreError
        Nothing of the survey's layout is there.
    """
    _, release = find_release(context)
    own = tuple(dict.fromkeys((*release.reductions, *reductions)))
    empty = TreeInfo(context, str(root.absolute()), own, 0, follow_links)
    tree = open_tree(empty)
    tuples = tree.search(lambda *_: True, None)
    found = (tree.find(numbers, reduction) for numbers, reduction in tuples)
    rows = [_fingerprint(file, read=fingerprints) for file in found if file]
    nfiles = len(rows)
    if not nfiles:
        layout = tree.survey.tree
        example = layout.folders[0] if layout else ""
        raise StoreError(
            str(root),
            f"no spectra of {', '.join(own)} in folders such as {example}, or in the archive's"
            " other layouts; links that lead out of the folder count with --follow-links only",
        )
    info = TreeInfo(context, empty.root, own, nfiles, follow_links)
    prints = np.sort(np.array(rows, FINGERPRINT), order="id") if fingerprints else None
    write_tree(data.context(context), info, prints)
    return info


def _fingerprint(file: TreeFile, *, read: bool) -> tuple[int, int, int, int]:
    """Return the fingerprint of a file, without its checksum when it is not to be read."""
    status = file.path.stat()
    return file.id, status.st_size, status.st_mtime_ns, crc_of(file.path) if read else 0
