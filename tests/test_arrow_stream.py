"""Arrow streams: byte for byte what Arrow's own writer makes."""

import json
from io import BytesIO

import numpy as np
import pyarrow as pa

from specserver.formats.arrow import CellBatch, SpectrumStream, stream_batches, write_spectra
from specserver.model.grid import LogLinear, PixelRange
from specserver.model.survey import Vector
from specserver.wire.cells import CellColumn
from specserver.wire.head import StreamHead


def _written(schema: pa.Schema, batches: list[pa.RecordBatch]) -> bytes:
    """Return the stream as Arrow's writer makes it."""
    out = BytesIO()
    with pa.ipc.new_stream(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return out.getvalue()


def _table(values: list[float | None]) -> pa.Table:
    names = [None if value is None else f"{value:g}" for value in values]
    return pa.table({"z": pa.array(values, pa.float32()), "name": pa.array(names, pa.string())})


def test_tables_stream_as_arrow_writes_them() -> None:
    for table in (_table([]), _table([1.0]), _table([0.5, None, np.nan] * 500)):
        # Slices, too, which begin within their buffers.
        batches = [*table.to_batches(700), *table.slice(3, 5).to_batches()]
        assert b"".join(stream_batches(table.schema, batches)) == _written(table.schema, batches)


def _head(nspec: int) -> StreamHead:
    return StreamHead(
        context="mock",
        survey="mock",
        grid=LogLinear(1e-4),
        record=(Vector("flux", "<f4", "", ""),),
        codec="raw",
        nspec=nspec,
        span=PixelRange(0, 3),
        missing=(),
        flux_unit="",
        mask_vector="",
        bad_bits=0,
        id_column="id",
    )


def _stream(nspec: int, batches: list[CellBatch]) -> SpectrumStream:
    has_media = any(one.media for one in batches)
    return SpectrumStream(_head(nspec), "u8", ("flux", "ivar"), has_media, iter(batches))


def test_spectra_stream_as_arrow_writes_them() -> None:
    more = pa.table({"z": pa.array([0.1, None], pa.float32())})
    start, width, first, count = (np.array([at, at + 1], np.int32) for at in range(4))
    flux = CellColumn(np.arange(3, dtype=np.uint8), np.array([0, 3, 3]), np.array([True, False]))
    batch = CellBatch(
        ids=np.arange(2, dtype=np.uint64),
        contexts=["mock", "mock"],
        start=start,
        width=width,
        first=first,
        count=count,
        on_lattice=np.ones(2, np.bool_),
        cells={"flux": flux},
        columns=more,
        media=["air", "vacuum"],
    )
    body = b"".join(write_spectra(_stream(2, [batch])))
    with pa.ipc.open_stream(body) as reader:
        schema, batches = reader.schema, list(reader)
    assert body == _written(schema, batches)
    assert schema.metadata == {b"specserver": json.dumps(_head(2).to_json()).encode()}
    assert pa.Table.from_batches(batches).to_pydict() == {
        "id": [0, 1],
        "context": ["mock", "mock"],
        "start": [0, 1],
        "width": [1, 2],
        "first": [2, 3],
        "count": [3, 4],
        "on_lattice": [True, True],
        "flux": [b"\0\1\2", None],
        "ivar": [None, None],
        "medium": ["air", "vacuum"],
        "col:z": [np.float32(0.1), None],
    }


def test_a_schema_that_is_kept_does_not_keep_a_description() -> None:
    first, second = (
        pa.ipc.open_stream(b"".join(write_spectra(_stream(nspec, [])))).schema for nspec in (1, 2)
    )
    assert first.equals(second)
    for nspec, schema in ((1, first), (2, second)):
        assert json.loads(schema.metadata[b"specserver"])["nspec"] == nspec
