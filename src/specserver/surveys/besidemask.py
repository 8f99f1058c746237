"""Masks in a file that the specutils loader does not read, matched to the flux that it returns.

A loader does not say which table or image its flux comes from, nor how it joined or sorted the
values. So the flux is searched for in the file, and the mask beside the values found is its mask.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from ..model.survey import Remark
from ..ops.fitsnulls import table_column
from .statedmask import MASKS, SPSPEC, Flags, is_mask_image, mask_columns, mask_rule, not_taken

Numbers = npt.NDArray[np.float64]
_SPSPEC_MASK: Final = 3
"""Row of the image of an spSpec file that is the mask."""
_UNPLACED: Final = "the flux that specutils hands on is nowhere in the file as it stands"


@dataclass(frozen=True, slots=True)
class _Beside:
    """A mask, and the values beside it in the file."""

    name: str
    values: Any
    bad: Flags | None
    """The bad values; None: this is not usable as a mask."""
    others: Sequence[Numbers]
    """Images or columns of the same shape; one may be the flux, another the wavelengths."""
    is_image: bool = False


class BesideMasks:
    """The masks of a file."""

    def __init__(self, path: Path, form: str) -> None:
        self._path = path
        self.form = form
        self._found: list[_Beside] | None = None

    def in_place_of_loader(self) -> Flags | None:
        """Return the mask of a format whose loader takes every bit as bad; None: of others."""
        if self.form != SPSPEC:
            return None
        with fits.open(self._path, memmap=False) as hdus:
            return mask_rule((), self.form).bad(hdus[0].data[_SPSPEC_MASK], "mask")

    def of(self, flux: Any, axis: Any) -> tuple[Flags, tuple[Remark, ...]]:
        """Return which values of a flux are bad, and remarks about masks that are not used.

        The flux is of any shape, the spectral axis that the loader returned 1D[npix].
        """
        if self._found is None:
            self._found = list(_masks(self._path, self.form))
        bad, taken = np.zeros(np.shape(flux), bool), False
        values = np.asarray(flux, np.float64)
        remarks: list[Remark] = []
        for beside in self._found:
            placed = _placed(beside, values, np.asarray(axis, np.float64))
            if placed is not None:
                bad, taken = bad | placed, True
            elif not beside.is_image and _size(beside, values.size) != values.size:
                # Another kind of table, such as a list of lines.
                continue
            elif beside.bad is None or _size(beside, values.size) != values.size:
                remarks.append(not_taken(beside.name, beside.values, values.shape))
            else:
                lost = (
                    f"{beside.name} looks like a mask and is not taken, so that mask does not have"
                    " it: the file does not state which flux it belongs to"
                )
                remarks.append(Remark(lost, _UNPLACED))
        return bad, () if taken else tuple(dict.fromkeys(remarks))


def _size(beside: _Beside, wanted: int) -> int:
    """Return the number of mask values for a flux: all of them, or one row."""
    shape = np.shape(beside.values)
    return wanted if wanted == shape[-1] else int(np.prod(shape))


def _masks(path: Path, form: str) -> Iterator[_Beside]:
    """Yield the masks of a FITS file; nothing for another format."""
    try:
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus:
                headers = (hdu.header, hdus[0].header)
                if getattr(hdu, "columns", None) is not None:
                    yield from _in_table(hdu, headers, form)
                elif hdu.header.get("NAXIS", 0) and is_mask_image(hdu):
                    images = [image for image in hdus if getattr(image, "is_image", False)]
                    bad = mask_rule(headers, form).bad(hdu.data, hdu.name)
                    name = hdu.name or f"HDU {hdus.index(hdu)}"
                    others = [
                        _numbers(image.data)
                        for image in images
                        if image is not hdu and image.shape == hdu.shape
                    ]
                    yield _Beside(name, hdu.data, bad, others, is_image=True)
    except (OSError, TypeError, IndexError, ValueError):
        return


def _in_table(hdu: Any, headers: Sequence[Mapping[str, Any]], form: str) -> Iterator[_Beside]:
    """Yield the masks of a table; its other columns of numbers may be the flux."""
    if not any(column.format and column.format[-1] in "ED" for column in hdu.columns):
        return
    rule = mask_rule(headers, form)
    columns = {name: np.asarray(hdu.data[name]) for name in hdu.columns.names}
    floats = [column for column in columns.values() if column.dtype.kind == "f" and column.ndim]
    for name in mask_columns(list(columns)):
        values = columns[name]
        others = [_numbers(column) for column in floats if column.shape == values.shape]
        if others and len(others[0].ravel()) > 1:
            bad = rule.bad(table_column(hdu, name), name) if name.lower() in MASKS else None
            yield _Beside(f"column {name}", values, bad, others)


def _numbers(values: Any) -> Numbers:
    """Return values as float64 in native byte order."""
    return np.asarray(values).astype(np.float64)


def _placed(beside: _Beside, flux: Numbers, axis: Numbers) -> Flags | None:
    """Return the mask in the order of a flux; None: it is of another flux, or no mask."""
    if beside.bad is None:
        return None
    found: list[Flags] = []
    shape = beside.bad.shape
    whole = tuple(other.ravel() for other in beside.others), beside.bad.ravel()
    if len(whole[1]) == flux.size:
        places = [whole]
    elif len(shape) > 1 and shape[-1] == flux.size:
        rows = beside.bad.reshape(-1, shape[-1])
        laid = [other.reshape(rows.shape) for other in beside.others]
        places = [(tuple(each[row] for each in laid), rows[row]) for row in range(len(rows))]
    else:
        return None
    for others, bad in places:
        flags = _laid(others, bad, flux.ravel(), axis)
        if flags is not None:
            found.append(flags)
    # If the same flux is in two places with different masks, neither is used.
    if not found or any((flags != found[0]).any() for flags in found):
        return None
    return found[0].reshape(flux.shape)


def _laid(others: Sequence[Numbers], bad: Flags, flux: Numbers, axis: Numbers) -> Flags | None:
    """Return the mask of a flux that is in file order or sorted by wavelength; None: no match."""
    if any(np.array_equal(other, flux, equal_nan=True) for other in others):
        return bad
    if len(axis) != len(flux):
        return None
    order = np.argsort(axis, kind="stable")
    for wave in others:
        there = np.argsort(wave, kind="stable")
        if not np.array_equal(wave[there], axis[order]):
            continue
        if any(np.array_equal(other[there], flux[order], equal_nan=True) for other in others):
            flags = np.zeros(len(flux), bool)
            flags[order] = bad[there]
            return flags
    return None
