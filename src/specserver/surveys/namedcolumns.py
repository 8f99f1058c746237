"""Spectra in a table, by the names of its columns (wave, flux, error, ivar), or else their units.

specutils finds columns by their units alone: it takes the second column in the unit of flux for
the error, be it the sky or the continuum, and none without a unit.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..errors import BadFile
from .foundspectrum import (
    INVERSE,
    UNCERTAINTIES,
    FoundSpectrum,
    ivar_in_unit,
    real_numbers,
    unit_text,
)
from .statedmask import join_masks, mask_columns, mask_rule
from .statedunit import angstroms, is_flux_unit, wave_unit

_WAVE: Final = re.compile(
    r"(?:(?:air|vac|vacuum)_?)?(?:wave|waves|wavelength|wavelengths|lambda|lam|wl|awav)"
    r"(?:_?(?:air|vac|vacuum|aa|angstrom))?",
    re.IGNORECASE,
)
_LOG_WAVE: Final = re.compile(r"log_?(?:10)?_?(?:wave|wavelength|lambda|lam)", re.IGNORECASE)
_FLUX: Final = ("flux", "flux_density", "fluxdensity", "flam", "f_lambda", "fnu", "f_nu")


@dataclass(frozen=True, slots=True)
class _Columns:
    """Columns of a table by meaning; tables with equal columns are of one kind."""

    wave: str
    flux: str
    uncertainty: str | None
    mask: str | None
    """The column named ``mask``: coadds have ``and_mask`` instead, exposures ``mask``."""


def table_spectra(hdus: Any, wave_unit: str = "") -> list[FoundSpectrum] | None:
    """Return the spectra in the tables of an opened FITS file; None: no table has such columns.

    If there are several tables, those with the columns of the first are read.
    """
    found: list[FoundSpectrum] = []
    first: _Columns | None = None
    primary = hdus[0].header
    for hdu in hdus:
        if getattr(hdu, "columns", None) is None:
            continue
        units = {column.name: column.unit or "" for column in hdu.columns}
        columns = _columns(units)
        if columns is None or columns != (first or columns):
            continue
        first = columns
        found += _spectra(hdu.data, units, columns, (hdu.header, primary), wave_unit)
    return found or None


def text_spectra(
    table: Any, cards: Mapping[str, Any], wave_unit: str = ""
) -> list[FoundSpectrum] | None:
    """Return the spectrum in a table of a text file; None: it has no such columns."""
    units = {name: str(table[name].unit or "") for name in table.colnames}
    columns = _columns(units)
    return None if columns is None else list(_spectra(table, units, columns, (cards,), wave_unit))


def _columns(units: Mapping[str, str]) -> _Columns | None:
    """Return the columns of wavelengths, flux and uncertainties; None if there are none."""
    names = list(units)
    lowered = {name.lower(): name for name in reversed(names)}
    waves = [name for name in names if _WAVE.fullmatch(name) or _LOG_WAVE.fullmatch(name)]
    waves = waves or [name for name in names if units[name] and wave_unit(units[name]) is not None]
    fluxes = [lowered[name] for name in _FLUX if name in lowered]
    fluxes = fluxes or [
        name
        for name in names
        if name not in waves and name.lower() not in UNCERTAINTIES and is_flux_unit(units[name])
    ]
    if not waves or not fluxes:
        return None
    spread = next((name for name in names if name.lower() in UNCERTAINTIES), None)
    return _Columns(waves[0], fluxes[0], spread, lowered.get("mask"))


def _spectra(
    data: Any,
    units: Mapping[str, str],
    columns: _Columns,
    headers: Sequence[Mapping[str, Any]],
    wave_unit: str,
) -> Iterator[FoundSpectrum]:
    """Yield the spectra of a table: one from all rows, or one per row if cells are arrays.

    The first of the headers is the table's own.
    """
    rows = _cells(data[columns.wave]), _cells(data[columns.flux])
    stated = units[columns.flux]
    spread = None if columns.uncertainty is None else _cells(data[columns.uncertainty])
    # If cells are arrays, a column with one value a row describes spectra, not pixels.
    full = np.ndim(data[columns.flux])
    marks = {
        name: _cells(data[name])
        for name in mask_columns(list(units))
        if np.ndim(data[name]) == full
    }
    rule = mask_rule(headers)
    for row in range(len(rows[1])):
        flux = real_numbers(rows[1][row], f"column {columns.flux}")
        axis = real_numbers(rows[0][row], f"column {columns.wave}")
        if axis.shape != flux.shape or flux.ndim != 1:
            raise BadFile(f"{flux.shape} values of flux for {axis.shape} wavelengths")
        ivar, power = None, 0
        if spread is not None:
            power = UNCERTAINTIES[str(columns.uncertainty).lower()]
            ivar = ivar_in_unit(spread[row], power, units[str(columns.uncertainty)], stated)
        cells = {name: mark[row] for name, mark in marks.items()}
        bad, remarks = join_masks(cells, flux.shape, rule)
        yield FoundSpectrum(
            axis=axis,
            wave=_wave(axis, columns.wave, units[columns.wave] or wave_unit),
            flux=flux,
            ivar=ivar,
            masked=bad | np.ma.getmaskarray(rows[1][row]),
            unit=unit_text(stated),
            cards=headers[0],
            states_ivar=power == INVERSE,
            remarks=remarks,
        )


def _cells(column: Any) -> list[Any]:
    """Return the arrays of a column: one per cell, or one of all cells."""
    values = np.ma.asanyarray(column)
    if values.dtype.kind == "O":
        return [np.ma.asanyarray(value) for value in values]
    return list(values) if values.ndim > 1 else [values]


def _wave(axis: Any, name: str, unit: str) -> Any:
    """Return a column of wavelengths in Å; logarithms are log10 of Å."""
    if not _LOG_WAVE.fullmatch(name):
        return angstroms(axis, unit, f"column {name}")
    plain = re.sub(r"(?i)^\s*log(10)?", "", unit).strip(" ()[]")
    if plain.lower() in {"dex", "dimensionless"}:
        plain = ""
    return angstroms(10.0**axis, plain or "Angstrom", f"column {name}")
