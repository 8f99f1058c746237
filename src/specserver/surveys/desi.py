"""DESI spectra of the public releases: ``coadd-*.fits`` and, exposure by exposure, ``spectra-*``.

============ ================= ===========================================================
EXTNAME      content           traps
============ ================= ===========================================================
PRIMARY      header            no reduction; neither survey nor program of a tile
FIBERMAP     a row a spectrum  5 columns or TARGETID alone in cut-down files
SCORES       a row a spectrum  HDU 2 or the last
B_WAVELENGTH npix              a sum of steps: up to 5e-10 Å off the lattice
B_FLUX       nspec × npix      zero, as is ivar, where COADD_FIBERSTATUS alone says why
B_IVAR       nspec × npix
B_MASK       nspec × npix      uint32 or int32, plain or compressed by tiles
B_RESOLUTION nspec × 11 × npix two thirds of the file; not read, nor is EXP_FIBERMAP
============ ================= ===========================================================

R and Z likewise. Redshifts are in ``redrock-*`` beside it. All lie on one lattice of 0.8 Å. Where
arms overlap they are combined as ``coadd_cameras`` of the survey's pipeline (desispec 0.56) does.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..digests import hash64
from ..errors import BadFile
from ..model.grid import Linear, PixelRange
from ..model.survey import Best, Fact, FileKey, RawSpectrum, Release, Survey, Vector
from ..ops.combine import Arm, merge_arms
from ..ops.fitsunit import image, joined_on, occurrences, scalar_columns, unit_named, whole_groups
from ..ops.wholefits import FITS_ENDING
from .desi_columns import COADD_COLUMNS, EXPOSURE_COLUMNS, ID
from .opened import opened

_PIXEL = r"(?P<survey>[a-z][a-z0-9]*)-(?P<program>[a-z][a-z0-9]*)-(?P<pixel>[0-9]+)"
_SUBSETS = r"[14]xsubset[1-6]|lowspeedsubset[1-6]|exp[0-9]{8}|thru[0-9]{8}|[0-9]{8}"
_TILE = rf"(?P<petal>[0-9])-(?P<tile>[0-9]+)-(?P<subset>{_SUBSETS})"
# Names are matched in lower case.
_FILE = re.compile(rf"(?P<kind>coadd|spectra)-(?:{_PIXEL}|{_TILE}){FITS_ENDING}")
_COMPANION = re.compile(
    rf"(?:redrock|rrdetails|emline|qso_\w+|hpixexp|zmtl|tile-qa)-.+{FITS_ENDING}"
)

_GRID = Linear(start=3600.0, step=0.8)
_WINDOW = PixelRange(0, 7781)
_ARMS: Final = {"b": (0, 2751), "r": (2700, 5026), "z": (4900, 7781)}
_OFF_AA = 1e-6
_FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom)"
_IVAR_UNIT = "1e34 s2 cm4 Angstrom2 / erg2"
_BUNITS = {"10**-17 erg/(s cm2 Angstrom)", "1e-17 erg/(s cm2 Angstrom)"}
_RECORD = (
    Vector("flux", "<f4", _FLUX_UNIT, "calibrated flux density, arms combined"),
    Vector("wavelength", "<f8", "Angstrom", "vacuum wavelength, barycentric"),
    Vector("ivar", "<f4", _IVAR_UNIT, "inverse variance of flux; 0: no data"),
    Vector("mask", "<u4", "", "SPECMASK bits; 0 is good"),
)
_ARRAYS = tuple(vector for vector in _RECORD if vector.name != _GRID.axis)
# In the overlaps of arms the merged values differ from the arms'; elsewhere they are equal.
_OVERLAPS: Final[Mapping[str, tuple[tuple[int, int], ...]]] = {
    "b": ((2700, 2751),), "r": ((2700, 2751), (4900, 5026)), "z": ((4900, 5026),)
}  # fmt: skip
_EXTRA = tuple(
    Vector(
        f"{vector.name}_{arm}",
        vector.dtype,
        vector.unit,
        f"{vector.name} of the {arm} arm",
        pixels,
        like=vector.name,
        own=_OVERLAPS[arm],
    )
    for arm, pixels in _ARMS.items()
    for vector in _ARRAYS
)

# Columns that the catalogue spells otherwise than the file; then spellings of other surveys.
_RENAMED: Final = {"target_ra": "ra", "target_dec": "dec", "hpxpixel": "healpix"}
_ALIASES: Final = {
    **_RENAMED, "class": "spectype", "subclass": "subtype", "zwarning": "zwarn", "z_err": "zerr"
}  # fmt: skip
# Names of the column of targeting bits in commissioning and survey validation.
_TARGETING = ("cmx_target", "sv1_desi_target", "sv2_desi_target", "sv3_desi_target")
_SCORES = ("tsnr2_", "median_coadd_snr_")
_UNKNOWN = "unknown"
_Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class DesiReader:
    """Recognise and read ``KIND-SURVEY-PROGRAM-HEALPIX`` and ``KIND-PETAL-TILE-SUBSET``."""

    kind: str
    """``coadd``: one spectrum per target; ``spectra``: one per target and exposure."""

    def identify(self, path: Path) -> FileKey | None:
        """Return pixel or tile of a file's name; None for another name."""
        match = _FILE.fullmatch(path.name.lower())
        if match is None or match["kind"] != self.kind:
            return None
        if match["pixel"]:
            rest = f"{match['survey']}-{match['program']}"
            return FileKey(path, (0, int(match["pixel"]), zlib.crc32(rest.encode())))
        rest = f"{match['petal']}-{match['subset']}"
        return FileKey(path, (1, int(match["tile"]), zlib.crc32(rest.encode())))

    def is_companion(self, path: Path) -> bool:
        """Return whether a file is a redshift or quality file, or has the other kind of spectra."""
        match = _FILE.fullmatch(path.name.lower())
        other = match is not None and match["kind"] != self.kind
        return other or _COMPANION.fullmatch(path.name.lower()) is not None

    def beside(self, path: Path) -> list[Path]:
        """Return the files that are read with a file: if they change, it is read again."""
        return _redrocks(path)[:1]

    def read(self, path: Path) -> list[RawSpectrum]:
        """Read all spectra of a file, with redshifts from its companion; errors: `Reader.read`."""
        header, columns, vectors = _read_spectra(path)
        columns |= _place(path, header, columns)
        if self.kind == "coadd":
            columns |= _coadds(columns)
        else:
            del columns["coadd"]
        found = _redshifts(path, columns["targetid"])
        # The redshift file describes the coadd: values of an exposure come from its own file.
        columns = columns | found if self.kind == "coadd" else {**found, **columns}
        if self.kind == "spectra" and "expid" not in columns:
            raise BadFile("FIBERMAP has no column EXPID: which exposures are these?")
        axis = _GRID.axis_values(_WINDOW.first, _WINDOW.count)
        return [
            self._spectrum(
                dict(zip(columns, values, strict=True)),
                axis,
                {name: rows[at] for name, rows in vectors.items()},
            )
            for at, values in enumerate(zip(*columns.values(), strict=True))
        ]

    def _spectrum(
        self, row: dict[str, Any], axis: npt.NDArray[Any], vectors: _Arrays
    ) -> RawSpectrum:
        """Return one spectrum; an invalid position becomes unknown."""
        place = row.pop("_place")
        ra, dec = float(row.get("ra", np.nan)), float(row.get("dec", np.nan))
        if not (0.0 <= ra <= 360.0 and abs(dec) <= 90.0):
            ra = dec = np.nan
            row |= {"ra": None, "dec": None}
        # An exposure is both in the file of its tile and in the file of its pixel.
        text = f"exposure {row['expid']}" if self.kind == "spectra" else place
        # No header says which reduction a file is of.
        return RawSpectrum(int(row["targetid"]), ra, dec, "", axis, vectors, row, hash64(text))


def _read_spectra(path: Path) -> tuple[Mapping[str, Any], dict[str, Sequence[Any]], _Arrays]:
    """Return header cards, catalogue columns and vectors of a file of spectra."""
    with opened(path) as units:
        columns = _table(units, "FIBERMAP")
        header = {**units["FIBERMAP"].header, **units[0].header}
        if "SCORES" in units:
            scores = joined_on(_table(units, "SCORES"), "targetid", columns["targetid"])
            columns |= {name: scores[name] for name in scores if name.startswith(_SCORES)}
        return header, columns, _vectors(units, len(columns["targetid"]))


def _redshifts(path: Path, ids: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """Return the columns of the redshift file beside a file of spectra, for its TARGETIDs."""
    for redrock in _redrocks(path)[:1]:
        with opened(redrock, beside=True) as units:
            columns = joined_on(_table(units, "REDSHIFTS"), "targetid", ids)
            if "TSNR2" in units:
                columns |= joined_on(_table(units, "TSNR2"), "targetid", ids)
            return columns
    return {}


def _redrocks(path: Path) -> list[Path]:
    """Return the redshift files beside a file of spectra, whatever the case of their names."""
    stem = re.sub(rf"^[^-]+|{FITS_ENDING}$", "", path.name.lower())
    wanted = re.compile(rf"redrock{re.escape(stem)}{FITS_ENDING}")
    usual = [path.with_name(f"redrock{stem}.fits{ending}") for ending in ("", ".gz")]
    found = [file for file in usual if file.is_file()]
    # The folder is searched only for names that are not spelt as the survey spells them.
    return found or sorted(
        file for file in path.parent.iterdir() if wanted.fullmatch(file.name.lower())
    )


def _table(units: Any, name: str) -> dict[str, Sequence[Any]]:
    """Return the scalar columns of a table, which has TARGETID, by catalogue name."""
    columns = scalar_columns(unit_named(units, name), _RENAMED)
    if "targetid" not in columns:
        raise BadFile(f"{name} has no column TARGETID")
    return columns


def _vectors(units: Any, nspec: int) -> _Arrays:
    """Return the merged vectors, 2D[nspec, 7781] each, and the arms' own vectors."""
    arms = {arm: _arm(units, arm, nspec) for arm in _whole_arms(units)}
    names = [vector.name for vector in _ARRAYS]
    out = dict(zip(names, merge_arms(list(arms.values()), _WINDOW.count), strict=True))
    for arm, (first, stop) in _ARMS.items():
        for vector in _ARRAYS:
            # The file lacks this arm.
            out[f"{vector.name}_{arm}"] = np.zeros((nspec, stop - first), vector.dtype)
    for arm, measured in arms.items():
        for name, values in zip(names, measured.cut(measured.pixels), strict=True):
            out[f"{name}_{arm}"] = values
    return out


def _whole_arms(units: Any) -> list[str]:
    """Return the arms in a file. A coadd ends with SCORES, after its arms."""
    there = whole_groups(units, _ARMS, [_GRID.axis, *(vector.name for vector in _ARRAYS)])
    if not there:
        raise BadFile("there is no HDU B_FLUX, R_FLUX or Z_FLUX")
    if len(there) < len(_ARMS) and "SCORES" not in units:
        raise BadFile(f"cut off between two HDUs: no SCORES, and of the arms only {sorted(there)}")
    return there


def _arm(units: Any, arm: str, nspec: int) -> Arm:
    """Return the vectors of an arm, having checked its wavelengths and its unit of flux."""
    first, stop = _ARMS[arm]
    wave_name, flux_name, ivar_name, mask_name = (
        f"{arm}_{name}".upper() for name in (_GRID.axis, *(vector.name for vector in _ARRAYS))
    )
    expected = _GRID.wave(first, stop - first)
    wave = np.asarray(unit_named(units, wave_name).data, np.float64)
    if wave.shape != expected.shape or not np.all(np.abs(wave - expected) < _OFF_AA):
        span = f"{expected[0]:.1f} to {expected[-1]:.1f} Å in steps of {_GRID.step} Å"
        raise BadFile(f"{wave_name} is not {span}: not the lattice of the survey")
    bunit = units[flux_name].header.get("BUNIT")
    if bunit not in _BUNITS:
        raise BadFile(f"BUNIT of {flux_name} is {bunit!r}, expected one of {sorted(_BUNITS)}")
    shape = (nspec, stop - first)
    flux = image(units[flux_name], shape, ("float32",))
    ivar = image(unit_named(units, ivar_name), shape, ("float32",))
    mask = image(unit_named(units, mask_name), shape, ("int32", "uint32"))
    return Arm(slice(first, stop), flux, ivar, mask.view(np.uint32))


def _place(
    path: Path, header: Mapping[str, Any], columns: Mapping[str, Sequence[Any]]
) -> dict[str, Sequence[Any]]:
    """Return columns of the place of a file's spectra; ``_place`` joins them as text."""
    pixel, tile = header.get("HPXPIXEL"), header.get("TILEID")
    words = [str(header.get(key) or "").strip().lower() for key in ("SURVEY", "PROGRAM", "FAPRGRM")]
    survey, program = words[0] or _survey_of(columns), words[1] or words[2] or _UNKNOWN
    out: dict[str, Any] = {"survey": survey, "program": program}
    if pixel is not None:
        _check_name(path, {"survey": words[0], "program": words[1], "pixel": pixel, "tile": None})
        out |= {"healpix": np.int32(pixel)}
        out |= {} if "tileid" in columns else {"tileid": np.int32(-1)}
        nside = header.get("HPXNSIDE", 64)
        out["_place"] = f"{survey} {program} {nside} {pixel}"
        out["coadd"] = f"{survey}-{program}-{pixel}" + ("" if nside == 64 else f"-nside{nside}")
    elif tile is not None:
        petal = header.get("PETAL", header.get("SPECTRO"))
        _check_name(path, {"tile": tile, "petal": petal, "pixel": None})
        out |= {"healpix": np.int32(-1), "tileid": np.int32(tile)}
        night = header.get("NIGHT")
        out |= {} if "night" in columns or night is None else {"lastnight": np.int32(night)}
        out["_place"] = f"tile {tile} {header.get('SPGRP')} {header.get('SPGRPVAL')}"
        out["coadd"] = out["_place"].removeprefix("tile ").replace(" ", "-")
    else:
        raise BadFile("the header has neither HPXPIXEL nor TILEID")
    return {name: [value] * len(columns["targetid"]) for name, value in out.items()}


def _coadds(columns: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Return columns that distinguish coadds of a target; a number if rows of a file share it."""
    more = ["" if nth == 1 else f".{nth}" for nth in occurrences(columns["targetid"])]
    return {
        name: [text + nth for text, nth in zip(columns[name], more, strict=True)]
        for name in ("coadd", "_place")
    }


def _check_name(path: Path, stated: Mapping[str, Any]) -> None:
    """Refuse a file whose header contradicts its name."""
    match = _FILE.fullmatch(path.name.lower())
    for part, value in stated.items():
        named = match[part] if match else None
        if named is not None and str(value) != str(int(named) if named.isdigit() else named):
            raise BadFile(f"the header says {part} {value}, the file's name {named}")


def _survey_of(columns: Mapping[str, Sequence[Any]]) -> str:
    """Return the survey whose targeting bits are set."""
    there = [name for name in _TARGETING if name in columns]
    for name in [name for name in there if any(columns[name])] + there:
        return name.partition("_")[0]
    return "main" if "desi_target" in columns else _UNKNOWN


DESI = Survey(
    name="desi",
    title="Dark Energy Spectroscopic Instrument: optical spectra, coadded by target",
    grid=_GRID,
    window=_WINDOW,
    record=_RECORD,
    extra=_EXTRA,
    id_column=ID,
    id_parts=("targetid", "survey", "program", "coadd"),
    id_texts=3,
    last_open=True,
    told_by=("survey", "program", "healpix", "tileid", "lastnight", "coadd"),
    has_reduction=False,
    columns=COADD_COLUMNS,
    aliases={**_ALIASES, "fiberstatus": "coadd_fiberstatus"},
    primary=("zcat_primary", 1),
    best=Best(
        "targetid",
        (("zwarn", 0), ("tsnr2_lrg", "desc"), ("coadd_exptime", "desc"), ("deltachi2", "desc")),
    ),
    z_column="z",
    indexed=(("spectype", "z"), ("z",)),
    class_column="spectype",
    z_warning=("zwarn", 1),
    # The folder of a coadd: survey, programme and healpix, or tile.
    name_form="{targetid} {coadd}",
    facts=(
        Fact("class", "spectype"),
        Fact("subclass", "subtype"),
        Fact("z", "z", ".5f"),
        Fact("±", "zerr", ".5f"),
        Fact("ZWARN", "zwarn"),
        Fact("RA", "target_ra", ".6f"),
        Fact("Dec", "target_dec", "+.6f"),
    ),
    flux_scale=_FLUX_UNIT,
    mask_vector="mask",
    bad_bits=0xFFFFFFFF,
    frame="ICRS; wavelengths in vacuum, barycentric",
    releases=(
        Release("desi_edr", "DESI Early Data Release", ("fuji",)),
        Release("desi_dr1", "DESI Data Release 1", ("iron",)),
    ),
    reader=DesiReader("coadd"),
    tables={
        "specobj": "the best spectrum of each target (zcat_primary = 1)",
        "specobjall": "all spectra, of all surveys and programmes",
    },
    part_files=40,  # of some 500 spectra
    many_per_file=True,
)
DESI_EXPOSURES = replace(
    DESI,
    name="desi_exposures",
    title="Dark Energy Spectroscopic Instrument: optical spectra, exposure by exposure",
    id_parts=("targetid", "expid"),
    name_form="{targetid} expid={expid}",
    id_texts=0,
    last_open=False,
    told_by=("expid",),
    columns=EXPOSURE_COLUMNS,
    aliases=_ALIASES,
    primary=("exp_primary", 1),
    best=Best("targetid", (("fiberstatus", 0), ("exptime", "desc"))),
    releases=tuple(
        Release(f"{release.context}_exposures", f"{release.title}, exposures", release.reductions)
        for release in DESI.releases
    ),
    reader=DesiReader("spectra"),
    tables={
        "specobj": "the best exposure of each target (exp_primary = 1)",
        "specobjall": "all exposures",
    },
)
