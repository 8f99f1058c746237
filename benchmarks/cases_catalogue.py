"""Questions to a catalogue of millions of rows, against PostgreSQL with q3c on the same rows."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from specserver.model.region import cone
from specserver.service import QueryRequest

from .bench import Bench, Ids
from .cases import case
from .data import CONTEXT
from .measure import Trial, Unequal
from .table import CATALOG, NAME

Position = tuple[float, float]
_CONES: Final = 20
"""Cones of one measurement."""
_RADII: Final = {"003": 0.03, "05": 0.5, "5": 5.0}
_LIMITS_CONE: Final = (
    "the round trip; then an exact test of the candidates, and the bytes of their identifiers"
)
_DENSE: Final = "z between {low} and {high} and class = 'QSO' order by z limit 1000"
_SPARSE: Final = "z between {low} and {high} and class = 'STAR' order by z limit 1000"


def _cones(radius_deg: float) -> Callable[[Bench], Trial]:
    """Return what prepares cones of a radius."""

    def prepare(bench: Bench) -> Trial:
        def ours(centres: Sequence[Position]) -> list[Any]:
            return [bench.client.query(ra, dec, radius_deg, catalog=CATALOG) for ra, dec in centres]

        def inside(centres: Sequence[Position]) -> list[Any]:
            asked = (
                QueryRequest(CONTEXT, cone(ra, dec, radius_deg), catalog=CATALOG)
                for ra, dec in centres
            )
            return [bench.service.query(one).column(0).to_numpy() for one in asked]

        def theirs(centres: Sequence[Position]) -> list[Any]:
            query = "SELECT specobjid FROM objects WHERE q3c_radial_query(ra, dec, %s, %s, %s)"
            return [bench.postgres.rows(query, (ra, dec, radius_deg)) for ra, dec in centres]

        def draw() -> list[Position]:
            ra = bench.rng.uniform(0.0, 360.0, _CONES)
            dec = np.degrees(np.arcsin(bench.rng.uniform(-1.0, 1.0, _CONES)))
            return list(zip(ra.tolist(), dec.tolist(), strict=True))

        found = [0]

        def check(centres: Sequence[Position]) -> None:
            pairs = list(zip(ours(centres), inside(centres), theirs(centres), strict=True))
            for one, two, three in pairs:
                _require_same(one, _signed(three))
                _require_same(two, _signed(three))
            found[0] = sum(len(one) for one, _, _ in pairs)

        _ready(bench)
        rows = round(bench.scale.nrows * radius_deg**2 * np.pi / 41253.0)
        return Trial(
            draw, ours, theirs, check, _CONES, _CONES, inside, note=f"{rows:,} rows a cone"
        )

    return prepare


for _name, _radius in _RADII.items():
    case(
        f"cone_{_name}",
        f"cone of {_radius}° on {{nrows:,}} rows",
        reference="PostgreSQL + q3c, the same cones",
        target=0.5,
        limits=_LIMITS_CONE,
    )(_cones(_radius))


@case(
    "cone_columns",
    "cone of 0.5° on {nrows:,} rows, with ra, dec and z",
    reference="PostgreSQL + q3c, the same cones",
    target=None,
    limits="DuckDB's work for each query, which does not depend on its size",
)
def cone_columns(bench: Bench) -> Trial:
    fields = ["specobjid", "ra", "dec", "z"]

    def ours(centres: Sequence[Position]) -> list[Any]:
        return [
            bench.client.query(ra, dec, 0.5, catalog=CATALOG, fields=fields) for ra, dec in centres
        ]

    def theirs(centres: Sequence[Position]) -> list[Any]:
        query = (
            "SELECT specobjid, ra, dec, z FROM objects WHERE q3c_radial_query(ra, dec, %s, %s, 0.5)"
        )
        return [bench.postgres.rows(query, centre) for centre in centres]

    def inside(centres: Sequence[Position]) -> list[Any]:
        return [
            bench.service.query(
                QueryRequest(CONTEXT, cone(*one, 0.5), fields=tuple(fields), catalog=CATALOG)
            )
            for one in centres
        ]

    def draw() -> list[Position]:
        ra = bench.rng.uniform(0.0, 360.0, _CONES)
        dec = np.degrees(np.arcsin(bench.rng.uniform(-1.0, 1.0, _CONES)))
        return list(zip(ra.tolist(), dec.tolist(), strict=True))

    def check(centres: Sequence[Position]) -> None:
        for one, other in zip(ours(centres), theirs(centres), strict=True):
            _require_same(np.asarray(one["specobjid"]), _signed(other))

    _ready(bench)
    return Trial(draw, ours, theirs, check, _CONES, _CONES, inside)


@case(
    "resolve",
    "resolve {resolve:,} ids of {nrows:,}",
    reference="PostgreSQL: = ANY($1) on its primary key",
    target=0.4,
    limits="through the service, the text of the condition that names them: it is parsed, checked"
    " and bound value by value; in process, a search in a sorted array",
)
def resolve(bench: Bench) -> Trial:
    _ready(bench)
    known = bench.table.column("specobjid").to_numpy()
    catalog = bench.service.archive.table(CONTEXT, CATALOG, primary=False).catalog

    def ours(ids: Ids) -> Any:
        listed = ", ".join(map(str, ids.tolist()))
        return bench.client.query(
            constraint=f"specobjid in ({listed})", catalog=CATALOG, fields=["specobjid", "place"]
        )

    def inside(ids: Ids) -> Any:
        rows = catalog.with_ids(ids)
        return catalog.place(rows)

    def theirs(ids: Ids) -> Any:
        query = "SELECT specobjid, place FROM objects WHERE specobjid = ANY(%b)"
        return bench.postgres.rows(query, (ids.view(np.int64).tolist(),))

    def draw() -> Ids:
        chosen: Ids = bench.rng.choice(known, bench.scale.resolve, replace=False)
        return chosen

    def check(ids: Ids) -> None:
        found = _signed(theirs(ids))
        _require_same(ids, found)
        _require_same(np.asarray(ours(ids)["specobjid"]), found)
        _require_same(inside(ids).ids, found)

    return Trial(draw, ours, theirs, check, in_process=inside)


@case(
    "conditions",
    "conditions, few rows meet them: z between … and class = 'STAR' order by z limit 1000",
    reference="PostgreSQL with an index on z",
    target=0.05,
    limits="a scan of three columns by DuckDB, on all cores",
)
def conditions(bench: Bench) -> Trial:
    return _condition(bench, _SPARSE)


@case(
    "conditions_dense",
    "conditions, many rows meet them: z between … and class = 'QSO' order by z limit 1000",
    reference="PostgreSQL with an index on z",
    target=0.05,
    limits="the same scan; PostgreSQL walks its index only until it has 1,000 rows",
)
def conditions_dense(bench: Bench) -> Trial:
    return _condition(bench, _DENSE)


def _condition(bench: Bench, template: str) -> Trial:
    """Return the trial of a condition."""
    _ready(bench)
    fields = ["specobjid", "ra", "dec", "z"]

    def ours(between: tuple[float, float]) -> Any:
        return bench.client.query(
            constraint=_text(template, between), catalog=CATALOG, fields=fields
        )

    def inside(between: tuple[float, float]) -> Any:
        text = _text(template, between)
        asked = QueryRequest(CONTEXT, constraint=text, fields=tuple(fields), catalog=CATALOG)
        return bench.service.query(asked)

    def theirs(between: tuple[float, float]) -> Any:
        text = template.format(low="%s::float4", high="%s::float4")
        return bench.postgres.rows(
            f"SELECT specobjid, ra, dec, z FROM objects WHERE {text}", between
        )

    def draw() -> tuple[float, float]:
        low = round(float(bench.rng.uniform(0.3, 0.5)), 4)
        return low, round(low + 0.4, 4)

    def check(between: tuple[float, float]) -> None:
        # Rows of equal z may come in either order, and the last of them be left out.
        one, two, three = ours(between), inside(between), theirs(between)
        z = np.array([row[3] for row in three], np.float32)
        for found in (np.asarray(one["z"]), two.column("z").to_numpy()):
            if not np.array_equal(found, z):
                raise Unequal(f"{len(found)} rows against {len(z)}, or others")

    return Trial(draw, ours, theirs, check, in_process=inside)


def _text(template: str, between: tuple[float, float]) -> str:
    """Return a condition as a user writes it."""
    return template.format(low=between[0], high=between[1])


def _ready(bench: Bench) -> None:
    """Have the catalogue attached before the service is asked, and the database filled."""
    _ = bench.table
    _ = bench.postgres
    if NAME not in str(bench.client.catalogs(CONTEXT)):
        raise RuntimeError("the service does not list the attached catalogue")


def _signed(rows: Sequence[Sequence[Any]]) -> npt.NDArray[np.uint64]:
    """Return the identifiers of rows of PostgreSQL, which has no unsigned integers."""
    return np.array([row[0] for row in rows], np.int64).view(np.uint64)


def _require_same(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> None:
    """Raise `Unequal` unless two lists of identifiers have the same members."""
    if not np.array_equal(np.sort(ours), np.sort(theirs)):
        raise Unequal(f"{len(ours)} identifiers against {len(theirs)}, or others")
