"""Arrays of spectra that carry what their numbers mean: units, masks, frame, medium."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from ...errors import BadParameter, UnknownField

if TYPE_CHECKING:
    from ...wire.head import StreamHead
    from .decode import Spectra


@dataclass(frozen=True, slots=True)
class Meaning:
    """Units, frame, medium and origin of the numbers of a record."""

    flux_unit: str = ""
    """Unit of flux, sky and model, as astropy reads it; empty where flux is relative."""
    mask_vector: str = ""
    """Vector whose ``bad_bits`` mark pixels not to be used."""
    bad_bits: int = 0
    survey: str = ""
    context: str = ""
    """Release that holds the spectrum; several, with commas, if rows are of several releases."""
    frame: str = ""
    """Frame of the wavelengths, such as ``heliocentric``."""
    medium: str = ""
    """Medium of the wavelengths: ``vacuum``, ``air`` or ``unknown``."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Stated units by vector name."""

    def said(self) -> dict[str, str]:
        """Return the values that are known, as ``meta`` of other objects has them."""
        names = ("survey", "context", "frame", "medium")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def stated(self) -> dict[str, str]:
        """Return the units that are known by vector name, flux among them."""
        return ({"flux": self.flux_unit} if self.flux_unit else {}) | dict(self.units)


class SpectrumArray(np.ndarray[Any, np.dtype[Any]]):
    """A structured array of one spectrum, or of aligned ones, that carries its meaning.

    It is a NumPy array in all else. Slices, rows, copies and choices of fields carry it too; a
    single field is a plain array; a joined or saved array carries None.
    """

    about: Meaning | None = None
    id: Any = None
    """Identifier of the spectrum that it is, or is part of; None of several."""

    @override
    def __array_finalize__(self, obj: Any) -> None:
        """Take over the meaning of the array that this one is made of."""
        if obj is not None:
            self.about = getattr(obj, "about", None)
            self.id = getattr(obj, "id", None)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the meaning with the values."""
        plain: tuple[Any, ...] = super().__reduce__()  # type: ignore[assignment]  # NumPy gives it
        make, args, values = plain
        return make, args, (values, self.about, self.id)

    @override
    def __setstate__(self, state: Any) -> None:
        """Take values and meaning over."""
        values, self.about, self.id = state
        super().__setstate__(values)

    @override
    def __getitem__(self, key: Any) -> Any:
        """Return part of it; a single field is a plain array."""
        part = super().__getitem__(key)
        if isinstance(part, SpectrumArray) and part.dtype.names is None:
            return part.view(np.ndarray)
        return part


class SpectrumArrays(list[Any]):
    """A list of the arrays of spectra that answers as an array of them does.

    Of spectra of one length ``shape`` is ``(nspec, npix)``, else ``(nspec,)``. ``numpy.array`` of
    it is a 2D array, else a 1D array of objects; a field by its name, and every index that a list
    does not take, are those of this array.
    """

    @override
    def __repr__(self) -> str:
        # A notebook shows it; the numbers are pages, and name no release.
        meanings = [meaning for spectrum in self if (meaning := meaning_in(spectrum))]
        of = ", ".join(dict.fromkeys(meaning.context for meaning in meanings if meaning.context))
        what = f"{len(self):,} {'spectrum' if len(self) == 1 else 'spectra'}"
        return f"<{what} of {of}>" if of else f"<{what}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return the spectra as one array, a copy."""
        del copy
        if self.ndim > 1:
            self._require_one_unit(self.dtype.names or ())
            return np.array(list(self), dtype)
        array = np.empty(len(self), object)
        for at, spectrum in enumerate(self):
            array[at] = spectrum
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of spectra, and of pixels where all have the same."""
        lengths = {len(spectrum) for spectrum in self}
        return (len(self), *lengths) if len(lengths) == 1 else (len(self),)

    @property
    def ndim(self) -> int:
        """Number of dimensions of ``shape``."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel, or object where the spectra are of different lengths."""
        return self[0].dtype if self.ndim > 1 else np.dtype(object)

    @override
    def __getitem__(self, key: Any) -> Any:
        """Return a spectrum, a list of some, or part of the array of all."""
        if isinstance(key, slice):
            return SpectrumArrays(super().__getitem__(key))
        if isinstance(key, int | np.integer):
            return super().__getitem__(int(key))
        if isinstance(key, str) and len(self):
            return self._field(key)
        return np.asarray(self)[key]

    def _field(self, name: str) -> npt.NDArray[Any]:
        """Return a vector of all spectra, 2D[nspec, npix]."""
        known = dict.fromkeys(name for spectrum in self for name in spectrum.dtype.names or ())
        if name not in known:
            raise UnknownField(name, list(known))
        if self.ndim == 1:
            text = f"the spectra have different lengths and are no array: align=True, or {_EACH}"
            raise BadParameter.saying(text, "align=True")
        self._require_one_unit([name])
        return np.array([spectrum[name] for spectrum in self])

    def _require_one_unit(self, names: Sequence[str]) -> None:
        """Refuse vectors in different units: they make no array."""
        meanings = {id(about): about for spectrum in self if (about := meaning_in(spectrum))}
        if len(meanings) < 2:
            return
        stated = [about.stated() for about in meanings.values()]
        for name in names:
            units = dict.fromkeys(units.get(name, "") for units in stated)
            if len(units) > 1 and not _are_same(units):
                given = ", ".join(unit or "no unit" for unit in units)
                text = f"{name} is in several units, which make no array ({given}): {_EACH}"
                raise BadParameter.saying(text)


_EACH: Final = "take each spectrum by itself, [spectrum['flux'] for spectrum in spectra]"


def meaning_in(array: object) -> Meaning | None:
    """Return the meaning that an array carries."""
    return array.about if isinstance(array, SpectrumArray) else None


def _are_same(units: Iterable[str]) -> bool:
    """Return whether texts spell one unit."""
    from astropy import units as u

    first, *others = [u.Unit(unit) for unit in units]
    return all(first == other for other in others)


def carried(spectra: "Spectra") -> Any:
    """Return the arrays of an answer, each with its meaning: views, no copies."""
    _keep_in_dask()
    head = spectra.head
    plain = meaning_of(head)
    if isinstance(spectra.data, np.ndarray):
        contexts = ", ".join(dict.fromkeys(spectra.contexts))
        # If there are no spectra, the medium is that of the survey.
        media = set(spectra.media) or {head.medium}
        medium = media.pop() if len(media) == 1 else ""
        return _carrying(
            spectra.data, replace(plain, context=contexts or head.context, medium=medium)
        )
    # Not the medium of the head: a caller may have changed it, or each spectrum has its own.
    pairs = list(zip(spectra.contexts, spectra.media, strict=True))
    known = {pair: replace(plain, context=pair[0], medium=pair[1]) for pair in set(pairs)}
    made = zip(spectra.data, pairs, spectra.ids.tolist(), strict=True)
    return SpectrumArrays(_carrying(spectrum, known[pair], name) for spectrum, pair, name in made)


def _keep_in_dask() -> None:
    """Let Dask, where it is loaded, pickle these arrays: it sends others as plain ones."""
    dask = sys.modules.get("distributed.protocol.serialize")
    if dask is not None:
        dask.dask_serialize.register(SpectrumArray, _pickle_it)


def _pickle_it(_: object) -> None:
    """Say to Dask that another way than this one sends the object."""
    raise NotImplementedError


def meaning_of(head: "StreamHead") -> Meaning:
    """Return the meaning of all records of an answer, without context and medium of each."""
    return Meaning(
        flux_unit=head.flux_unit,
        mask_vector=head.mask_vector,
        bad_bits=head.bad_bits,
        survey=head.survey,
        frame=head.frame,
        units={vector.name: vector.unit for vector in head.record if vector.unit},
    )


def _carrying(array: npt.NDArray[Any], about: Meaning, name: Any = None) -> SpectrumArray:
    made = array.view(SpectrumArray)
    made.about, made.id = about, name
    return made
