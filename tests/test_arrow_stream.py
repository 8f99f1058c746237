"""Arrow streams: byte for byte what Arrow's own writer makes."""

from io import BytesIO

import numpy as np
import pyarrow as pa

from specserver.formats.arrow import spectra_batch, spectra_schema, stream_batches
from specserver.wire.cells import CellColumn


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


def test_spectra_stream_as_arrow_writes_them() -> None:
    more = pa.table({"z": pa.array([0.1, None], pa.float32())})
    schema = spectra_schema({"version": 1, "context": "mock"}, "u8", ["flux"], more.schema)
    assert schema.metadata == {b"specserver": b'{"version": 1, "context": "mock"}'}
    assert schema.names[-2:] == ["flux", "col:z"]
    numbers = {name: np.arange(2, dtype=np.int32) for name in ("start", "width", "first", "count")}
    arrays = {"id": np.arange(2, dtype=np.uint64), "on_lattice": np.ones(2, np.bool_), **numbers}
    present = np.array([True, False])
    flux = CellColumn(np.arange(3, dtype=np.uint8), np.array([0, 3, 3]), present)
    batch = spectra_batch(schema, arrays, ["mock", "mock"], {"flux": flux}, more)
    assert b"".join(stream_batches(schema, [batch])) == _written(schema, [batch])


def test_a_schema_that_is_kept_does_not_keep_a_description() -> None:
    first = spectra_schema({"nspec": 1}, "u8", ["flux"], None)
    second = spectra_schema({"nspec": 2}, "u8", ["flux"], None)
    assert first.equals(second)
    assert first.metadata == {b"specserver": b'{"nspec": 1}'}
    assert second.metadata == {b"specserver": b'{"nspec": 2}'}
