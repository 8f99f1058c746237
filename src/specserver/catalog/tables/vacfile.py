"""The file of a value-added table: there whole or not at all, with its digest beside it."""

from functools import lru_cache
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ...damage import Identity
from ...data.context import TableFiles
from ...digests import digest_of_bytes, seal

DAMAGED_TABLE: Final = "damaged: restore the file, or attach the table again"


def check_vac(table: TableFiles) -> bool:
    """Compare a table with its digest; return whether it has one.

    Raises
    ------
    DamagedFile
        The table, or the record of its digest, is not as it was written.
    """
    try:
        stated = table.record.record(DAMAGED_TABLE).values.get("of", [])
    except FileNotFoundError:
        return False
    if table.file.digest() not in stated:
        raise table.file.damaged(DAMAGED_TABLE)
    return True


@lru_cache(maxsize=256)
def check_once(table: TableFiles, state: Identity) -> None:
    """Compare a table with its digest, once for each state of the file."""
    del state
    if table.file.exists():
        check_vac(table)


def write_table(files: TableFiles, table: pa.Table) -> None:
    """Write a table so that it is there whole or not at all."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    content = memoryview(buffer.getvalue())
    # Stated first, beside that of the table which it replaces: at no time is a table without.
    stated = [digest_of_bytes(content), *([files.file.digest()] if files.file.exists() else [])]
    files.record.replace(seal({"of": stated}))
    files.file.replace(content)
    files.context.catalogs.inherit_access()
