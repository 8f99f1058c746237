"""FITS header blocks as bytes, made once and patched card by card."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BLOCK = 2880
CARD = 80

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Card:
    """One header card."""

    key: str
    value: Value | None = None
    """None makes a commentary card."""
    comment: str = ""

    def text(self) -> str:
        """Return the 80 characters of the card in fixed format (FITS standard, §4.2)."""
        if self.value is None:
            return f"{self.key:<8}{self.comment:<72}"[:CARD]
        head = f"{self.key:<8}= {_field(self.value)}"
        tail = f" / {self.comment}" if self.comment else ""
        return f"{head + tail:<80}"[:CARD]


@dataclass(frozen=True, slots=True)
class Header:
    """A header unit whose cards can be replaced in place."""

    data: bytes
    cards: Mapping[str, tuple[int, Card]]
    """Offset in bytes and card, by keyword."""

    def patched(self, values: Mapping[str, Value]) -> bytes:
        """Return the block with other values for some keywords it already has."""
        out = bytearray(self.data)
        for key, value in values.items():
            offset, card = self.cards[key]
            out[offset : offset + CARD] = Card(key, value, card.comment).text().encode("ascii")
        return bytes(out)


def header(cards: Iterable[Card]) -> Header:
    """Return a header unit, padded to whole blocks."""
    listed = list(cards)
    text = "".join(card.text() for card in listed) + f"{'END':<80}"
    places = {card.key: (index * CARD, card) for index, card in enumerate(listed)}
    return Header(text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii"), places)


def hdu(head: bytes, *data: bytes) -> tuple[bytes, ...]:
    """Return the parts of an HDU: header, data, and zeros up to whole blocks."""
    return head, *data, bytes(-sum(map(len, data)) % BLOCK)


def _field(value: Value) -> str:
    """Return the value field of a card."""
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    if isinstance(value, int):
        return f"{value:>20d}"
    if isinstance(value, float):
        text = f"{value:.12G}"
        return f"{text if '.' in text or 'E' in text else text + '.0':>20}"
    doubled = value.replace("'", "''")
    quoted = f"'{doubled:<8}'"
    return f"{quoted:<20}"
