"""Spectra of a file, with the file's own values and what its headers state."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from ..errors import BadFile
from ..model.medium import Medium
from ..model.survey import Remark
from .declaration import IT_HOLDS, FileDefaults, ending_of
from .fileparts import TEXTS, FilePart, fits_parts, header_part, text_part, text_table
from .fitsimages import image_spectra
from .foundspectrum import FoundSpectrum
from .namedcolumns import table_spectra, text_spectra
from .namedposition import NamedPosition, named_position
from .statedmedium import medium_of
from .statedposition import Position, position_of
from .unread import asked_for, columns_of

_REDSHIFTS: Final = ("REDSHIFT", "Z")


@dataclass(frozen=True, slots=True)
class ReadSpectrum:
    """One spectrum of a file."""

    wave: npt.NDArray[np.float64]
    """1D[npix] float64, Å, rising, in the medium ``medium``."""
    flux: npt.NDArray[np.float64]
    """1D[npix] float64, in ``unit``."""
    ivar: npt.NDArray[np.float64] | None
    """1D[npix] float64, ``unit**-2``: as the file states it; made of its errors or variances it is
    0 where there is no information. None: the file states no uncertainty."""
    mask: npt.NDArray[np.uint32]
    """1D[npix] uint32; 1: the file masks it, or flux or ivar is not finite, or ivar is negative."""
    unit: str
    """Unit of flux as astropy reads it, or as the file has it; empty: the file states none."""
    medium: Medium
    """Medium of the wavelengths: as the file states it, or else the operator."""
    position: Position
    """Position from the header, the object's if it has one."""
    z: float
    """Redshift from the header; NaN: none."""
    named: NamedPosition | None = None
    """Position in the name of the object; None: none."""
    remarks: tuple[Remark, ...] = ()
    """Warnings that an ingest reports when the spectrum is stored."""
    layout: str = ""
    """Says where in the file its vectors are."""


_NOTHING: Final = FileDefaults()


def read_file(path: Path, defaults: FileDefaults = _NOTHING) -> list[ReadSpectrum]:
    """Return all spectra of a file as its headers describe them.

    This module reads columns and images that the operator names, and those with the usual names;
    specutils reads all other files.

    Raises
    ------
    BadFile
        With the reason: not recognised, no wavelengths, an image and not a spectrum, …
    """
    with warnings.catch_warnings():
        # Many headers violate the standard in small ways that affect no value.
        warnings.simplefilter("ignore")
        read = _read_by_format if defaults.vectors is None else _read_named
        found, parts = read(path, defaults)
        return [_finished(spectrum, parts, defaults) for spectrum in found]


def _read_named(
    path: Path, defaults: FileDefaults
) -> tuple[Sequence[FoundSpectrum], list[FilePart]]:
    """Return the spectra in the columns or images that the operator names, and the file's parts."""
    found, parts = _read_here(path, defaults, plain=True)
    if not found:
        assert defaults.vectors
        named = asked_for(defaults.vectors)
        what = named if defaults.vectors.wave else f"an image {named}; for columns say --wave, too"
        raise BadFile(f"no part of it has {what}{IT_HOLDS}{columns_of(path)}")
    return found, parts


def _read_by_format(
    path: Path, defaults: FileDefaults
) -> tuple[Sequence[FoundSpectrum], list[FilePart]]:
    """Return the spectra of a file of known format or with the usual names, and its parts."""
    from .byspecutils import format_of, read_by_specutils  # noqa: PLC0415  # slow to import

    form = format_of(path, defaults.loader)
    found, parts = _read_here(path, defaults, plain=not form)
    if found is None:
        found = read_by_specutils(path, form or defaults.loader, defaults.wave_unit)
    if not found:
        raise BadFile("specutils finds no spectrum in it")
    return found, parts


def _read_here(
    path: Path, defaults: FileDefaults, *, plain: bool
) -> tuple[list[FoundSpectrum] | None, list[FilePart]]:
    """Return the spectra of a file of plain images or tables, None of others; and its parts."""
    if ending_of(path) in TEXTS:
        table = text_table(path)
        if table is None:
            return None, []
        part = text_part(table)
        return text_spectra(table, part.cards, defaults) if plain else None, [part]
    try:
        with fits.open(path, memmap=False) as hdus:
            parts = fits_parts(hdus)
            if not plain:
                return None, parts
            found = image_spectra(hdus, defaults)
            return table_spectra(hdus, defaults) if found is None else found, parts
    except (OSError, TypeError, IndexError):
        return None, []


def _finished(
    found: FoundSpectrum, parts: Sequence[FilePart], defaults: FileDefaults
) -> ReadSpectrum:
    """Return a spectrum with rising wavelengths and what its headers state."""
    if len(found.flux) != len(found.wave) or not len(found.wave):
        raise BadFile(f"{len(found.flux)} values of flux for {len(found.wave)} wavelengths")
    # Wavelengths fall in some files; all arrays are reversed together.
    turn = slice(None, None, -1) if found.wave[0] > found.wave[-1] else slice(None)
    wave = np.ascontiguousarray(found.wave[turn])
    if not np.isfinite(wave).all() or wave[0] <= 0 or not (np.diff(wave) > 0).all():
        raise BadFile(
            "its wavelengths are neither strictly increasing nor strictly decreasing, or are no"
            " numbers above 0"
        )
    flux = np.ascontiguousarray(found.flux[turn])
    bad = found.masked[turn] | ~np.isfinite(flux)
    ivar = None if found.ivar is None else np.ascontiguousarray(found.ivar[turn])
    if ivar is not None and found.states_ivar:
        bad |= ~(np.isfinite(ivar) & (ivar >= 0))
    stated = [header_part(found.cards), *parts]
    return ReadSpectrum(
        wave=wave,
        flux=flux,
        ivar=ivar,
        mask=bad.astype(np.uint32),
        unit=found.unit,
        medium=medium_of(parts, found.axis, defaults.medium),
        position=position_of(stated),
        z=_redshift(stated),
        named=named_position(stated),
        remarks=found.remarks,
        layout=found.layout,
    )


def _redshift(parts: Sequence[FilePart]) -> float:
    """Return the first redshift that a header states; NaN: none."""
    values = (part.cards.get(name) for part in parts for name in _REDSHIFTS)
    numbers = (
        value for value in values if isinstance(value, int | float) and not isinstance(value, bool)
    )
    return float(next(numbers, nan))
