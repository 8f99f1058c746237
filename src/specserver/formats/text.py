"""Text: tables as CSV, and listings of a few rows for people and programs."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv as arrow_csv

from ..wire.media_types import CSV, JSON, TEXT
from .registry import writes

_ROWS: Final = 65_536
"""Rows of one piece: some MB of text."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list such as that of contexts: JSON has all details, text and CSV have the rows."""

    details: Mapping[str, Any]
    """All details, as JSON."""
    header: Sequence[str]
    rows: Sequence[Sequence[object]]

    def lines(self) -> list[list[str]]:
        """Return header and rows as text."""
        return [list(self.header), *([str(cell) for cell in row] for row in self.rows)]


@writes(Listing, TEXT, "text")
def write_text(listing: Listing) -> Iterator[bytes]:
    """Yield columns of equal width."""
    lines = listing.lines()
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    yield ("\n".join(padded) + "\n").encode()


@writes(Listing, JSON, "json")
def write_json(listing: Listing) -> Iterator[bytes]:
    """Yield the details."""
    compact = (",", ":")
    yield json.dumps(
        listing.details, ensure_ascii=False, allow_nan=False, separators=compact
    ).encode()


@writes(Listing, CSV, "csv")
def write_csv(listing: Listing) -> Iterator[bytes]:
    """Yield header and rows."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(listing.lines())
    yield text.getvalue().encode()


@writes(pa.Table, CSV)
def write_table(table: pa.Table) -> Iterator[bytes]:
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
