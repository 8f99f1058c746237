"""A table as CSV, piece by piece."""

import csv
from collections.abc import Iterator
from io import BytesIO, StringIO
from typing import Final

import pyarrow as pa
from pyarrow import csv as arrow_csv

from ..wire.media_types import CSV
from .registry import writes

_ROWS: Final = 65_536
"""Rows of one piece: some MB of text."""


@writes(pa.Table, CSV)
def write_csv(table: pa.Table) -> Iterator[bytes]:
    """Write a table as CSV; every number is read back as the same number."""
    header = StringIO()
    # Unquoted: the old client knows its own files by the text they start with.
    csv.writer(header, lineterminator="\n").writerow(table.column_names)
    yield header.getvalue().encode()
    options = arrow_csv.WriteOptions(include_header=False)
    for batch in table.to_batches(max_chunksize=_ROWS):
        rows = BytesIO()
        arrow_csv.write_csv(batch, rows, options)
        yield rows.getvalue()
