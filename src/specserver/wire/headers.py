"""Headers of HTTP that both ends name: a token, and what a picture shows."""

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, unquote

TOKEN: Final = "X-DL-AuthToken"  # noqa: S105  the name of a header
MISSING: Final = "X-Missing"
"""Identifiers that have nothing to show, as `LeftOut`."""
DAMAGED: Final = "X-Damaged"
"""Spectra that cannot be read, as `LeftOut`."""
PAGE: Final = "X-Page"
"""The page that a grid shows, if the list does not have the requested one."""

_SAFE: Final = "(),:'*"
"""What a header need not encode of identifiers."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Identifiers of the spectra that a picture does not show."""

    count: int
    some: tuple[str, ...]
    """The first of them."""

    def to_header(self) -> str:
        """Return the value of a header: ASCII, with blanks between the identifiers."""
        return " ".join([str(self.count), *(quote(text, safe=_SAFE) for text in self.some)])

    @classmethod
    def from_header(cls, value: str) -> Self:
        """Read the value of a header; an empty one means that nothing is left out."""
        count, *some = value.split(" ")
        return cls(int(count or 0), tuple(map(unquote, some)))
