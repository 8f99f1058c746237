"""Structured arrays → pandas, astropy and specutils objects that carry their units."""

import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter, SpecServerWarning
from ...extras import require
from ...model.grid import Linear, LogLinear
from ...ops.pixels import bits_set
from ...render.display import good_pixels
from ...tracebacks import short
from ...wire.columns import REDSHIFT
from .carried import Meaning, meaning_in, meaning_of

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table
    from specutils import Spectrum, SpectrumCollection

    from .decode import Spectra

FLUX_UNIT: Final = "1e-17 erg / (s cm2 Angstrom)"
"""Unit of flux, sky and model of SDSS, BOSS, eBOSS and DESI."""

_SCALED: Final = ("flux", "sky", "model")
# How a published axis becomes vacuum Å; log10 is taken to float64 first, as the steps of its
# float32 values are 0.005 Å and more.
_AXES: Final = ("loglam", "wavelength")


@short
def to_pandas(npy_data: npt.NDArray[Any]) -> Any:
    """Convert a spectrum to a DataFrame, a column a vector.

    Parameters
    ----------
    npy_data : 1D[npix] structured, or aligned 2D[nspec, npix]

    Returns
    -------
    DataFrame
        A list of them for aligned spectra. Its ``attrs`` have survey, context, frame, medium and
        ``units`` by name of vector, where the array carries them.

    Examples
    --------
    >>> array = spec.getSpec(spec.query(constraint="class = 'QSO' limit 1")[0])
    >>> spec.to_pandas(array).columns.tolist()[:3]
    ['flux', 'loglam', 'ivar']
    """
    if _checked(npy_data).ndim == 2:
        return [to_pandas(row) for row in npy_data]
    about = meaning_in(npy_data)
    return _frame(npy_data, {} if about is None else about.said() | {"units": about.stated()})


@short
def to_Table(npy_data: npt.NDArray[Any]) -> Any:
    """Convert a spectrum to an astropy Table, a column a vector, with the units it carries.

    An array that carries none (it was loaded, joined or made) has the units of SDSS where its axis
    is ``loglam``, which no other survey publishes; else its flux has none, with a warning.

    Parameters
    ----------
    npy_data : 1D[npix] structured, or aligned 2D[nspec, npix]

    Returns
    -------
    Table
        Of aligned spectra a row a spectrum: each column is 2D[nspec, npix].

    Examples
    --------
    >>> array = spec.getSpec(spec.query(constraint="class = 'QSO' limit 1")[0])
    >>> spec.to_Table(array)["flux"].unit
    Unit("1e-17 erg / (Angstrom s cm2)")
    """
    about = _about_array(_checked(npy_data))
    return _table(npy_data, about, {} if about is None else about.said())


@short
def to_Spectrum1D(npy_data: npt.NDArray[Any]) -> Any:
    """Convert a spectrum, or aligned ones together, to a specutils Spectrum.

    Units and mask are those that the array carries, else as in `to_Table`; the axis is as
    published, Å. Pixels are masked where flux is not finite, ivar is not above 0 and finite (it is
    0 in the Spectrum), or the survey's bits, else any of ``mask``, are set; sky, model, ivar as
    published and the other vectors are in ``meta``, with survey, context, frame and medium.

    Parameters
    ----------
    npy_data : 1D[npix] structured, or aligned 2D[nspec, npix]
        With ``flux`` and an axis, ``loglam`` or ``wavelength``.

    Examples
    --------
    >>> array = spec.getSpec(spec.query(constraint="class = 'QSO' limit 1")[0])
    >>> spec.to_Spectrum1D(array).spectral_axis.unit
    Unit("Angstrom")
    """
    require("to_Spectrum1D()", "notebook", "specutils")
    fields = _columns(_checked(npy_data))
    if npy_data.ndim == 2:
        # Every row of aligned spectra has the axis of the whole.
        fields |= {name: fields[name][0] for name in _AXES if name in fields and len(npy_data)}
    wave = axis_wave(fields)
    about = _about_array(npy_data) or Meaning(mask_vector="mask", bad_bits=-1)
    return _spectrum(fields, wave, about, None, about.said())


def convert(spectra: "Spectra", fmt: str) -> Any:
    """Convert the spectra of an answer one by one; each array is freed when it is converted.

    Parameters
    ----------
    fmt
        ``pandas``, ``table``, ``spectrum``, ``list`` or ``collection``.

    Returns
    -------
    list, Spectrum, SpectrumList or SpectrumCollection
        An object a spectrum; aligned spectra make one Spectrum of them all.
    """
    if fmt == "spectrum" and isinstance(spectra.data, np.ndarray):
        return _aligned_spectrum(spectra)
    if fmt == "collection":
        return _collection(spectra)
    made = [
        convert_one(spectra, index, data, fmt) for index, data in enumerate(_given_up(spectra.data))
    ]
    if fmt != "list":
        return made
    from specutils import SpectrumList

    return SpectrumList(made)


def convert_one(spectra: "Spectra", index: int, record: npt.NDArray[Any], fmt: str) -> Any:
    """Convert one spectrum of an answer.

    Parameters
    ----------
    record : 1D[npix] structured, the spectrum with this index
    fmt
        As in `convert`; a spectrum of a list or a collection is a Spectrum.
    """
    meaning, about = meaning_of(spectra.head), _about(spectra, index)
    redshift = spectra.columns.get(REDSHIFT)
    z = None if redshift is None else float(redshift[index])
    if fmt in {"pandas", "table"} and z is not None and isfinite(z):
        about["redshift"] = z
    if fmt == "pandas":
        return _frame(record, about | {"units": meaning.stated()})
    if fmt == "table":
        return _table(record, meaning, about)
    return _spectrum(_columns(record), spectra.wave(index, record), meaning, z, about)


def axis_wave(
    fields: Mapping[str, npt.NDArray[Any]], parameter: str = "npy_data"
) -> npt.NDArray[np.float64]:
    """Return wavelengths from a published axis.

    Parameters
    ----------
    fields
        Vectors by name, ``loglam`` (log10 Å) or ``wavelength`` (Å) among them.
    parameter
        The caller's name of what has them.

    Returns
    -------
    1D[npix] float64, Å
    """
    if "loglam" in fields:
        return LogLinear.wave_of(fields["loglam"])
    if "wavelength" in fields:
        return Linear.wave_of(fields["wavelength"])
    raise BadParameter(parameter, list(fields), f"it needs an axis: {' or '.join(_AXES)}")


def _checked(npy_data: Any) -> npt.NDArray[Any]:
    """Return the array when it is one of spectra."""
    if not isinstance(npy_data, np.ndarray) or npy_data.dtype.names is None:
        raise BadParameter(
            "npy_data", type(npy_data).__name__, "a structured array, as getSpec returns"
        )
    if npy_data.ndim not in {1, 2}:
        raise BadParameter(
            "npy_data", npy_data.shape, "one spectrum, or aligned ones (nspec, npix)"
        )
    return npy_data


def _columns(record: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the fields, lower-case and in native byte order, each contiguous and a copy."""
    out = {}
    for name in record.dtype.names or ():
        field = record[name]
        out[name.lower()] = field.astype(field.dtype.newbyteorder("="), order="C")
    return out


def _about_array(array: npt.NDArray[Any]) -> Meaning | None:
    """Return the meaning of an array, carried or by its axis; None, with a warning, if unknown."""
    if (about := meaning_in(array)) is not None:
        return about
    if "loglam" in map(str.lower, array.dtype.names or ()):
        return Meaning(FLUX_UNIT, "mask", -1)
    warnings.warn(
        "the array does not carry its meaning, so its flux has no unit; getSpec converts with"
        " units: fmt='Table' or 'Spectrum1D'",
        SpecServerWarning,
        stacklevel=3,
    )
    return None


def _units(meaning: Meaning | None) -> dict[str, Any]:
    """Return units by vector name: those stated, and else those of well-known vectors.

    Where the meaning is not known, flux has none.
    """
    from astropy import units as u

    known = {"wavelength": u.AA, "wdisp": u.pix}
    if meaning is None:
        return known
    flux = _unit(meaning.flux_unit)
    known |= {"ivar": flux**-2} | dict.fromkeys(_SCALED, flux)
    parsed = {name: _unit(unit) for name, unit in meaning.units.items()}
    # A logarithmic unit cannot be saved in FITS, where most tables end up.
    return known | {name: unit for name, unit in parsed.items() if isinstance(unit, u.UnitBase)}


@lru_cache
def _unit(text: str) -> Any:
    """Return a unit, parsed once: parsing the unit of flux took a fifth of a Spectrum's time."""
    from astropy import units as u

    return u.Unit(text)


def _given_up(data: list[Any] | npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield the spectra in order, letting go of each, so that its block can be freed."""
    if isinstance(data, np.ndarray):
        yield from data
    else:
        data.reverse()
        while data:
            yield data.pop()


def _about(spectra: "Spectra", index: int) -> dict[str, Any]:
    """Return the metadata of one spectrum."""
    about: dict[str, Any] = {
        "id": int(spectra.ids[index]),
        "context": spectra.contexts[index],
        "survey": _survey(spectra, index),
    }
    return about | ({"medium": spectra.media[index]} if spectra.media else {})


def _survey(spectra: "Spectra", index: int) -> str:
    """Return the survey of one spectrum."""
    return spectra.head.surveys.get(spectra.contexts[index], spectra.head.survey)


def _frame(record: npt.NDArray[Any], attrs: Mapping[str, Any]) -> "pd.DataFrame":
    """Build a DataFrame of a copy of the record."""
    import pandas as pd

    frame = pd.DataFrame(_columns(record), copy=False)
    frame.attrs.update(attrs)
    return frame


def _table(record: npt.NDArray[Any], meaning: Meaning | None, meta: Mapping[str, Any]) -> "Table":
    """Build a Table of a copy of the record."""
    from astropy.table import Table

    columns, units = _columns(record), _units(meaning)
    used = {name: units[name] for name in columns if name in units}
    return Table(columns, units=used, meta=dict(meta), copy=False)


def _aligned_spectrum(spectra: "Spectra") -> "Spectrum":
    """Build one Spectrum with 2-D flux; what differs from row to row is an array in ``meta``."""
    head = spectra.head
    about: dict[str, Any] = {"id": spectra.ids, "context": spectra.contexts, "survey": head.survey}
    if head.surveys:
        about["survey"] = [_survey(spectra, index) for index in range(len(spectra.ids))]
    if spectra.media:
        # Aligned spectra are of one medium.
        about["medium"] = spectra.media[0]
    if REDSHIFT in spectra.columns:
        about["redshift"] = spectra.columns[REDSHIFT]
    fields = _columns(np.asarray(spectra.data))
    if spectra.on_lattice.all():
        wave = head.grid.wave(head.span.first, head.span.count)
    else:
        # A single spectrum that has wavelengths of its own.
        wave = head.grid.wave_of(fields[head.grid.axis][0])
    return _spectrum(fields, wave, meaning_of(spectra.head), None, about)


def _collection(spectra: "Spectra") -> "SpectrumCollection":
    """Build a SpectrumCollection of aligned spectra, with the metadata of each in ``meta``."""
    from astropy import units as u
    from specutils import SpectrumCollection

    whole = _aligned_spectrum(spectra)
    metas: list[dict[str, Any]] = []
    for index in range(len(spectra.ids)):
        meta = _about(spectra, index)
        if REDSHIFT in spectra.columns:
            meta["redshift"] = float(spectra.columns[REDSHIFT][index])
        # What _aligned_spectrum holds for all rows together, such as sky and model.
        names = (name for name in whole.meta if name not in {*meta, "redshift"})
        metas.append(meta | {name: whole.meta[name][index] for name in names})
    wave = np.broadcast_to(whole.spectral_axis.to_value(u.AA), whole.flux.shape)
    return SpectrumCollection(
        flux=whole.flux,
        spectral_axis=u.Quantity(wave, u.AA),
        uncertainty=whole.uncertainty,
        mask=whole.mask,
        meta=metas,
    )


def _one_arm(fields: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
    """Rename the vectors of a single arm, such as ``flux_b``, to those of a spectrum: ``flux``."""
    arms = [name.removeprefix("flux") for name in fields if name.startswith("flux_")]
    if "flux" in fields or len(arms) != 1:
        return fields
    return {name.removesuffix(arms[0]): values for name, values in fields.items()}


def _spectrum(
    fields: Mapping[str, npt.NDArray[Any]],
    wave: npt.NDArray[np.float64],
    meaning: Meaning,
    redshift: float | None,
    about: Mapping[str, Any],
) -> "Spectrum":
    """Build a Spectrum; flux keeps its bits, as the scale is in the unit.

    Parameters
    ----------
    fields
        Vectors by name, 1D[npix] or 2D[nspec, npix].
    wave : 1D[npix] float64, vacuum Å
    meaning
        Unit of flux, and the vector and its bits that mark bad pixels.
    redshift
        Redshift of a single spectrum.
    about
        More for ``meta``.
    """
    from astropy import units as u

    from .spectrum1d import make_spectrum

    fields = _one_arm(fields)
    if "flux" not in fields:
        allowed = "a Spectrum needs flux, or that of one arm, such as flux_b"
        raise BadParameter("values", list(fields), allowed)
    unit = _unit(meaning.flux_unit)
    flux, ivar = fields["flux"], fields.get("ivar")
    bad = ~good_pixels(flux, ivar)
    if ivar is not None:
        ivar = np.where(bad, ivar.dtype.type(0), ivar)
    if meaning.mask_vector in fields:
        bad |= bits_set(fields[meaning.mask_vector], meaning.bad_bits)
    meta = dict(about)
    for name, values in fields.items():
        if name not in {"flux", *_AXES}:
            meta[name] = u.Quantity(values, unit, copy=False) if name in _SCALED else values
    if redshift is not None:
        meta["redshift"] = redshift
    # A redshift of -1 and less marks a failed fit; as a velocity it would be no number.
    known = redshift if redshift is not None and redshift > -1 else None
    return make_spectrum(u.Quantity(flux, unit, copy=False), ivar, wave, known, mask=bad, meta=meta)
