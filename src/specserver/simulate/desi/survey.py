"""A mock DESI in the survey's own files: healpix coadds, their redshifts, maybe their exposures.

The same seed gives the same bytes, with any number of workers.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter
from ..common.cards import Card, header
from ..common.tables import read_cards
from ..common.writing import Summary, check_workers, write_all
from .layout import EXPOSURE_SCORES, TSNR2, exposure_score, image_unit, mask_unit, table_unit
from .observe import ARMS, BADFIBER, GRID, Seen, observe_targets
from .plan import ORDER, Light, PixelFile, draw_targets, plan_files
from .rows import (
    Visits,
    band_fluxes,
    coadd_columns,
    coadd_scores,
    draw_visits,
    exposure_columns,
    redshift_columns,
    target_columns,
    tsnr2_columns,
)

_BLOCK = 32
"""Targets computed together: enough to amortise NumPy's calls, few enough for the cache."""
_NDIAG = 11
"""Diagonals of a resolution matrix."""
_SIGMA_PIX = {"B": 0.75, "R": 0.75, "Z": 0.85}
_LEFT_OUT = " mock spectra without RESOLUTION, which is two thirds of a real file"

_Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Content:
    """All that the files of a pixel hold."""

    pixel_file: PixelFile
    targets: npt.NDArray[Any]
    seen: Seen
    visits: Visits
    fibermap: _Columns
    exposures: _Columns
    scores: _Columns
    redshifts: _Columns


def simulate_desi(
    directory: Path,
    nspec: int,
    seed: int = 1,
    *,
    per_file: int = 500,
    exposures: bool = False,
    resolution: bool = False,
    positions: Sequence[npt.ArrayLike] | None = None,
    light: Sequence[Light] = (),
    progress: Callable[[int, int], object] | None = None,
    workers: int = 1,
) -> Summary:
    """Write a mock DESI into a folder, which is made if absent.

    Parameters
    ----------
    per_file
        Targets of a file at most.
    exposures
        Write ``spectra-*.fits`` too: one spectrum a target and exposure.
    resolution
        Write the resolution matrices, which make a file three times as large.
    positions
        Right ascension, declination (degrees), redshift and maybe class (GALAXY, QSO, STAR) of
        objects to be among the targets: 1D[n] each, n at most ``nspec``. They are in the first
        files, one a healpixel.
    light
        Spectrum of each of these objects without noise, for example the model of one that another
        survey took: wavelength (Å) and flux density (1e-17 erg s-1 cm-2 Å-1), 1D[npix] each.
        Without it the objects look like others of their class.
    progress
        Called with the number of spectra written so far, and of all.
    workers
        Processes; the files do not depend on it.

    Raises
    ------
    BadParameter
    """
    if nspec < 1 or per_file < 1:
        raise BadParameter("nspec, per_file", (nspec, per_file), "at least 1 each")
    check_workers(workers, seed)
    planned = plan_files(nspec, seed, per_file, positions, light)
    write = partial(write_pixel_file, directory, exposures=exposures, resolution=resolution)
    nbytes = write_all(write, planned, workers, progress, nspec)
    families: Counter[str] = Counter()
    for pixel_file in planned:
        families[f"{pixel_file.survey} {pixel_file.program}"] += pixel_file.nspec
    return Summary(families.total(), nbytes, dict(families))


def write_pixel_file(
    directory: Path, pixel_file: PixelFile, *, exposures: bool, resolution: bool
) -> list[tuple[int, int]]:
    """Write the files of one program and pixel; return spectra and bytes."""
    content, pixel = _observe(pixel_file), pixel_file.pixel
    place = f"healpix/{pixel_file.survey}/{pixel_file.program}/{pixel // 100}/{pixel}"
    folder = directory / place
    folder.mkdir(parents=True, exist_ok=True)
    files = {"coadd": _coadd(content, resolution=resolution), "redrock": _redrock(content)}
    if exposures:
        files["spectra"] = _spectra(content, resolution=resolution)
    nbytes = 0
    for kind, units in files.items():
        path = folder / f"{kind}-{pixel_file.survey}-{pixel_file.program}-{pixel_file.pixel}.fits"
        with path.open("wb") as file:
            nbytes += sum(map(file.write, units))
    return [(pixel_file.nspec, nbytes)]


def _observe(pixel_file: PixelFile) -> _Content:
    """Return all that is seen of the targets of a file."""
    targets, light = draw_targets(pixel_file), pixel_file.light
    rng = np.random.default_rng((*pixel_file.key, 1))
    visits = draw_visits(pixel_file, rng)
    airglow = float(rng.lognormal(0.0, 0.3))
    blocks = [
        observe_targets(targets[block], visits.exptime_s[block], airglow, rng, light[block])
        for block in (slice(at, at + _BLOCK) for at in range(0, targets.size, _BLOCK))
    ]
    scores = _stacked([coadd_scores(block) for block in blocks])
    magnitudes = _stacked([band_fluxes(block) for block in blocks])
    seen = Seen(
        np.zeros((0, 0), np.float32),  # the models are no longer needed
        *(
            {arm: np.concatenate([getattr(block, name)[arm] for block in blocks]) for arm in ARMS}
            for name in ("flux", "ivar", "mask")
        ),
    )
    fibermap = target_columns(pixel_file, targets, magnitudes, rng)
    fibermap |= coadd_columns(targets, visits, rng)
    scores |= {"TARGETID": targets["targetid"]}
    scores |= tsnr2_columns(pixel_file, targets, visits.exptime_s)
    exposures = exposure_columns(targets, visits, rng)
    redshifts = redshift_columns(targets, rng)
    return _Content(pixel_file, targets, seen, visits, fibermap, exposures, scores, redshifts)


def _stacked(blocks: Sequence[_Columns]) -> _Columns:
    """Return the columns of all blocks, one after the other."""
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _primary(pixel_file: PixelFile, kind: str = "*", comment: str = " mock spectra") -> bytes:
    """Return the header that says where the file's spectra were taken."""
    where = {"survey": pixel_file.survey, "program": pixel_file.program}
    cards = read_cards("desi_primary", kind, pixel=pixel_file.pixel, nside=1 << ORDER, **where)
    return header([*cards, Card("COMMENT", None, comment)]).data


def _coadd(content: _Content, *, resolution: bool) -> Iterator[bytes]:
    """Yield the parts of a coadd: one spectrum a target, SCORES last."""
    survey, seen = content.pixel_file.survey, content.seen
    yield _primary(content.pixel_file, comment=" mock spectra" if resolution else _LEFT_OUT)
    yield from table_unit("FIBERMAP", "fibermap", survey, content.fibermap)
    yield from table_unit("EXP_FIBERMAP", "exp_fibermap", survey, content.exposures)
    for arm in ARMS:
        vectors = (seen.flux[arm], seen.ivar[arm], seen.mask[arm])
        yield from _arm(survey, arm, vectors, resolution=resolution)
    yield from table_unit("SCORES", "scores", survey, content.scores)


def _redrock(content: _Content) -> Iterator[bytes]:
    """Yield the parts of a redshift file, whose rows are in the order of TARGETID."""
    survey = content.pixel_file.survey
    order = np.argsort(content.targets["targetid"], kind="stable")
    yield _primary(content.pixel_file, "redrock")
    for extname, name, columns in (
        ("REDSHIFTS", "redshifts", content.redshifts),
        ("FIBERMAP", "fibermap", content.fibermap),
    ):
        yield from table_unit(extname, name, survey, _ordered(columns, order))
    yield from table_unit("EXP_FIBERMAP", "exp_fibermap", survey, content.exposures)
    yield from table_unit("TSNR2", "tsnr2", survey, _ordered(content.scores, order))


def _ordered(columns: Mapping[str, npt.NDArray[Any]], order: npt.NDArray[np.int64]) -> _Columns:
    """Return columns with their rows in another order."""
    return {name: values[order] for name, values in columns.items()}


def _spectra(content: _Content, *, resolution: bool) -> Iterator[bytes]:
    """Yield the parts of a file of exposures: SCORES second, no EXP_FIBERMAP."""
    survey, visits = content.pixel_file.survey, content.visits
    rng = np.random.default_rng((*content.pixel_file.key, 2))
    yield _primary(content.pixel_file, comment=" mock spectra" if resolution else _LEFT_OUT)
    rows = _ordered(content.fibermap, visits.target) | content.exposures
    yield from table_unit("FIBERMAP", "spectra_fibermap", survey, rows)
    scores = _exposure_scores(content.targets, visits, content.scores)
    yield from table_unit("SCORES", "spectra_scores", survey, scores)
    for arm, *vectors in _exposures(content.seen, content.targets, visits, rng):
        yield from _arm(survey, arm, vectors, resolution=resolution)


def _exposures(
    seen: Seen, targets: npt.NDArray[Any], visits: Visits, rng: np.random.Generator
) -> Iterator[tuple[str, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.uint32]]]:
    """Yield arm, flux, ivar and mask of all exposures: 2D[nvisit, npix] float32, uint32.

    An exposure deviates from the coadd as one of so many measurements from their mean. Those of
    bad fibres hold light without weight, flagged, which coadds leave out.
    """
    time = visits.exposures["EXPTIME"][visits.exposure] / visits.exptime_s[visits.target]
    share = time.astype(np.float32)[:, None]
    bad = (targets["status"] != 0)[visits.target]
    first = np.cumsum(visits.count) - visits.count
    for arm in ARMS:
        ivar = seen.ivar[arm][visits.target] * share
        noise = rng.standard_normal(ivar.shape, dtype=np.float32)
        noise *= np.where(ivar > 0, np.float32(1) / np.sqrt(np.where(ivar > 0, ivar, 1)), 0)
        mean = np.add.reduceat(noise * share, first, axis=0)
        flux = seen.flux[arm][visits.target] + noise - mean[visits.target]
        mask = seen.mask[arm][visits.target]
        flux[bad] = rng.normal(0.0, 0.3, (int(bad.sum()), flux.shape[1]))
        mask[bad] |= np.uint32(BADFIBER)
        yield arm, flux, ivar, mask


def _exposure_scores(
    targets: npt.NDArray[Any], visits: Visits, coadded: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of SCORES of the exposures, 1D[nvisit], from the coadds', 1D[nspec]."""
    share = visits.exposures["EXPTIME"][visits.exposure] / visits.exptime_s[visits.target]
    out = {"TARGETID": targets["targetid"][visits.target]}
    out |= {name: coadded[name][visits.target] * share for name in TSNR2}
    for arm in ARMS:
        flux = coadded[f"INTEG_COADD_FLUX_{arm}"][visits.target]
        snr = coadded[f"MEDIAN_COADD_SNR_{arm}"][visits.target] * np.sqrt(share)
        for name in EXPOSURE_SCORES:
            value = snr if name.startswith("SNR") else flux * (1000.0 if "SUM" in name else 0.4)
            out[exposure_score(name, arm)] = value
    return out


def _arm(
    survey: str, arm: str, vectors: Sequence[npt.NDArray[Any]], *, resolution: bool
) -> Iterator[bytes]:
    """Yield the units of an arm: wavelength, flux, ivar, mask, maybe resolution."""
    flux, ivar, mask = vectors
    first, stop = ARMS[arm]
    # As the survey does: a sum of steps, 5e-10 Å off the lattice at most.
    start = GRID.wave(first, 1)[0]
    wave = np.arange(start, start + GRID.step * (stop - first - 0.5), GRID.step)
    yield from image_unit(f"{arm}_WAVELENGTH", wave)
    yield from image_unit(f"{arm}_FLUX", flux)
    yield from image_unit(f"{arm}_IVAR", ivar)
    # Files of survey validation are of the older version of the pipeline.
    yield from mask_unit(f"{arm}_MASK", mask, unsigned=survey != "main")
    if resolution:
        offset = np.arange(_NDIAG) - _NDIAG // 2
        kernel = np.exp(-0.5 * (offset / _SIGMA_PIX[arm]) ** 2)
        shape = (len(flux), _NDIAG, stop - first)
        rows = np.broadcast_to((kernel / kernel.sum())[None, :, None], shape).astype(np.float32)
        yield from image_unit(f"{arm}_RESOLUTION", rows)
