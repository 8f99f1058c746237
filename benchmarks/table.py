"""A catalogue of many rows of which few have spectra: a value-added table, and its rows alone.

The spectra of the store come with their own identifiers and positions; all other rows have
identifiers of a reduction that the store does not hold, and positions all over the sky. Classes
and redshifts are drawn as a survey has them: half of it galaxies, a third quasars, the rest stars.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from specserver.data.root import open_root
from specserver.model.ids import pack_specobjid
from specserver.service import SpectroscopicService
from specserver.service.tables import attach_table

from .cache import Cache
from .data import CONTEXT, Library, Scale

NAME: Final = "big"
CATALOG: Final = f"{CONTEXT}.{NAME}"
_SEED: Final = 11
_RECIPE: Final = 2
"""Raise it when the rows become others."""
_FIRST_PLATE: Final = 3000
_FIBRES: Final = 1000
_OTHER_RUN: Final = "v5_13_2"
_CLASSES: Final = np.array(["GALAXY", "QSO", "STAR"])
_SHARES: Final = (0.5, 0.3, 0.2)
_FAILED: Final = 2e-4
"""Share of stars with a redshift that failed, and lies anywhere."""


def make_rows(library: Library, nrows: int) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of the catalogue, 1D[nrows] each, in no order."""
    rng = np.random.default_rng(_SEED)
    held = len(library.ids)
    others = np.arange(nrows - held)
    plate = _FIRST_PLATE + others // _FIBRES
    ids = pack_specobjid(plate, 55000 + plate % 1000, 1 + others % _FIBRES, _OTHER_RUN)
    ra, dec = library.positions
    sky_ra = rng.uniform(0.0, 360.0, len(others))
    sky_dec = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, len(others))))
    kinds = rng.choice(3, nrows, p=_SHARES)
    stars = rng.normal(0.0, 3e-4, nrows)
    failed = rng.random(nrows) < _FAILED
    stars[failed] = rng.uniform(0.0, 1.0, int(failed.sum()))
    z = np.choose(
        kinds,
        [
            rng.gamma(4.0, 0.11, nrows),
            rng.gamma(6.0, 0.28, nrows),
            stars,
        ],
    )
    order = rng.permutation(nrows)
    columns = {
        "specobjid": np.concatenate([library.ids, ids]),
        "ra": np.concatenate([ra, sky_ra]),
        "dec": np.concatenate([dec, sky_dec]),
        "z": z.astype(np.float32),
        "zerr": rng.gamma(2.0, 5e-5, nrows).astype(np.float32),
        "class": _CLASSES[kinds],
        "sn_median": rng.gamma(2.0, 3.0, nrows).astype(np.float32),
        "place": np.concatenate([np.arange(held), np.full(nrows - held, -1)]).astype(np.int32),
    }
    return {name: values[order] for name, values in columns.items()}


def make_table(cache: Cache, scale: Scale, library: Library, digest: str) -> tuple[Path, str]:
    """Return the catalogue as a Parquet file and a digest of it; attach it to the context.

    Parameters
    ----------
    digest : of what made the spectra
    """

    def write(folder: Path) -> None:
        pq.write_table(pa.table(make_rows(library, scale.nrows)), folder / f"{NAME}.parquet")

    stamp = {"recipe": _RECIPE, "nrows": scale.nrows, "nspec": scale.nspec, "spectra": digest}
    folder, made = cache.part(f"{scale.name}-table", stamp, write)
    file = folder / f"{NAME}.parquet"

    def attach(path: Path) -> None:
        archive = SpectroscopicService(open_root(library.data)).archive
        attached = attach_table(
            archive, CONTEXT, NAME, file, title="catalogue of the benchmarks", overwrite=True
        )
        (path / "attached").write_text(f"{attached.nrows}\n", "utf-8")

    cache.part(f"{scale.name}-attached", {"table": made, "data": digest}, attach)
    return file, made
