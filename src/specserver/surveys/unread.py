"""The reason why specutils does not read a file: loader, contents of the file, and advice."""

import re
from pathlib import Path
from typing import Any, Final

from astropy.io import fits

_SHOWN: Final = 4
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
        return "specutils knows no format like it; name one with --loader if there is one"
    named = f"its loader {loader!r} does not fit" if loader else "no loader fits"
    text = re.sub(re.escape(str(path)), path.name, text)[:_MOST]
    said = f"{type(error).__name__}: {text}".rstrip(": ")
    return f"specutils cannot read it: {named} ({said}); {_ADVICE}"


def what_it_holds(path: Path) -> str:
    """Return a description of the first HDUs of a file; empty if it is not a FITS file."""
    try:
        with fits.open(path) as hdus:
            shown = [
                f"HDU {at} {hdu.name}".rstrip() + f": {_kind(hdu)}" for at, hdu in enumerate(hdus)
            ]
    except (OSError, TypeError, ValueError, IndexError):
        return ""
    more = [f"and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
    return ", ".join([*shown[:_SHOWN], *more])


def _kind(hdu: Any) -> str:
    """Return the kind and shape of an HDU."""
    if getattr(hdu, "columns", None) is not None:
        return f"table of {hdu.header.get('NAXIS2', 0):,} rows and {len(hdu.columns)} columns"
    return f"image of shape {hdu.shape}" if hdu.shape else "no data"
