"""Boxes of right ascension and declination around positions, as conditions on two columns.

Ordinary indexes find the rows in a box, so boxes serve tables that have neither pixels nor q3c. A
box holds a whole circle; the positions in it are tested exactly afterwards. A table may count right
ascension from -180° or from 0°, so a box is asked for in both, and a turn further.
"""

from typing import Final

import numpy as np
import pyarrow as pa

from ...model.sphere import cos_dec, wrap_deg
from .parameters import Parameters
from .relation import Floats

PAD_DEG: Final = 1e-9
"""Boxes and circles of candidates are larger by more than rounding."""
_WHOLE_DEG: Final = 360.0
"""Half the width of a box with a pole in it: whatever the right ascension, it is inside."""
_STRIPE_DEG: Final = 0.02
"""Least height of a stripe of declination in which positions are compared with rows."""
_DOUBLE: Final = "double precision"


def edges(ra_deg: Floats, dec_deg: Floats, radius_deg: float) -> tuple[Floats, ...]:
    """Return the west, east, south and north of boxes around circles.

    Parameters
    ----------
    ra_deg, dec_deg : 1D[n] float64, deg
    radius_deg : of all circles

    Returns
    -------
    1D[n] float64, deg, each
    """
    reach = radius_deg + PAD_DEG
    south, north = dec_deg - reach, dec_deg + reach
    has_pole = (south <= -90.0) | (north >= 90.0)
    # The widest parallel that a circle touches is nearer to the pole than its centre.
    sine = np.sin(np.radians(min(reach, 90.0))) / np.where(has_pole, 1.0, cos_dec(dec_deg))
    half = np.degrees(np.arcsin(np.minimum(1.0, sine))) + PAD_DEG
    half = np.where(has_pole, _WHOLE_DEG, half)
    ra = wrap_deg(ra_deg)
    # No box reaches beyond 360°: then a turn each way finds all notations from -360° to 360°.
    ra = np.where(ra + half >= 360.0, ra - 360.0, ra)
    return ra - half, ra + half, south, north


def in_box(ra: str, dec: str, edges: tuple[str, ...]) -> str:
    """Return the condition that columns of a position, as SQL, are within the edges of a box."""
    west, east, south, north = edges
    turns = (f"{ra} BETWEEN {west} {turn} AND {east} {turn}" for turn in ("- 360", "", "+ 360"))
    return f"{dec} BETWEEN {south} AND {north} AND ({' OR '.join(turns)})"


def in_circle(ra: str, dec: str, circle: tuple[str, ...]) -> str:
    """Return the same for a circle that q3c finds: its ra, dec and radius, as SQL."""
    return f"q3c_radial_query({ra}, {dec}, {', '.join(circle)})"


def around_each(
    columns: str,
    table: str,
    position: tuple[str, str],
    circles: tuple[Floats, Floats, float],
    values: Parameters,
    *,
    has_q3c: bool,
) -> str:
    """Return the query of the rows in a box or circle around each of many positions.

    A row near several of them is found several times.

    Parameters
    ----------
    columns, table, position : what to select, from what, and its ra and dec, as SQL
    circles : ra and dec, 1D[n] float64 each, and radius, deg
    """
    ra_deg, dec_deg, radius_deg = circles
    if has_q3c:
        arrays: tuple[Floats, ...] = wrap_deg(ra_deg), dec_deg
        names: tuple[str, ...] = "ra", "dec"
        reach = values.bind(radius_deg + PAD_DEG)
        where = in_circle(*position, ("asked.ra", "asked.dec", reach))
    else:
        arrays = edges(ra_deg, dec_deg, radius_deg)
        names = "west", "east", "south", "north"
        where = in_box(*position, tuple(f"asked.{name}" for name in names))
    given = (values.bind_all(array.tolist(), pa.float64(), _DOUBLE) for array in arrays)
    # Each position is a search in the index: a plain join may compare all with all.
    return (
        f"SELECT found.* FROM unnest({', '.join(given)}) AS asked({', '.join(names)})"
        f" CROSS JOIN LATERAL (SELECT {columns} FROM {table} WHERE {where} OFFSET 0) AS found"
    )


def in_stripes(
    columns: str,
    table: str,
    position: tuple[str, str],
    circles: tuple[Floats, Floats, float],
    values: Parameters,
) -> str:
    """Return the same query for a table without an index, which is read once.

    Rows and positions are joined by equal stripes of declination, which a hash finds.
    """
    ra_deg, dec_deg, radius_deg = circles
    west, east, south, north = edges(ra_deg, dec_deg, radius_deg)
    height = max(_STRIPE_DEG, 2.0 * (radius_deg + PAD_DEG))
    first, last = np.floor(south / height), np.floor(north / height)
    # A box reaches into two stripes, or one.
    both = np.append(np.arange(len(first)), np.flatnonzero(first != last))
    stripe = np.append(first, last[first != last])
    arrays = (stripe, *(edge[both] for edge in (west, east, south, north)))
    # Names that a table hardly has: unlike those of a subquery they stand beside its own.
    names = tuple(f"_asked_{name}" for name in ("stripe", "west", "east", "south", "north"))
    given = (values.bind_all(array.tolist(), pa.float64(), _DOUBLE) for array in arrays)
    asked = f"unnest({', '.join(given)}) AS _asked({', '.join(names)})"
    where = in_box(*position, names[1:])
    stripe_of_row = f"floor({position[1]} / {values.bind(height)})"
    # Beside a JOIN, which has none, the place of a row could not be named.
    return f"SELECT {columns} FROM {table}, {asked} WHERE {stripe_of_row} = {names[0]} AND {where}"
