"""Reads the files of a declared context: spectra with identifiers, catalogue values and units."""

from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..data.context import ContextFolder
from ..digests import hash64
from ..errors import BadFile, BadParameter
from ..model.id_names import is_name
from ..model.id_tuple import shortened
from ..model.medium import MEDIUM_COLUMN, UNKNOWN
from ..model.survey import UNIT_COLUMN, RawSpectrum, Remark
from .anyfile import ReadSpectrum, read_file
from .declaration import Declaration, stem_of
from .namedposition import far_from_name
from .statedunit import flux_unit, units_of_flux
from .targets import Target, open_targets


def read_declared(declared: Declaration, folder: ContextFolder, path: Path) -> list[RawSpectrum]:
    """Read all spectra of a file; errors: those of `Reader.read`."""
    spectra = read_file(path, declared.defaults)
    found = []
    for part, spectrum in enumerate(spectra, 1):
        _check(declared, spectrum)
        number = part if len(spectra) > 1 else 0
        unit = _unit(declared, spectrum.unit, path)
        raw = _raw(declared, spectrum, _target(declared, folder, path, number), number)
        row = {**raw.row, UNIT_COLUMN: unit} if declared.has_units else raw.row
        remarks = (*raw.remarks, *_replaced(spectrum.unit, unit, declared.given_unit))
        found.append(replace(raw, row=row, layout=_layout(spectrum, unit), remarks=remarks))
    return found


def _replaced(stated: str, unit: str, given: str | None) -> tuple[Remark, ...]:
    """Return the remark that the operator's unit of flux takes the place of a file's."""
    if given is None or not stated or not _same_unit(unit, given) or _same_unit(stated, given):
        return ()
    return (
        Remark(f"the file states flux in {stated}; --flux-unit {unit or repr('')} is used instead"),
    )


def _layout(spectrum: ReadSpectrum, unit: str) -> str:
    """Return a sentence that says how a spectrum was read."""
    medium = "a medium not known" if spectrum.medium == UNKNOWN else spectrum.medium
    return f"{spectrum.layout}; flux in {unit or 'no unit'}, wavelengths in {medium}"


def _raw(declared: Declaration, spectrum: ReadSpectrum, target: Target, part: int) -> RawSpectrum:
    """Return one spectrum with its identifier and catalogue values."""
    if not is_name(target.name):
        raise BadFile(
            f"its name {shortened(repr(target.name))} has an end of a line, or more than 255"
            " characters: change it in the column name of the table, or rename the file"
        )
    core = {
        "ra": spectrum.position.ra_deg if target.ra is None else target.ra,
        "dec": spectrum.position.dec_deg if target.dec is None else target.dec,
        "z": spectrum.z if target.z is None else target.z,
    }
    row = {
        **target.row,
        **{name: None if isnan(value) else value for name, value in core.items()},
        "id": target.id,
        "name": target.name,
        "part": max(part, 1),
        MEDIUM_COLUMN: spectrum.medium,
    }
    vectors: dict[str, npt.NDArray[Any]] = {"flux": spectrum.flux, "mask": spectrum.mask}
    if spectrum.ivar is not None:
        vectors["ivar"] = spectrum.ivar
    return RawSpectrum(
        target.id,
        core["ra"],
        core["dec"],
        declared.context,
        spectrum.wave,
        vectors,
        row,
        key=hash64(target.name),
        is_pointing=spectrum.position.is_pointing and target.ra is None,
        remarks=(*spectrum.remarks, *far_from_name(spectrum.named, core["ra"], core["dec"])),
    )


def _check(declared: Declaration, spectrum: ReadSpectrum) -> None:
    """Refuse a spectrum of another kind than the context's first one."""
    if not declared.has_units and not _same_unit(spectrum.unit, declared.stated_unit):
        raise BadFile(
            f"flux is in {spectrum.unit or 'no unit'}, that of {declared.context} in"
            f" {declared.stated_unit or 'no unit'}: it is not converted; ingest such files"
            " into a context of their own"
        )
    if (spectrum.ivar is not None) != declared.has_ivar:
        has, had = ("no", "") if spectrum.ivar is None else ("", "no ")
        raise BadFile(
            f"it states {has or 'an'} uncertainty, while those of {declared.context} state"
            f" {had or 'an '}uncertainty; ingest such files into a context of their own"
        )


def _unit(declared: Declaration, stated: str, path: Path) -> str:
    """Return the unit of flux of a file that states a unit, or none, as astropy reads it."""
    if _same_unit(stated, declared.stated_unit):
        return declared.flux_unit
    if not stated:
        if declared.given_unit is None:
            raise BadFile(
                f"it states no unit of flux, while other files of {declared.context} do: say"
                " --flux-unit UNIT, or --flux-unit '' for a pure number"
            )
        return declared.given_unit
    try:
        return units_of_flux(stated, path)[0]
    except BadParameter as error:
        raise BadFile(str(error)) from error


def _target(declared: Declaration, folder: ContextFolder, path: Path, part: int) -> Target:
    """Return the target of a spectrum."""
    stem = stem_of(path)
    if declared.table:
        return open_targets(folder, declared.table).find(path.name, stem, part)
    name = f"{stem}-{part}" if part else stem
    # 53 bits: JSON and JavaScript keep them. Names with one number differ in their key of 64 bits.
    return Target(id=hash64(name) % 2**53, name=name)


def _same_unit(given: str, wanted: str) -> bool:
    """Return whether two texts spell the same unit."""
    if given == wanted:
        return True
    units = flux_unit(given), flux_unit(wanted)
    return None not in units and bool(units[0] == units[1])
