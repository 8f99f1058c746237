"""A FITS file of a spectrum from its record and catalogue row, in the layout of spec-lite files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..model.survey import Column, Vector

if TYPE_CHECKING:
    from astropy.io import fits

_KEYWORD_CHARS: Final = 8


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Content of the header of a rebuilt file."""

    cards: Mapping[str, str]
    """Cards by which readers recognise the survey's files."""
    values: Mapping[str, Any]
    """Catalogue values by column: identifier parts, position, redshift."""
    record: Sequence[Vector]
    columns: Sequence[Column]
    history: Sequence[str]


def spectrum_file(about: Rebuilt, record: npt.NDArray[Any], row: pa.Table) -> bytes:
    """Return a FITS file: HDU0 header, HDU1 ``COADD`` table, HDU2 ``SPECOBJ`` table of one row.

    Parameters
    ----------
    record : 1D[npix] structured
    row : catalogue columns of the spectrum; those without a value are left out
    """
    from astropy.io import fits  # noqa: PLC0415  # slow to import, and only this needs it

    # A copy, which the writer may turn into its own byte order.
    coadd = fits.BinTableHDU(np.array(record), name="COADD")
    _state(coadd, {column.name: (column.unit, column.meaning) for column in about.record})
    objects = fits.BinTableHDU(_one_row(row), name="SPECOBJ")
    _state(
        objects, {column.name.upper(): (column.unit, column.meaning) for column in about.columns}
    )
    out = BytesIO()
    fits.HDUList([_primary(about), coadd, objects]).writeto(out)
    return out.getvalue()


def _primary(about: Rebuilt) -> "fits.PrimaryHDU":
    """Return the header unit, which says first that this is not the release file."""
    from astropy.io import fits  # noqa: PLC0415

    hdu = fits.PrimaryHDU()
    header = hdu.header
    header["ORIGIN"] = ("specserver", "rebuilt from a store, not the release file")
    header["REBUILT"] = (True, "see HISTORY")
    known = {column.name: column for column in about.columns}
    for name, value in about.values.items():
        keyword = name.upper()
        if value is not None and len(keyword) <= _KEYWORD_CHARS:
            column = known.get(name, Column(name, ""))
            comment = f"[{column.unit}] {name}" if column.unit else name
            header[keyword] = (_ascii(value) if isinstance(value, str) else value, comment)
    header["RADESYS"] = ("ICRS", "of RA, DEC")
    for keyword, text in about.cards.items():
        header[keyword] = _ascii(text)
    for line in about.history:
        header.add_history(_ascii(line))
    return hdu


def _ascii(text: str) -> str:
    """Return a text as headers can have it: other letters become question marks."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)


def _one_row(row: pa.Table) -> npt.NDArray[Any]:
    """Return a catalogue row as a structured array, 1D[1], names in capitals as in spec files."""
    names, values, kinds = [], [], []
    for name in row.column_names:
        value = row.column(name)[0].as_py()
        if value is None:
            continue
        kind = row.schema.field(name).type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            value = value.encode("ascii", "replace")
            kinds.append(f"S{max(1, len(value))}")
        else:
            kinds.append(kind.to_pandas_dtype())
        names.append(name.upper())
        values.append(value)
    return np.array([tuple(values)], np.dtype(list(zip(names, kinds, strict=True))))


def _state(hdu: "fits.BinTableHDU", meanings: Mapping[str, tuple[str, str]]) -> None:
    """State units and meanings of the columns of a table."""
    from astropy import units as u  # noqa: PLC0415

    for number, name in enumerate(hdu.columns.names, start=1):
        unit, meaning = meanings.get(name, ("", ""))
        if meaning:
            plain = meaning.replace("–", "-").encode("ascii", "replace").decode()
            hdu.header[f"TTYPE{number}"] = (name, plain[:46])
        parsed = u.Unit(unit) if unit else None
        # FITS has no logarithmic units.
        if isinstance(parsed, u.UnitBase):
            hdu.columns[name].unit = parsed.to_string("fits")
