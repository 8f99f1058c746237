"""A FITS file as astropy opens it, for readers of surveys whose files have many HDUs."""

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ..errors import BadFile
from ..ops.wholefits import require_whole

# What astropy raises at files that are cut off or are not what their headers say.
_BROKEN: Final = (
    OSError, EOFError, ValueError, TypeError, IndexError, AttributeError, zlib.error, Warning
)  # fmt: skip


@contextmanager
def opened(path: Path, *, beside: bool = False) -> Iterator[Any]:
    """Open a file; what astropy raises while it is read is the file's fault.

    Parameters
    ----------
    path : the file
    beside :
        It is read along with another, so that nobody has seen yet whether it is whole, and the
        reason begins with its name.

    Raises
    ------
    BadFile
        With the reason.
    """
    from astropy.io import fits  # noqa: PLC0415  # slow to import, and servers do without

    called = f"{path.name}: " if beside else ""
    try:
        if beside:
            require_whole(path)
        # What astropy warns of, it repairs, but for what is cut off; the rest it raises.
        with warnings.catch_warnings(action="ignore"):
            warnings.filterwarnings("error", ".*truncated")
            with fits.open(path) as units:
                yield units
    except BadFile as error:
        raise BadFile(f"{called}{error}") from error
    except _BROKEN as error:
        raise BadFile(f"{called}cannot be read: {error}") from error
