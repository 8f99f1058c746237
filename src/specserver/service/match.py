"""The crossmatch: the objects of a catalogue near each of many positions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..catalog.crossmatch import MAX_RADIUS_DEG, Matches
from ..catalog.deadline import Deadline
from ..errors import BadParameter
from ..model.sphere import is_position
from ..wire.columns import ROW, SEPARATION
from .archive import Archive
from .open_contexts import QueryTable
from .query import distinguishing_columns, field_of, unit_field, wanted_fields

_ARCSEC: Final = 3600.0


@dataclass(frozen=True, slots=True, eq=False)
class MatchRequest:
    """A request for the objects near many positions."""

    ra_deg: npt.NDArray[np.float64]
    """1D[n], ICRS, deg; NaN in either coordinate: the position is unknown and matches nothing."""
    dec_deg: npt.NDArray[np.float64]
    """1D[n], ICRS, deg."""
    radius_deg: float
    which: Literal["nearest", "all"] = "nearest"
    """One row for each position, the nearest object, if any; or a row for each pair."""
    fields: tuple[str, ...] = ()
    """Columns of the catalogue beside the identifier."""
    context: str = "default"
    catalog: str | None = None
    primary: bool = True
    timeout_s: float | None = None


def run_match(
    archive: Archive,
    request: MatchRequest,
    *,
    max_rows: int | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> pa.Table:
    """Answer a match: `ROW`, the identifier, `SEPARATION`, then the columns asked for.

    With ``which='nearest'`` there is a row for each position, in their order, null where nothing is
    near; with ``'all'`` a row for each pair, those of one position from the nearest on.

    Parameters
    ----------
    max_rows : refuse to answer more, before their columns are read
    go_on : called between pieces of the work; raises if the caller has disconnected

    Raises
    ------
    BadParameter
        The radius or a position is not valid.
    TooMuch
        More pairs than ``max_rows``.
    QueryTimeout
        No answer within the time that the request gives.
    """
    deadline = Deadline.after(request.timeout_s)
    _check(request)
    asked = archive.table(request.context, request.catalog, primary=request.primary)
    names = _names(asked, request.fields)
    nearest = request.which == "nearest"
    found = asked.catalog.nearby(
        request.ra_deg,
        request.dec_deg,
        request.radius_deg,
        nearest=nearest,
        primary=asked.primary,
        max_pairs=max_rows,
        deadline=deadline,
        go_on=go_on,
    )
    deadline.check()
    return _table(asked, names, found, len(request.ra_deg) if nearest else None)


def _check(request: MatchRequest) -> None:
    """Raise `BadParameter` for a radius or a position that is not valid."""
    if not 0.0 < request.radius_deg <= MAX_RADIUS_DEG:
        allowed = f"degrees, more than 0 and up to {MAX_RADIUS_DEG:g}; 1 arcsec is 1/3600"
        raise BadParameter("radius", request.radius_deg, allowed)
    if request.which not in {"nearest", "all"}:
        raise BadParameter("which", request.which, "'nearest' or 'all'")
    ra, dec = request.ra_deg, request.dec_deg
    wrong = np.flatnonzero(~(is_position(ra, dec) | np.isnan(ra) | np.isnan(dec)))
    if len(wrong):
        row = int(wrong[0])
        position = (float(ra[row]), float(dec[row]))
        allowed = "ra and dec are degrees, dec from -90 to 90; NaN where a position is unknown"
        raise BadParameter(f"position {row}", position, allowed)


def _names(asked: QueryTable, fields: tuple[str, ...]) -> dict[str, str]:
    """Return output name → column of the catalogue, the identifier first.

    Where spectra share an identifier, the columns that distinguish them follow. A column with the
    name of one of ours gets a number, as in attached tables.
    """
    identifier = asked.survey.id_column.name
    told = {name: name for name in distinguishing_columns(asked)}
    named = (wanted_fields(asked, fields) if fields else {}) | told
    return {identifier: identifier} | {
        f"{name}_2" if name in {ROW, SEPARATION} else name: column for name, column in named.items()
    }


def _table(asked: QueryTable, names: dict[str, str], found: Matches, npos: int | None) -> pa.Table:
    """Return the answer, of so many rows; None: a row for each pair."""
    taken = asked.catalog.columns_of(list(dict.fromkeys(names.values())), found.row)
    row, separation = found.position, pa.array(found.separation_deg * _ARCSEC)
    if npos is not None and len(found) < npos:
        place = np.full(npos, -1)
        place[found.position] = np.arange(len(found))
        places = pa.array(place, mask=place < 0)
        row, separation, taken = np.arange(npos), separation.take(places), taken.take(places)
    (identifier, first), *others = names.items()
    schema = [
        pa.field(ROW, pa.int64()),
        pa.field(identifier, taken.schema.field(first).type),
        unit_field(SEPARATION, pa.float64(), "arcsec"),
        *(field_of(asked, name, taken.schema.field(column)) for name, column in others),
    ]
    columns = [taken.column(column) for _, column in others]
    return pa.table([row, taken.column(first), separation, *columns], schema=pa.schema(schema))
