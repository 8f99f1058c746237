"""HDU3: the fits to emission lines, from the lines that were put in."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..common import emission
from ..common.objects import DEAD, STAR
from ..common.templates import KMS_PER_PIXEL, STEP, Float64
from .layout import LINE_RECORD
from .observe import Observed
from .plan import Plate

_NOT_FITTED = -1.0
_ERRORS = tuple(name for name in LINE_RECORD.names or () if name.endswith("_ERR"))


def line_fits(
    truth: npt.NDArray[Any], plate: Plate, seen: Observed, rng: np.random.Generator
) -> npt.NDArray[Any]:
    """Return the line fits of a block: 2D[nspec, nline] of `LINE_RECORD`.

    Lines outside the spectrum have zero values and negative errors, as in real files.
    """
    listed = emission.line_rows(plate.family.run2d)
    index = np.array([i for i, _, _ in listed])
    out = np.zeros((truth.size, len(listed)), dtype=LINE_RECORD)
    out["PLATE"], out["MJD"] = plate.number, plate.mjd
    out["FIBERID"] = truth["fiber"][:, None]
    out["LINENAME"] = [name.ljust(13).encode() for _, name, _ in listed]
    out["LINEWAVE"] = [wave for _, _, wave in listed]
    for name in (*_ERRORS, "LINECHI2"):
        out[name] = _NOT_FITTED
    observed_aa = emission.WAVE[index] * (1.0 + truth["z"][:, None])
    pixel = np.rint(np.log10(observed_aa) / STEP).astype(np.int64) - seen.window
    where = np.clip(pixel, 0, seen.record.shape[1] - 1)
    ivar = np.take_along_axis(seen.record["ivar"].astype("f8"), where, axis=1)
    fitted = (pixel > seen.start[:, None] + 8) & (pixel < seen.stop[:, None] - 8) & (ivar > 0)
    fitted &= ~np.isin(truth["kind"], (STAR, DEAD))[:, None]
    step_aa = observed_aa * STEP * np.log(10.0)
    noise = step_aa / np.sqrt(np.where(fitted, ivar, 1.0))
    for name, values in _fits(truth, seen, index, noise, rng).items():
        out[name][fitted] = values[fitted]
    return out


def _fits(
    truth: npt.NDArray[Any],
    seen: Observed,
    index: npt.NDArray[np.int64],
    noise: Float64,
    rng: np.random.Generator,
) -> dict[str, npt.NDArray[Any]]:
    """Return fitted values by column, 2D[nspec, nline] each, as is the error of flux in a pixel."""
    narrow, broad = seen.models.narrow[:, index], seen.models.broad[:, index]
    sigma_narrow, sigma_broad = emission.widths_kms(truth)
    sigma = np.where(broad > narrow, sigma_broad[:, None], sigma_narrow[:, None])
    half = np.ceil(3.0 * np.hypot(sigma / KMS_PER_PIXEL, 0.9)).astype(np.int64)
    error = np.sqrt(3.0 * half) * noise
    area = narrow + broad + error * rng.standard_normal(noise.shape)
    level = np.clip(seen.models.continuum[:, index], 1e-4, None)
    return {
        "LINEZ": truth["z"][:, None] * np.ones_like(area),
        "LINEZ_ERR": np.full(area.shape, 2e-5),
        "LINESIGMA": sigma,
        "LINESIGMA_ERR": 0.05 * sigma,
        "LINEAREA": area,
        "LINEAREA_ERR": error,
        "LINEEW": area / level,
        "LINEEW_ERR": error / level,
        "LINECONTLEVEL": level,
        "LINECONTLEVEL_ERR": 0.02 * level,
        "LINENPIXLEFT": half,
        "LINENPIXRIGHT": half,
        "LINEDOF": 2.0 * half,
        "LINECHI2": 2.0 * half,
    }
