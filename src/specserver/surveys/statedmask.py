"""The pixels that a file masks: columns and images with the names of masks, and their bad bits.

A pixel is masked if its value is not 0. If a format defines which bits are bad, only these count:

=====================================  ========================================================
card ``SDQFLAGS`` (HST)                the bits of ``DQ`` that this card gives
``TELESCOP`` = ``JWST``                bit 0 of ``DQ``: DO_NOT_USE
APOGEE's apVisit and apStar            bits 0-7 and 14, level 1 of its pipeline's PixelBitMask
spSpec (SDSS-I/II)                     all but bit 30, which marks an emission line
``DMODCLS`` = ``OneSpec`` (PypeIt)     its ``mask`` is 1 where a pixel is good
=====================================  ========================================================
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..model.survey import Remark

Flags = npt.NDArray[np.bool_]
MASKS: Final = frozenset(
    {
        "mask", "pixmask", "pix_mask", "pixelmask", "pixel_mask", "andmask", "and_mask", "bpm",
        "badpix", "bad_pix", "badpixmask", "bad_pixel_mask", "dq", "dqflag", "dqflags", "dq_flags",
        "data_quality", "flag", "flags", "pixel_flags", "qual", "quality",
    }
)  # fmt: skip
"""Names of masks, in lower case; any value but 0 means that a pixel is bad."""
_SERIOUS: Final = frozenset({"dq", "dqflag", "dqflags", "dq_flags", "data_quality"})
_LIKE: Final = re.compile(r"(?<![a-z])(?:(?:and|pix|bad)?masks?|flags?|dq)(?![a-z])", re.IGNORECASE)
"""Words in the name or unit of an image that is a mask."""
_NEAR: Final = re.compile(r"mask|flag|qual|(?:good|bad)_?pix|^dq$", re.IGNORECASE)
"""Names of columns that may be masks."""
# These are no masks of the spectrum: or_mask is set if a pixel is bad in any one exposure,
# others mark the good pixels.
_OTHER: Final = re.compile(r"(?<![a-z])or_?mask|good|^(?:box|opt)_", re.IGNORECASE)
_ONE_IS_GOOD: Final = "OneSpec"
SPSPEC: Final = "SDSS-I/II spSpec"
"""specutils' name of the format of SDSS-I and SDSS-II."""
_BAD_BITS: Final = {"APOGEE": 0b0100_0000_1111_1111, SPSPEC: ~(1 << 30)}
"""Bad bits of any mask of a format, by the beginning of its name in specutils."""
_DO_NOT_USE: Final = 1
_INT64: Final = 2.0**63


@dataclass(frozen=True, slots=True)
class MaskRule:
    """Meaning of the values of masks, as headers and format of a file state it."""

    serious: int | None = None
    """Bits of ``DQ`` that are bad; None: all."""
    bits: int | None = None
    """Bits of any mask that are bad; None: all."""
    one_is_good: bool = False
    percent: bool = False
    """``QUALITY`` is the good part of each pixel in percent (FUSE), not a mask."""

    def bad(self, values: Any, name: str) -> Flags | None:
        """Return which pixels a mask, of any shape, marks as bad; None: it has not values of masks.

        The name is that of its column or HDU.
        """
        lowered = name.lower()
        plain = np.ma.getdata(values)
        if plain.dtype.kind not in "biuf" or (self.percent and lowered.startswith("qual")):
            return None
        # A value that is not finite does not mark its pixel.
        known = np.where(np.isfinite(plain) & ~np.ma.getmaskarray(values), plain, 0)
        if plain.dtype.kind == "f" and ((known != np.round(known)) | (abs(known) >= _INT64)).any():
            return None
        if self.one_is_good:
            return np.asarray(known == 0)
        bits = self.serious if lowered in _SERIOUS and self.serious is not None else self.bits
        whole = known.astype(np.int64)
        return np.asarray((whole if bits is None else whole & bits) != 0)


def mask_rule(headers: Iterable[Mapping[str, Any]], form: str = "") -> MaskRule:
    """Return what headers state about masks; the header of the mask's own HDU comes first.

    ``form`` is the format of the file in specutils; empty: not known.
    """
    cards: dict[str, Any] = {}
    for header in headers:
        for name in ("SDQFLAGS", "TELESCOP", "DMODCLS"):
            if name not in cards and header.get(name) is not None:
                cards[name] = header[name]
    telescope = str(cards.get("TELESCOP", "")).strip().upper()
    flags = cards.get("SDQFLAGS")
    serious = flags if isinstance(flags, int) and not isinstance(flags, bool) else None
    if serious is None and telescope == "JWST":
        serious = _DO_NOT_USE
    return MaskRule(
        serious=serious,
        bits=next((bits for name, bits in _BAD_BITS.items() if form.startswith(name)), None),
        one_is_good=cards.get("DMODCLS") == _ONE_IS_GOOD,
        percent=telescope.startswith("FUSE"),
    )


def is_mask_image(hdu: Any) -> bool:
    """Return whether the header of an image marks it as a mask."""
    texts = hdu.name, str(hdu.header.get("BUNIT") or "")
    if any(_OTHER.search(text) for text in texts):
        return False
    return hdu.name.lower() in MASKS or any(_LIKE.search(text) for text in texts)


def mask_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns with names of masks; if there are none, those with similar names."""
    found = tuple(name for name in names if name.lower() in MASKS)
    return found or tuple(name for name in names if _NEAR.search(name))


def join_masks(
    cells: Mapping[str, Any], shape: tuple[int, ...], rule: MaskRule
) -> tuple[Flags, tuple[Remark, ...]]:
    """Return the pixels that some masks mark as bad, and remarks about masks that are not used.

    Parameters
    ----------
    cells : values by the name of their column or HDU, as `mask_columns` returns them
    shape : of the flux
    """
    bad, taken, remarks = np.zeros(shape, bool), False, []
    for name, values in cells.items():
        flags = None
        if np.shape(values) == shape and name.lower() in MASKS:
            flags = rule.bad(values, name)
        if flags is None:
            remarks.append(not_taken(name, values, shape))
        else:
            bad, taken = bad | flags, True
    return bad, () if taken else tuple(remarks)


def not_taken(name: str, values: Any, shape: tuple[int, ...]) -> Remark:
    """Return the remark about an apparent mask that is not used, with the reason."""
    kind = np.ma.getdata(values).dtype.kind
    if kind not in "biuf":
        why = "it holds text, not numbers"
    elif np.shape(values) != shape:
        why = "it has another shape than flux"
    else:
        why = "nothing says that any value but 0 is a bad pixel there"
    return Remark(
        f"{name or 'an image'} looks like a mask and is not taken, so that mask does not have it:"
        f" {why}",
        f"its shape is {np.shape(values)}, that of flux {shape}",
    )
