"""The crossmatch as a user calls it: positions in, a table of the spectra near them out."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from ..errors import BadParameter
from .answers import split_names
from .connection import Connection
from .request import Values
from .skytable import read_positions
from .spaces import in_space

if TYPE_CHECKING:
    from astropy.table import Table

    from .columns import Columns

_MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
_ARCSEC_DEG: Final = 1.0 / 3600.0
# Endings of files, and astropy's name of the format; VOTable has no unsigned 64-bit numbers.
_FORMATS: Final = {
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".parquet": "parquet",
}


class Matching(Connection):
    """A connection that finds spectra near many positions at once."""

    def match(
        self,
        positions: Any,
        radius: Any = _ARCSEC_DEG,
        which: Literal["nearest", "all"] = "nearest",
        fields: Values = None,
        out: str | os.PathLike[str] | None = None,
        context: str | None = None,
        profile: str | None = None,
        *,
        ra_col: str | None = None,
        dec_col: str | None = None,
        primary: bool = True,
        catalog: str | None = None,
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> Any:
        """Find the spectra near each of up to a million positions, in one request.

        Parameters
        ----------
        positions
            A SkyCoord in any frame; a Table, DataFrame or structured array with columns ra and
            dec, or RAJ2000 and DEJ2000, in any case; a tuple ``(ra, dec)`` of arrays; pairs
            ``[(ra, dec), …]``; the name of a file of a table. Degrees, unless a column has a unit.
            What is masked or NaN matches nothing.
        radius
            Degrees, up to 1, or an angle of astropy; one arcsec when not given.
        which
            ``nearest`` gives a row for each position, in their order; ``all`` a row for each pair.
        fields
            Columns of the catalogue to come along.
        out
            A file to write, here or ``vos://name``: ``.csv``, ``.ecsv``, ``.fits``, ``.parquet``.
        ra_col, dec_col
            Columns of a table that hold the positions, when they have other names.
        primary
            The best spectrum of each object, or all.
        catalog
            Another catalogue of the context.
        timeout
            Seconds after which the service gives up.

        Returns
        -------
        Table or ``'OK'``
            ``row`` (of the positions, from 0), the identifier, ``separation`` in arcsec, the
            fields, and what tells spectra of one identifier apart, if they can share one; where
            nothing is near, these are masked or NaN. ``'OK'`` when a file was written.
        """
        if which not in {"nearest", "all"}:
            raise BadParameter("which", which, "'nearest' or 'all'")
        write = None if out is None or not str(out) else partial(_write, out=_checked_out(out))
        asked = self._where(context, profile) | {
            "radius": repr(_degrees(radius)),
            "which": which,
            "fields": ",".join(split_names(fields)),
            "primary": str(bool(primary)).lower(),
            **({"catalog": catalog} if catalog else {}),
            **({"timeout_s": repr(float(timeout))} if timeout is not None else {}),
        }
        ra, dec = read_positions(positions, ra_col, dec_col)
        columns = self._match((ra, dec), asked, timeout, token, debug=debug, verbose=verbose)
        from astropy.table import Table

        table = Table(dict(columns.values), units=dict(columns.units), copy=False)
        if write is None:
            return table
        return write(table, put=partial(self.vos.put, token=token))

    def _match(
        self,
        positions: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
        asked: Mapping[str, str],
        timeout_s: float | None,
        token: str | None,
        *,
        debug: bool,
        verbose: bool,
    ) -> "Columns":
        """Send positions, 1D[n] ra and dec in deg, and return the columns of the answer."""
        from .columns import read_columns
        from .session import query_timeout_s
        from .transfer import say

        url, began = self._url("bulk/match"), perf_counter()
        if debug:
            say(f"POST {url} {len(positions[0]):,} positions, {dict(asked)}")
        with self._http().upload(
            f"{url}?{urlencode(asked)}",
            _encoded(*positions),
            _MEDIA_TYPE,
            token=token,
            timeout_s=query_timeout_s(timeout_s),
        ) as answer:
            columns = read_columns(answer)
        if verbose:
            nrow = len(columns.values["row"])
            say(f"{nrow:,} rows in {perf_counter() - began:.2f} s")
        return columns


def _degrees(radius: Any) -> float:
    """Return a radius in degrees, from a number or an angle."""
    try:
        return float(radius.to_value("deg") if hasattr(radius, "to_value") else radius)
    except (TypeError, ValueError) as error:
        raise BadParameter("radius", radius, "a number of degrees, or one angle") from error


def _encoded(ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64]) -> bytes:
    """Return positions, 1D[n] deg, as an Arrow stream."""
    import pyarrow as pa

    # From buffers: pyarrow's own conversion imports pandas at its first use.
    arrays = [
        pa.Array.from_buffers(
            pa.float64(), len(one), [None, pa.py_buffer(np.ascontiguousarray(one))]
        )
        for one in (ra, dec)
    ]
    batch = pa.record_batch(arrays, names=["ra", "dec"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    sent: bytes = sink.getvalue().to_pybytes()
    return sent


def _checked_out(out: str | os.PathLike[str]) -> str | Path:
    """Return the file to write, or its name in virtual storage, having checked what can be."""
    name = os.fspath(out).strip()
    if Path(name).suffix.lower() not in _FORMATS:
        raise BadParameter("out", name, f"a name that ends in {', '.join(_FORMATS)}")
    if in_space(name):
        return name
    path = Path(name).expanduser()
    if not path.parent.is_dir():
        raise BadParameter("out", name, f"there is no folder {path.parent}")
    return path


def _write(table: "Table", *, out: str | Path, put: Any) -> Any:
    """Write a table to a file, which appears when it is whole, or to virtual storage."""
    from .save import replace_file

    ending = Path(out).suffix.lower()
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"match{ending}"
        table.write(file, format=_FORMATS[ending])
        data = file.read_bytes()
    if isinstance(out, str):
        return put(out, data)
    replace_file(out, data)
    return "OK"
