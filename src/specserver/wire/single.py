"""One spectrum that travels alone: a description, which many spectra share, numbers and cells.

An Arrow stream states the columns of a table, of which a single spectrum fills one row: to write
and to read that took longer than the spectrum itself. Here the description is the same bytes for
all spectra of a release, so a reader parses it once. docs/wire.md has the layout.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np

from ..errors import StoreError
from ..model.grid import PixelRange
from .batches import ANSWER
from .head import StreamHead

_NUMBERS: Final = ("start", "width", "first", "count", "on_lattice")
_LENGTH: Final = struct.Struct("<q")
_OWN: Final = ("nspec", "npix", "span", "missing", "damaged")
"""Values of a head that are those of one spectrum."""
_SHARED: Final = tuple(name for name in StreamHead.__slots__ if name not in {*_OWN, "surveys"})
_ABSENT: Final = -1
_DESCRIPTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class _Description:
    """What an answer has in common with those of other spectra."""

    head: StreamHead
    release: str
    medium: str
    id_dtype: np.dtype[Any]
    cells: tuple[str, ...]
    numbers: struct.Struct


@dataclass(frozen=True, slots=True)
class SingleSpectrum:
    """A spectrum with the values of docs/wire.md that a row of a batch has."""

    head: StreamHead
    release: str
    """Release that holds it."""
    medium: str
    """Medium of its wavelengths."""
    id: np.generic
    start: int
    width: int
    first: int
    count: int
    on_lattice: bool
    cells: dict[str, memoryview | None]
    """Encoded values by vector; None: they are all zero, or its axis is the lattice."""

    def to_pieces(self) -> Iterator[bytes | memoryview]:
        """Yield its bytes."""
        shared = tuple((name, getattr(self.head, name)) for name in _SHARED)
        surveys = tuple(self.head.surveys.items())
        told = (self.release, self.medium, self.id.dtype.str, tuple(self.cells))
        description = _description(shared, surveys, *told)
        sizes = [_ABSENT if cell is None else len(cell) for cell in self.cells.values()]
        numbers = (self.start, self.width, self.first, self.count)
        yield _LENGTH.pack(len(description))
        yield description
        kinds = _numbers_of(self.id.dtype, len(sizes))
        yield kinds.pack(int(self.id), *numbers, self.on_lattice, *sizes)
        yield from (cell for cell in self.cells.values() if cell is not None)

    @classmethod
    def from_bytes(cls, body: bytes, values: Sequence[str] | None = None) -> Self:
        """Read a spectrum, without copying its cells.

        Parameters
        ----------
        values : fields of the record wanted; None for all

        Raises
        ------
        StoreError
            The bytes are not those of a spectrum that this version can read.
        UnknownField
            A value that the record does not have.
        """
        try:
            (length,) = _LENGTH.unpack_from(body)
            at = _LENGTH.size + length
            said = _described(body[_LENGTH.size : at], None if values is None else tuple(values))
            number, start, width, first, count, on_lattice, *sizes = said.numbers.unpack_from(
                body, at
            )
            at += said.numbers.size
            cells: dict[str, memoryview | None] = {}
            for name, size in zip(said.cells, sizes, strict=True):
                cells[name] = None if size == _ABSENT else memoryview(body)[at : at + size]
                at += max(size, 0)
        except (struct.error, ValueError) as error:
            raise StoreError(ANSWER, f"not a spectrum ({error})") from error
        if at != len(body) or min(sizes, default=0) < _ABSENT:
            raise StoreError(ANSWER, f"damaged: {len(body)} bytes, where it states {at}")
        # As of several: the pixels of those on the lattice that have any.
        span = PixelRange(first, first + count) if on_lattice and count > 0 else PixelRange(0, 0)
        head = replace(said.head, npix=count, span=span)
        return cls(
            head, said.release, said.medium, said.id_dtype.type(number), start, width, first, count,
            bool(on_lattice), cells,
        )  # fmt: skip


@lru_cache(maxsize=_DESCRIPTIONS)
def _description(
    shared: tuple[tuple[str, Any], ...],
    surveys: tuple[tuple[str, str], ...],
    release: str,
    medium: str,
    id_dtype: str,
    cells: tuple[str, ...],
) -> bytes:
    """Return the description of a spectrum.

    Parameters
    ----------
    shared : names and values of its head that many spectra share, those of `_SHARED`
    """
    values: dict[str, Any] = dict(shared)
    head = StreamHead(**values, surveys=dict(surveys), nspec=1, span=PixelRange(0, 0), missing=())
    said = {name: value for name, value in head.to_json().items() if name not in _OWN}
    own = {"release": release, "own_medium": medium, "id": id_dtype, "cells": cells}
    return json.dumps(said | own).encode()


@lru_cache(maxsize=_DESCRIPTIONS)
def _described(text: bytes, values: tuple[str, ...] | None) -> _Description:
    """Return what the description of an answer says, its record cut to some fields."""
    said = json.loads(text)
    own = {"nspec": 1, "npix": 0, "span": (0, 0), "missing": (), "damaged": ()}
    try:
        dtype, cells = np.dtype(said["id"]), tuple(map(str, said["cells"]))
        head = StreamHead.from_json(said | own)
        # What is no type of NumPy's shows here.
        _ = head.dtype, np.dtype(head.grid.axis_dtype)
        return _Description(
            head=head.select(values),
            release=str(said["release"]),
            medium=str(said["own_medium"]),
            id_dtype=dtype,
            cells=cells,
            numbers=_numbers_of(dtype, len(cells)),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"its description has no good {error}") from error


@lru_cache
def _numbers_of(id_dtype: np.dtype[Any], ncells: int) -> struct.Struct:
    """Return the layout of the numbers: the identifier, then `_NUMBERS`, then bytes of cells."""
    if id_dtype.kind not in "iu":
        raise ValueError(f"its identifier is of the type {id_dtype}")
    return struct.Struct(f"<{'Q' if id_dtype.kind == 'u' else 'q'}{len(_NUMBERS)}i{ncells}q")
