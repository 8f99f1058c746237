"""SDSS, BOSS and eBOSS spectra of DR8 to DR17: ``spec-PLATE-MJD-FIBER.fits``, lite and full.

==== ============ =============================================================
HDU  content      traps
==== ============ =============================================================
0    header       RA, DEC are the telescope's; COEFF0 is wrong for run2d 26
1    COADD        eight columns, lower case but in v5_13_0; no EXTNAME there
2    one row      126, 232 or 236 columns; SPECOBJID is text, int64 or uint64
3    SPZLINE      not read
4…   exposures    full files only, not read
==== ============ =============================================================

All spectra lie on one lattice, log10 λ = i · 1e-4 in vacuum, heliocentric, bit for bit in float32.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import BadFile, BadIdentifier
from ..model.grid import LogLinear, PixelRange
from ..model.ids import pack_specobjid, unpack_specobjid
from ..model.survey import (
    Column,
    Fact,
    FileKey,
    FurtherFit,
    RawSpectrum,
    Release,
    Survey,
    TreeLayout,
    Vector,
)  # fmt: skip
from ..ops.fitstable import FitsTable, cards, read_tables
from ..ops.wholefits import FITS_ENDING, open_bytes

# Names are matched in lower case.
_NAME = re.compile(rf"spec-(\d{{4}}|[1-9]\d{{4}})-(\d{{5}})-(\d{{4}}){FITS_ENDING}", re.ASCII)
_FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom)"
_RECORD = (
    Vector("flux", "<f4", _FLUX_UNIT, "coadded calibrated flux density"),
    Vector("loglam", "<f4", "dex(Angstrom)", "log10 of the vacuum wavelength, heliocentric"),
    Vector("ivar", "<f4", "1e34 s2 cm4 Angstrom2 / erg2", "inverse variance of flux; 0: no data"),
    Vector("and_mask", "<i4", "", "SPPIXMASK bits set in all exposures"),
    Vector("or_mask", "<i4", "", "SPPIXMASK bits set in any exposure"),
    Vector("wdisp", "<f4", "pix", "wavelength dispersion in pixels of 1e-4 dex"),
    Vector("sky", "<f4", _FLUX_UNIT, "subtracted sky flux density"),
    Vector("model", "<f4", _FLUX_UNIT, "best-fit model used for classification and redshift"),
)
_BUNITS = {"1E-17 erg/cm^2/s/Ang", "1E-17 erg/cm^2/s/A", "1E-17 erg/s/cm^2/Ang"}

_COLUMNS = (
    Column("specobjid", "<u8", "", "packed plate, mjd, fiberid, run2d; one a spectrum"),
    Column("bestobjid", "<i8", "", "photometric object at the position; 0: none"),
    Column("plate", "<i4", "", "plate"),
    Column("mjd", "<i4", "d", "modified Julian date of the last exposure"),
    Column("fiberid", "<i4", "", "fibre, 1–640 or 1–1000"),
    Column("run2d", "U", "", "reduction version"),
    Column("survey", "U", "", "sdss, segue1, segue2, boss, eboss"),
    Column("instrument", "U", "", "SDSS or BOSS spectrograph"),
    Column("programname", "U", "", "observing programme"),
    Column("ra", "<f8", "deg", "right ascension of the object, ICRS"),
    Column("dec", "<f8", "deg", "declination of the object, ICRS"),
    Column("z", "<f4", "", "best-fit redshift"),
    Column("zerr", "<f4", "", "error of z"),
    Column("zwarning", "<i4", "", "ZWARNING bits; 0 is good"),
    Column("class", "U", "", "class: GALAXY, QSO or STAR"),
    Column("subclass", "U", "", "subclass, such as STARFORMING, BROADLINE or F5"),
    Column("sn_median", "<f4", "", "median signal to noise over all good pixels"),
    Column("specprimary", "u1", "", "1: best spectrum of the object"),
)
# Columns that the catalogue spells otherwise than the file.
_RENAMED: Final = {"z_err": "zerr", "z_err_noqso": "zerr_noqso", "sn_median_all": "sn_median"}
# Spellings of SkyServer, Data Lab and the files.
_ALIASES: Final = {
    **_RENAMED,
    "snmedian": "sn_median",
    "scienceprimary": "specprimary",
    **{f"{part}primary": f"spec{part}" for part in ("legacy", "segue", "segue1", "segue2", "boss")},
    "fiber": "fiberid",
    **{f"veldisp{what}": f"vdisp{what}" for what in ("", "z", "chi2", "npix", "dof")},
    "veldisperr": "vdisp_err",
    "veldispzerr": "vdispz_err",
    "lambdaeff": "lambda_eff",
    **{
        f"elodie{what}": f"elodie_{what}"
        for what in ("filename", "sptype", "bv", "teff", "logg", "feh", "z")
    },
    "elodiezerr": "elodie_z_err",
}
_LEGACY = ("26", "103", "104")
_RELEASES = tuple(
    Release(f"sdss_dr{number}", f"SDSS Data Release {number}", (*_LEGACY, *runs))
    for number, runs in (
        (8, ()),
        (9, ("v5_4_45",)),
        (10, ("v5_5_12",)),
        (11, ("v5_6_5",)),
        (12, ("v5_7_0", "v5_7_2")),
        (13, ("v5_9_0",)),
        (14, ("v5_10_0",)),
        (15, ("v5_10_0",)),
        (16, ("v5_13_0",)),
        (17, ("v5_13_2",)),
    )
)
# Releases keep BOSS under boss up to DR12 and under eboss from DR13 on, SDSS and SEGUE under sdss,
# with links between them; a mirror may begin at any of these levels. Lite files come first: they
# hold the same spectrum in a sixth of the bytes.
_REDUX = ("", *(f"{root}/spectro/redux/" for root in ("eboss", "boss", "sdss")))
_TREE = TreeLayout(
    folders=tuple(
        f"{release}{redux}{{run2d}}/spectra/{kind}{{plate:04d}}"
        for release, roots in (("", _REDUX), ("{release}/", _REDUX[1:]))
        for redux in roots
        for kind in ("lite/", "", "full/")
    ),
    names=tuple(
        f"spec-{{plate:04d}}-{{mjd:05d}}-{{fiberid:04d}}.fits{ending}" for ending in ("", ".gz")
    ),
)
# BOSS ended on 2014-06-30 (MJD 56838); the same plates and programmes went on as eBOSS.
_FIRST_EBOSS_MJD = 56839
# The photometric match of a BOSS target lies within 0.1 arcsec of the fibre in every file seen; one
# farther than this is a missing match (0, -9999), and the fibre's own position is the object's.
_MATCH_DEG = 30.0 / 3600.0


class SpecReader:
    """Recognise and read ``spec-PLATE-MJD-FIBER.fits[.gz]``."""

    def identify(self, path: Path) -> FileKey | None:
        """Return plate, mjd and fiber of a file's name; None for another name."""
        match = _NAME.fullmatch(path.name.lower())
        return FileKey(path, tuple(int(part) for part in match.groups())) if match else None

    def is_companion(self, path: Path) -> bool:
        """Return False: each file is read by itself."""
        del path
        return False

    def read(self, path: Path) -> list[RawSpectrum]:
        """Read the one spectrum of a lite or full file; errors: those of `Reader.read`."""
        return self.read_from_bytes(path, open_bytes(path))

    def read_from_bytes(self, path: Path, data: bytes) -> list[RawSpectrum]:
        """Read the one spectrum from the decompressed bytes of a file; errors: those of `read`."""
        primary, (coadd, objects) = read_tables(data, 2)
        _check_unit(primary)
        if objects.layout.nrows != 1:
            raise BadFile(f"HDU2 has {objects.layout.nrows} rows; a spec file has one")
        axis, vectors = _vectors(coadd)
        row = _scalars(objects)
        key = self.identify(path)
        named = (row["plate"], row["mjd"], row["fiberid"])
        if key is not None and key.group != tuple(int(part) for part in named):
            raise BadFile(f"HDU2 is of plate, mjd, fiber {named}, not of the file's name")
        number = _checked_id(row)
        core = _core(row, number)
        return [
            RawSpectrum(
                number, core["ra"], core["dec"], str(row["run2d"]), axis, vectors, {**row, **core}
            )
        ]


def _check_unit(primary: bytes) -> None:
    """Refuse a file that states another flux unit than the survey's."""
    at = primary.find(b"BUNIT   =")
    if at >= 0 and at % 80 == 0:
        unit = cards(primary[at : at + 80]).get("BUNIT")
        if unit not in _BUNITS:
            raise BadFile(f"BUNIT is {unit!r}, expected '1E-17 erg/cm^2/s/Ang'")


def _vectors(coadd: FitsTable) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[Any]]]:
    """Return loglam and the other seven COADD columns, native byte order, bits untouched."""
    written = []
    for vector in _RECORD:
        name = coadd.find(vector.name)
        if name is None:
            raise BadFile(f"HDU1 has no column {vector.name}: not a coadded spectrum")
        written.append(name)
    values = {}
    for vector, column in zip(_RECORD, coadd.columns(written), strict=True):
        if column.dtype != np.dtype(vector.dtype) or column.ndim != 1:
            raise BadFile(f"HDU1 column {vector.name} is {column.dtype}, expected {vector.dtype}")
        values[vector.name] = column
    axis = values.pop("loglam")
    if axis.size == 0:
        raise BadFile("HDU1 has no rows")
    return axis, values


def _scalars(objects: FitsTable) -> dict[str, Any]:
    """Return the scalar columns of HDU2 by catalogue name."""
    row: dict[str, Any] = {}
    for written, value in objects.scalars(0).items():
        text = isinstance(value, bytes)
        row[_spelling(written)] = value.decode("ascii", "replace").strip("\0 ") if text else value
    needed = ("plate", "mjd", "fiberid", "run2d", "specobjid", "plug_ra", "plug_dec", "z", "class")
    if missing := [name for name in needed if name not in row]:
        raise BadFile(f"HDU2 has no column {', '.join(missing)}")
    return row


@lru_cache(maxsize=4096)
def _spelling(written: str) -> str:
    """Return the spelling of a column that the catalogue uses."""
    name = written.lower()
    return _RENAMED.get(name, name)


def _checked_id(row: Mapping[str, Any]) -> int:
    """Compute the specobjid and compare it with the file's own."""
    try:
        number = int(pack_specobjid(row["plate"], row["mjd"], row["fiberid"], row["run2d"]))
        stated = int(row["specobjid"]) % 2**64
    except (BadIdentifier, ValueError) as error:
        raise BadFile(f"no specobjid can be made of HDU2: {error}") from error
    if stated != number:
        raise BadFile(
            f"SPECOBJID {stated} is not that of plate {row['plate']}, mjd {row['mjd']}, fiber"
            f" {row['fiberid']}, run2d {row['run2d']} ({number})"
        )
    return number


def _core(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the core columns whose names or types differ between families."""
    ra, dec = _position(row)
    legacy = "instrument" in row
    survey = "eboss" if row["mjd"] >= _FIRST_EBOSS_MJD else "boss"
    matched = str(row.get("bestobjid" if legacy else "objid", ""))
    return {
        "specobjid": np.uint64(number),
        "bestobjid": np.int64(matched if matched.isdigit() else 0),
        "survey": row["survey"] if legacy else survey,
        "instrument": row["instrument"] if legacy else "BOSS",
        "ra": ra,
        "dec": dec,
    }


def _position(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return the object's position, degrees: RA, DEC if there is a match, else the fibre's."""
    plug_ra, plug_dec = float(row["plug_ra"]), float(row["plug_dec"])
    ra, dec = float(row.get("ra", plug_ra)), float(row.get("dec", plug_dec))
    away = (ra - plug_ra + 180.0) % 360.0 - 180.0
    near = abs(away * np.cos(np.radians(plug_dec))) < _MATCH_DEG
    near = near and abs(dec - plug_dec) < _MATCH_DEG
    ra, dec = (ra, dec) if near else (plug_ra, plug_dec)
    if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        raise BadFile(f"PLUG_RA, PLUG_DEC = {plug_ra}, {plug_dec} is no position")
    return ra % 360.0, dec


def _pack(numbers: tuple[int, ...], run2d: str) -> int:
    """Return the specobjid of plate, mjd, fiberid and run2d."""
    plate, mjd, fiber = numbers
    return int(pack_specobjid(plate, mjd, fiber, run2d))


def _pack_arrays(numbers: Sequence[npt.NDArray[Any]], run2d: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the specobjids of plate, mjd, fiberid and run2d, 1D[n] each."""
    plate, mjd, fiber = numbers
    return np.asarray(pack_specobjid(plate, mjd, fiber, run2d))


def _unpack(ids: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return plate, mjd, fiberid and run2d of specobjids, 1D[n] each."""
    parts = unpack_specobjid(ids)
    names = {"plate": "plate", "mjd": "mjd", "fiberid": "fiber", "run2d": "run2d"}
    return {name: np.asarray(parts[field]) for name, field in names.items()}


def _cards(run2d: str) -> dict[str, str]:
    """Return the header cards by which specutils and others know a spec file."""
    # All coadds of run2d 26, 103 and 104 state this version.
    version = run2d if run2d.startswith("v") else "v5_3_12"
    return {"TELESCOP": "SDSS 2.5-M", "VERS2D": version, "BUNIT": "1E-17 erg/cm^2/s/Ang"}


SDSS = Survey(
    name="sdss",
    title="Sloan Digital Sky Survey: SDSS, SEGUE, BOSS and eBOSS optical spectra",
    grid=LogLinear(step=1e-4),
    # 35508 … 40169 seen in real files, with a margin on both sides; a spectrum that reaches beyond
    # is stored with its own wavelengths.
    window=PixelRange(35400, 40240),
    record=_RECORD,
    id_column=_COLUMNS[0],
    id_parts=("plate", "mjd", "fiberid", "run2d"),
    cards=_cards,
    columns=_COLUMNS,
    aliases=_ALIASES,
    primary=("specprimary", 1),
    z_column="z",
    indexed=(("class", "z"), ("z",)),
    class_column="class",
    z_warning=("zwarning", 1),
    name_form="{plate}-{mjd}-{fiberid} specobjid={specobjid}",
    facts=(
        Fact("class", "class"),
        Fact("subclass", "subclass"),
        Fact("z", "z", ".5f"),
        Fact("±", "zerr", ".5f"),
        Fact("ZWARNING", "zwarning"),
        Fact("S/N", "sn_median", ".1f"),
        Fact("RA", "ra", ".6f"),
        Fact("Dec", "dec", "+.6f"),
        Fact("run2d", "run2d"),
    ),
    fits=(FurtherFit("without quasars", ("class_noqso", "subclass_noqso"), "z_noqso"),),
    flux_scale=_FLUX_UNIT,
    mask_vector="and_mask",
    # BRIGHTSKY and its like are set somewhere in nearly every spectrum: only ivar marks bad pixels.
    bad_bits=0,
    frame="ICRS; wavelengths in vacuum, heliocentric",
    releases=_RELEASES,
    reader=SpecReader(),
    tables={
        "specobj": "the best spectrum of each object (specprimary = 1)",
        "specobjall": "all spectra",
    },
    pack=_pack,
    pack_arrays=_pack_arrays,
    unpack=_unpack,
    tree=_TREE,
    is_default=True,
)
