"""The row of HDU2: identity, classification, photometry, in the spelling of each reduction."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...model.ids import pack_specobjid
from ..common.objects import DEAD, GALAXY, QSO, SKY, STAR
from ..common.templates import STARS
from .layout import Family, TableForm, object_columns, object_table
from .plan import Plate

Values: TypeAlias = dict[str, npt.NDArray[Any]]

_CLASS = np.array(["GALAXY", "QSO", "STAR", "GALAXY", "GALAXY"])
_GALAXY_SUBCLASS = np.array(["", "STARFORMING", "STARBURST", "AGN", "BROADLINE"])
_STAR_SUBCLASS = np.array([star.subclass for star in STARS])
_STAR_TEFF = np.array([star.teff_k for star in STARS])
_TEMPLATE_FILES = {
    boss: tuple(f"spEigen{name}.fits" for name in (galaxy, quasar, star, galaxy, galaxy))
    for boss, galaxy, quasar, star in (
        (False, "Gal-53724", "QSO-53724", "Star-54474"),
        (True, "Gal-56436", "QSO-55732", "Star-55734"),
    )
}
_SMALL_DELTA_CHI2, _MANY_OUTLIERS = 4, 16
_PROGRAM = {"26": "legacy", "v5_7_0": "boss", "v5_11_0": "commissioning"}
_MODEL_FLUXES = ("PSF", "FIBER", "FIBER2", "CMODEL", "MODEL", "PETRO", "DEV", "EXP")
_UNKNOWN = -9999.0


def row_values(
    truth: npt.NDArray[Any],
    plate: Plate,
    measured: Mapping[str, npt.NDArray[Any]],
    night: Mapping[str, str | int | float],
    rng: np.random.Generator,
) -> Values:
    """Return HDU2's values by column name, 1D[nspec] or 2D[nspec, k].

    Columns left out are zero or blank, which is "not known" in the survey's custom.
    """
    values = dict(measured)
    values |= _identity(truth, plate)
    values |= _classification(truth, plate, measured, rng)
    values |= _plate_values(truth.size, plate, night)
    values |= _sdss_values(truth, plate) if not plate.family.boss else _boss_values(truth, plate)
    values |= _photometry(measured, boss=plate.family.boss)
    return values


def tables(family: Family, values: Values) -> Iterator[tuple[TableForm, npt.NDArray[Any]]]:
    """Yield each object's table and row, in order; rows are 1D[1] of the table's dtype."""
    forms = object_columns(family.layout)
    texts = [form.name for form in forms if form.is_text]
    n = values["PLATE"].size
    if not family.upper:
        yield from _filled(object_table(family.run2d), values, range(n))
        return
    lengths = np.array(
        [
            np.maximum(np.char.str_len(values[name]), 1) if name in values else np.ones(n, int)
            for name in texts
        ]
    ).T
    for i in range(n):
        table = object_table(family.run2d, tuple(int(size) for size in lengths[i]))
        yield from _filled(table, values, [i])


def _filled(
    table: TableForm, values: Values, chosen: range | list[int]
) -> Iterator[tuple[TableForm, npt.NDArray[Any]]]:
    """Yield the table with its rows filled for some objects."""
    rows = np.zeros(len(chosen), dtype=table.dtype)
    index = np.asarray(chosen)
    for name in table.dtype.names or ():
        given = values.get(name)
        if table.dtype[name].kind == "S":
            text = np.full(index.size, "") if given is None else given[index]
            rows[name] = np.char.ljust(text, table.dtype[name].itemsize)
        elif given is not None:
            rows[name] = given[index]
    for i in range(index.size):
        yield table, rows[i : i + 1]


def _identity(truth: npt.NDArray[Any], plate: Plate) -> Values:
    """Return ids, fibre and positions."""
    family, n = plate.family, truth.size
    fiber = truth["fiber"]
    ids = pack_specobjid(plate.number, plate.mjd, fiber, family.run2d)
    objid = _photo_id(truth)
    plug_ra, plug_dec = np.round(truth["ra"], 5) % 360.0, np.round(truth["dec"], 6)
    plateid = pack_specobjid(plate.number, plate.mjd, 0, family.run2d)
    # An integer column holds its values less TZERO.
    stored = (ids - np.uint64(family.id_zero)).view(np.int64)
    values: Values = {
        "SPECOBJID": stored if family.boss else np.char.rjust(ids.astype(str), 22),
        "PLATE": np.full(n, plate.number),
        "MJD": np.full(n, plate.mjd),
        "FIBERID": fiber,
        "RUN2D": np.full(n, family.run2d),
        "RUN1D": np.full(n, family.run2d if family.boss else ""),
        "PLUG_RA": plug_ra,
        "PLUG_DEC": plug_dec,
        "PLATEID": np.full(n, str(plateid)),
        "BESTOBJID": objid.astype(str),
        "FLUXOBJID": objid.astype(str),
        "TARGETOBJID": np.char.rjust(objid.astype(str), 22),
        "RA": truth["ra"],
        "DEC": truth["dec"],
        "THING_ID": truth["thing"],
        "THING_ID_TARGETING": truth["thing"],
        "XFOCAL": truth["xfocal"],
        "YFOCAL": truth["yfocal"],
        "SPECPRIMARY": np.full(n, plate.visit == 0) & (truth["kind"] < SKY),
        "NSPECOBS": np.where(np.arange(n) < plate.repeated, 2, 1),
    }
    if family.boss:
        values["OBJID"] = objid.astype(str)
        values["FIELDID"] = (objid & ~np.int64(0xFFFF)).astype(str)
    ra, dec = (values["RA"], values["DEC"]) if family.boss else (plug_ra, plug_dec)
    longitude, latitude = np.radians(ra), np.radians(dec)
    values["CX"] = np.cos(latitude) * np.cos(longitude)
    values["CY"] = np.cos(latitude) * np.sin(longitude)
    values["CZ"] = np.sin(latitude)
    return values


def _photo_parts(truth: npt.NDArray[Any]) -> Values:
    """Return the imaging run, column, field and number of objects, made from their number."""
    thing = truth["thing"].astype(np.int64)
    return {
        "RUN": 752 + thing % 7000,
        "CAMCOL": 1 + thing // 7000 % 6,
        "FIELD": 11 + thing // 42000 % 800,
        "ID": 1 + thing // 1000 % 900,
    }


def _photo_id(truth: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return photometric ids: sky version 2, rerun 301, then run, camcol, field, object."""
    part = _photo_parts(truth)
    head = np.int64((2 << 59) | (301 << 48))
    return np.asarray(
        head | part["RUN"] << 32 | part["CAMCOL"] << 29 | part["FIELD"] << 16 | part["ID"]
    )


def _subclass(truth: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return subclasses, blank for passive galaxies and fibres without an object."""
    out = np.full(truth.size, "", dtype="U21")
    galaxy = truth["kind"] == GALAXY
    out[galaxy] = _GALAXY_SUBCLASS[truth["subtype"][galaxy]]
    quasar = truth["kind"] == QSO
    out[quasar] = np.where(truth["sn"][quasar] > 2.0, "BROADLINE", "")
    out[quasar & (truth["z"] < 0.5) & (truth["ratio"] > 0.7)] = "STARBURST BROADLINE"
    star = truth["kind"] == STAR
    out[star] = _STAR_SUBCLASS[truth["subtype"][star]]
    return out


def _zwarning(truth: npt.NDArray[Any], sn: npt.NDArray[Any], rng: np.random.Generator) -> Any:
    """Return warning bits: poor fits of faint objects, outliers of bright ones, sky, dead."""
    n = truth.size
    faint = (sn < 2.0) & (rng.random(n) < 0.4)
    bright = (sn > 22.0) & (rng.random(n) < 0.3)
    out = np.where(faint, _SMALL_DELTA_CHI2, 0) | np.where(bright, _MANY_OUTLIERS, 0)
    out = np.where(truth["kind"] == SKY, 1 | np.where(rng.random(n) < 0.7, 4, 0), out)
    return np.where(truth["kind"] == DEAD, 6, out)


def _classification(
    truth: npt.NDArray[Any],
    plate: Plate,
    measured: Mapping[str, npt.NDArray[Any]],
    rng: np.random.Generator,
) -> Values:
    """Return redshift, class and their errors."""
    n, kind, sn = truth.size, truth["kind"], measured["SN_MEDIAN_ALL"]
    error = np.array([4e-5, 3.5e-4, 1.5e-5, 3e-4, 0.0])[kind] * (10.0 / np.clip(sn, 1.0, 60.0))
    error *= np.where(kind == QSO, 1.0 + truth["z"], 1.0)
    z = np.where(kind == DEAD, 0.0, truth["z"] + rng.standard_normal(n) * error)
    subclass, zwarning = _subclass(truth), _zwarning(truth, sn, rng)
    galaxy, star = kind == GALAXY, kind == STAR
    tfile = np.array(_TEMPLATE_FILES[plate.family.boss])[kind]
    columns_used = np.full((n, 10), -1)
    columns_used[:, :4] = np.where(star[:, None], [0, -1, -1, -1], [0, 1, 2, 3])
    values: Values = {
        "CLASS": _CLASS[kind],
        "SUBCLASS": subclass,
        "Z": z,
        "Z_ERR": error,
        "ZWARNING": zwarning,
        "RCHI2DIFF": np.where(zwarning & _SMALL_DELTA_CHI2, 0.003, 0.02 * np.clip(sn, 0, 40)),
        "TFILE": tfile,
        "TCOLUMN": columns_used,
        "NPOLY": np.where(star, 4, 3),
        "VDISP": np.where(galaxy, truth["vdisp"], 0.0),
        "VDISP_ERR": np.where(galaxy, 150.0 / np.clip(sn, 1.0, 60.0), 0.0),
        "ELODIE_TEFF": np.where(star, _STAR_TEFF[np.where(star, truth["subtype"], 0)], 0.0),
    }
    if plate.family.boss:
        # The fit without quasar templates is right for galaxies and stars, wrong for quasars.
        quasar = kind == QSO
        values["CLASS_NOQSO"] = np.where(quasar, "STAR", values["CLASS"])
        values["SUBCLASS_NOQSO"] = np.where(quasar, "O9.5Iae (30614)", subclass)
        values["Z_NOQSO"] = np.where(quasar, rng.normal(0, 1e-3, n), z)
        values["Z_ERR_NOQSO"] = error
        values["ZWARNING_NOQSO"] = np.where(quasar, _SMALL_DELTA_CHI2, zwarning)
    return values


def _plate_values(n: int, plate: Plate, night: Mapping[str, str | int | float]) -> Values:
    """Return what all fibres of a plate share."""
    program = _PROGRAM.get(plate.family.run2d, "eboss" if plate.number > 7500 else "boss")
    shared: dict[str, Any] = {
        "PROGRAMNAME": program,
        "CHUNK": f"{'chunk' if not plate.family.boss else program}{1 + plate.number % 40}",
        "PLATEQUALITY": "good",
        "TILE": night["tile"],
        "LAMBDA_EFF": 5400.0,
        "SPECBOSS": plate.visit == 0,
        "EBOSS_TARGET_ID": -1,
        "PLATESN2": night["sn2_i"],
        "DEREDSN2": night["sn2_i"],
        "SNTURNOFF": _UNKNOWN,
        "NTURNOFF": -1,
    }
    shared |= {f"SPEC{s}_{band.upper()}": night[f"sn2_{band}"] for s in (1, 2) for band in "gri"}
    return {name: np.full(n, value) for name, value in shared.items()}


def _sdss_values(truth: npt.NDArray[Any], plate: Plate) -> Values:
    """Return columns that only run2d 26 has."""
    n, sky = truth.size, truth["kind"] == SKY
    primary = np.full(n, plate.visit == 0) & (truth["kind"] < SKY)
    source = np.array(["GALAXY", "QSO", "STAR_BHB", "SKY", "GALAXY"])[truth["kind"]]
    part = _photo_parts(truth)
    rerun = np.full(n, 301)
    return {
        "SURVEY": np.full(n, "sdss"),
        "INSTRUMENT": np.full(n, "SDSS"),
        "FIRSTRELEASE": np.full(n, f"dr{1 + min(6, (plate.number - 266) // 400)}"),
        "PLATERUN": np.full(n, f"dr{plate.number % 40}"),
        "SPECLEGACY": primary,
        "SOURCETYPE": source,
        "TARGETTYPE": np.where(sky, "SKY", "SCIENCE"),
        "BLUEFIBER": np.full(n, -1),
        "DESIGNID": np.full(n, -1),
        "SPECTROGRAPHID": np.where(truth["fiber"] > plate.family.nfiber // 2, 2, 1),
        "OBJID": np.stack([part["RUN"], rerun % 100, part["CAMCOL"], part["FIELD"], part["ID"]], 1),
        "LEGACY_TARGET1": np.array([64, 4, 32768, 16, 64])[truth["kind"]],
        "PRIMTARGET": np.array([64, 4, 32768, 16, 64])[truth["kind"]],
    }


def _boss_values(truth: npt.NDArray[Any], plate: Plate) -> Values:
    """Return columns that only the BOSS reductions have."""
    n, kind = truth.size, truth["kind"]
    eboss = plate.number > 7500
    target = np.array(["GALAXY", "QSO", "SPECTROPHOTO_STD", "SKY", "GALAXY"])[kind]
    galactic_l, galactic_b = _galactic(truth["ra"], truth["dec"])
    values: Values = {
        "OBJTYPE": np.where((kind == GALAXY) | (kind == QSO), "NA", target) if eboss else target,
        "BOSS_TARGET1": np.where(eboss, 0, np.array([2, 3298535424000 >> 20, 0, 0, 0])[kind]),
        "EBOSS_TARGET1": np.where(eboss, np.array([2, 4096, 0, 0, 0])[kind], 0),
        "BLUEFIBER": (kind == QSO).astype(int),
        "SKYVERSION": np.full(n, 2),
        "MODE": np.full(n, 1),
        "CLEAN": np.full(n, 1),
        "RERUN": np.full(n, "301"),
        "PARENT": np.full(n, -1),
        "OBJC_TYPE": np.where((kind == GALAXY), 3, 6),
        "L": galactic_l,
        "B": galactic_b,
        "SCORE": np.full(n, 0.84),
        **_photo_parts(truth),
    }
    unknown = np.full((n, 5), _UNKNOWN)
    for name in ("ROWC", "COLC", "PETROTHETA", "PETROTH50", "PETROTH90", "M_RR_CC", "PSF_FWHM"):
        values[name] = unknown
    values["PROFMEAN_NMGY"] = values["PROFERR_NMGY"] = _shaped("PROFMEAN_NMGY", n, plate.family)
    values["APERFLUX"] = _shaped("APERFLUX", n, plate.family)
    return values


def _shaped(name: str, n: int, family: Family) -> npt.NDArray[Any]:
    """Return "not known" in the shape of a vector column."""
    form = next(column.form for column in object_columns(family.layout) if column.name == name)
    return np.full((n, int(form[:-1])), _UNKNOWN)


def _photometry(measured: Mapping[str, npt.NDArray[Any]], *, boss: bool) -> Values:
    """Return imaging fluxes (nanomaggies) and magnitudes that follow the spectrum."""
    flux = np.clip(measured["SPECTROFLUX"], 1e-3, None)
    ivar = np.full(flux.shape, 30.0)
    values: Values = {"CALIBFLUX": flux, "CALIBFLUX_IVAR": ivar}
    for name in _MODEL_FLUXES if boss else ():
        scale = {"FIBER": 0.75, "FIBER2": 0.5}.get(name, 1.0)
        values[f"{name}FLUX"] = flux * scale
        values[f"{name}FLUX_IVAR"] = ivar
        values[f"{name}MAG"] = 22.5 - 2.5 * np.log10(flux * scale)
        values[f"{name}MAGERR"] = 1.0857 / (flux * scale * np.sqrt(ivar))
    return values


def _galactic(ra_deg: npt.NDArray[Any], dec_deg: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Return Galactic longitude and latitude, degrees (Hipparcos definition of the frame)."""
    ra, dec = np.radians(ra_deg - 192.85948), np.radians(dec_deg)
    pole = np.radians(27.12825)
    sin_b = np.sin(dec) * np.sin(pole) + np.cos(dec) * np.cos(pole) * np.cos(ra)
    east = np.cos(dec) * np.sin(ra)
    north = np.sin(dec) * np.cos(pole) - np.cos(dec) * np.sin(pole) * np.cos(ra)
    longitude = (122.93192 - np.degrees(np.arctan2(east, north))) % 360.0
    return longitude, np.degrees(np.arcsin(sin_b))
