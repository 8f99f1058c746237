"""Which manifest the table of a context is brought to, and what it has new."""

from collections.abc import Iterable, Sequence
from time import sleep
from typing import Final

import numpy as np
import pyarrow as pa

from ...data.context import ContextFolder
from ...data.remedies import making
from ...errors import CatalogError
from ..base import Rows
from ..following import Following
from ..index.manifest import Manifest, newest_manifest
from ..index.write_part import BATCH_ROWS
from ..placed_part import PlacedPart
from .names import StoredColumn
from .schema import Connection
from .state import ContextState

_LOOKS: Final = 3
_LOOK_S: Final = 1.1
"""Longer than a server remembers what an object store has answered."""
_SETTLED_S: Final = 120.0
"""Longer than any file system shows an older state of a folder."""


def next_manifest(
    context: ContextFolder, state: ContextState | None, how: Following
) -> Manifest | None:
    """Return the manifest that a table is to be brought to; None: there is nothing to be done.

    A table does not go back to an older manifest only because the newest is not seen yet here. But
    it does if the folder was restored, or its index made anew.

    Parameters
    ----------
    state : of the table, read under the lock of the context

    Raises
    ------
    CatalogError
        There is no index, or the table is of another data folder.
    """
    manifest = newest_manifest(context.index)
    if state is None:
        return _required(context, manifest)
    for _ in range(_LOOKS - 1):
        if manifest.version < state.version:
            sleep(_LOOK_S)
            manifest = newest_manifest(context.index)
    if state.is_of(_required(context, manifest)):
        return None
    if how is not Following.REPLACING:
        state.require_own(context, manifest)
    if manifest.version < state.version:
        is_settled = how is not Following.BY_ITSELF or state.age_s > _SETTLED_S
        if not is_settled or context.index.manifest(state.version).exists():
            return None
    return manifest


def _required(context: ContextFolder, manifest: Manifest) -> Manifest:
    """Return the manifest; raise `CatalogError` if there is none."""
    if not manifest.version:
        name = context.name
        text = f"{name} has no index that the database could follow: {making(name)}"
        raise CatalogError(text, f"maintain {name}")
    return manifest


def has_values(placed: PlacedPart, columns: Sequence[StoredColumn], held: Sequence[str]) -> bool:
    """Return whether rows of some segments have values in columns of a part."""
    names = placed.part.schema.names
    schema = pa.schema([(column.name, column.form) for column in columns if column.name in names])
    listed = placed.part.record.segments
    theirs = np.array([at for at, name in enumerate(listed) if name in set(held)], np.int64)
    if not schema.names or not len(theirs):
        return False
    return any(
        column.null_count < len(column)
        for rows in blocks(np.flatnonzero(np.isin(placed.part.segment, theirs)))
        for column in placed.take(schema, rows).columns
    )


def blocks(rows: Rows) -> Iterable[Rows]:
    """Yield rows in blocks, as their files have them; one block if there are none."""
    for at in range(0, max(len(rows), 1), BATCH_ROWS):
        yield rows[at : at + BATCH_ROWS]


def now_ms(connection: Connection) -> int:
    """Return the time, ms since 1970, by the clock of the database."""
    query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
