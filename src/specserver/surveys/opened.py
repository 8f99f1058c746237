"""A FITS file as astropy opens it, for readers of surveys whose files have many HDUs."""

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ..errors import BadFile
from ..ops.wholefits import require_whole

# Errors of astropy for files that are cut off or contradict their headers.
_BROKEN: Final = (
    OSError, EOFError, ValueError, TypeError, IndexError, AttributeError, zlib.error, Warning
)  # fmt: skip


@contextmanager
def opened(path: Path, *, beside: bool = False) -> Iterator[Any]:
    """Open a file; an error of astropy while it is read becomes a `BadFile`.

    A file that is read ``beside`` another is examined whether it is whole, and named in the reason.
    """
    from astropy.io import fits  # noqa: PLC0415  # slow to import, and servers do without

    called = f"{path.name}: " if beside else ""
    try:
        if beside:
            require_whole(path)
        # astropy repairs what it warns of, except cut files; it raises all other faults.
        with warnings.catch_warnings(action="ignore"):
            warnings.filterwarnings("error", ".*truncated")
            with fits.open(path) as units:
                yield units
    except BadFile as error:
        raise BadFile(f"{called}{error}") from error
    except _BROKEN as error:
        raise BadFile(f"{called}cannot be read: {error}") from error
