"""The crossmatch as a user calls it: positions in, a table of the spectra near them out."""

import os
from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from ..errors import BadParameter
from ..wire.columns import POSITION, ROW, SEPARATION
from ..wire.media_types import ARROW
from .inputs.positions import read_positions
from .inputs.sky_region import read_degrees
from .messages import say, sum_up
from .request import RequestOptions, Values, catalog_context, read_contexts, split_names
from .session import HasSession, Session, query_timeout_s
from .storage import open_file, read_ending

if TYPE_CHECKING:
    from .results.columns import Columns

_ARCSEC_DEG: Final = 1.0 / 3600.0


def match(
    client: HasSession,
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
        A file to write, here or ``vos://name``: ``.csv``, ``.ecsv``, ``.fits``, ``.parquet``,
        ``.vot``. `getSpec` reads it; where nothing is near, with ``missing='skip'``.
    ra_col, dec_col
        Columns of a table that hold the positions, when they have other names.
    primary
        The best spectrum of each object, or all.
    catalog
        Another catalogue of the context. Of a value-added table, ``fields`` may be columns of
        the context's own catalogue too, as in `query`; masked or NaN where a row has no spectrum.
    timeout
        Seconds after which the service gives up.

    Returns
    -------
    Table or ``'OK'``
        ``row`` (of the positions, from 0), the identifier, ``separation`` in arcsec, the
        fields, and, if spectra can share an identifier, the columns that distinguish them; where
        nothing is near, these are masked or NaN. Its ``meta`` states the context, ``radius`` in
        degrees, ``which``, and in how many rows a spectrum was ``found``. ``'OK'`` when a file
        was written.

    Examples
    --------
    >>> targets = spec.query(constraint="class = 'QSO' order by z limit 3", fields="ra,dec")
    >>> found = spec.match(targets, fields="z")
    >>> found.colnames, found.meta["found"]
    (['row', 'specobjid', 'separation', 'z'], 3)
    """
    if which not in {"nearest", "all"}:
        raise BadParameter("which", which, "'nearest' or 'all'")
    if read_contexts(context) is not None:
        allowed = "match takes one context: call it for each, with the same positions"
        raise BadParameter("context", context, allowed)
    options = RequestOptions(context, profile, "error", timeout, token, debug, verbose)
    from .results.table_file import TABLES, table_bytes

    ending = read_ending(out, TABLES) if out else ""
    write = open_file(client.session, out, token) if out else None
    asked = client.session.where(context, profile) | {
        "radius": repr(read_degrees("radius", radius)),
        "which": which,
        "fields": ",".join(split_names(fields, "fields")),
        "primary": str(bool(primary)).lower(),
        **({"catalog": catalog} if catalog else {}),
        **({"timeout_s": repr(float(timeout))} if timeout is not None else {}),
    }
    ra, dec = read_positions(positions, ra_col, dec_col)
    columns = _match(client.session, ra, dec, asked, options)
    if write is None:
        table = columns.table()
        table.meta = {
            "context": catalog_context(catalog, asked["context"]),
            "radius": float(asked["radius"]),
            "which": which,
            "found": int(np.isfinite(np.ma.filled(columns.values[SEPARATION], np.nan)).sum()),
        }
        return table
    write(table_bytes(columns, ending))
    return "OK"


def write_table(
    client: HasSession, table: Any, out: str | os.PathLike[str], *, token: str | None = None
) -> Any:
    """Write a table to a file of the kind that its name ends in; every number stays exact.

    astropy's own writer of VOTables refuses unsigned integers; here they become wider signed
    ones where all of a column fit, else decimal text, as the column's description says.

    Parameters
    ----------
    table
        An astropy Table, a DataFrame or a structured array.
    out
        Here or ``vos://name``: ``.csv``, ``.ecsv``, ``.fits``, ``.parquet``, ``.vot``.

    Returns
    -------
    ``'OK'``

    Examples
    --------
    >>> table = spec.query(constraint="class = 'QSO' limit 3", fields="ra,dec,z")
    >>> spec.write_table(table, "quasars.vot")
    'OK'
    """
    from .results.table_file import TABLES, columns_of, table_bytes

    ending = read_ending(out, TABLES)
    write = open_file(client.session, out, token)
    write(table_bytes(columns_of(table), ending))
    return "OK"


def _match(
    session: Session,
    ra: npt.NDArray[np.float64],
    dec: npt.NDArray[np.float64],
    asked: Mapping[str, str],
    options: RequestOptions,
) -> "Columns":
    """Send positions, 1D[n] deg, and return the columns of the answer."""
    from .results.columns import read_columns

    url, began = session.url("bulk/match"), perf_counter()
    if options.debug:
        say(f"POST {url} {len(ra):,} positions, {dict(asked)}")
    patient_s, url = query_timeout_s(options.timeout_s), f"{url}?{urlencode(asked)}"
    sent, headers = _encoded(ra, dec), {"Content-Type": ARROW}
    with session.send(
        "POST", url, sent, headers=headers, token=options.token, timeout_s=patient_s
    ) as answer:
        columns = read_columns(answer)
    sum_up(options, f"{len(columns.values[ROW]):,} rows", began)
    return columns


def _encoded(ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64]) -> bytes:
    """Return positions, 1D[n] deg, as an Arrow stream."""
    import pyarrow as pa

    from ..wire.numeric import as_arrow

    arrays = [as_arrow(angles) for angles in (ra, dec)]
    batch = pa.record_batch(arrays, names=POSITION)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    sent: bytes = sink.getvalue().to_pybytes()
    return sent
