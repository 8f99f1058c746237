"""The reason why specutils does not read a file: loader, contents of the file, and advice."""

import re
from pathlib import Path
from typing import Any, Final

from astropy.io import fits

from .declaration import NamedVectors, ending_of
from .fileparts import TEXTS, text_table

_SHOWN: Final = 4
_NAMED: Final = 20
"""Number of columns of a table that are shown."""
_MOST: Final = 200
"""Number of characters of a loader's message that are shown."""
_ADVICE: Final = (
    "name another format of specutils with --loader, or write its spectra as tables with columns"
    " wave, flux and ivar"
)


def why_unread(path: Path, error: Exception, loader: str) -> str:
    """Return in one line why specutils cannot read a file.

    Parameters
    ----------
    error : what specutils raised; loaders raise any exception, often without a useful message
    loader : name of the format that was asked for; empty: specutils had to identify it
    """
    text = " ".join(str(error).split())
    if "Format could not be identified" in text:
        return (
            "specutils knows no format like it; name one with --loader if there is one, or what"
            " it holds with --wave, --flux, --error"
        )
    named = f"its loader {loader!r} does not fit" if loader else "no loader fits"
    text = re.sub(re.escape(str(path)), path.name, text)[:_MOST]
    said = f"{type(error).__name__}: {text}".rstrip(": ")
    return f"specutils cannot read it: {named} ({said}); {_ADVICE}"


def what_it_holds(path: Path) -> str:
    """Return the first HDUs of a FITS file, or the columns of a text file; empty for another."""
    if ending_of(path) in TEXTS:
        table = text_table(path)
        return ", ".join(table.colnames[:_NAMED]) if table else ""
    try:
        with fits.open(path) as hdus:
            shown = [
                f"HDU {at} {hdu.name}".rstrip() + f": {_kind(hdu)}" for at, hdu in enumerate(hdus)
            ]
    except (OSError, TypeError, ValueError, IndexError):
        return ""
    more = [f"and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
    return ", ".join([*shown[:_SHOWN], *more])


def asked_for(vectors: NamedVectors) -> str:
    """Return the options that name the vectors of a file."""
    return " ".join(f"--{vector} {name}" for vector, name in vectors.named.items())


def columns_of(path: Path) -> str:
    """Return what a file has that options can name: columns of tables, and images."""
    if ending_of(path) in TEXTS:
        table = text_table(path)
        return "no table" if table is None else ", ".join(table.colnames)
    try:
        with fits.open(path) as hdus:
            shown = [
                f"{hdu.name or at}:{_columns(hdu)}" if getattr(hdu, "columns", None) is not None
                else f"the image {hdu.name or at}"
                for at, hdu in enumerate(hdus)
                if hdu.header.get("NAXIS", 0)
            ]  # fmt: skip
    except (OSError, TypeError, ValueError, IndexError):
        return "no FITS file"
    return "; ".join(shown) or "nothing"


def _columns(hdu: Any) -> str:
    """Return the names of the first columns of a table."""
    names = hdu.columns.names
    return " ".join(names[:_NAMED]) + " …" * (len(names) > _NAMED)


def _kind(hdu: Any) -> str:
    """Return the kind and shape of an HDU."""
    if getattr(hdu, "columns", None) is not None:
        return f"table of {hdu.header.get('NAXIS2', 0):,} rows and {len(hdu.columns)} columns"
    return f"image of shape {hdu.shape}" if hdu.shape else "no data"
