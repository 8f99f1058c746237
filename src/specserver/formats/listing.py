"""Listings of a few rows for people and programs: JSON with all details, text or CSV with rows."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ..wire.media_types import CSV, JSON, TEXT
from .registry import writes


@dataclass(frozen=True, slots=True)
class Listing:
    """What a service has of one kind, such as contexts."""

    details: Mapping[str, Any]
    """All there is to say, as JSON."""
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
