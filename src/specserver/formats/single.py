"""A single spectrum as bytes of its own media type (docs/wire.md)."""

from collections.abc import Iterator
from typing import cast

from ..errors import BadParameter
from ..wire.cells import CellColumn
from ..wire.head import StreamHead
from ..wire.media_types import SPECTRUM
from ..wire.single import SingleSpectrum
from .arrow import SpectrumStream
from .registry import writes


@writes(SpectrumStream, SPECTRUM)
def write_single(stream: SpectrumStream) -> Iterator[bytes]:
    """Yield the one spectrum of a stream; raise `BadParameter` for any other stream."""
    batch, head = next(stream.batches, None), stream.head
    if batch is None or not isinstance(head, StreamHead) or head.nspec != 1 or batch.columns:
        raise BadParameter("Accept", SPECTRUM, "a single spectrum, without columns")
    spectrum = SingleSpectrum(
        head=head,
        release=batch.contexts[0],
        medium=head.medium if batch.media is None else batch.media[0],
        id=batch.ids[0],
        start=int(batch.start[0]),
        width=int(batch.width[0]),
        first=int(batch.first[0]),
        count=int(batch.count[0]),
        on_lattice=bool(batch.on_lattice[0]),
        cells={name: _cell_of(batch.cells.get(name)) for name in stream.cells},
    )
    return cast("Iterator[bytes]", spectrum.to_pieces())


def _cell_of(column: CellColumn | None) -> memoryview | None:
    """Return the one cell of a vector, if there is one."""
    if column is None or not column.present[0]:
        return None
    begin, end = column.offsets.tolist()
    return column.data.data[begin:end]
