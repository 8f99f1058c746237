"""The exposures of a full file: one table per camera and exposure, on the camera's own pixels."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.cards import Card, hdu, header
from ..common.tables import ColumnForm, read_cards, table_cards
from .layout import Family, columns
from .plan import Plate

# First and last wavelength in Å and pixels of each camera; blue detectors of SDSS read backwards.
_CAMERAS = {
    (False, "b"): (6137.5, 3805.2, 2044),
    (False, "r"): (5810.0, 9215.0, 2043),
    (True, "b"): (3560.7, 6291.6, 2537),
    (True, "r"): (5866.0, 10331.5, 3141),
}


def exposure_names(plate: Plate, night: Mapping[str, Any], fiber: int) -> list[str]:
    """Return the names of a fibre's exposures as EXPIDnn gives them: blue ones, then red."""
    spectrograph = 1 if fiber <= plate.family.nfiber // 2 else 2
    exposure, nexp = night["exposure"], night["nexp"]
    flat, arc = exposure + nexp, exposure + nexp + 1
    return [
        f"{arm}{spectrograph}-{exposure + i:08d}-{flat:08d}-{arc:08d}"
        for arm in "br"
        for i in range(nexp)
    ]


def exposure_units(
    rows: npt.NDArray[Any], plate: Plate, names: list[str], rng: np.random.Generator
) -> Iterator[bytes]:
    """Yield the units of the exposures of one spectrum: noisier views of its coadd, 1D[npix]."""
    for name in names:
        data = _exposure(rows, plate.family, name[0], len(names) // 2, rng)
        forms = _forms(plate.family)
        number, camera = int(name[3:11]), name[:2]
        cards = table_cards(data.dtype.itemsize, data.size, len(forms))
        cards += read_cards(
            "exposure_cards", "*", mjd=plate.mjd, plate=plate.number, camera=camera, exposure=number
        )
        for column, form in enumerate(forms, 1):
            cards += form.cards(column)
        cards.append(Card("EXTNAME", name.upper(), "extension name"))
        yield from hdu(header(cards).data, data.tobytes())


def _forms(family: Family) -> tuple[ColumnForm, ...]:
    """Return the columns of an exposure; only those of BOSS have the position on the detector."""
    return columns("exposure") if family.boss else columns("exposure")[:-1]


def _exposure(
    rows: npt.NDArray[Any], family: Family, arm: str, nexp: int, rng: np.random.Generator
) -> npt.NDArray[Any]:
    """Return one exposure of one camera: 1D[npix] with the columns of `_forms`."""
    start_aa, stop_aa, npix = _CAMERAS[family.boss, arm]
    loglam = np.linspace(np.log10(start_aa), np.log10(stop_aa), npix)
    data = np.zeros(npix, np.dtype([form.numpy() for form in _forms(family)]))
    grid = rows["loglam"].astype("f8")
    step = np.abs(np.gradient(loglam)) / 1e-4
    ivar = np.interp(loglam, grid, rows["ivar"].astype("f8"), 0.0, 0.0) / nexp * step
    noise = rng.standard_normal(npix) / np.sqrt(np.where(ivar > 0, ivar, np.inf))
    data["loglam"] = loglam
    data["flux"] = np.interp(loglam, grid, rows["model"].astype("f8")) + noise
    data["ivar"] = ivar
    data["mask"] = np.where(ivar > 0, 0, 1 << 24)
    data["wdisp"] = np.interp(loglam, grid, rows["wdisp"].astype("f8")) / step
    data["sky"] = np.interp(loglam, grid, rows["sky"].astype("f8"))
    data["calib"] = 0.12 * (1.0 + 2.0 * np.linspace(1.0, 0.0, npix) ** 4)
    if family.boss:
        data["x"] = 3800.0 + 10.0 * np.linspace(-1.0, 1.0, npix) ** 2
    return data
