"""A file of any kind that specutils reads, as plain arrays: every value as the file has it."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import BadFile
from ..model.medium import Medium
from .fileparts import read_parts
from .statedmedium import medium_of

_PACKED: Final = (".gz", ".fz", ".bz2")
_ENDINGS: Final = frozenset(
    {
        ".fits", ".fit", ".fts", ".ecsv", ".csv", ".txt", ".dat", ".ascii", ".asc", ".asdf",
        ".hdf5", ".h5", ".npz",
    }
)  # fmt: skip
# Cards that hold the position of the object, those of the target before those of the telescope.
_POSITIONS: Final = (
    ("PLUG_RA", "PLUG_DEC"), ("OBJRA", "OBJDEC"), ("OBJ_RA", "OBJ_DEC"), ("RA_OBJ", "DEC_OBJ"),
    ("RA_TARG", "DEC_TARG"), ("TARG_RA", "TARG_DEC"), ("RAJ2000", "DEJ2000"), ("RA", "DEC"),
    ("RADEG", "DECDEG"), ("OBSRA", "OBSDEC"),
)  # fmt: skip
_REDSHIFTS: Final = ("REDSHIFT", "Z")
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ReadSpectrum:
    """One spectrum of a file."""

    wave: npt.NDArray[np.float64]
    """1D[npix] float64, Å, rising, in the medium ``medium``."""
    flux: npt.NDArray[np.float64]
    """1D[npix] float64, in ``unit``."""
    ivar: npt.NDArray[np.float64] | None
    """1D[npix] float64, ``unit**-2``; 0: no information. None: the file states no uncertainty."""
    mask: npt.NDArray[np.uint32]
    """1D[npix] uint32; 1: masked by the file, or no number."""
    unit: str
    """Unit of flux as astropy reads it; empty where there is none."""
    medium: Medium
    """What its wavelengths are in, as the file says, or else whoever reads it."""
    ra_deg: float
    dec_deg: float
    """ICRS position of the object from the header; NaN: it has none."""
    z: float
    """Redshift from the header; NaN: it has none."""


def stem_of(path: Path) -> str:
    """Return a file's name without the endings that say how it is written."""
    name = path.name
    for ending in _PACKED:
        name = name.removesuffix(ending)
    ending = Path(name).suffix
    return name.removesuffix(ending) if ending.lower() in _ENDINGS else name


def is_spectrum_name(path: Path) -> bool:
    """Tell whether a file's name ends as those of spectra do."""
    name = path.name
    for ending in _PACKED:
        name = name.removesuffix(ending)
    return Path(name).suffix.lower() in _ENDINGS and not name.startswith(".")


def read_file(path: Path, loader: str = "", medium: str = "") -> list[ReadSpectrum]:
    """Read all spectra of a file with specutils.

    Parameters
    ----------
    path : the file
    loader : name of the format in specutils; empty to have it recognised
    medium : what wavelengths are in where the file does not say: air, vacuum; empty: not known

    Raises
    ------
    BadFile
        With the reason: not recognised, no wavelengths, an image and not a spectrum, …
    """
    # Slow to import, and only this needs it.
    from specutils import SpectrumList  # noqa: PLC0415

    with warnings.catch_warnings():
        # Headers in the wild break the standard in many small ways; none touches a value.
        warnings.simplefilter("ignore")
        try:
            found = SpectrumList.read(str(path), **({"format": loader} if loader else {}))
        except Exception as error:  # loaders are anybody's, and raise what they like
            raise BadFile(_why(error)) from error
        spectra: list[ReadSpectrum] = []
        shared: Mapping[str, Any] = {}
        parts = read_parts(path)
        for one in found:
            # Where a file has one header, its first spectrum has it.
            shared = _header(one) or shared
            stated = medium_of(parts, np.ravel(one.spectral_axis.value), medium)
            spectra += _rows(one, shared, stated)
    if not spectra:
        raise BadFile("specutils finds no spectrum in it")
    return spectra


def _why(error: Exception) -> str:
    """Return in one line why specutils does not read a file."""
    text = " ".join(str(error).split())
    if "Format could not be identified" in text:
        return "specutils knows no format like it; name one with --loader if there is one"
    return f"specutils cannot read it: {type(error).__name__}: {text[:200]}"


def _header(one: Any) -> Mapping[str, Any]:
    """Return the header of a Spectrum by keyword."""
    header = one.meta.get("header")
    return header if header is not None and hasattr(header, "get") else {}


def _rows(one: Any, header: Mapping[str, Any], medium: Medium) -> Iterator[ReadSpectrum]:
    """Yield the spectra of a Spectrum, which may have many on one axis."""
    if one.flux.ndim > 2:
        raise BadFile(f"flux has {one.flux.ndim} dimensions: a cube, not spectra")
    wave = _wave(one)
    flux = _by_row(one, _numbers(one.flux.value, "flux"))
    if flux.shape[-1] != len(wave):
        raise BadFile(f"{flux.shape[-1]} values of flux for {len(wave)} wavelengths")
    stated = _ivar(one)
    ivar = None if stated is None else _by_row(one, stated)
    masked = _by_row(one, np.asarray(False if one.mask is None else one.mask, bool))
    # Wavelengths fall in some files; turned round, every value stays with its wavelength.
    turn = slice(None, None, -1) if wave[0] > wave[-1] else slice(None)
    wave = np.ascontiguousarray(wave[turn])
    if not np.isfinite(wave).all() or wave[0] <= 0 or not (np.diff(wave) > 0).all():
        raise BadFile("the wavelengths neither rise nor fall throughout, or are no numbers above 0")
    ra, dec = _position(header)
    for index, values in enumerate(flux[:, turn]):
        number = np.isfinite(values)
        yield ReadSpectrum(
            wave=wave,
            flux=np.ascontiguousarray(values),
            ivar=None if ivar is None else np.where(number, ivar[index, turn], 0.0),
            mask=(masked[index, turn] | ~number).astype(np.uint32),
            unit=one.flux.unit.to_string(),
            medium=medium,
            ra_deg=ra,
            dec_deg=dec,
            z=_redshift(header),
        )


def _by_row(one: Any, values: Array) -> Array:
    """Return what belongs to the values of flux as 2D[nspec, npix]."""
    at = getattr(one, "spectral_axis_index", None)
    full = np.broadcast_to(values, one.flux.shape)
    return np.atleast_2d(np.moveaxis(full, one.flux.ndim - 1 if at is None else at, -1))


def _numbers(values: Array, what: str) -> npt.NDArray[np.float64]:
    """Return real numbers as float64, which holds each of them exactly."""
    if values.dtype.kind not in "fiu":
        raise BadFile(f"{what} is of type {values.dtype}, not real numbers")
    return np.asarray(np.ma.getdata(values)).astype(np.float64)


def _wave(one: Any) -> npt.NDArray[np.float64]:
    """Return the spectral axis, 1D[npix] float64, Å."""
    from astropy import units as u  # noqa: PLC0415

    axis = one.spectral_axis
    if axis.ndim != 1 or not axis.size:
        raise BadFile(f"the spectral axis has the shape {axis.shape}")
    try:
        # Å stay as they are, to the last bit.
        wave = axis.value if axis.unit == u.AA else axis.to_value(u.AA, u.spectral())
    except u.UnitConversionError as error:
        raise BadFile(f"the spectral axis is in {axis.unit}, which are no wavelengths") from error
    return _numbers(wave, "the spectral axis")


def _ivar(one: Any) -> npt.NDArray[np.float64] | None:
    """Return inverse variances, in the unit of flux to the power of −2; None: nothing is stated.

    0 where the uncertainty is 0, negative or no number: no information.
    """
    from astropy import nddata  # noqa: PLC0415
    from astropy import units as u  # noqa: PLC0415

    if one.uncertainty is None:
        return None
    powers = {
        nddata.StdDevUncertainty: 1, nddata.VarianceUncertainty: 2, nddata.InverseVariance: -2
    }  # fmt: skip
    power = powers.get(type(one.uncertainty))
    if power is None:
        raise BadFile(f"its uncertainties are of the kind {type(one.uncertainty).__name__}")
    wanted = one.flux.unit**power
    stated = wanted if one.uncertainty.unit is None else one.uncertainty.unit
    values = _numbers(one.uncertainty.array, "the uncertainty")
    if stated != wanted:
        try:
            values = u.Quantity(values, stated).to_value(wanted)
        except u.UnitConversionError as error:
            raise BadFile(f"uncertainties are in {stated}, flux in {one.flux.unit}") from error
    good = np.isfinite(values) & (values > 0)
    ivar = np.zeros(values.shape)
    with np.errstate(over="ignore", under="ignore"):
        known = values[good]
        ivar[good] = {1: lambda: 1 / known**2, 2: lambda: 1 / known, -2: lambda: known}[power]()
    # A square may be too small or too large for a float64; neither is a weight.
    ivar[~np.isfinite(ivar)] = 0.0
    return ivar


def _position(header: Mapping[str, Any]) -> tuple[float, float]:
    """Return the position that a header states, degrees; NaN where there is none."""
    for first, second in _POSITIONS:
        ra, dec = degrees(header.get(first), hours=True), degrees(header.get(second))
        if 0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0:
            return ra % 360.0, dec
    return nan, nan


def _redshift(header: Mapping[str, Any]) -> float:
    """Return the redshift that a header states; NaN where there is none."""
    values = (header.get(name) for name in _REDSHIFTS)
    numbers = (one for one in values if isinstance(one, int | float) and not isinstance(one, bool))
    return float(next(numbers, nan))


def degrees(value: object, *, hours: bool = False) -> float:
    """Return an angle, degrees: a number in degrees, or text in degrees or sexagesimal.

    Parameters
    ----------
    value :
        Number or text; anything else is NaN.
    hours :
        Sexagesimal text counts hours, not degrees.
    """
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return float(value)
    text = str(value or "").strip()
    try:
        return float(text)
    except ValueError:
        pass
    from astropy import units as u  # noqa: PLC0415
    from astropy.coordinates import Angle  # noqa: PLC0415

    try:
        return float(Angle(text, u.hourangle if hours else u.deg).value) * (15.0 if hours else 1.0)
    except (ValueError, TypeError, u.UnitsError):
        return nan
