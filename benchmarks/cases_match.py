"""A crossmatch of many positions with a catalogue, against astropy's on the same positions."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord, match_coordinates_sky

from specserver.data.root import open_root
from specserver.service import SpectroscopicService
from specserver.service.match import MatchRequest
from specserver.service.tables import attach_table

from .bench import Bench
from .cases import case
from .data import CONTEXT, make_library
from .measure import Trial, Unequal
from .table import make_rows

NAME: Final = "sky"
CATALOG: Final = f"{CONTEXT}.{NAME}"
_RECIPE: Final = 1
"""Raise it when the rows become others."""
_MOST_ROWS: Final = 1_000_000
_POSITIONS: Final = 10
"""Rows for each position."""
_RADIUS_DEG: Final = 1.0 / 3600.0
_SCATTER_DEG: Final = 0.5 / 3600.0
"""How far most positions lie from a row, in each coordinate; a third lie anywhere."""
_TITLE: Final = "100,000 positions on 1,000,000 rows, the nearest within 1 arcsec"
_LIMITS: Final = (
    "two searches in a sorted column for each position; through the service also the bytes of the"
    " positions and of the answer"
)


@case(
    "match",
    _TITLE,
    reference="astropy's match_to_catalog_sky, its tree of the catalogue kept",
    target=1.0,
    limits=_LIMITS,
)
def match(bench: Bench) -> Trial:
    return _trial(bench, keep_tree=True)


@case(
    "match_tree",
    f"{_TITLE}, of a catalogue seen for the first time",
    reference="astropy's match_to_catalog_sky, with the making of its tree",
    target=1.0,
    limits=_LIMITS,
)
def match_tree(bench: Bench) -> Trial:
    return _trial(bench, keep_tree=False)


def _trial(bench: Bench, *, keep_tree: bool) -> Trial:
    """Return the trial; astropy's catalogue is made before it, in either case."""
    rows = pq.read_table(_make(bench))
    ra, dec = rows.column("ra").to_numpy(), rows.column("dec").to_numpy()
    ids = _standing(ra, dec, rows.column("specobjid").to_numpy())
    catalog = SkyCoord(ra, dec, unit="deg")
    npos = len(ids) // _POSITIONS
    if NAME not in str(bench.client.catalogs(CONTEXT)):
        raise RuntimeError("the service does not list the attached catalogue")

    def ours(at: SkyCoord) -> Any:
        return bench.client.match(at, _RADIUS_DEG, catalog=CATALOG)

    def inside(at: SkyCoord) -> Any:
        asked = MatchRequest(at.ra.deg, at.dec.deg, _RADIUS_DEG, catalog=CATALOG)
        return bench.service.match(asked)

    def theirs(at: SkyCoord) -> Any:
        kept = "kdtree_sky" if keep_tree else False
        return match_coordinates_sky(at, catalog, storekdtree=kept)

    def draw() -> SkyCoord:
        own = bench.rng.integers(0, len(ids), npos)
        dec_deg = dec[own] + bench.rng.normal(0.0, _SCATTER_DEG, npos)
        ra_deg = ra[own] + bench.rng.normal(0.0, _SCATTER_DEG, npos) / np.cos(np.radians(dec[own]))
        far = bench.rng.random(npos) < 1 / 3
        dec_deg[far] = np.degrees(np.arcsin(bench.rng.uniform(-1.0, 1.0, int(far.sum()))))
        return SkyCoord(ra_deg, np.clip(dec_deg, -90.0, 90.0), unit="deg")

    def check(at: SkyCoord) -> None:
        index, apart, _ = theirs(at)
        near = apart.deg <= _RADIUS_DEG
        wanted = np.where(near, ids[index], 0)
        table = inside(at)
        found = table.column("specobjid").fill_null(0).to_numpy()
        separation = table.column("separation").to_numpy()[near]
        _require(np.array_equal(found, wanted), "identifiers in process")
        _require(
            np.array_equal(np.ma.filled(ours(at)["specobjid"], 0), wanted), "identifiers served"
        )
        _require(bool(np.all(np.abs(separation - apart.arcsec[near]) < 1e-9)), "separations")

    return Trial(draw, ours, theirs, check, in_process=inside, note=f"{npos:,} on {len(ids):,}")


def _standing(
    ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64], ids: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Return the identifier that stands for each row, 1D[n]: the least of those at its place.

    Some objects have two spectra, of which astropy takes either.
    """
    places, place = np.unique(ra + 1j * dec, return_inverse=True)
    least = np.full(len(places), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, place, ids)
    standing: npt.NDArray[np.uint64] = least[place]
    return standing


def _make(bench: Bench) -> Path:
    """Return the catalogue as a Parquet file, attached to the context."""
    library, digest = make_library(bench.cache, bench.scale)
    nrows = min(bench.scale.nrows, _MOST_ROWS)
    stamp = {"recipe": _RECIPE, "nrows": nrows, "spectra": digest}

    def write(folder: Path) -> None:
        rows: dict[str, npt.NDArray[Any]] = make_rows(library, nrows)
        kept = {name: rows[name] for name in ("specobjid", "ra", "dec")}
        pq.write_table(pa.table(kept), folder / f"{NAME}.parquet")

    folder, made = bench.cache.part(f"{bench.scale.name}-sky", stamp, write)
    file = folder / f"{NAME}.parquet"

    def attach(path: Path) -> None:
        archive = SpectroscopicService(open_root(library.data)).archive
        attached = attach_table(archive, CONTEXT, NAME, file, overwrite=True)
        (path / "attached").write_text(f"{attached.nrows}\n", "utf-8")

    bench.cache.part(f"{bench.scale.name}-sky-attached", {"table": made, "data": digest}, attach)
    return file


def _require(same: bool, what: str) -> None:
    """Raise `Unequal` unless both gave the same."""
    if not same:
        raise Unequal(f"the {what} differ from astropy's")
