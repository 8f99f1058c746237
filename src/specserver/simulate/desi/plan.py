"""The healpixels that a mock DESI observes, and the targets of its fibres there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter
from ..common.objects import (
    AGN,
    BROADLINE,
    DEAD,
    GALAXY,
    PASSIVE,
    QSO,
    SKY,
    STAR,
    STARBURST,
    STARFORMING,
    TRUTH,
    draw_stars,
)

TARGET = np.dtype([*TRUTH.descr, ("targetid", "i8"), ("sample", "i1"), ("status", "i4")])
"""A target: `TRUTH`, identifier, sample, and COADD_FIBERSTATUS."""
Light = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]
"""A spectrum without noise: wavelength, 1D[npix] Å, and flux, 1D[npix] 1e-17 erg s-1 cm-2 Å-1"""
BGS, LRG, ELG, QUASAR, MWS, BLANK, NOTHING = range(7)
"""Samples: bright, luminous red and emission line galaxies, quasars, stars, sky, no target."""

ORDER = 6
"""The files' pixels are HEALPix nested, nside 64."""
_FINE = 29 - ORDER
_TWO_FILES_FROM = 40
"""A survey of so many spectra has at least two files, so that targets repeat in them."""
_REPEATED_SHARE = 1 / 12
# Shares of the samples in their order, by program.
_SHARES = {
    "dark": (0.0, 0.24, 0.37, 0.18, 0.07, 0.10, 0.04),
    "bright": (0.63, 0.0, 0.0, 0.02, 0.21, 0.10, 0.04),
}
_PROGRAMS = (("main", "dark"), ("main", "bright"), ("main", "dark"), ("sv3", "bright"))
_TILES = {("main", "dark"): 1000, ("main", "bright"): 20000, ("sv3", "bright"): 100}
# Good light on a bad fibre is left out of coadds: stuck, broken, bad position and the like.
_BAD_STATUS = (1, 512, 513, 515, 520, 1033)
_BAD_SHARE = 0.04
_OBJID = {("main", "dark"): 0, ("main", "bright"): 1 << 14, ("sv3", "bright"): 1 << 15}
_BRICKS_PER_PIXEL = 13
_RELEASE = 9010


@dataclass(frozen=True, slots=True)
class PixelFile:
    """One file: the targets of one program of one survey in one pixel."""

    survey: str
    program: str
    pixel: int
    nspec: int
    key: tuple[int, ...]
    """Seed of the targets and of what is seen of them."""
    partner: "PixelFile | None" = None
    """The file whose first targets are observed again here."""
    given: tuple[tuple[float, float, float, int], ...] = ()
    """Right ascension, declination, redshift and kind of targets that are asked for."""
    light: tuple[Light, ...] = ()
    """Their spectra without noise; empty: drawn as those of other targets."""

    @property
    def tile(self) -> int:
        """First of the tiles that the exposures are of."""
        return _TILES[self.survey, self.program] + self.pixel % 100 * 4


def plan_files(
    nspec: int,
    seed: int,
    per_file: int,
    positions: Sequence[npt.ArrayLike] | None,
    light: Sequence[Light],
) -> list[PixelFile]:
    """Return the files of a survey of ``nspec`` spectra; files of given positions come first."""
    planned = _given_files(positions, seed, light) if positions is not None else []
    left = nspec - sum(pixel_file.nspec for pixel_file in planned)
    if left < 0:
        raise BadParameter("nspec", nspec, f"at least one a position: {nspec - left}")
    nfile = max(-(-left // per_file), 2 if left >= _TWO_FILES_FROM else min(left, 1))
    rng = np.random.default_rng((seed, 4))
    taken = {pixel_file.pixel for pixel_file in planned}
    previous = None
    for index in range(nfile):
        count = left * (index + 1) // nfile - left * index // nfile
        survey, program = _PROGRAMS[index % len(_PROGRAMS)]
        if index % 2 == 0:
            pixel, previous = _free_pixel(rng, taken, index), None
        pixel_file = PixelFile(survey, program, pixel, count, (seed, 4, pixel, index % 4), previous)
        planned.append(pixel_file)
        previous = pixel_file
    return planned


def _free_pixel(rng: np.random.Generator, taken: set[int], index: int) -> int:
    """Return a pixel of the footprint that no other file has; the first one probes RA 0."""
    while True:
        ra = 0.05 if index == 0 and not taken else rng.uniform(0.0, 360.0)
        dec = 1.3 if index == 0 and not taken else np.degrees(np.arcsin(rng.uniform(-0.3, 0.97)))
        pixel = int(pixels_of(np.array([ra]), np.array([dec]))[0])
        if pixel not in taken:
            taken.add(pixel)
            return pixel


def _given_files(
    positions: Sequence[npt.ArrayLike], seed: int, light: Sequence[Light]
) -> list[PixelFile]:
    """Return a file for each pixel in which there are given positions."""
    if len(positions) not in (3, 4) or len({np.size(position) for position in positions}) != 1:
        raise BadParameter("positions", f"{len(positions)} arrays", "ra, dec, z and maybe class")
    if light and len(light) != np.size(positions[0]):
        raise BadParameter("light", f"{len(light)} spectra", "one for each position")
    ra, dec, z = (np.asarray(position, np.float64) for position in positions[:3])
    words = {"GALAXY": GALAXY, "QSO": QSO, "STAR": STAR}
    if len(positions) == 4:
        kind = np.array([words.get(str(word), GALAXY) for word in np.asarray(positions[3])])
    else:
        kind = np.where(z < 0.002, STAR, np.where(z > 1.6, QSO, GALAXY))
    pixel = pixels_of(ra, dec)
    planned = []
    for number in np.unique(pixel).tolist():
        rows = np.flatnonzero(pixel == number)
        given = tuple((float(ra[i]), float(dec[i]), float(z[i]), int(kind[i])) for i in rows)
        key = (seed, 5, number)
        seen = tuple(light[i] for i in rows.tolist()) if light else ()
        planned.append(PixelFile("main", "dark", number, len(given), key, None, given, seen))
    return planned


def pixels_of(ra_deg: npt.NDArray[Any], dec_deg: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the nested pixel, nside 64, of each position: 1D[n] int64."""
    from hpgeom import angle_to_pixel  # noqa: PLC0415  # of the server; mock SDSS does without

    found: npt.NDArray[np.int64] = angle_to_pixel(1 << ORDER, ra_deg % 360.0, dec_deg)
    return found


def _positions(
    pixel: int, n: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return positions, degrees, uniform over a pixel: centres of pixels 0.4 mas wide."""
    from hpgeom import pixel_to_angle  # noqa: PLC0415

    inside = rng.integers(0, 1 << (2 * _FINE), n)
    ra, dec = pixel_to_angle(1 << 29, (pixel << (2 * _FINE)) + inside)
    return np.asarray(ra), np.asarray(dec)


def draw_targets(pixel_file: PixelFile) -> npt.NDArray[Any]:
    """Return the targets of a file: 1D[pixel_file.nspec] of `TARGET`."""
    rng = np.random.default_rng(pixel_file.key)
    n = pixel_file.nspec
    out = np.zeros(n, dtype=TARGET)
    out["sample"] = rng.choice(7, n, p=_SHARES[pixel_file.program])
    out["ra"], out["dec"] = _positions(pixel_file.pixel, n, rng)
    out["targetid"] = _target_ids(pixel_file, n)
    out["tilt"] = rng.normal(0.0, 0.1, n)
    out["mix"] = rng.random(n)
    out["ratio"] = rng.random(n)
    out["width"] = rng.lognormal(0.0, 0.25, n)
    for sample, draw in _DRAWS.items():
        chosen = out["sample"] == sample
        part = out[chosen]
        draw(part, rng)
        out[chosen] = part
    bad = rng.random(n) < _BAD_SHARE
    out["status"] = np.where(bad, rng.choice(_BAD_STATUS, n), 0)
    if pixel_file.given:
        _give(out, pixel_file, rng)
    elif pixel_file.partner is not None:
        first = draw_targets(pixel_file.partner)
        again = first[(first["sample"] < BLANK) & (first["status"] == 0)]
        count = min(int(_REPEATED_SHARE * n) + 1, again.size, n)
        out[:count] = again[:count]
    _end(out, pixel_file)
    return out


def _end(out: npt.NDArray[Any], pixel_file: PixelFile) -> None:
    """Mark sky, and fibres without a target, in place."""
    out["targetid"] |= np.where(out["sample"] == BLANK, 1 << 59, 0)
    nothing = out["sample"] == NOTHING
    fibre = np.arange(out.size) * 10 % 5000
    out["targetid"] = np.where(nothing, -(pixel_file.tile * 10000 + fibre), out["targetid"])
    out["status"] = np.where(nothing & (out["status"] == 0), 1, out["status"])
    out["kind"] = np.where(out["sample"] == BLANK, SKY, np.where(nothing, DEAD, out["kind"]))
    out["sn"] = np.clip(out["sn"], 0.3, 60.0)


def _target_ids(pixel_file: PixelFile, n: int) -> npt.NDArray[np.int64]:
    """Return TARGETIDs: bits 0–21 number in its brick, 22–41 brick, 42–57 release, 59 sky."""
    number = np.arange(n, dtype=np.int64)
    brick = pixel_file.pixel * _BRICKS_PER_PIXEL + number % _BRICKS_PER_PIXEL
    start = _OBJID[pixel_file.survey, pixel_file.program]
    return (_RELEASE << 42) | (brick << 22) | (start + number // _BRICKS_PER_PIXEL + 1)


def _give(out: npt.NDArray[Any], pixel_file: PixelFile, rng: np.random.Generator) -> None:
    """Set the first targets to the given ones, in place."""
    for row, (ra, dec, z, kind) in enumerate(pixel_file.given):
        sample = {QSO: QUASAR, STAR: MWS}.get(kind, BGS if z < 0.35 else LRG if z < 1.1 else ELG)
        part = out[row : row + 1]
        part["sample"], part["status"] = sample, 0
        _DRAWS[sample](part, rng)
        part["ra"], part["dec"], part["z"] = ra % 360.0, dec, z
        part["sn"] = np.maximum(part["sn"], 3.0)


def _galaxies(sample: int, out: npt.NDArray[Any], rng: np.random.Generator) -> None:
    """Fill the galaxies of a sample."""
    n = out.size
    out["kind"] = GALAXY
    kinds = [PASSIVE, STARFORMING, STARBURST, AGN, BROADLINE]
    if sample == BGS:
        out["z"] = np.clip(0.03 + rng.gamma(2.6, 0.075, n), 0.01, 0.6)
        out["subtype"] = rng.choice(kinds, n, p=(0.36, 0.42, 0.06, 0.12, 0.04))
        sn = 6.0
    elif sample == LRG:
        out["z"] = np.clip(rng.normal(0.75, 0.17, n), 0.35, 1.15)
        out["subtype"] = rng.choice(kinds, n, p=(0.9, 0.03, 0.0, 0.06, 0.01))
        sn = 2.2
    else:
        out["z"] = np.clip(rng.normal(1.1, 0.22, n), 0.6, 1.62)
        out["subtype"] = rng.choice(kinds, n, p=(0.0, 0.25, 0.72, 0.03, 0.0))
        sn = 0.7
    out["sn"] = sn * rng.lognormal(0.0, 0.4, n)
    passive = out["subtype"] == PASSIVE
    out["vdisp"] = np.where(passive, rng.normal(230, 40, n), rng.normal(95, 25, n))
    median = np.array([0.12, 5.0, 24.0, 3.0, 6.0])[out["subtype"]]
    out["ew"] = median * rng.lognormal(0.0, 0.4, n)


def _quasars(out: npt.NDArray[Any], rng: np.random.Generator) -> None:
    """Fill quasars."""
    n = out.size
    out["kind"] = QSO
    forest = rng.random(n) < 0.35
    out["z"] = np.clip(
        np.where(forest, 2.1 + rng.gamma(1.6, 0.32, n), rng.uniform(0.6, 2.1, n)), 0.4, 4.5
    )
    out["subtype"] = rng.random(n) < 0.08
    out["sn"] = 3.5 * rng.lognormal(0.0, 0.5, n)
    out["ew"] = rng.lognormal(0.0, 0.35, n)
    out["tilt"] = rng.normal(0.0, 0.35, n)


_DRAWS: Mapping[int, Callable[[npt.NDArray[Any], np.random.Generator], None]] = {
    BGS: partial(_galaxies, BGS),
    LRG: partial(_galaxies, LRG),
    ELG: partial(_galaxies, ELG),
    QUASAR: _quasars,
    MWS: partial(draw_stars, sigma_z=3.0e-4, sn=15.0),
}
