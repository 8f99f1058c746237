"""The file of a value-added table: there whole or not at all, with its digest beside it."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ...damage import Identity, damaged
from ...digests import digest_of, read_record, seal
from ...files import EVERYONE_READS, close_like_parent, replace_file

DAMAGED_TABLE: Final = "damaged: restore the file, or attach the table again"


def vac_folder(data: Path, context: str) -> Path:
    """Return the folder of a context's value-added tables."""
    return data / context / "catalogs"


def check_vac(data: Path, context: str, name: str) -> bool:
    """Compare a table with its digest; return whether it has one.

    Raises
    ------
    DamagedFile
        The table, or the record of its digest, is not as it was written.
    """
    path = vac_folder(data, context) / f"{name}.parquet"
    try:
        stated = read_record(record_of(path), DAMAGED_TABLE).values.get("of", [])
    except FileNotFoundError:
        return False
    if digest_of(path) not in stated:
        raise damaged(path, DAMAGED_TABLE)
    return True


@lru_cache(maxsize=256)
def check_once(path: Path, state: Identity) -> None:
    """Compare a table with its digest, once for each state of the file."""
    del state
    if path.exists():
        check_vac(path.parents[2], path.parents[1].name, path.stem)


def record_of(path: Path) -> Path:
    """Return the file with the digest of a table."""
    return path.with_suffix(".json")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    try:
        with draft.open("wb") as stream:
            pq.write_table(table, stream, compression="zstd")
            stream.flush()
            os.fsync(stream.fileno())
        # Stated first, beside that of the table which it replaces: at no time is a table without.
        stated = [digest_of(one) for one in (draft, path) if one.exists()]
        replace_file(record_of(path), seal({"of": stated}), mode=EVERYONE_READS)
        draft.replace(path)
        close_like_parent(path.parent)
    finally:
        draft.unlink(missing_ok=True)
