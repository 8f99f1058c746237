"""The form of identifiers, and the packed specobjid of SDSS DR8–DR17 spectra, 64 bits.

==== ======= ======== =====================================================
bits  width   content  range
==== ======= ======== =====================================================
50-63 14      plate    0 … 16383
38-49 12      fiber    0 … 4095
24-37 14      mjd      50000 … 66383 (stored as mjd - 50000)
10-23 14      run2d    the integer itself, or (N-5)·10000 + M·100 + P of vN_M_P
0-9   10      line     0 for a spectrum
==== ======= ======== =====================================================

Source: SDSS data model of specObj, and ``sdss/idlspec2d``. Codes 26, 103 and 104 could also be
read as v5_0_26, v5_1_3 and v5_1_4, which never were; they always mean the plain numbers.
Values pass 2^63 from plate 8192 on: they are uint64, never int64 and never float.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from ..errors import BadIdentifier
from ..tracebacks import short

_PLAIN_RUN2D = (26, 103, 104)
_VERSION = re.compile(r"v(\d+)_(\d+)_(\d+)\Z")
_LIMITS = {"plate": (0, 2**14 - 1), "fiber": (0, 2**12 - 1), "mjd": (50000, 50000 + 2**14 - 1)}

MAX_DIGITS: Final = 20
"""Digits of 2^64 - 1."""
NUMBER: Final = re.compile(r"([+-]?[0-9]{1,20})")
"""A whole number as text, signed or not; its value may still need more than 64 bits."""
FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eEdD][+-]?[0-9]+)?")
"""A number as text, with or without a fraction."""

UNPACKED = np.dtype([("plate", "i4"), ("mjd", "i4"), ("fiber", "i4"), ("run2d", "U8")])
"""Record type of `unpack_specobjid`."""


@dataclass(frozen=True, slots=True)
class IdForm:
    """The form of a survey's identifiers."""

    column: str
    """Name of the identifier."""
    parts: tuple[str, ...]
    """Names of the parts of its tuple form: numbers, then text."""
    texts: int = 1
    """Number of parts, at the end, that are text."""
    has_reduction: bool = True
    """The last part is the reduction: a tuple that leaves it open means the best one."""
    last_open: bool = False
    """A tuple that leaves open the last part alone, no reduction, means the best of what it names.
    """
    told_by: tuple[str, ...] = ()
    """Columns of a table that select one of the spectra with an identifier."""

    @property
    def numbers(self) -> int:
        """Number of parts, at the beginning, that are numbers."""
        return len(self.parts) - self.texts

    @property
    def leads_with_id(self) -> bool:
        """Whether the identifier itself is the first part."""
        return self.parts[0] == self.column

    @property
    def has_names(self) -> bool:
        """Whether the name of a spectrum is all that its tuple has besides the identifier."""
        return self.leads_with_id and self.parts[1:] == ("name",)

    @property
    def example(self) -> str:
        """The parts as a message shows them."""
        return f"({', '.join(self.parts)})"

    def to_json(self) -> dict[str, Any]:
        """Return the form as values of the JSON object that describes a context."""
        return {
            "id_main": self.column,
            "id_parts": list(self.parts),
            "id_texts": self.texts,
            "id_reduction": self.has_reduction,
            "id_open": self.last_open,
            "id_told_by": list(self.told_by),
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read the form from the JSON object that describes a context."""
        return cls(
            str(said["id_main"]),
            tuple(said.get("id_parts") or USUAL_FORM.parts),
            int(said.get("id_texts", 1)),
            bool(said.get("id_reduction", True)),
            bool(said.get("id_open", False)),
            tuple(said.get("id_told_by") or ()),
        )


INNER_KEYS: Final = frozenset({"id_texts", "id_reduction", "id_open", "id_told_by"})
"""Values of the JSON object that only programs read: clients do not show them."""
USUAL_FORM: Final = IdForm("specobjid", ("plate", "mjd", "fiberid", "run2d"))
"""Form of the first survey's identifiers; the default."""


def run2d_code(run2d: str | int) -> int:
    """Return the 14-bit code of a reduction version such as ``26`` or ``'v5_13_2'``.

    Raises `BadIdentifier` for another text or number.
    """
    text = str(run2d).strip()
    if text.isascii() and text.isdigit():
        code = int(text)
    elif match := _VERSION.match(text):
        major, minor, patch = (int(part) for part in match.groups())
        if minor > 99 or patch > 99:
            raise BadIdentifier(run2d, "run2d numbers after the first go to 99")
        code = (major - 5) * 10000 + minor * 100 + patch
    else:
        raise BadIdentifier(run2d, "run2d is a number such as 26 or a version such as v5_13_2")
    if not 0 <= code < 2**14:
        raise BadIdentifier(run2d, "run2d lies outside the 14 bits of a specobjid")
    return code


def run2d_name(code: int) -> str:
    """Return the reduction version that a 14-bit code stands for."""
    if code < 100 or code in _PLAIN_RUN2D:
        return str(code)
    return f"v{code // 10000 + 5}_{code // 100 % 100}_{code % 100}"


@short
def pack_specobjid(
    plate: npt.ArrayLike,
    mjd: npt.ArrayLike,
    fiber: npt.ArrayLike,
    run2d: str | int | Sequence[str | int] | npt.NDArray[Any],
) -> Any:
    """Pack plate, mjd, fiber and run2d into specobjids.

    Parameters
    ----------
    plate, mjd, fiber : scalar or 1D[n] int
        mjd in days, the full five digits.
    run2d : scalar or 1D[n] str or int
        ``26``, ``'103'``, ``'v5_13_2'``, …

    Returns
    -------
    numpy.uint64 or 1D[n] uint64
        A scalar when all arguments are scalars.

    Raises
    ------
    BadIdentifier
        A value lies outside its bits, or a run2d is none.

    Examples
    --------
    >>> spec.pack_specobjid(4055, 55359, 408, "v5_7_0")
    np.uint64(4565636362342690816)
    """
    parts = {}
    for name, given in (("plate", plate), ("fiber", fiber), ("mjd", mjd)):
        values = np.asarray(given)
        if values.dtype.kind not in "iu" and values.size:
            raise BadIdentifier(given, f"{name} must be whole numbers")
        low, high = _LIMITS[name]
        if values.size and (values.min() < low or values.max() > high):
            raise BadIdentifier(given, f"{name} lies outside {low} … {high}")
        parts[name] = values.astype(np.uint64)
    runs = np.asarray(run2d)
    code: Any
    if runs.ndim:
        texts, inverse = np.unique(runs.astype(str), return_inverse=True)
        codes = np.array([run2d_code(text) for text in texts.tolist()], dtype=np.uint64)
        code = codes[inverse].reshape(runs.shape)
    else:
        code = np.uint64(run2d_code(runs.astype(str).item()))
    packed = (
        parts["plate"] << np.uint64(50)
        | parts["fiber"] << np.uint64(38)
        | (parts["mjd"] - np.uint64(50000)) << np.uint64(24)
        | code << np.uint64(10)
    )
    return packed if packed.ndim else np.uint64(packed)


@short
def unpack_specobjid(ids: npt.ArrayLike | Sequence[int | str]) -> Any:
    """Unpack specobjids into plate, mjd, fiber and run2d.

    Parameters
    ----------
    ids : scalar or 1D[n] integer or decimal text
        Signed 64-bit forms of ids from plate 8192 on are understood.

    Returns
    -------
    numpy.record or record array 1D[n]
        Fields ``plate, mjd, fiber`` (int32) and ``run2d`` (text).

    Examples
    --------
    >>> spec.unpack_specobjid(4565636362342690816).tolist()
    (4055, 55359, 408, 'v5_7_0')
    """
    packed = as_specobjid(ids)
    flat = np.atleast_1d(packed)
    out = np.empty(flat.shape, dtype=UNPACKED)
    out["plate"] = flat >> np.uint64(50)
    out["fiber"] = flat >> np.uint64(38) & np.uint64(0xFFF)
    out["mjd"] = (flat >> np.uint64(24) & np.uint64(0x3FFF)) + np.uint64(50000)
    codes, inverse = np.unique(flat >> np.uint64(10) & np.uint64(0x3FFF), return_inverse=True)
    names = np.array([run2d_name(int(code)) for code in codes], dtype="U8")
    out["run2d"] = names[inverse].reshape(flat.shape)
    records = out.view(np.recarray)
    return records if np.ndim(packed) else records[0]


def usual_tuples(ids: npt.NDArray[np.uint64]) -> list[tuple[Any, ...]]:
    """Return the tuple form of packed identifiers, 1D[n], with the parts of `USUAL_FORM`."""
    tuples: list[tuple[Any, ...]] = unpack_specobjid(ids).tolist()
    return tuples


def as_specobjid(ids: npt.ArrayLike | Sequence[int | str]) -> Any:
    """Return ids as uint64, from any integer type, decimal text or the signed 64-bit form.

    Floats are refused: they have lost the low bits, which hold the reduction version.

    Parameters
    ----------
    ids : scalar or 1D[n] integer or decimal text

    Returns
    -------
    numpy.uint64 or 1D[n] uint64

    Raises
    ------
    BadIdentifier
        A masked or missing value, or one that is no whole number of 64 bits.
    """
    if isinstance(ids, np.ma.MaskedArray) and np.ma.getmaskarray(ids).any():
        raise BadIdentifier("--", "the array has masked entries; leave them out first")
    values = np.asarray(ids)
    if values.dtype.kind == "u" or values.size == 0:
        out = values.astype(np.uint64)
    elif values.dtype.kind == "i":
        out = values.astype(np.int64).view(np.uint64)
    else:
        # Python ints on both sides of 2^63, or text: numpy would make floats or objects of them.
        # ids, not values: mixed lists have already been rounded to float64 in values.
        listed = list(np.asarray(ids, dtype=object).ravel())
        out = np.array([_one_id(value) for value in listed], dtype=np.uint64).reshape(values.shape)
    return out if out.ndim else np.uint64(out)


def _one_id(value: object) -> int:
    """Return one id as a Python int in 0 … 2^64-1."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, float | np.floating):
        raise BadIdentifier(value, "a float has lost the last digits; pass integers or text")
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise BadIdentifier(value, "a specobjid is a whole number of up to 20 digits")
    number = int(value)
    if not -(2**63) <= number < 2**64:
        raise BadIdentifier(value, "a specobjid has 64 bits")
    return number % 2**64
