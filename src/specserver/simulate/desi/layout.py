"""The units of DESI's files as bytes: tables, images, masks compressed by tiles.

The columns are those of real files, kept as ``layouts/desi_*.tsv`` (survey or ``*``, name, TFORM,
unit): facts of a format.
"""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.cards import Card, header, padding
from ..common.tables import ColumnForm, read_rows, table_cards

_FLUX_UNIT = "10**-17 erg/(s cm2 Angstrom)"
_IVAR_UNIT = "10**+34 (s2 cm4 Angstrom2) / erg2"
_BITPIX = {"f4": -32, "f8": -64, "i4": 32, "u4": 32}
_TRACERS = ("GPBDARK", "ELG", "GPBBRIGHT", "LYA", "BGS", "GPBBACKUP", "QSO", "LRG")
TSNR2 = tuple(f"TSNR2_{tracer}_{arm}" for arm in "BRZ" for tracer in _TRACERS)
"""Columns of squared signal to noise of an arm; their sums over the arms have no ``_B``."""
TSNR2_SUMS = tuple(f"TSNR2_{tracer}" for tracer in _TRACERS)
_COADD_SCORES = ("INTEG_COADD_FLUX", "MEDIAN_COADD_FLUX", "MEDIAN_COADD_SNR")
EXPOSURE_SCORES = tuple(
    f"{what}_{kind}"
    for kind in ("RAW", "FFLAT", "SKYSUB", "CALIB")
    for what in ("SUM", "MEDIAN", "SNR")
)


@cache
def forms(name: str, survey: str) -> tuple[tuple[ColumnForm, str], ...]:
    """Return the columns of a table with their units."""
    if name in {"tsnr2", "scores", "spectra_scores"}:
        return (ColumnForm("TARGETID", "K"), ""), *_score_forms(name)
    rows = [row for row in read_rows(f"desi_{name}") if row[0] in ("*", survey)]
    return tuple((ColumnForm(*row[1:3]), row[3] if len(row) > 3 else "") for row in rows)


def _score_forms(name: str) -> Iterator[tuple[ColumnForm, str]]:
    """Yield the columns of a table of scores behind TARGETID."""
    if name == "spectra_scores":
        for arm in "BRZ":
            for score in EXPOSURE_SCORES:
                yield ColumnForm(exposure_score(score, arm), "D"), ""
            yield from ((ColumnForm(score, "D"), "") for score in TSNR2 if score.endswith(arm))
        return
    if name == "scores":
        yield from (
            (ColumnForm(f"{score}_{arm}", "E"), "") for arm in "BRZ" for score in _COADD_SCORES
        )
    yield from ((ColumnForm(score, "E"), "") for score in TSNR2 + TSNR2_SUMS)


def exposure_score(name: str, arm: str) -> str:
    """Return the full name of a score of an exposure: ``SUM_RAW_COUNT_B``, ``MEDIAN_RAW_SNR_B``."""
    what, kind = name.split("_")
    return f"MEDIAN_{kind}_SNR_{arm}" if what == "SNR" else f"{what}_{kind}_COUNT_{arm}"


def table_unit(
    extname: str, name: str, survey: str, values: Mapping[str, npt.NDArray[Any]]
) -> Iterator[bytes]:
    """Yield a table; columns without values are zero or blank.

    Parameters
    ----------
    values : 1D[nrow], or 2D[nrow, n] for cells of n, by column name; TARGETID is one of them
    """
    listed = forms(name, survey)
    rows = np.zeros(len(values["TARGETID"]), np.dtype([column.numpy() for column, _ in listed]))
    for form, _ in listed:
        if form.name in values:
            rows[form.name] = values[form.name]
    cards = table_cards(rows.dtype.itemsize, rows.size, len(listed))
    for number, (form, unit) in enumerate(listed, 1):
        cards += [Card(f"TTYPE{number}", form.name), Card(f"TFORM{number}", form.form)]
        cards += [Card(f"TUNIT{number}", unit)] if unit else []
        cards += [Card(f"TDIM{number}", "(10)")] if form.name == "COEFF" else []
    cards.append(Card("EXTNAME", extname))
    yield from (header(cards).data, rows.tobytes(), padding(rows.nbytes))


def image_unit(extname: str, values: npt.NDArray[Any]) -> Iterator[bytes]:
    """Yield an image as it is published: wavelength, flux, ivar or resolution."""
    cards = [
        Card("XTENSION", "IMAGE", "IMAGE extension"),
        Card("BITPIX", _BITPIX[values.dtype.str[1:]], "number of bits per data pixel"),
        Card("NAXIS", values.ndim, "number of data axes"),
        *(Card(f"NAXIS{i}", size) for i, size in enumerate(reversed(values.shape), 1)),
        Card("PCOUNT", 0, "required keyword; must = 0"),
        Card("GCOUNT", 1, "required keyword; must = 1"),
        Card("EXTNAME", extname),
    ]
    units = {"WAVELENGTH": "Angstrom", "FLUX": _FLUX_UNIT, "IVAR": _IVAR_UNIT}
    unit = units.get(extname.partition("_")[2])
    cards += [Card("BUNIT", unit)] if unit else []
    data = values.astype(values.dtype.newbyteorder(">"))
    yield from (header(cards).data, data.tobytes(), padding(data.nbytes))


def mask_unit(extname: str, mask: npt.NDArray[np.uint32], *, unsigned: bool) -> Iterator[bytes]:
    """Yield a mask compressed by tiles of a row (FITS standard, §10).

    Parameters
    ----------
    mask : 2D[nspec, npix] uint32
    unsigned : with an offset of 2^31, as older versions of the pipeline write
    """
    nspec, npix = mask.shape
    stored = (mask ^ np.uint32(1 << 31) if unsigned else mask).astype(">u4")
    tiles = _tiles(stored, [bool(row.any()) for row in mask])
    length = np.array([len(tile) for tile in tiles], dtype=">i4")
    begin = np.concatenate([[0], np.cumsum(length)[:-1]]).astype(">i4")
    rows = np.stack([length, begin], axis=1).astype(">i4")
    heap = b"".join(tiles)
    cards = [card for card in table_cards(8, nspec, 1) if card.key != "PCOUNT"]
    cards.insert(5, Card("PCOUNT", len(heap), "size of special data area"))
    cards += [Card("BSCALE", 1), Card("BZERO", 1 << 31)] if unsigned else []
    cards += [
        Card("TTYPE1", "COMPRESSED_DATA", "label for field 1"),
        Card("TFORM1", f"1PB({int(length.max(initial=0))})", "variable length array"),
        Card("ZIMAGE", value=True, comment="extension contains compressed image"),
        Card("ZTENSION", "IMAGE", "IMAGE extension"),
        Card("ZBITPIX", 32, "data type of original image"),
        Card("ZNAXIS", 2, "dimension of original image"),
        Card("ZNAXIS1", npix, "length of original image axis"),
        Card("ZNAXIS2", nspec, "length of original image axis"),
        Card("ZPCOUNT", 0, "number of parameters"),
        Card("ZGCOUNT", 1, "number of groups"),
        Card("ZTILE1", npix, "size of tiles to be compressed"),
        Card("ZTILE2", 1, "size of tiles to be compressed"),
        Card("ZCMPTYPE", "GZIP_1", "compression algorithm"),
        Card("EXTNAME", extname),
    ]
    yield from (header(cards).data, rows.tobytes(), heap, padding(rows.nbytes + len(heap)))


def _tiles(stored: npt.NDArray[Any], used: Sequence[bool]) -> list[bytes]:
    """Return the compressed rows of a mask; those without a bit are all the same."""
    clear: bytes | None = None
    tiles = []
    for row, marked in zip(stored, used, strict=True):
        if marked or clear is None:
            # No time stamp: the same seed gives the same bytes.
            packed = gzip.compress(row.tobytes(), 1, mtime=0)
            clear = packed if not marked else clear
            tiles.append(packed)
        else:
            tiles.append(clear)
    return tiles
