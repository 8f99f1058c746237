"""A mock survey in the file format of SDSS, BOSS and eBOSS.

Files are written as bytes: header units are made once per layout and patched, tables are NumPy
records. The same seed gives the same bytes, with any number of workers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter
from ...model.ids import pack_specobjid
from ..common.cards import Card, Header, Value, hdu, header
from ..common.emission import line_rows
from ..common.tables import read_cards
from ..common.writing import Summary, check_workers, write_all
from .exposures import exposure_names, exposure_units
from .layout import FAMILIES, Family, coadd_table, line_table
from .measure import line_fits, measure
from .observe import Conditions, Observed, draw_conditions, observe
from .plan import Plate, draw_objects, plan
from .rows import row_values, tables

_BLOCK = 64
"""Spectra computed together: enough to amortise NumPy's calls, few enough for the cache."""


def simulate_sdss(
    directory: Path,
    nspec: int,
    seed: int = 1,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    full_fraction: float = 0.0,
    progress: Callable[[int, int], object] | None = None,
    workers: int = 1,
) -> Summary:
    """Write a mock survey into a folder, which is made if absent.

    Parameters
    ----------
    families
        Values of run2d, whose real layouts the files have.
    full_fraction
        Share of the spectra also written as full files, with their exposures.
    progress
        Called with the number of spectra written so far, and of all.
    workers
        Processes; the files do not depend on it.

    Raises
    ------
    BadParameter
    """
    if not 0.0 <= full_fraction <= 1.0:
        raise BadParameter("full_fraction", full_fraction, "a share between 0 and 1")
    check_workers(workers, seed)
    plates = plan(nspec, seed, families)
    write = partial(write_plate, directory, full_fraction=full_fraction)
    nbytes = write_all(write, plates, workers, progress, nspec)
    counts = {name: sum(p.used for p in plates if p.family.run2d == name) for name in families}
    return Summary(sum(counts.values()), nbytes, counts)


def write_plate(
    directory: Path, plate: Plate, *, full_fraction: float
) -> Iterator[tuple[int, int]]:
    """Write one observation of a plate; yield spectra and bytes written, block by block."""
    truth = draw_objects(plate)
    rng = np.random.default_rng((*plate.key, 1000 + plate.visit))
    conditions = draw_conditions(plate.family, rng)
    night = _night(plate, conditions, rng)
    root, number = directory / plate.family.run2d / "spectra", f"{plate.number:04d}"
    lite, full = (root / "lite" if plate.family.boss else root) / number, root / "full" / number
    lite.mkdir(parents=True, exist_ok=True)
    for start in range(0, truth.size, _BLOCK):
        block = truth[start : start + _BLOCK]
        seen = observe(block, plate.family, conditions, rng)
        size = 0
        for index, content in enumerate(_contents(block, plate, seen, night, rng)):
            fiber = int(block["fiber"][index])
            name = f"spec-{plate.number:04d}-{plate.mjd}-{fiber:04d}.fits"
            size += (lite / name).write_bytes(b"".join(content))
            # A draw for every spectrum, so that lite files do not depend on the share.
            if rng.random() < full_fraction:
                full.mkdir(parents=True, exist_ok=True)
                names = exposure_names(plate, night, fiber)
                extra = np.random.default_rng((*plate.key, plate.visit, start + index))
                units = exposure_units(seen.spectrum(index), plate, names, extra)
                size += (full / name).write_bytes(b"".join([*content, *units]))
        yield block.size, size


def _night(plate: Plate, conditions: Conditions, rng: np.random.Generator) -> dict[str, Any]:
    """Return what the headers of an observation say; the boresight is not quite the centre."""
    exptime_s = conditions.exptime_s
    lead = 0 if plate.family.boss else int(rng.integers(2, 40))
    sn2 = float(rng.uniform(10.0, 30.0)) * exptime_s / 3600.0
    return {
        "run2d": plate.family.run2d,
        "plate": plate.number,
        "mjd": plate.mjd,
        "tile": 100 + plate.number,
        "cart": 1 + plate.number % 9,
        "ra": plate.ra_deg,
        "dec": plate.dec_deg,
        "bore_ra": plate.ra_deg + float(rng.normal(0.0, 5e-4)),
        "bore_dec": plate.dec_deg + float(rng.normal(0.0, 5e-4)),
        "airtemp": float(rng.uniform(-5.0, 15.0)),
        "humidity": float(rng.uniform(10.0, 60.0)),
        "exposure": 2591 + (plate.mjd - 51602) * 32 + plate.number % 29,
        "nexp": round(exptime_s / (900.0 if plate.family.boss else 800.0)),
        "exptime": exptime_s,
        "helio_rv": float(rng.uniform(-29.0, 29.0)),
        "skychi2": float(rng.uniform(0.95, 1.2)),
        "sn2_g": sn2,
        "sn2_r": 1.4 * sn2,
        "sn2_i": 1.3 * sn2,
        "coeff0": (conditions.first - lead) * 1e-4,
    }


def _primary(plate: Plate, night: Mapping[str, Any], fiber: int) -> Header:
    """Return HDU0 for the spectrograph of a fibre."""
    family = plate.family
    kind = "boss" if family.boss else "26"
    cards = read_cards("primary", kind, bitpix=family.primary_bitpix, **night)
    names = exposure_names(plate, night, fiber)
    cards.append(Card("NEXP", len(names), "Number of individual exposures"))
    cards += [Card(family.expid.format(i), name) for i, name in enumerate(names, 1)]
    return header(cards)


def _contents(
    truth: npt.NDArray[Any],
    plate: Plate,
    seen: Observed,
    night: Mapping[str, Any],
    rng: np.random.Generator,
) -> Iterator[list[bytes]]:
    """Yield the parts of each file of a block: HDU0 to HDU3."""
    family = plate.family
    values = row_values(truth, plate, measure(seen), night, rng)
    fits = line_fits(truth, plate, seen, rng)
    coadd = coadd_table(family.run2d).header
    lines = line_table(family.run2d, len(line_rows(family.run2d))).header
    primaries = [_primary(plate, night, fiber) for fiber in (1, family.nfiber)]
    for index, (table, row) in enumerate(tables(family, values)):
        fiber = int(truth["fiber"][index])
        primary = primaries[fiber > family.nfiber // 2]
        rows = seen.spectrum(index)
        first = seen.window + int(seen.start[index])
        yield [
            primary.patched(_object_cards(family, plate, values, index, first)),
            *hdu(coadd.patched({"NAXIS2": rows.size}), rows.tobytes()),
            *hdu(table.header.data, row.tobytes()),
            *hdu(lines.data, fits[index].tobytes()),
        ]


def _object_cards(
    family: Family, plate: Plate, values: Mapping[str, Any], index: int, first: int
) -> dict[str, Value]:
    """Return the cards of HDU0 that differ from fibre to fibre."""
    fiber = int(values["FIBERID"][index])
    cards: dict[str, Value] = {
        "PLUG_RA": float(values["PLUG_RA"][index]),
        "PLUG_DEC": float(values["PLUG_DEC"][index]),
        "FIBERID": fiber,
    }
    if family.boss:
        return cards | {
            "THING_ID": int(values["THING_ID"][index]),
            "COEFF0": round(first * 1e-4, 4),
        }
    identifier = int(pack_specobjid(plate.number, plate.mjd, fiber, family.run2d))
    return cards | {"SPEC_ID": f"{identifier:>22d}"}
