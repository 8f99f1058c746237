"""Composite spectra: tables that take long to make; an Arrow stream of one reports the progress."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..wire.composite import COLUMNS, DONE, CompositeEnd, CompositeHead
from ..wire.head import to_metadata
from ..wire.media_types import ARROW, CSV, JSON
from .arrow import Outbox, breaking_off
from .registry import writes


@dataclass(frozen=True, slots=True)
class CompositeTable:
    """A composite spectrum that is being made."""

    head: CompositeHead
    steps: Iterator[int]
    """Makes the composite while it is read; each value is the number of spectra done."""
    finish: Callable[[], tuple[Mapping[str, npt.NDArray[Any]], CompositeEnd]]
    """Returns, after the steps, the columns, 1D[npix] each, and the metadata at the end."""


@writes(CompositeTable, ARROW)
def write_arrow(made: CompositeTable) -> Iterator[bytes]:
    """Return an Arrow stream: batches without rows as the work goes on, and then the composite."""
    schema = pa.schema(list(COLUMNS.items()), metadata=to_metadata(made.head.to_json()))
    return breaking_off(schema, _messages(made, schema))


def _messages(made: CompositeTable, schema: pa.Schema) -> Iterator[bytes]:
    """Yield the messages of the stream."""
    outbox = Outbox()
    none = pa.RecordBatch.from_pylist([], schema=schema)
    with pa.ipc.new_stream(pa.PythonFile(outbox, "w"), schema) as writer:
        for done in made.steps:
            writer.write_batch(none, custom_metadata=to_metadata({DONE: done}))
            yield outbox.take()
        columns, end = made.finish()
        arrays = [pa.array(columns[field.name], field.type) for field in schema]
        batch = pa.record_batch(arrays, schema=schema)
        writer.write_batch(batch, custom_metadata=to_metadata(end.to_json()))
    yield outbox.take()


@writes(CompositeTable, JSON)
def write_json(made: CompositeTable) -> Iterator[bytes]:
    """Yield nothing as the work goes on, and then an object with a list for each column."""
    # An empty piece after each step.
    yield from (b"" for _ in made.steps)
    columns, end = made.finish()
    plain = {name: _plain(values) for name, values in columns.items()}
    yield json.dumps({"about": made.head.to_json() | end.to_json(), **plain}).encode()


@writes(CompositeTable, CSV)
def write_csv(made: CompositeTable) -> Iterator[bytes]:
    """Yield nothing as the work goes on, and then a header and rows."""
    yield from (b"" for _ in made.steps)
    columns, _ = made.finish()
    out = StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(zip(*map(_plain, columns.values()), strict=True))
    yield out.getvalue().encode()


def _plain(values: npt.NDArray[Any]) -> list[float | int | None]:
    """Return values for JSON and CSV; None for NaN."""
    missing = np.isnan(values).tolist()
    return [None if gone else value for gone, value in zip(missing, values.tolist(), strict=True)]
