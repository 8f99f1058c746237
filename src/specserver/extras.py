"""Packages that the base install does not bring, and the extras that do."""

from importlib.util import find_spec
from typing import Final

from .errors import MissingPackage

_SERVER: Final = ("duckdb", "fastapi", "tensorstore")
PACKAGES: Final = {
    "server": _SERVER,
    "s3": ("obstore",),
    "dask": (*_SERVER, "dask", "xarray"),
    "postgres": (*_SERVER, "psycopg", "adbc_driver_postgresql", "pgpq", "alembic"),
}
"""Packages of which a missing one shows that an extra is not installed."""


def require(what: str, extra: str, *packages: str) -> None:
    """Raise `MissingPackage` if a package is not installed; import none.

    Parameters
    ----------
    what
        What the caller asked for, as the subject of a message.
    extra
        The extra of specserver that brings the packages.
    packages
        Without any, those of `PACKAGES`.
    """
    for package in packages or PACKAGES[extra]:
        if find_spec(package) is None:
            raise MissingPackage(
                f"{what} needs {package}, which is not installed: pip install '.[{extra}]' in a"
                " clone of specserver"
            )
