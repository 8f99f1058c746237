"""A spectroscopic data service: survey spectra, found, fetched and looked at in one line."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lazy import DataFolder

__version__ = version("specserver")


def open(data: str | Path) -> "DataFolder":  # noqa: A001  # what opens a data folder
    """Open a data folder in this process, for work on whole surveys (Dask, xarray).

    Parameters
    ----------
    data
        Folder that ``specserver ingest`` wrote.

    Raises
    ------
    ImportError
        Packages are missing that the base install does not bring.
    StoreError
        There is no such folder.
    """
    try:
        from .lazy import DataFolder  # noqa: PLC0415  # importing specserver stays light
    except ImportError as error:
        error.add_note("specserver.open() needs: pip install 'specserver[dask]'")
        raise
    return DataFolder(Path(data))
