"""The exposures of a mock DESI file: ``spectra-*.fits``, whose weighted mean is the coadd."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .layout import EXPOSURE_SCORES, TSNR2, exposure_score
from .observe import ARMS, BADFIBER, Seen
from .rows import Visits


def exposures_of(
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


def exposure_scores(
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
