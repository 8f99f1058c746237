"""Pixels that a survey calls bad count in no arithmetic, whatever the other surveys lack."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import command
from conftest import CONTEXTS, TwoSurveys
from serving import serve
from specserver.client.api import SpecClient
from specserver.model.grid import Linear, LogLinear
from test_generic_masks import FLUX, MARKS, NPIX, WAVE, write_table
from test_resample import resample

A, B = CONTEXTS
STEP = 1e-4
CARDS = {"RA": 10.0, "DEC": 1.0, "REDSHIFT": 0.0}


def write_bare(path: Path) -> None:
    """Write a spectrum without uncertainties, two of its fluxes no numbers."""
    table = Table({"wave": WAVE, "flux": FLUX.copy()})
    table["flux"][[50, 300]] = np.nan
    table["wave"].unit, table["flux"].unit = "Angstrom", "1e-17 erg / (s cm2 Angstrom)"
    primary = fits.PrimaryHDU()
    primary.header.update(CARDS)
    fits.HDUList([primary, fits.table_to_hdu(table)]).writeto(path)


@pytest.fixture(scope="module")
def spec(two_surveys: TwoSurveys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpecClient]:
    """A service over two surveys, `marked` with a mask of its own, and `bare` with nothing."""
    folder = tmp_path_factory.mktemp("bad-pixels")
    shutil.copytree(two_surveys.served.data, folder / "data")
    for name in ("marked", "bare"):
        (folder / name).mkdir()
    ivar = np.full(NPIX, 4.0)
    ivar[[20, 21, 400]] = 0.0
    write_table(folder / "marked" / "a.fits", CARDS, ivar=ivar, DQ=MARKS)
    write_bare(folder / "bare" / "a.fits")
    for name in ("marked", "bare"):
        command(
            "ingest", name, folder / name, "--data", folder / "data", "--workers", 1,
            "--reader", "specutils", "--medium", "vacuum",
        )  # fmt: skip
    with serve(folder / "data", folder) as running:
        yield SpecClient(context=A, svc_url=running.url)


@pytest.fixture(scope="module")
def names(spec: SpecClient, two_surveys: TwoSurveys) -> list[tuple[str, int]]:
    """Spectra of four contexts; those of the first two have bad pixels."""

    def bad(context: str, number: int) -> int:
        return int((without_bad(spec.getSpec((context, number)))["ivar"] <= 0).sum())

    first, second = (
        max((pair[at] for pair in two_surveys.pairs), key=lambda number: bad(context, number))
        for at, context in enumerate(CONTEXTS)
    )
    others = [(name, int(spec.query(constraint="id > 0", context=name)[0]))
              for name in ("marked", "bare")]  # fmt: skip
    return [(A, first), (B, second), *others]


def without_bad(record: Any) -> Any:
    """Return a copy of a record in which ivar is 0 where the survey's mask says bad."""
    made = np.array(record)
    if "mask" in made.dtype.names:
        made["ivar"][made["mask"] != 0] = 0
    return made


def stack(spec: SpecClient, names: list[tuple[str, int]]) -> dict[int, int]:
    """Return the counts of a composite by the pixels of a lattice."""
    text = "\n".join(f"{context}:{number}" for context, number in names)
    body = {"ids": text, "frame": "observed", "step": STEP, "norm": [4100.0, 5200.0]}
    url, headers = spec.session.url("bulk/stack"), {"Accept": "application/json"}
    answer = urllib3.request("POST", url, json=body, headers=headers)
    told = answer.json()
    assert answer.status == 200, told
    pixels = np.rint(np.log10(told["wavelength"]) / STEP).astype(int).tolist()
    return dict(zip(pixels, told["count"], strict=True))


@pytest.fixture(scope="module")
def alone(spec: SpecClient, names: list[tuple[str, int]]) -> list[dict[int, int]]:
    return [stack(spec, [name]) for name in names]


@given(which=st.lists(st.integers(0, 3), min_size=2, max_size=6))
@settings(max_examples=15)
def test_what_counts_is_what_counts_alone(spec, names, alone, which) -> None:
    counts = stack(spec, [names[at] for at in which])
    assert sum(alone[0].values()) < len(alone[0])
    for pixel, count in counts.items():
        assert count == sum(alone[at].get(pixel, 0) for at in which), pixel


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2, 1), (2, 1)])
def test_what_a_mask_that_is_left_out_marks_has_no_weight(spec, names, order) -> None:
    ids = [names[at] for at in order]
    made = spec.getSpec(ids, align="resample")
    assert "ivar" in made.dtype.names
    axis = next(name for name in made.dtype.names if name in {"loglam", "wavelength"})
    grid = {A: LogLinear(STEP), B: Linear(3600.0, 0.8)}.get(ids[0][0])
    for row, name in zip(made, ids, strict=True):
        record = spec.getSpec(name)
        good = without_bad(record)
        if name[0] == ids[0][0] and name[0] != "marked":
            at = int(np.flatnonzero(row[axis] == record[axis][0])[0])
            here = row[at : at + len(record)]
            assert np.array_equal(here["flux"], record["flux"])
            assert np.array_equal(here["ivar"], good["ivar"])
        elif grid is not None:
            own = "loglam" if name[0] == A else "wavelength"
            begin, expected = resample(good, exact_wave(record, own), grid)
            at = begin - round(float(grid.pixel_at(exact_wave(row, axis))[0]))
            here = row[at : at + len(expected)]
            assert np.allclose(here["ivar"], expected["ivar"], rtol=1e-6)
            assert np.allclose(here["flux"], expected["flux"], rtol=1e-5)
    masked = spec.getSpec(names[1])
    assert ((masked["mask"] != 0) & (masked["ivar"] > 0)).any()


def exact_wave(record: Any, axis: str) -> Any:
    """Return the wavelengths of a record, Å, without the rounding of the published axis."""
    values = record[axis].astype(float)
    return 10 ** (np.rint(values / STEP) * STEP) if axis == "loglam" else values


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3)])
def test_without_ivar_what_is_bad_is_no_number(spec, names, order) -> None:
    ids = [names[at] for at in order]
    made = spec.getSpec(ids, align="resample")
    assert "ivar" not in made.dtype.names
    weighed = spec.getSpec(ids[:3], align="resample")
    # Where the others have an ivar it is 0 in the pixels that are no numbers here.
    axis = next(name for name in made.dtype.names if name in {"loglam", "wavelength"})
    inside = np.isin(made[0][axis], weighed[0][axis])
    for row, like in zip(made[:3], weighed, strict=True):
        assert np.array_equal(np.isfinite(row["flux"][inside]), like["ivar"] > 0)
        good = like["ivar"] > 0
        assert row["flux"][inside][good].tobytes() == like["flux"][good].tobytes()
    assert np.isfinite(made[3]["flux"]).sum() > NPIX / 2


def test_one_survey_keeps_what_its_mask_marks(spec, names) -> None:
    name = names[1]
    record, made = spec.getSpec(name), spec.getSpec([name, name], align="resample")
    for field in record.dtype.names:
        if field in made.dtype.names:
            assert made[field][1].tobytes() == record[field].tobytes()
    assert "mask" in made.dtype.names
