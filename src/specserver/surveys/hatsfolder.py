"""The files of a HATS catalogue: its partitions, and what its properties say of them."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from ..model.properties import read_properties

_PARTITION: Final = re.compile(r"Npix=(\d+)(?:\..*)?")
_ORDER: Final = re.compile(r"Norder=(\d+)")
_ENDINGS: Final = frozenset({".parquet", ".parq", ".pq"})
_NAMES: Final = ("hats.properties", "properties")
"""Names of the file of properties, the present one first."""
_KIND: Final = ("dataproduct_type", "catalog_type")
"""Its keys for the kind of a catalogue, the present one first."""
_OF_OBJECTS: Final = frozenset({"object", "source", ""})
"""Kinds of catalogues whose rows are objects; others are margins, indexes and joins."""
_BESIDE: Final = 6
"""Folders from a file of a partition up to its catalogue, at most."""


def is_partition(path: Path) -> bool:
    """Return whether a path is that of a file of a partition, of any catalogue."""
    return pixel_of(path) is not None and path.is_file()


def pixel_of(path: Path) -> tuple[int, int] | None:
    """Return order and number of the HEALPix pixel of a partition's file; None: it is none.

    A partition is a file, or a folder of files.
    """
    if path.suffix.lower() not in _ENDINGS or path.name.startswith((".", "_")):
        return None
    number = _PARTITION.fullmatch(path.name) or _PARTITION.fullmatch(path.parent.name)
    orders = (_ORDER.fullmatch(part) for part in path.parts[-_BESIDE:])
    order = next((found for found in orders if found), None)
    return (int(order[1]), int(number[1])) if order and number else None


def place_of(path: Path) -> str:
    """Return the pixel of a partition's file as text, such as ``1-3``: order and number.

    The name of the file follows where a partition has several.
    """
    order, pixel = pixel_of(path) or (0, 0)
    is_whole = _PARTITION.fullmatch(path.name)
    return f"{order}-{pixel}" if is_whole else f"{order}-{pixel}-{path.stem}"


def is_of_objects(path: Path) -> bool:
    """Return whether a partition is of a catalogue of objects, and not of its margin or an index.

    A catalogue without properties counts as one.
    """
    values = properties_of(path)
    kind = next((values[key] for key in _KIND if key in values), "")
    return kind.lower() in _OF_OBJECTS


def properties_of(path: Path) -> dict[str, str]:
    """Return the properties of the catalogue that a partition is of; empty: it has none."""
    for folder in path.parents[:_BESIDE]:
        if found := _read(folder):
            return dict(found)
    return {}


@lru_cache(maxsize=64)
def _read(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the properties in a folder."""
    for name in _NAMES:
        file = folder / name
        if file.is_file():
            return tuple(read_properties(file.read_bytes()).items())
    return ()
