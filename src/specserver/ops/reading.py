"""Spectra of a survey's file, after two checks: the file is whole, and the axis rises."""

from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

import numpy as np

from ..errors import BadFile
from ..model.survey import BytesReader, RawSpectrum, Reader
from .wholefits import require_whole, whole_bytes


def file_bytes(reader: Reader, path: Path) -> bytes | None:
    """Return the bytes of a file if its reader takes bytes, else None; errors: `read_spectra`'s."""
    if not S_ISREG(path.stat().st_mode):
        raise BadFile("it is no regular file")  # a pipe would be waited for
    return path.read_bytes() if isinstance(reader, BytesReader) else None


def read_spectra(reader: Reader, path: Path, data: bytes | None = None) -> list[RawSpectrum]:
    """Read all spectra of a file; those with falling wavelengths are reversed.

    Parameters
    ----------
    data : the bytes that `file_bytes` returned, so that the file is read once

    Raises
    ------
    BadFile
        The file is cut off, wavelengths neither rise nor fall, or the reader refuses it.
    OSError
        The file cannot be read.
    """
    if isinstance(reader, BytesReader):
        content = path.read_bytes() if data is None else data
        found = reader.read_from_bytes(path, whole_bytes(content))
    else:
        require_whole(path)
        found = reader.read(path)
    spectra: list[RawSpectrum] = []
    checked = None
    for spectrum in found:
        # Many spectra of a file may share one axis.
        spectra.append(spectrum if spectrum.axis is checked else rising(spectrum))
        checked = spectra[-1].axis
    return spectra


def rising(spectrum: RawSpectrum) -> RawSpectrum:
    """Return a spectrum with a rising axis; reversed, every value stays with its wavelength.

    Raises
    ------
    BadFile
        The axis neither rises nor falls throughout, or has a value that is no number.
    """
    axis = spectrum.axis
    finite = np.isfinite(axis)
    if not finite.all():
        at = int(np.argmin(finite))
        raise BadFile(f"the wavelength of pixel {at} of {len(axis)} is no number ({axis[at]})")
    steps = np.diff(axis)
    if (steps > 0).all():
        return spectrum
    if not (steps < 0).all():
        # The direction in which most of them go is meant; the first one that does not is at fault.
        up = np.count_nonzero(steps > 0) >= np.count_nonzero(steps < 0)
        at = int(np.argmin(steps > 0 if up else steps < 0))
        raise BadFile(
            "the wavelengths neither rise nor fall throughout: pixels"
            f" {at} and {at + 1} of {len(axis)} are at {axis[at]} and {axis[at + 1]}"
        )
    if any(len(values) != len(axis) for values in spectrum.vectors.values()):
        raise BadFile("the wavelengths fall, and not all vectors have a value for each of them")
    turned = {name: np.ascontiguousarray(values[::-1]) for name, values in spectrum.vectors.items()}
    return replace(spectrum, axis=np.ascontiguousarray(axis[::-1]), vectors=turned)
