"""A spectroscopic data service: survey spectra, found, fetched and looked at in one line."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from .tracebacks import short

if TYPE_CHECKING:
    from .lazy import DataFolder

__version__ = version("specserver")


@short
def open(data: str | Path) -> "DataFolder":  # noqa: A001  # what opens a data folder
    """Open a data folder in this process, for work on whole surveys (Dask, xarray).

    Parameters
    ----------
    data
        Folder that ``specserver ingest`` wrote: a path, or ``s3://bucket/prefix``.

    Raises
    ------
    MissingPackage
        A package is missing that the extra ``dask`` brings.
    StoreError
        There is no such folder.
    """
    from .extras import require  # noqa: PLC0415  # importing specserver stays light

    require("specserver.open()", "dask")
    from .lazy import DataFolder  # noqa: PLC0415

    return DataFolder(data)
