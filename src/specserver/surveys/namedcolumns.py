"""Spectra in a table, by the names of its columns (wave, flux, error, ivar), or else their units.

specutils finds columns by their units alone: it takes the second column in the unit of flux for
the error, be it the sky or the continuum, and none without a unit.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from ..errors import BadFile
from ..ops.fitsnulls import table_column
from .declaration import FileDefaults, NamedVectors
from .foundspectrum import (
    INVERSE,
    KINDS,
    UNCERTAINTIES,
    FoundSpectrum,
    ivar_in_unit,
    real_numbers,
    unit_text,
)
from .statedmask import join_masks, mask_columns, mask_rule
from .statedunit import angstroms, is_flux_unit, require_unit, unit_not_used, wave_unit

_WAVE: Final = re.compile(
    r"(?:(?:air|vac|vacuum)_?)?(?:wave|waves|wavelength|wavelengths|lambda|lam|wl|awav)"
    r"(?:_?(?:air|vac|vacuum|aa|angstrom))?",
    re.IGNORECASE,
)
_LOG_WAVE: Final = re.compile(r"log_?(?:10)?_?(?:wave|wavelength|lambda|lam)", re.IGNORECASE)
_FLUX: Final = ("flux", "flux_density", "fluxdensity", "flam", "f_lambda", "fnu", "f_nu")


@dataclass(frozen=True, slots=True)
class FoundColumns:
    """Columns of a table by meaning; tables with equal columns are of one kind."""

    wave: str
    flux: str
    uncertainty: str | None
    power: int
    """Power of flux of the uncertainty: `foundspectrum.UNCERTAINTIES`."""
    mask: str | None
    """The column named ``mask``: coadds have ``and_mask`` instead, exposures ``mask``."""


def table_spectra(hdus: Any, defaults: FileDefaults) -> list[FoundSpectrum] | None:
    """Return the spectra in the tables of an opened FITS file; None: no table has such columns.

    If there are several tables, those with the columns of the first are read. A column that the
    operator names as ``HDU:COLUMN`` is of that table alone.
    """
    found: list[FoundSpectrum] = []
    first: FoundColumns | None = None
    primary = hdus[0].header
    for hdu in hdus:
        if getattr(hdu, "columns", None) is None:
            continue
        units = {column.name: column.unit or "" for column in hdu.columns}
        columns = find_columns(units, _of_hdu(defaults.vectors, hdus, hdu))
        if columns is None or columns != (first or columns):
            continue
        first = columns
        headers = hdu.header, primary
        found += _spectra(partial(table_column, hdu), units, columns, headers, defaults)
    return found or None


def text_spectra(
    table: Any, cards: Mapping[str, Any], defaults: FileDefaults
) -> list[FoundSpectrum] | None:
    """Return the spectrum in a table of a text file; None: it has no such columns."""
    units = {name: str(table[name].unit or "") for name in table.colnames}
    columns = find_columns(units, defaults.vectors)
    if columns is None:
        return None
    return list(_spectra(table.__getitem__, units, columns, (cards,), defaults))


def _of_hdu(vectors: NamedVectors | None, hdus: Any, hdu: Any) -> NamedVectors | None:
    """Return the names that the operator gives, without those of an HDU where it is this one."""
    if vectors is None:
        return None
    prefixes = f"{hdus.index(hdu)}:", f"{hdu.name}:".lower()
    plain = {
        vector: next(
            (name[len(prefix) :] for prefix in prefixes if name.lower().startswith(prefix)), name
        )
        for vector, name in vectors.named.items()
    }
    return NamedVectors(**plain)


def _named(names: Sequence[str], vectors: NamedVectors) -> FoundColumns | None:
    """Return the columns that the operator names; None: the table does not have all of them."""
    lowered = {name.lower(): name for name in reversed(names)}
    found = {
        vector: name if name in names else lowered.get(name.lower(), "")
        for vector, name in vectors.named.items()
    }
    if not all(found.values()) or "wave" not in found:
        return None
    spread = found.get("ivar") or found.get("error")
    power = INVERSE if vectors.ivar else 1
    return FoundColumns(found["wave"], found["flux"], spread, power, None)


def find_columns(units: Mapping[str, str], vectors: NamedVectors | None) -> FoundColumns | None:
    """Return the columns of wavelengths, flux and uncertainties; None if there are none."""
    names = list(units)
    if vectors is not None:
        return _named(names, vectors)
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
    power = 0 if spread is None else UNCERTAINTIES[spread.lower()]
    return FoundColumns(waves[0], fluxes[0], spread, power, lowered.get("mask"))


def is_log_wave(name: str) -> bool:
    """Return whether a column of wavelengths is named as one of their logarithms."""
    return bool(_LOG_WAVE.fullmatch(name))


def _spectra(
    column: Callable[[str], Any],
    units: Mapping[str, str],
    columns: FoundColumns,
    headers: Sequence[Mapping[str, Any]],
    defaults: FileDefaults,
) -> Iterator[FoundSpectrum]:
    """Yield the spectra of a table: one from all rows, or one per row if cells are arrays.

    The column of a name has masks where cells are empty or undefined. The first of the headers is
    the table's own.
    """
    rows = _cells(column(columns.wave)), _cells(column(columns.flux))
    stated, wave_stated = units[columns.flux], units[columns.wave] or defaults.wave_unit
    is_log = _LOG_WAVE.fullmatch(columns.wave)
    if defaults.vectors is not None:
        if not is_log:
            require_unit(wave_stated, f"column {columns.wave}", "--wave-unit")
        if defaults.flux_unit is None:
            require_unit(stated, f"column {columns.flux}", "--flux-unit")
    spread = None if columns.uncertainty is None else _cells(column(columns.uncertainty))
    # If cells are arrays, a column with one value a row describes spectra, not pixels.
    full = np.ndim(column(columns.flux))
    flags = {name: column(name) for name in mask_columns(list(units))}
    marks = {name: _cells(values) for name, values in flags.items() if np.ndim(values) == full}
    rule = mask_rule(headers)
    other_unit = () if is_log else unit_not_used(units[columns.wave], defaults.wave_unit)
    for row in range(len(rows[1])):
        flux = real_numbers(rows[1][row], f"column {columns.flux}")
        axis = real_numbers(rows[0][row], f"column {columns.wave}")
        if axis.shape != flux.shape or flux.ndim != 1:
            raise BadFile(f"{flux.shape} values of flux for {axis.shape} wavelengths")
        if (gone := np.flatnonzero(np.isnan(axis))).size:
            raise BadFile(
                f"its wavelengths are not strictly increasing: column {columns.wave} has none at"
                f" pixel {gone[0] + 1}"
            )
        ivar = None
        if spread is not None:
            unit = units[str(columns.uncertainty)]
            flux_stated = stated or defaults.flux_unit or ""
            ivar = ivar_in_unit(spread[row], columns.power, unit, flux_stated)
        cells = {name: mark[row] for name, mark in marks.items()}
        bad, remarks = join_masks(cells, flux.shape, rule)
        yield FoundSpectrum(
            axis=axis,
            wave=_wave(axis, columns.wave, wave_stated),
            flux=flux,
            ivar=ivar,
            masked=bad,
            unit=unit_text(stated),
            cards=headers[0],
            states_ivar=columns.power == INVERSE,
            remarks=(*remarks, *other_unit),
            layout=_layout(columns, wave_stated, sorted(marks)),
        )


def _layout(columns: FoundColumns, wave_unit: str, masks: Sequence[str]) -> str:
    """Return text that says where the vectors are."""
    spread = f", {columns.uncertainty} of {KINDS[columns.power]}" if columns.uncertainty else ""
    masked = f", {', '.join(masks)} of masks" if masks else ""
    of_waves = f"wavelengths in {wave_unit}" if wave_unit else "wavelengths"
    return f"columns {columns.flux}, {columns.wave} of {of_waves}{spread}{masked}"


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
