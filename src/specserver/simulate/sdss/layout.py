"""The table layouts of the survey's reductions: columns, types and header units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..common.cards import Card, Header, header
from ..common.tables import ColumnForm, read_rows, table_cards

_ZERO = 2**63


@dataclass(frozen=True, slots=True)
class Family:
    """The properties of a reduction's files that differ from other reductions."""

    run2d: str
    layout: str
    """Name of the columns of HDU2 in ``objects.tsv``."""
    extnames: tuple[str, str, str] | None
    id_zero: int
    """TZERO of the integer SPECOBJID."""
    expid: str
    """Format of the keywords that list the exposures."""
    nfiber: int
    upper: bool = False
    """Names of HDU1 in capitals, and text columns as wide as the text of each file."""
    primary_bitpix: int = 8

    @property
    def boss(self) -> bool:
        """True for the BOSS spectrographs."""
        return self.run2d != "26"


_BOSS_NAMES = ("COADD", "SPALL", "SPZLINE")
FAMILIES: Mapping[str, Family] = {
    family.run2d: family
    for family in (
        Family("26", "26", ("COADD", "SPECOBJ", "SPZLINE"), 0, "EXPID{:02d}", 640),
        Family("v5_7_0", "v5_7_0", _BOSS_NAMES, 0, "EXPID{:02d}", 1000),
        Family("v5_10_0", "v5_10_0", _BOSS_NAMES, _ZERO, "EXPID{:02d}", 1000),
        Family("v5_11_0", "v5_10_0", _BOSS_NAMES, 0, "EXPID{:03d}", 1000),
        Family(
            "v5_13_0", "v5_13_0", None, _ZERO, "EXPID{:03d}", 1000, upper=True, primary_bitpix=16
        ),
        Family("v5_13_2", "v5_10_0", _BOSS_NAMES, _ZERO, "EXPID{:03d}", 1000),
    )
}
"""The reductions that can be simulated, by run2d."""


@cache
def columns(layout: str) -> tuple[ColumnForm, ...]:
    """Return the columns of a table: ``coadd`` (HDU1), ``line_fits``, ``exposure``."""
    return tuple(ColumnForm(*row) for row in read_rows(layout))


@cache
def object_columns(layout: str) -> tuple[ColumnForm, ...]:
    """Return the columns of HDU2 in a layout; each line of ``objects.tsv`` names its layouts."""
    rows = read_rows("objects")
    return tuple(ColumnForm(*row) for who, *row in rows if who == "*" or layout in who.split(","))


RECORD = np.dtype([column.numpy() for column in columns("coadd")])
"""One row of HDU1."""
LINE_RECORD = np.dtype([column.numpy() for column in columns("line_fits")])
"""One row of HDU3."""


@dataclass(frozen=True, slots=True)
class TableForm:
    """A binary table with one layout: its row type and its header unit."""

    dtype: np.dtype[Any]
    header: Header


@cache
def object_table(run2d: str, widths: tuple[int, ...] = ()) -> TableForm:
    """Return HDU2 of a family, with the widths of its text columns where each file has its own."""
    family = FAMILIES[run2d]
    listed = list(object_columns(family.layout))
    if widths:
        sizes = iter(widths)
        listed = [
            ColumnForm(column.name, f"{size if (size := next(sizes)) > 1 else ''}A")
            if column.is_text
            else column
            for column in listed
        ]
    return _table(family, listed, hdu=2, nrow=1)


@cache
def coadd_table(run2d: str) -> TableForm:
    """Return HDU1 of a family; NAXIS2 is to be patched."""
    family, forms = FAMILIES[run2d], columns("coadd")
    if family.upper:
        forms = tuple(ColumnForm(column.name.upper(), column.form) for column in forms)
    return _table(family, forms, hdu=1, nrow=0)


@cache
def line_table(run2d: str, nline: int) -> TableForm:
    """Return HDU3 of a family."""
    return _table(FAMILIES[run2d], columns("line_fits"), hdu=3, nrow=nline)


def _table(family: Family, forms: Sequence[ColumnForm], hdu: int, nrow: int) -> TableForm:
    """Return a table; the order of cards follows the writer of the family's real files."""
    dtype = np.dtype([form.numpy() for form in forms])
    cards = table_cards(dtype.itemsize, nrow, len(forms))
    fields = [
        column.cards(number, family.id_zero if column.name == "SPECOBJID" else 0)
        for number, column in enumerate(forms, 1)
    ]
    if family.extnames is None:
        cards += [Card("COMMENT", None, " *** Column names ***"), *(field[0] for field in fields)]
        cards += [Card("COMMENT", None, " *** Column formats ***"), *(field[1] for field in fields)]
        cards += [card for field in fields for card in field[2:]]
    else:
        cards += [card for field in fields for card in field]
        cards.append(Card("EXTNAME", family.extnames[hdu - 1], "extension name"))
    return TableForm(dtype, header(cards))
