"""Decoded spectra → the same with their wavelengths in the medium that a caller wants."""

from dataclasses import replace

import numpy as np

from ...errors import BadParameter
from ...ops.media import assumed, change_of, common_medium
from ..request import ResultOptions
from .decode import Spectra


def in_medium(spectra: Spectra, wanted: ResultOptions) -> Spectra:
    """Return spectra with their wavelengths in the medium wanted, flux and ivar left as they are.

    Without a wanted medium they stay as they are published; an unknown medium is the one that
    the caller assumes. A spectrum whose wavelengths change lies on no lattice any more.

    Raises
    ------
    BadParameter
        Aligned spectra of several media, or that would have to change; a medium is not known.
    """
    media = assumed(spectra.media, wanted.assume_medium)
    aligned = isinstance(spectra.data, np.ndarray)
    if aligned and len(set(media)) > 1:
        allowed = "spectra of one medium; align='resample' brings them together"
        given = f"spectra in {' and '.join(sorted(set(media)))}"
        raise BadParameter("align", given, allowed, "align='resample'")
    if wanted.medium is None:
        return replace(spectra, media=media)
    target = common_medium(media, wanted.medium, spectra.ids.tolist())
    if all(medium == target for medium in media):
        return replace(spectra, media=media)
    if aligned and len(media) > 1:
        known = " and ".join(sorted(set(media)))
        allowed = (
            f"these spectra are in {known}, and align=True shifts them by whole pixels only;"
            f" align='resample' brings them to {target}"
        )
        raise BadParameter("medium", wanted.medium, allowed, "align=True", "align='resample'")
    changed = _changed(spectra, media, target)
    return replace(changed, data=np.asarray(changed.data)) if aligned else changed


def _changed(spectra: Spectra, media: list[str], target: str) -> Spectra:
    """Return unaligned spectra with their wavelengths in one medium."""
    axis = spectra.head.grid.axis
    done = [target] * len(media)
    if axis not in spectra.head.names:
        # Without wavelengths there is nothing to change.
        return replace(spectra, media=done)
    # Rounding to float32 would be coarser than the conversion.
    record = tuple(
        replace(vector, dtype="<f8") if vector.name == axis else vector
        for vector in spectra.head.record
    )
    head = replace(spectra.head, record=record)
    data = [spectrum.astype(head.dtype) for spectrum in spectra.data]
    on_lattice = spectra.on_lattice.copy()
    for index, medium in enumerate(media):
        change = change_of(medium, target)
        if change is not None:
            data[index][axis] = head.grid.axis_of(change(spectra.wave(index, spectra.data[index])))
            on_lattice[index] = False
    return replace(spectra, head=head, data=data, on_lattice=on_lattice, media=done)
