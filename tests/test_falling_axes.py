"""Wavelengths that fall are turned round with their values; those that do neither are refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from commands import command
from serving import serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadFile, SpecServerError
from specserver.ingest import run_ingest
from specserver.ops.reading import rising
from specserver.service.fits_tree_source import add_tree
from specserver.simulate import simulate_desi
from specserver.surveys.lamost import LAMOST
from specserver.surveys.sdss import SDSS
from test_lamost import write_lamost

Change = Callable[[np.ndarray], None]


def sdss_file(source: Path, folder: Path, change: Callable[[fits.HDUList], None]) -> Path:
    """Write one of the mock survey's files again with a change."""
    path = folder / source.name
    with fits.open(source, memmap=False) as hdus:
        change(hdus)
        hdus.writeto(path)
    return path


def turn(hdus: fits.HDUList) -> None:
    hdus[1].data = hdus[1].data[::-1].copy()


def spoil(values: object, pixel: int) -> Callable[[fits.HDUList], None]:
    """Return a change of a wavelength."""

    def change(hdus: fits.HDUList) -> None:
        name = next(one for one in hdus[1].columns.names if one.lower() == "loglam")
        hdus[1].data[name][pixel] = values

    return change


def test_a_falling_sdss_file_is_the_same_spectrum(mock_survey: Path, tmp_path: Path) -> None:
    source = min(mock_survey.rglob("spec-*.fits"))
    (plain,) = SDSS.reader.read(source)
    sdss_file(source, tmp_path, turn)
    summary = run_ingest(
        open_root(tmp_path / "data"), "sdss_dr17", [tmp_path], workers=1, strict=False
    )
    assert (summary.stored, summary.refused) == (1, [])
    with serve(tmp_path / "data", tmp_path) as running:
        client = SpecClient(svc_url=running.url)
        one = client.getSpec(plain.id)
        assert one["loglam"].tobytes() == plain.axis.tobytes()
        for name, values in plain.vectors.items():
            assert one[name].tobytes() == values.tobytes()
        laid = client.getSpec([plain.id], align="resample")
        assert laid.shape[1] >= len(plain.axis)
        assert (laid["ivar"] > 0).sum() > 1000


@pytest.mark.proof
def test_a_falling_lamost_file_is_the_same_spectrum(tmp_path: Path) -> None:
    path = write_lamost(tmp_path)
    (plain,) = LAMOST.reader.read(path)
    with fits.open(path, memmap=False) as hdus:
        hdus[0].data = hdus[0].data[:, ::-1].copy()
        hdus.writeto(path, overwrite=True)
    summary = run_ingest(open_root(tmp_path / "data"), "lamost_dr7", [tmp_path], workers=1)
    assert summary.stored == 1
    with serve(tmp_path / "data", tmp_path) as running:
        one = SpecClient("lamost_dr7", svc_url=running.url).getSpec(plain.id)
    assert one["wavelength"].tobytes() == plain.axis.tobytes()
    assert one["flux"].tobytes() == plain.vectors["flux"].tobytes()
    assert one["ormask"].tobytes() == plain.vectors["ormask"].tobytes()


def test_a_falling_desi_arm_is_off_the_lattice(tmp_path: Path) -> None:
    simulate_desi(tmp_path / "in", 4)
    (path,) = (tmp_path / "in").rglob("coadd-*.fits")
    with fits.open(path, memmap=False) as hdus:
        for name in ("WAVELENGTH", "FLUX", "IVAR", "MASK"):
            hdus[f"R_{name}"].data = hdus[f"R_{name}"].data[..., ::-1]
        hdus.writeto(path, overwrite=True)
    said = command(
        "ingest", "desi_edr", path, "--data", tmp_path / "data", "--workers", 1, "--strict", code=1
    )
    assert "R_WAVELENGTH is not 5760.0 to 7620.0" in said


def test_a_falling_file_of_a_tree_answers_as_a_rising_one(
    mock_survey: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(mock_survey, tree)
    source = min(tree.rglob("spec-*.fits"))
    (plain,) = SDSS.reader.read(source)
    for path in list(tree.rglob(source.name)):
        sdss_file(path, tmp_path, turn).replace(path)
    add_tree(
        open_root(tmp_path / "data"), "sdss_dr17", tree, reductions=["v5_7_0", "v5_10_0", "v5_13_0"]
    )
    with serve(tmp_path / "data", tree) as running:
        client = SpecClient(svc_url=running.url)
        one = client.getSpec(plain.id)
        assert one["loglam"].tobytes() == plain.axis.tobytes()
        assert one["flux"].tobytes() == plain.vectors["flux"].tobytes()
        for path in list(tree.rglob(source.name)):
            sdss_file(path, tmp_path, spoil(np.nan, 7)).replace(path)
        with pytest.raises(SpecServerError, match="pixel 7 of"):
            client.getSpec(plain.id)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.nan, "wavelength of pixel 100 of"),
        (np.inf, "wavelength of pixel 100 of"),
        (3.0, "neither rise nor fall throughout: pixels 99 and 100 of"),
    ],
)
def test_wavelengths_that_are_no_axis_are_refused(
    values: float, reason: str, mock_survey: Path, tmp_path: Path
) -> None:
    source = min(mock_survey.rglob("spec-*.fits"))
    path = sdss_file(source, tmp_path, spoil(values, 100))
    words = ["sdss_dr17", path, "--data", tmp_path / "data", "--workers", 1, "--strict"]
    assert reason in command("ingest", *words, code=1)


@pytest.mark.parametrize("fiber", [1, 2])
def test_a_lamost_row_that_is_no_axis_is_refused(fiber: int, tmp_path: Path) -> None:
    path = write_lamost(tmp_path, fiber)
    with fits.open(path, memmap=False) as hdus:
        hdus[0].data[2, 7] = np.nan if fiber == 1 else hdus[0].data[2, 6]
        hdus.writeto(path, overwrite=True)
    words = ["lamost_dr7", path, "--data", tmp_path / "data", "--workers", 1, "--strict"]
    said = command("ingest", *words, code=1)
    assert ("pixel 7 of" if fiber == 1 else "pixels 6 and 7 of") in said


def test_what_cannot_be_turned_is_refused(mock_survey: Path) -> None:
    (one,) = SDSS.reader.read(min(mock_survey.rglob("spec-*.fits")))
    assert rising(one) is one
    part = {**one.vectors, "part": np.zeros(3)}
    with pytest.raises(BadFile, match="the wavelengths fall"):
        rising(replace(one, axis=one.axis[::-1], vectors=part))
