"""The tables of DESI's files: FIBERMAP, EXP_FIBERMAP, SCORES and REDSHIFTS from what was seen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.objects import DEAD, GALAXY, QSO, STAR
from ..common.templates import STARS, Float32
from .layout import TSNR2, TSNR2_SUMS
from .observe import ARMS, GRID, REFERENCE_S, Seen
from .plan import BGS, BLANK, ELG, LRG, MWS, NOTHING, QUASAR, PixelFile

_Columns = dict[str, npt.NDArray[Any]]

EXPOSURE = np.dtype(
    [("EXPID", "i4"), ("NIGHT", "i4"), ("MJD", "f8"), ("TILEID", "i4"), ("EXPTIME", "f8")]
)
_NEXPOSURE = 4
# (DESI_TARGET, BGS_TARGET, MWS_TARGET) by sample.
_BITS = {
    BGS: (1 << 60, 2, 0),
    LRG: (1, 0, 0),
    ELG: (2, 0, 0),
    QUASAR: (4, 0, 0),
    MWS: (1 << 61, 0, 1),
    BLANK: (1 << 32, 0, 0),
    NOTHING: (0, 0, 0),
}
_OBSCONDITIONS = {"dark": 1, "bright": 4}
_MORPHTYPES = {BGS: "SER", LRG: "DEV", ELG: "EXP", QUASAR: "PSF", MWS: "PSF"}
# Effective wavelengths of the imaging bands, Å, and nanomaggies per 1e-17 erg s-1 cm-2 Å-1 there.
_BANDS = {"G": 4770.0, "R": 6425.0, "Z": 9260.0}
_NANOMAGGY = 1e-17 / 2.99792458e18 / 3.631e-29
_HALF_BAND_AA = 400.0
_FIBRE_SHARE = 0.6
# TSNR2 of B, R, Z in 1,000 s of dark time, in the order of `TSNR2`, scaled from a real tile.
_TSNR2_DARK = (
    (117, 0.058, 23, 41, 350, 199, 1.54, 0.62),
    (12500, 26.2, 2400, 0.05, 2745, 18200, 8.2, 38.3),
    (0.00002, 85.9, 0.000004, 0.0, 4392, 0.00003, 18.5, 41.4),
)
# Values of redrock for a spectrum without a good pixel.
_NO_DATA = {
    "Z": -0.00199849, "ZWARN": 1570, "CHI2": 9e99, "COEFF": 0.0, "NPIXELS": 0, "DELTACHI2": 0.0,
    "SPECTYPE": b"STAR", "SUBTYPE": b"CV",
}  # fmt: skip
_SMALL_DELTA_CHI2 = 4
_EVERY = 4
"""Medians are taken of each fourth pixel: a tenth of a simulation's time otherwise."""


@dataclass(frozen=True, slots=True)
class Visits:
    """The exposures of a file, and which targets they saw."""

    exposures: npt.NDArray[Any]
    """1D[nexp] of `EXPOSURE`"""
    target: npt.NDArray[np.int64]
    """1D[nvisit] int64: row of the target"""
    exposure: npt.NDArray[np.int64]
    """1D[nvisit] int64: row of the exposure"""
    count: npt.NDArray[np.int64]
    """1D[nspec] int64: exposures of each target"""
    exptime_s: Float32
    """1D[nspec] float32: their time summed"""


def draw_visits(pixel_file: PixelFile, rng: np.random.Generator) -> Visits:
    """Return the exposures of a file: each target is in one to three, one after the other."""
    exposures = np.zeros(_NEXPOSURE, EXPOSURE)
    day = 59350 + pixel_file.pixel % 400 + np.arange(_NEXPOSURE)
    exposures["EXPID"] = 90000 + (day - 59350) * 40 + pixel_file.tile % 37
    exposures["MJD"] = day + rng.uniform(0.1, 0.5, _NEXPOSURE)
    night = np.datetime64("1858-11-17") + (day - 1)
    exposures["NIGHT"] = [int(str(date).replace("-", "")) for date in night]
    exposures["TILEID"] = pixel_file.tile + np.arange(_NEXPOSURE) // 2
    typical = 950.0 if pixel_file.program == "dark" else 240.0
    exposures["EXPTIME"] = np.round(typical * rng.uniform(0.8, 1.3, _NEXPOSURE), 4)
    count = rng.choice([1, 2, 3], pixel_file.nspec, p=(0.5, 0.3, 0.2))
    first = rng.integers(0, _NEXPOSURE - count + 1)
    target = np.repeat(np.arange(pixel_file.nspec), count)
    step = np.arange(target.size) - np.repeat(np.cumsum(count) - count, count)
    exposure = first[target] + step
    time = np.bincount(target, exposures["EXPTIME"][exposure], pixel_file.nspec)
    return Visits(exposures, target, exposure, count, time.astype(np.float32))


def target_columns(
    pixel_file: PixelFile, targets: npt.NDArray[Any], magnitudes: _Columns, rng: np.random.Generator
) -> _Columns:
    """Return the columns of FIBERMAP that are of the target, with `band_fluxes`: 1D[nspec] each."""
    n = targets.size
    sample = targets["sample"]
    bits = np.array([_BITS[number] for number in range(len(_BITS))], dtype=np.int64)[sample]
    real = sample < BLANK
    prefix = "" if pixel_file.survey == "main" else f"{pixel_file.survey.upper()}_"
    brick = np.where(targets["targetid"] > 0, targets["targetid"] >> 22 & 0xFFFFF, 0)
    radec = zip(targets["ra"].tolist(), targets["dec"].tolist(), strict=True)
    names = [f"{x * 10:04.0f}{'m' if y < 0 else 'p'}{abs(y) * 10:03.0f}" for x, y in radec]
    kinds = np.array([_MORPHTYPES.get(number, "") for number in range(len(_BITS))], "S4")
    out: _Columns = {
        "TARGETID": targets["targetid"],
        "TARGET_RA": targets["ra"],
        "TARGET_DEC": targets["dec"],
        "PLATE_RA": targets["ra"],
        "PLATE_DEC": targets["dec"],
        "REF_EPOCH": np.full(n, 2015.5),
        "FA_TARGET": bits[:, 0],
        "FA_TYPE": np.where(sample == BLANK, 4, real),
        "OBJTYPE": np.where(real, b"TGT", np.where(sample == BLANK, b"SKY", b"")),
        "SUBPRIORITY": rng.random(n),
        "OBSCONDITIONS": np.where(real, _OBSCONDITIONS[pixel_file.program], 0),
        "RELEASE": np.where(targets["targetid"] > 0, 9010, 0),
        "BRICKNAME": np.where(real, np.array(names, "S8"), b""),
        "BRICKID": brick,
        "BRICK_OBJID": np.where(targets["targetid"] > 0, targets["targetid"] & 0x3FFFFF, 0),
        "MORPHTYPE": kinds[sample],
        "EBV": rng.lognormal(-3.5, 0.4, n) * real,
        "PHOTSYS": np.where(real, b"S", b""),
        "PRIORITY_INIT": np.where(real, 3000, 0),
        "NUMOBS_INIT": real.astype(np.int64),
        f"{prefix}DESI_TARGET": bits[:, 0],
        f"{prefix}BGS_TARGET": bits[:, 1],
        f"{prefix}MWS_TARGET": bits[:, 2],
    }
    for name, flux in magnitudes.items():
        band = name[-1]
        out[name] = flux / _FIBRE_SHARE * real
        out[f"FLUX_IVAR_{band}"] = rng.uniform(50.0, 900.0, n) * real
        out[f"FIBERFLUX_{band}"] = out[f"FIBERTOTFLUX_{band}"] = flux * real
    return out


def coadd_columns(targets: npt.NDArray[Any], visits: Visits, rng: np.random.Generator) -> _Columns:
    """Return the columns of FIBERMAP that sum up the exposures: 1D[nspec] each."""
    n = targets.size
    used = targets["status"] == 0
    tiles = visits.exposures["TILEID"][visits.exposure]
    first = np.searchsorted(visits.target, np.arange(n))
    last = first + visits.count - 1
    delta = rng.normal(0.0, 0.005, (2, n))
    return {
        "COADD_FIBERSTATUS": targets["status"],
        "COADD_NUMEXP": visits.count * used,
        "COADD_EXPTIME": visits.exptime_s * used,
        "COADD_NUMNIGHT": visits.count * used,
        "COADD_NUMTILE": (1 + (tiles[first] != tiles[last])) * used,
        "MEAN_DELTA_X": delta[0],
        "RMS_DELTA_X": np.abs(delta[0]) * 1.2,
        "MEAN_DELTA_Y": delta[1],
        "RMS_DELTA_Y": np.abs(delta[1]) * 1.2,
        "MEAN_FIBER_RA": targets["ra"] + delta[0] * 0.004,
        "MEAN_FIBER_DEC": targets["dec"] + delta[1] * 0.004,
        "MEAN_PSF_TO_FIBER_SPECFLUX": np.full(n, 0.789),
    }


def exposure_columns(
    targets: npt.NDArray[Any], visits: Visits, rng: np.random.Generator
) -> _Columns:
    """Return the columns of EXP_FIBERMAP: 1D[nvisit] each."""
    n = visits.target.size
    delta = rng.normal(0.0, 0.005, (2, n))
    fibre = visits.target * 10 % 5000
    petal, device = fibre // 500, fibre % 500
    out: _Columns = {
        "TARGETID": targets["targetid"][visits.target],
        "FIBERSTATUS": targets["status"][visits.target],
        "PRIORITY": np.full(n, 3000),
        "PETAL_LOC": petal,
        "DEVICE_LOC": device,
        "LOCATION": petal * 1000 + device,
        "FIBER": fibre,
        "LAMBDA_REF": np.full(n, 5400.0),
        "PLATE_RA": targets["ra"][visits.target],
        "PLATE_DEC": targets["dec"][visits.target],
        "NUM_ITER": np.full(n, 2),
        "DELTA_X": delta[0],
        "DELTA_Y": delta[1],
        "FIBER_RA": targets["ra"][visits.target] + delta[0] * 0.004,
        "FIBER_DEC": targets["dec"][visits.target] + delta[1] * 0.004,
        "PSF_TO_FIBER_SPECFLUX": np.full(n, 0.789),
    }
    seen = visits.exposures[visits.exposure]
    return out | {name: seen[name] for name in EXPOSURE.names or ()}


def band_fluxes(seen: Seen) -> _Columns:
    """Return FLUX_G, FLUX_R, FLUX_Z of the light in the fibre: 1D[nspec], nanomaggies."""
    out = {}
    for band, wave_aa in _BANDS.items():
        low, high = (
            round(GRID.position(wave_aa + side)) for side in (-_HALF_BAND_AA, _HALF_BAND_AA)
        )
        mean = seen.model[:, low:high:8].mean(axis=1)
        out[f"FLUX_{band}"] = mean * np.float32(_NANOMAGGY * wave_aa**2)
    return out


def coadd_scores(seen: Seen) -> _Columns:
    """Return the columns of SCORES that are measured on the spectra: 1D[nspec] each."""
    out = {}
    for arm in ARMS:
        flux, ivar = seen.flux[arm][:, ::_EVERY], seen.ivar[arm][:, ::_EVERY]
        out[f"INTEG_COADD_FLUX_{arm}"] = seen.flux[arm].sum(axis=1) * np.float32(GRID.step)
        out[f"MEDIAN_COADD_FLUX_{arm}"] = np.median(flux, axis=1)
        out[f"MEDIAN_COADD_SNR_{arm}"] = np.median(flux * np.sqrt(ivar), axis=1)
    return out


def tsnr2_columns(
    pixel_file: PixelFile, targets: npt.NDArray[Any], exptime_s: npt.NDArray[Any]
) -> _Columns:
    """Return TSNR2 of each arm and in all: 1D[nspec] each; none for a bad fibre."""
    moon = 1.0 if pixel_file.program == "dark" else 0.35
    scale = exptime_s / REFERENCE_S * moon * (targets["status"] == 0)
    values = np.array(_TSNR2_DARK)
    out = {name: value * scale for name, value in zip(TSNR2, values.ravel(), strict=True)}
    sums = zip(TSNR2_SUMS, values.sum(axis=0), strict=True)
    return out | {name: value * scale for name, value in sums}


def redshift_columns(targets: npt.NDArray[Any], rng: np.random.Generator) -> _Columns:
    """Return the columns of REDSHIFTS: 1D[nspec] each, COEFF 2D[nspec, 10]."""
    n = targets.size
    kind = targets["kind"]
    sn = targets["sn"].astype(np.float64)
    # The lines of emission line galaxies are found where their continuum is not.
    strength = sn**2 * np.where(targets["sample"] == ELG, 40.0, 25.0) * rng.lognormal(0.0, 0.6, n)
    delta = np.where(kind == GALAXY, strength, 4.0 * strength)
    scale = np.select([kind == QSO, kind == STAR], [3e-4, 8e-6], 3e-5)
    zerr = scale * (1.0 + np.abs(targets["z"])) / np.sqrt(np.clip(sn, 0.5, 20.0))
    weak = delta < 9.0
    z = np.where(weak, rng.uniform(0.0, 1.7, n), targets["z"] + zerr * rng.standard_normal(n))
    blank = targets["sample"] == BLANK
    z = np.where(blank, rng.uniform(0.0, 1.7, n), z)
    delta = np.where(blank, rng.exponential(6.0, n), delta)
    weak |= blank & (delta < 9.0)
    names = np.array([_subtype(star.subclass) for star in STARS], "S20")
    star = kind == STAR
    coeff = rng.normal(0.0, 30.0, (n, 10)) * sn[:, None]
    npixels = 7928 - rng.integers(0, 12, n)
    out: _Columns = {
        "TARGETID": targets["targetid"],
        "Z": z,
        "ZERR": zerr,
        "ZWARN": np.where(weak, _SMALL_DELTA_CHI2, 0),
        "CHI2": npixels * rng.normal(1.0, 0.02, n),
        "COEFF": np.where(star[:, None] & (np.arange(10) >= 5), 0.0, coeff),
        "NPIXELS": npixels,
        "SPECTYPE": np.select([kind == QSO, star], [b"QSO", b"STAR"], b"GALAXY"),
        "SUBTYPE": np.where(star, names[np.clip(targets["subtype"], 0, len(STARS) - 1)], b""),
        "NCOEFF": np.where(star, 5, 10),
        "DELTACHI2": delta,
    }
    for name, value in _NO_DATA.items():
        out[name][(targets["status"] != 0) | (kind == DEAD)] = value
    return out


def _subtype(subclass: str) -> str:
    """Return the template's name of a class of stars."""
    if subclass.startswith(("WD", "CV")):
        return subclass[:2]
    letter = subclass.removeprefix("sd:")[0]
    return "B" if letter == "O" else letter
