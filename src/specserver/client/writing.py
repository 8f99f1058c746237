"""Spectra as files, named as on the server, each written while the rest travels."""

import os
import re
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np

from ..errors import StoreError
from ..wire.columns import NAME
from .inputs.context_ids import Named
from .messages import sum_up, warn_left_out
from .progress import Watch
from .request import RequestOptions, ResultOptions
from .session import Session
from .spectra import empty_cutouts, fetch_files, spectra_request, warn_empty
from .storage import Put

if TYPE_CHECKING:
    from .results.decode import Spectra

# Users' own files may have any letters and blanks in their names.
_PATH: Final = re.compile(r"|\..*|.*[/\\\0].*", re.DOTALL)
_ODD: Final = re.compile(r"^[~-]|[:\x01-\x1f\x7f]|%(?=[0-9A-F]{2})")
"""What commands or some file systems read in their own way."""
_LONGEST: Final = 200
_ENDING: Final = re.compile(
    r"\.(?:fits|fit|fts|ecsv|csv|txt|dat|ascii|asc)(?:\.gz)?$", re.IGNORECASE
)
"""Ending of an original file."""
_ENDINGS: Final = {"numpy": ".npy", "pandas": ".csv", "table": ".ecsv"}


def write_spectra(
    session: Session,
    named: Named,
    wanted: ResultOptions,
    put: Put,
    options: RequestOptions,
    fits: str,
) -> None:
    """Write each spectrum as a file, FITS files of the kind ``fits``."""
    from .results.decode import decode_batches
    from .results.media import in_medium

    if not named.ids:
        return
    if wanted.fmt == "fits":
        for name, data in fetch_files(session, named, options, fits):
            put(_safe_name(name), data)
        return
    body = spectra_request(session, named, wanted, options, (NAME,))
    began, done, nbytes, empty = perf_counter(), 0, 0, 0
    with (
        session.ask("bulk/spectra", body, options) as answer,
        Watch("files") as watch,
    ):
        for head, part in decode_batches(answer, values=wanted.values, align=wanted.align):
            if not done:
                warn_left_out(head.missing, head.damaged, len(named.ids))
            made = part if wanted.resample else in_medium(part, wanted)
            empty += empty_cutouts([part], wanted)
            put_spectra(made, wanted.fmt, put)
            done += len(part.ids)
            nbytes += sum(spectrum.nbytes for spectrum in part.data)
            watch(done, head.nspec)
    warn_empty(empty, done, wanted)
    sum_up(options, f"{done:,} spectra, {nbytes / 1e6:.1f} MB", began)


def ending_of(fmt: str) -> str:
    """Return the ending of the files of a format."""
    return _ENDINGS.get(fmt, ".fits")


def is_array_file(
    out: str | os.PathLike[str] | None, wanted: ResultOptions, *, single: bool
) -> bool:
    """Return whether ``out`` names one file for the array of several aligned spectra."""
    name = os.fspath(out or "").strip().lower()
    is_array = wanted.align and wanted.fmt == "numpy" and not single
    return is_array and name.endswith(_ENDINGS["numpy"]) and not Path(name).is_dir()


def put_spectra(spectra: "Spectra", fmt: str, put: Put) -> None:
    """Write the spectra of a batch, a file each."""
    for index, record in enumerate(spectra.data):
        stem = _ENDING.sub("", _safe_name(str(spectra.columns[NAME][index])))
        put(stem + ending_of(fmt), _encoded(spectra, index, record, fmt))


def _safe_name(name: str) -> str:
    """Return the name of a file here for a name from the wire; raise `StoreError` for a path.

    Its odd characters are written as in URLs: ``-7.fits`` becomes ``%2D7.fits``. No two names
    become one.
    """
    from ..wire.batches import ANSWER

    if _PATH.fullmatch(name):
        raise StoreError(ANSWER, f"damaged: {name!r} is no name of a file")
    made = _ODD.sub(lambda odd: f"%{ord(odd[0]):02X}", name)
    # The end has the number of the spectrum and the ending.
    cut = f"{crc32(name.encode()):08x}-{made[-_LONGEST:]}"
    return made if len(made) <= _LONGEST else cut


def _encoded(spectra: "Spectra", index: int, record: Any, fmt: str) -> bytes:
    """Return the content of a spectrum's file."""
    from .results.convert import convert_one
    from .results.table_file import encoded, npy_bytes

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
