"""The metadata at the head of a stream of spectra or files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np

from ..errors import SpecServerError, StoreError, UnknownField
from ..model.grid import Grid, PixelRange, grid_from_dict
from ..model.survey import Vector
from .batches import ANSWER, METADATA_KEY

VERSION: Final = 1
CODECS: Final = ("blosc", "raw")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHead:
    """Metadata of a stream of spectra; ``docs/wire.md`` defines each value, in this order."""

    context: str
    survey: str
    grid: Grid
    record: tuple[Vector, ...]
    codec: str
    nspec: int
    npix: int = 0
    """Valid pixels of all spectra together."""
    span: PixelRange
    missing: tuple[str, ...]
    """Identifiers left out: nothing was found for them, or nothing that can be read."""
    damaged: tuple[str, ...] = ()
    """Identifiers of spectra that are left out because they are damaged."""
    flux_unit: str
    surveys: Mapping[str, str] = field(default_factory=dict)
    """Survey of each release, for spectra of several surveys."""
    frame: str = ""
    """Frame of the wavelengths, such as ``heliocentric``."""
    medium: str = ""
    """Medium of the wavelengths of all spectra; empty where each states its own."""
    mask_vector: str
    bad_bits: int
    id_column: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Structured dtype of one pixel of a decoded spectrum."""
        return _dtype_of(self.record)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the record, in its order."""
        return tuple(vector.name for vector in self.record)

    def select(self, values: Sequence[str] | None) -> "StreamHead":
        """Return the head with the record cut to the vectors named; None keeps all."""
        if values is None:
            return self
        for name in values:
            if name not in self.names:
                # The service refuses all others: this is the axis of another survey.
                raise UnknownField(name, self.names, [self.grid.axis])
        return replace(
            self, record=tuple(vector for vector in self.record if vector.name in values)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the head as a JSON object."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return (
            {"version": VERSION}
            | plain
            | {
                "grid": self.grid.to_dict(),
                "record": [_vector_to_json(vector) for vector in self.record],
                "span": [self.span.first, self.span.stop],
                "medium": self.medium or None,
            }
        )

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read the head from a JSON object.

        Raises
        ------
        StoreError
            It is not the head of a stream of spectra that this version can read.
        """
        try:
            if said["version"] != VERSION or said["codec"] not in CODECS:
                raise StoreError(
                    ANSWER,
                    f"wire version {said['version']}, codec {said['codec']!r}: this client reads"
                    f" version {VERSION} with {', '.join(CODECS)}; install the matching specserver",
                )
            first, stop = said["span"]
            texts = ("flux_unit", "frame", "medium", "mask_vector")
            return cls(
                context=str(said["context"]),
                survey=str(said["survey"]),
                grid=_read_grid(said["grid"]),
                record=tuple(_read_vector(vector) for vector in said["record"]),
                codec=said["codec"],
                nspec=int(said["nspec"]),
                npix=int(said.get("npix") or 0),
                span=PixelRange(int(first), int(stop)),
                missing=_texts(said, "missing"),
                damaged=_texts(said, "damaged"),
                surveys=dict(said.get("surveys") or {}),
                bad_bits=int(said.get("bad_bits") or 0),
                id_column=str(said.get("id_column") or "id"),
                **{name: str(said.get(name) or "") for name in texts},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(ANSWER, f"not a stream of spectra ({error!r})") from error


@dataclass(frozen=True, slots=True)
class PartsHead:
    """Metadata of a stream of spectra of several surveys that share no lattice."""

    nspec: int
    parts: tuple[StreamHead, ...]
    """A head for each survey; each batch says to which it belongs."""
    missing: tuple[str, ...] = ()
    """Identifiers left out, as ``context:id``."""
    damaged: tuple[str, ...] = ()
    """Identifiers of spectra that are left out because they are damaged."""

    def to_json(self) -> dict[str, Any]:
        """Return the head as a JSON object."""
        return _counts(self) | {"parts": [part.to_json() for part in self.parts]}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read the head from a JSON object; errors: those of `StreamHead.from_json`."""
        parts = tuple(StreamHead.from_json(part) for part in said["parts"])
        return cls(int(said["nspec"]), parts, _texts(said, "missing"), _texts(said, "damaged"))


def read_spectra_head(said: Mapping[str, Any]) -> StreamHead | PartsHead:
    """Return the head of a stream of spectra, of one part or of several.

    Raises
    ------
    StoreError
        It is not the head of a stream of spectra that this version can read.
    """
    return PartsHead.from_json(said) if "parts" in said else StreamHead.from_json(said)


@dataclass(frozen=True, slots=True)
class FilesHead:
    """Metadata of a stream of FITS files."""

    nspec: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the head as a JSON object."""
        return _counts(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read the head from a JSON object.

        Raises
        ------
        StoreError
            It is not the head of a stream of files.
        """
        try:
            nspec = int(said["nspec"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(ANSWER, f"not a stream of files ({error!r})") from error
        return cls(nspec, _texts(said, "missing"), _texts(said, "damaged"))


def _counts(head: PartsHead | FilesHead) -> dict[str, Any]:
    """Return how many spectra come, and which are left out, as a JSON object."""
    return {
        "version": VERSION,
        "nspec": head.nspec,
        "missing": list(head.missing),
        "damaged": list(head.damaged),
    }


def to_metadata(head: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Return a JSON object as metadata of an Arrow schema."""
    return {METADATA_KEY: json.dumps(head).encode()}


def from_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Return the JSON object in the metadata of an Arrow schema; an empty one if there is none."""
    try:
        said: dict[str, Any] = json.loads((metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError:
        return {}
    return said


def _read_grid(said: Mapping[str, Any]) -> Grid:
    try:
        return grid_from_dict(said)
    except SpecServerError as error:
        raise StoreError(ANSWER, error.message) from error


def _read_vector(said: Mapping[str, Any]) -> Vector:
    return Vector(said["name"], said["dtype"], said.get("unit") or "", said.get("meaning") or "")


def _texts(said: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(str(text) for text in said.get(name) or ())


@lru_cache
def _dtype_of(record: tuple[Vector, ...]) -> np.dtype[Any]:
    """Return the structured dtype of a record."""
    return np.dtype([(vector.name, vector.dtype) for vector in record])


@lru_cache
def _vector_to_json(vector: Vector) -> dict[str, Any]:
    """Return a vector as a JSON object: the same object each time, which must not be changed."""
    # How the store keeps a vector is not sent.
    told = asdict(vector)
    return {name: told[name] for name in ("name", "dtype", "unit", "meaning")}
