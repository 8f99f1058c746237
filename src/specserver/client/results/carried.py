"""Arrays of spectra that carry what their numbers mean: units, masks, frame, medium."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

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
    single field is a plain array; a joined, saved or pickled array carries None.
    """

    about: Meaning | None = None

    # typing has override from Python 3.12 on.
    def __array_finalize__(self, obj: Any) -> None:  # type: ignore[explicit-override]
        """Take over the meaning of the array that this one is made of."""
        if obj is not None:
            self.about = getattr(obj, "about", None)

    def __getitem__(self, key: Any) -> Any:  # type: ignore[explicit-override]
        """Return part of it; a single field is a plain array."""
        part = super().__getitem__(key)
        if isinstance(part, SpectrumArray) and part.dtype.names is None:
            return part.view(np.ndarray)
        return part


def carried(spectra: "Spectra") -> Any:
    """Return the arrays of an answer, each with its meaning: views, no copies."""
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
    return [
        _carrying(spectrum, known[pair]) for spectrum, pair in zip(spectra.data, pairs, strict=True)
    ]


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


def _carrying(array: npt.NDArray[Any], about: Meaning) -> SpectrumArray:
    made = array.view(SpectrumArray)
    made.about = about
    return made
