"""Spectra to draw, from objects that a caller holds or from answers of the service."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter, UnknownField
from ...model.lines import SKY_FIBRE, lines_of
from ...model.medium import MEDIA, UNKNOWN, VACUUM
from ...model.survey import Fact
from ...ops.media import assumed, change_of, common_medium, read_medium
from ...ops.pixels import bits_set
from ...wire.columns import FACTS, FITS, REDSHIFT, SHOWN_NAME
from ..inputs.context_ids import Named
from ..inputs.held_tables import foreign_kind, is_spectrum
from ..request import RequestOptions, ResultOptions
from ..results.carried import Meaning, SpectrumArray
from ..results.convert import FLUX_UNIT, axis_wave
from ..session import Session
from ..spectra import fetch_spectra, in_order

if TYPE_CHECKING:
    from ...render.display import DisplaySpectrum, Fit
    from ...wire.head import StreamHead
    from ..results.decode import Spectra

_VECTORS: Final = ["flux", "ivar", "model", "sky"]
_AXES: Final = ("loglam", "wavelength")
_ANY_BIT: Final = Meaning(mask_vector="mask", bad_bits=-1)
"""Of spectra that do not say which pixels are bad: those with any bit of ``mask``."""
_OWN: Final = (
    "identifiers are whole numbers, and a spectrum of your own is a Table, a DataFrame or a"
    " structured array with the columns wavelength (Å) and flux"
)
_SAID: Final = (Fact("z", "redshift", ".5f"), Fact("in", "context"))


def read_spectra(data: object) -> list["DisplaySpectrum"] | None:
    """Return the spectra that a caller holds; None if the caller gave identifiers.

    Parameters
    ----------
    data
        A structured array of one spectrum or of aligned ones, a DataFrame, a Table, a Spectrum
        or SpectrumCollection; or a list of these, in which kinds may be mixed.

    Raises
    ------
    BadParameter
        A list of spectra and of identifiers, or a spectrum without wavelengths.
    """
    is_decimal = isinstance(data, np.ndarray) and data.dtype.kind == "f" and data.size
    if isinstance(data, Mapping) or is_decimal:
        raise BadParameter("data", type(data).__name__, _OWN)
    given = [data] if is_spectrum(data) else data
    if not isinstance(given, list | tuple) or not any(map(is_spectrum, given)):
        return None
    if not all(map(is_spectrum, given)):
        raise BadParameter("data", "a mixed list", "give spectra, or identifiers, but not both")
    return [spectrum for held in given for spectrum in _read(held)]


def fetch_shown(session: Session, named: Named, options: RequestOptions) -> list["DisplaySpectrum"]:
    """Fetch spectra to draw, with the facts that their catalogue states.

    Raises
    ------
    UnknownField
        The survey has no redshifts.
    """
    wanted = ResultOptions("numpy", None, _VECTORS, None, align=False)
    columns: tuple[str, ...] = (REDSHIFT, FACTS, FITS)
    try:
        parts = fetch_spectra(session, named, wanted, options, *columns)
        has_masks = all(
            not part.head.bad_bits or part.head.mask_vector in part.head.names for part in parts
        )
    except UnknownField:
        # A survey may lack one of the vectors, and an older service the further fits.
        has_masks, columns = False, (REDSHIFT, FACTS)
    if not has_masks:
        wanted = replace(wanted, vectors=None)
        parts = fetch_spectra(session, named, wanted, options, *columns)
    return in_order(
        parts, [[_fetched(part, index) for index in range(len(part.ids))] for part in parts]
    )


def _fetched(spectra: "Spectra", index: int) -> "DisplaySpectrum":
    """Return one spectrum of an answer."""
    record, z = spectra.data[index], spectra.columns[REDSHIFT][index]
    facts = [(label, text) for label, text in json.loads(spectra.columns[FACTS][index])]
    facts.append(("in", spectra.contexts[index]))
    fields = {name: record[name] for name in record.dtype.names or ()}
    return _drawn(
        spectra.wave(index, record),
        fields,
        z,
        _bad(fields, spectra.head),
        title=str(spectra.ids[index]),
        fits=_further_fits(spectra, index),
        facts=facts,
        flux_unit=spectra.head.flux_unit,
        medium=spectra.media[index] if spectra.media else VACUUM,
    )


def _further_fits(spectra: "Spectra", index: int) -> tuple["Fit", ...]:
    """Return the fits of a spectrum beside the best one."""
    from ...render.display import Fit

    said = spectra.columns[FITS][index] if FITS in spectra.columns else "[]"
    return tuple(Fit(*fit) for fit in json.loads(said))


def in_vacuum(
    spectra: Sequence["DisplaySpectrum"], assume: str | None = None, *, together: bool
) -> list["DisplaySpectrum"]:
    """Return spectra on vacuum wavelengths; unchanged where the medium is not known.

    Parameters
    ----------
    assume
        Medium of spectra whose medium is not known.
    together
        Whether the spectra are drawn over one another.

    Raises
    ------
    BadParameter
        Of spectra drawn together, the medium of some is known and of others not.
    """
    assume = read_medium("assume_medium", assume)
    # The medium of the caller's own spectra is not known: they are drawn unchanged.
    unsaid = UNKNOWN if assume else VACUUM
    media = assumed([spectrum.medium or unsaid for spectrum in spectra], assume)
    if together:
        common_medium(media, None, [spectrum.title or "a spectrum" for spectrum in spectra])
    made = []
    for spectrum, medium in zip(spectra, media, strict=True):
        change = change_of(medium, VACUUM)
        if change is not None:
            made.append(replace(spectrum, wave=change(spectrum.wave), medium=VACUUM))
        elif medium == UNKNOWN:
            made.append(replace(spectrum, facts=(*spectrum.facts, ("medium", UNKNOWN))))
        else:
            made.append(replace(spectrum, medium=medium if spectrum.medium or assume else ""))
    return made


def _read(value: Any) -> Iterator["DisplaySpectrum"]:
    """Yield the spectra in an object that holds some."""
    kind = foreign_kind(value)
    if kind == "SpectrumCollection":
        for at in range(value.flux.shape[0]):
            yield from _read(value[at])
    elif kind == "Spectrum":
        yield from _read_specutils(value)
    elif kind == "DataFrame":
        fields = {str(name).lower(): value[name].to_numpy() for name in value.columns}
        units = value.attrs.get("units")
        known = isinstance(units, Mapping)
        unit = units.get("flux", "") if known else _usual_unit(fields)
        wave_unit = units.get("wavelength", "") if known else ""
        yield _held(fields, value.attrs, unit, _ANY_BIT, wave_unit)
    elif kind == "Table":
        fields = {name.lower(): _plain(value[name]) for name in value.colnames}
        axis = next((name for name in value.colnames if name.lower() == "wavelength"), "")
        flux = next(name for name in value.colnames if name.lower() == "flux")
        unit = value[flux].unit
        unit = _usual_unit(fields) if unit is None else str(unit)
        wave_unit = value[axis].unit if axis else None
        yield _held(fields, value.meta, unit, _ANY_BIT, str(wave_unit or ""))
    else:
        names = {name.lower(): name for name in value.dtype.names}
        about = value.about if isinstance(value, SpectrumArray) else None
        said: dict[str, Any] = {} if about is None else about.said()
        if value.ndim == 1 and about is not None:
            said |= {"id": value.id} if value.id is not None else {}
        unit = _usual_unit(names) if about is None else about.flux_unit
        for row in np.atleast_2d(value):
            fields = {low: _plain(row[name]) for low, name in names.items()}
            yield _held(fields, said, unit, about or _ANY_BIT)


def _usual_unit(names: Iterable[str]) -> str:
    """Return the unit of flux of an object without one: ``loglam`` shows that of SDSS."""
    return FLUX_UNIT if "loglam" in names else ""


def _plain(column: Any) -> npt.NDArray[Any]:
    """Return a column, 1D[npix], as a plain array; masked numbers with a fraction are NaN."""
    values = getattr(column, "filled", None)
    if values is None or column.dtype.kind != "f":
        return np.ma.asarray(column) if np.ma.isMaskedArray(column) else np.asarray(column)
    return np.asarray(values(np.nan))


def _numbers(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a vector of real numbers, NaN where they are masked; refuse one of another type."""
    if values.dtype.kind not in "biuf":
        raise BadParameter("data", f"{name} of the type {values.dtype}", "real numbers")
    if not np.ma.is_masked(values):
        return np.ma.getdata(values)
    return np.ma.filled(values.astype(np.float64), np.nan)


def _held(
    fields: Mapping[str, npt.NDArray[Any]],
    about: Mapping[str, Any],
    unit: str,
    marks: Meaning,
    wave_unit: str = "",
) -> "DisplaySpectrum":
    """Return a spectrum of named vectors, 1D[npix] each, with wavelengths in Å that rise."""
    given = {name: np.ma.asanyarray(fields[name]) for name in (*_AXES, *_VECTORS) if name in fields}
    fields = {**fields, **{name: _numbers(name, values) for name, values in given.items()}}
    wave = axis_wave(fields, "data")
    if wave_unit:
        wave = _in_angstrom(wave, wave_unit)
    if (np.diff(wave) < 0).any():
        order = np.argsort(wave, kind="stable")
        wave, fields = wave[order], {name: values[order] for name, values in fields.items()}
    return _drawn(
        wave,
        fields,
        about.get("redshift"),
        _bad(fields, marks),
        title=str(about.get("id", "")),
        facts=_said(about),
        flux_unit=unit,
        medium=_medium(about, fields),
    )


def _in_angstrom(wave: npt.NDArray[np.float64], unit: str) -> npt.NDArray[np.float64]:
    """Return a spectral axis of some unit in Å; values in Å stay as they are."""
    from astropy import units as u

    try:
        return np.asarray(u.Quantity(wave, unit, copy=False).to_value(u.AA, u.spectral()))
    except (u.UnitConversionError, ValueError) as error:
        raise BadParameter("data", f"wavelength in {unit}", "Å, nm, µm, Hz or the like") from error


def _bad(
    fields: Mapping[str, npt.NDArray[Any]], marks: "Meaning | StreamHead"
) -> npt.NDArray[np.bool_] | None:
    """Return which pixels a mask marks as bad, 1D[npix]; None where there is no mask."""
    mask = fields.get(marks.mask_vector) if marks.bad_bits else None
    if mask is None:
        return None
    if mask.dtype.kind not in "biu":
        raise BadParameter("data", f"{marks.mask_vector} of the type {mask.dtype}", "whole numbers")
    return bits_set(np.ma.filled(mask, 0), marks.bad_bits)


def _medium(about: Mapping[str, Any], names: Iterable[str]) -> str:
    """Return the medium that an object states, or that of SDSS, which ``loglam`` shows; or none."""
    said = about.get("medium")
    known = isinstance(said, str) and said in MEDIA
    return str(said) if known else VACUUM if "loglam" in names else ""


def _said(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts that an object states: its redshift and its context."""
    said = [(fact.label, fact.text(about.get(fact.column))) for fact in _SAID]
    return [(label, text) for label, text in said if text]


def _read_specutils(spectrum: Any) -> Iterator["DisplaySpectrum"]:
    """Yield each row of a Spectrum."""
    from astropy import units as u
    from astropy.nddata import InverseVariance

    unit = spectrum.flux.unit
    wave = spectrum.spectral_axis.to_value(u.AA, u.spectral())
    order = np.argsort(wave, kind="stable")
    vectors = {"flux": spectrum.flux.value}
    if spectrum.uncertainty is not None:
        known = spectrum.uncertainty
        if not isinstance(known, InverseVariance):
            # An error of 0 stands for a value that is not known: it becomes a gap.
            with np.errstate(divide="ignore", invalid="ignore"):
                known = known.represent_as(InverseVariance)
        vectors["ivar"] = u.Quantity(known.array, known.unit or unit**-2).to_value(unit**-2)
    if spectrum.mask is not None:
        vectors["mask"] = spectrum.mask
    for name in ("model", "sky"):
        values = spectrum.meta.get(name)
        if np.shape(values) == spectrum.flux.shape:
            vectors[name] = np.asarray(u.Quantity(values, unit).value)
    rows = np.atleast_2d(vectors["flux"]).shape[0]
    stacked = {name: values.reshape(rows, -1)[:, order] for name, values in vectors.items()}
    for row in range(rows):
        about = {
            name: np.atleast_1d(spectrum.meta[name])[row if rows > 1 else 0]
            for name in ("id", "context", "redshift")
            if np.size(spectrum.meta.get(name)) in {1, rows} and spectrum.meta.get(name) is not None
        }
        yield _drawn(
            wave[order],
            {name: values[row] for name, values in stacked.items()},
            _redshift(spectrum, about),
            stacked["mask"][row] if "mask" in stacked else None,
            title=str(about.get("id", "")),
            facts=_said(about),
            flux_unit=str(unit),
            medium=_medium(spectrum.meta, spectrum.meta),
        )


def _redshift(spectrum: Any, about: Mapping[str, Any]) -> Any:
    """Return the redshift that the wavelengths of a Spectrum have; None: it is not known.

    Of spectra of the service the axis has it as well: it is 0 after a shift to rest.
    """
    own, stated = float(spectrum.redshift), about.get("redshift")
    moved = stated is not None and stated > -1 and "context" in about and spectrum.flux.ndim == 1
    return own if own or moved else stated


def _drawn(
    wave: npt.NDArray[np.float64],
    fields: Mapping[str, npt.NDArray[Any]],
    z: Any,
    bad: npt.NDArray[np.bool_] | None,
    facts: Sequence[tuple[str, str]],
    **said: Any,
) -> "DisplaySpectrum":
    """Return the spectrum of vectors, 1D[npix] each; refuse one without pixels."""
    from ...render.display import display_spectrum

    if not len(wave):
        raise BadParameter("data", said["title"] or "a spectrum", "it has no pixels")
    named = dict(facts)
    kind, subclass = (named.get(label, "") for label in ("class", "subclass"))
    return display_spectrum(
        wave,
        fields,
        None if kind == SKY_FIBRE else z,
        bad,
        name=named.get(SHOWN_NAME, ""),
        kind=f"{kind}  {subclass}".strip(),
        facts=tuple(fact for fact in facts if fact[0] != SHOWN_NAME),
        lines=lines_of(kind, subclass),
        **said,
    )
