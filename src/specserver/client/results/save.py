"""Spectra → files, one each, named as on the server, written while the rest still travels."""

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...errors import StoreError
from ...wire.batches import ANSWER
from ...wire.columns import NAME
from .convert import convert_one
from .table_file import encoded, npy_bytes

if TYPE_CHECKING:
    from ..storage import Put
    from .decode import Spectra

_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_FITS_ENDING: Final = re.compile(r"\.(?:fits|fit|fts)(?:\.gz)?$", re.IGNORECASE)
_ENDINGS: Final = {"numpy": ".npy", "pandas": ".csv", "table": ".ecsv"}


def put_spectra(spectra: "Spectra", fmt: str, put: "Put") -> None:
    """Write the spectra of a batch, a file each."""
    for index, record in enumerate(spectra.data):
        stem = _FITS_ENDING.sub("", safe_name(str(spectra.columns[NAME][index])))
        ending = _ENDINGS.get(fmt, ".fits")
        put(stem + ending, _encoded(spectra, index, record, fmt))


def safe_name(name: str) -> str:
    """Return a name from the wire when it is one of a plain file."""
    if not _SAFE_NAME.fullmatch(name):
        raise StoreError(ANSWER, f"damaged: {name!r} is no name of a file")
    return name


def _encoded(spectra: "Spectra", index: int, record: Any, fmt: str) -> bytes:
    """Return the content of a spectrum's file."""
    if fmt == "numpy":
        return npy_bytes(record)
    made = convert_one(spectra, index, record, fmt)
    if fmt == "pandas":
        text: str = made.to_csv(index=False)
        return text.encode()
    if fmt == "table":
        return encoded(made, "ascii.ecsv")
    # A pixel without information has ivar 0: its standard deviation, as the file has it, is inf.
    with np.errstate(divide="ignore"):
        return encoded(made, "tabular-fits", update_header=True)
