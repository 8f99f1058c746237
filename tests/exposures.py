"""DESI exposures that are in two files, as in the file of a pixel and the file of a tile."""

import shutil
from pathlib import Path

from astropy.io import fits

from specserver.simulate import simulate_desi


def exposures_in_two_files(folder: Path, count: int, per_file: int) -> tuple[Path, Path]:
    """Simulate exposures, copy the first file as that of another pixel, and return both paths."""
    simulate_desi(folder, count, seed=3, per_file=per_file, exposures=True)
    first = min(folder.rglob("spectra-*.fits"))
    copy = first.with_name("spectra-main-dark-99999.fits")
    shutil.copy(first, copy)
    with fits.open(copy, mode="update") as units:
        units[0].header["PROGRAM"], units[0].header["HPXPIXEL"] = "dark", 99999
    return first, copy
