"""What the head of a bulk answer says: lattice, record and size of the spectra that follow."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..errors import SpecServerError, StoreError, UnknownField
from ..model.grid import Grid, PixelRange, grid_from_dict
from ..model.survey import Vector

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.ipc import RecordBatchStreamReader

JsonObject = dict[str, Any]
METADATA_KEY: Final = b"specserver"
VERSION: Final = 1
CODECS: Final = ("blosc", "raw")


@dataclass(frozen=True, slots=True)
class StreamHead:
    """Metadata of a stream of spectra; ``docs/wire.md`` defines each value."""

    context: str
    survey: str
    grid: Grid
    record: tuple[Vector, ...]
    codec: str
    nspec: int
    span: PixelRange
    missing: tuple[str, ...]
    """Identifiers left out: nothing was found for them, or nothing that can be read."""
    flux_unit: str
    mask_vector: str
    bad_bits: int
    id_column: str
    medium: str = ""
    """Medium of the wavelengths of all spectra; empty where each states its own."""
    frame: str = ""
    """Frame of the wavelengths, such as ``heliocentric``."""
    damaged: tuple[str, ...] = ()
    """What of these, and which spectra besides, is left out because it is damaged."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Structured dtype of one pixel of a decoded spectrum."""
        return np.dtype([(vector.name, vector.dtype) for vector in self.record])

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
                raise UnknownField(name, self.names)
        return replace(self, record=tuple(one for one in self.record if one.name in values))


def parse_head(metadata: Mapping[bytes, bytes] | None) -> StreamHead:
    """Read the head from the schema metadata of a stream.

    Raises
    ------
    StoreError
        The metadata are not those of a stream of spectra that this version can read.
    """
    try:
        head = json.loads((metadata or {})[METADATA_KEY])
        if head["version"] != VERSION or head["codec"] not in CODECS:
            raise StoreError(
                "answer of the service",
                f"wire version {head['version']}, codec {head['codec']!r}: this client reads"
                f" version {VERSION} with {', '.join(CODECS)}; install the matching specserver",
            )
        return _head(head)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError("answer of the service", f"not a stream of spectra ({error!r})") from error


def _head(head: Mapping[str, Any]) -> StreamHead:
    """Build the head from its JSON object."""
    try:
        grid = grid_from_dict(head["grid"])
    except SpecServerError as error:
        raise StoreError("answer of the service", error.message) from error
    first, stop = head["span"]
    return StreamHead(
        context=str(head["context"]),
        survey=str(head["survey"]),
        grid=grid,
        record=tuple(
            Vector(one["name"], one["dtype"], one.get("unit") or "", one.get("meaning") or "")
            for one in head["record"]
        ),
        codec=head["codec"],
        nspec=int(head["nspec"]),
        span=PixelRange(int(first), int(stop)),
        missing=tuple(str(one) for one in head.get("missing") or ()),
        flux_unit=str(head.get("flux_unit") or ""),
        mask_vector=str(head.get("mask_vector") or ""),
        bad_bits=int(head.get("bad_bits") or 0),
        id_column=str(head.get("id_column") or "id"),
        medium=str(head.get("medium") or ""),
        frame=str(head.get("frame") or ""),
        damaged=tuple(str(one) for one in head.get("damaged") or ()),
    )


def read_batches(reader: "RecordBatchStreamReader") -> Iterator[tuple["RecordBatch", JsonObject]]:
    """Yield the batches of an answer, each with what is said of it.

    Raises
    ------
    SpecServerError
        What the service met on the way, instead of the rest of the batches.
    """
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            return
        said: JsonObject = json.loads((metadata or {}).get(METADATA_KEY, b"{}"))
        if (error := said.get("error")) is not None:
            raise SpecServerError.from_wire(str(error["code"]), str(error["message"]))
        yield batch, said
        # Not held while the next one comes.
        del batch
