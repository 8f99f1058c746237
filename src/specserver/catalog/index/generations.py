"""Generations: the indexes of older versions. They are read as one part, and never written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ...data.context import GenerationFolder, IndexFolder
from .column_file import DAMAGED_INDEX

_FORMAT: Final = 3


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The record of a generation: the segments that it covers."""

    name: str
    segments: tuple[str, ...]
    """Names of what it was made from."""
    nrows: int
    columns: Mapping[str, str]
    """Column name → kind: int, uint, float, str or bool."""
    format: int = _FORMAT
    digests: Mapping[str, str] = field(default_factory=dict)
    """File → digest (`specserver.digests`); empty: an older version made it."""


def current_generation(index: IndexFolder) -> IndexInfo | None:
    """Return the record of the generation in use, or None if there is none of this format."""
    current = index.current
    try:
        name = current.read().decode().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise current.damaged(f"{DAMAGED_INDEX} ({error})") from error
    if not index.is_generation(name):
        raise current.damaged(f"{DAMAGED_INDEX} (it names {name!r})")
    record = index.generation(name).record
    try:
        values = record.record(DAMAGED_INDEX).values
    except FileNotFoundError:
        return None
    if values.get("format") != _FORMAT:
        return None
    try:
        return IndexInfo(**{**values, "segments": tuple(values["segments"])})
    except (TypeError, KeyError) as error:
        raise record.damaged(f"{DAMAGED_INDEX} ({error})") from error


def check_generation(generation: GenerationFolder, info: IndexInfo) -> None:
    """Compare the files of a generation with their digests, where it has them.

    That of its database is left out: nothing reads it. Raises `DamagedFile` if a file is not as it
    was written.
    """
    left_out = generation.database.name
    generation.check({name: digest for name, digest in info.digests.items() if name != left_out})
