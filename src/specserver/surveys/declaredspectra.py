"""The spectra of a file of a survey that a data folder declares, with identifiers and values."""

from math import isnan
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..data.context import ContextFolder
from ..digests import hash64
from ..errors import BadFile
from ..model.medium import MEDIUM_COLUMN
from ..model.survey import RawSpectrum
from .anyfile import ReadSpectrum, read_file
from .declaration import Declaration, stem_of
from .namedposition import far_from_name
from .statedunit import flux_unit
from .targets import Target, open_targets


def read_declared(declared: Declaration, folder: ContextFolder, path: Path) -> list[RawSpectrum]:
    """Read all spectra of a file; errors as of `Reader.read`."""
    spectra = read_file(path, declared.defaults)
    found = []
    for part, spectrum in enumerate(spectra, 1):
        _check(declared, spectrum)
        number = part if len(spectra) > 1 else 0
        found.append(_raw(declared, spectrum, _target(declared, folder, path, number), number))
    return found


def _raw(declared: Declaration, spectrum: ReadSpectrum, target: Target, part: int) -> RawSpectrum:
    """Return one spectrum with its identifier and catalogue values."""
    core = {
        "ra": spectrum.ra_deg if target.ra is None else target.ra,
        "dec": spectrum.dec_deg if target.dec is None else target.dec,
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
        is_pointing=spectrum.is_pointing and target.ra is None,
        remarks=(*spectrum.remarks, *far_from_name(spectrum.named, core["ra"], core["dec"])),
    )


def _check(declared: Declaration, spectrum: ReadSpectrum) -> None:
    """Refuse a spectrum whose units or uncertainties differ from the context's first one."""
    if not _same_unit(spectrum.unit, declared.stated_unit):
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


def _target(declared: Declaration, folder: ContextFolder, path: Path, part: int) -> Target:
    """Return the target of a spectrum."""
    stem = stem_of(path)
    if declared.table:
        return open_targets(folder, declared.table).find(path.name, stem, part)
    name = f"{stem}-{part}" if part else stem
    # 53 bits: JSON and JavaScript keep them. Two names of the same number are told apart by
    # the key, which has 64.
    return Target(id=hash64(name) % 2**53, name=name)


def _same_unit(given: str, wanted: str) -> bool:
    """Return whether two texts spell the same unit."""
    if given == wanted:
        return True
    units = flux_unit(given), flux_unit(wanted)
    return None not in units and bool(units[0] == units[1])
