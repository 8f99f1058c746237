"""The units of DESI's files as bytes: tables, images, masks compressed by tiles.

The columns are those of real files, kept as ``layouts/desi_*.tsv`` (survey or ``*``, name, TFORM,
TDIM, unit): facts of a format.
"""

import gzip
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.cards import Card, hdu, header
from ..common.tables import ColumnForm, read_cards, read_rows, table_cards

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


def exposure_score(name: str, arm: str) -> str:
    """Return the full name of a score of an exposure: ``SUM_RAW_COUNT_B``, ``MEDIAN_RAW_SNR_B``."""
    what, kind = name.split("_")
    return f"MEDIAN_{kind}_SNR_{arm}" if what == "SNR" else f"{what}_{kind}_COUNT_{arm}"


_SCORES: Mapping[str, tuple[str, Sequence[str]]] = {
    "tsnr2": ("E", TSNR2 + TSNR2_SUMS),
    "scores": (
        "E",
        [f"{score}_{arm}" for arm in "BRZ" for score in _COADD_SCORES] + [*TSNR2, *TSNR2_SUMS],
    ),
    "spectra_scores": (
        "D",
        [
            score
            for arm in "BRZ"
            for score in (
                *(exposure_score(name, arm) for name in EXPOSURE_SCORES),
                *(name for name in TSNR2 if name.endswith(arm)),
            )
        ],
    ),
}
"""TFORM and names of the columns behind TARGETID in tables of scores."""


@cache
def forms(name: str, survey: str) -> tuple[ColumnForm, ...]:
    """Return the columns of a table."""
    if name in _SCORES:
        form, scores = _SCORES[name]
        return ColumnForm("TARGETID", "K"), *(ColumnForm(score, form) for score in scores)
    rows = read_rows(f"desi_{name}")
    return tuple(ColumnForm(*column) for who, *column in rows if who in ("*", survey))


def table_unit(
    extname: str, name: str, survey: str, values: Mapping[str, npt.NDArray[Any]]
) -> tuple[bytes, ...]:
    """Return a table; columns without values are zero or blank.

    Parameters
    ----------
    values : 1D[nrow], or 2D[nrow, n] for cells of n, by column name; TARGETID is one of them
    """
    listed = forms(name, survey)
    rows = np.zeros(len(values["TARGETID"]), np.dtype([form.numpy() for form in listed]))
    cards = table_cards(rows.dtype.itemsize, rows.size, len(listed))
    for number, form in enumerate(listed, 1):
        cards += form.cards(number)
        if form.name in values:
            rows[form.name] = values[form.name]
    cards.append(Card("EXTNAME", extname))
    return hdu(header(cards).data, rows.tobytes())


def image_unit(extname: str, values: npt.NDArray[Any]) -> tuple[bytes, ...]:
    """Return an image as it is published: wavelength, flux, ivar or resolution."""
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
    return hdu(header(cards).data, data.tobytes())


def mask_unit(extname: str, mask: npt.NDArray[np.uint32], *, unsigned: bool) -> tuple[bytes, ...]:
    """Return a mask compressed by tiles of a row (FITS standard, §10).

    Parameters
    ----------
    mask : 2D[nspec, npix] uint32
    unsigned : with an offset of 2^31, as older versions of the pipeline write
    """
    nspec, npix = mask.shape
    stored = (mask ^ np.uint32(1 << 31) if unsigned else mask).astype(">u4")
    # No time stamp: the same seed gives the same bytes.
    tiles = [gzip.compress(row.tobytes(), 1, mtime=0) for row in stored]
    length = np.array([len(tile) for tile in tiles], dtype=">i4")
    begin = np.concatenate([[0], np.cumsum(length)[:-1]]).astype(">i4")
    rows = np.stack([length, begin], axis=1).astype(">i4")
    heap = b"".join(tiles)
    cards = read_cards("table", "heap", width=8, nrow=nspec, heap=len(heap), nfield=1)
    longest = int(length.max(initial=0))
    cards += read_cards(
        "desi_mask",
        "unsigned" if unsigned else "*",
        extname=extname,
        longest=longest,
        npix=npix,
        nspec=nspec,
    )
    return hdu(header(cards).data, rows.tobytes(), heap)
