"""What is no number stays as published in arrays, and is masked in Spectrum objects."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from conftest import CONTEXTS
from serving import serve
from specserver.client.api import SpecClient
from specserver.client.results.convert import to_Spectrum1D
from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.simulate import simulate_desi, simulate_sdss

BAD = {3: ("flux", np.nan), 5: ("ivar", np.nan), 7: ("ivar", np.inf), 9: ("ivar", -1.0)}
BAD |= {11: ("flux", -np.inf), 13: ("ivar", -np.inf)}
"""Pixel, counted from 1,000 on: the vector that is spoilt there, and with what."""


def spoil_sdss(path: Path) -> None:
    with fits.open(path, mode="update") as hdus:
        names = {name.lower(): name for name in hdus[1].columns.names}
        for pixel, (name, value) in BAD.items():
            hdus[1].data[names["ivar"]][1000 + pixel] = 2.0
            hdus[1].data[names[name]][1000 + pixel] = value


def spoil_desi(path: Path) -> None:
    with fits.open(path, mode="update") as hdus:
        for pixel, (name, value) in BAD.items():
            hdus["B_IVAR"].data[:, 1000 + pixel] = 2.0
            hdus[f"B_{name.upper()}"].data[:, 1000 + pixel] = value


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service over spectra of two surveys, all of them with pixels that are no numbers."""
    folder = tmp_path_factory.mktemp("masked")
    simulate_sdss(folder / "sdss", 3, seed=3)
    simulate_desi(folder / "desi", 3, seed=3, per_file=3)
    for path in (folder / "sdss").rglob("spec-*.fits"):
        spoil_sdss(path)
    for path in (folder / "desi").rglob("coadd-*.fits*"):
        spoil_desi(path)
    for context, name in zip(CONTEXTS, ("sdss", "desi"), strict=True):
        run_ingest(open_root(folder / "data"), context, [folder / name], workers=1)
    with serve(folder / "data", folder) as served:
        yield served.url
    shutil.rmtree(folder)


def check(spectrum, record, first: int = 1000) -> None:
    """The array has every bit, and the Spectrum masks what is no number."""
    for pixel, (name, value) in BAD.items():
        at = first + pixel
        np.testing.assert_equal(record[name][at], np.float32(value))
        assert spectrum.mask[at], (name, value)
        assert spectrum.uncertainty.array[at] == 0
    assert spectrum.flux.value.tobytes() == np.ascontiguousarray(record["flux"]).tobytes()
    assert np.isfinite(spectrum.uncertainty.array).all()
    assert (spectrum.uncertainty.array >= 0).all()
    good = (record["ivar"] > 0) & np.isfinite(record["ivar"]) & np.isfinite(record["flux"])
    np.testing.assert_array_equal(spectrum.uncertainty.array[good], record["ivar"][good])
    assert spectrum.mask[~good].all()


@pytest.mark.parametrize("context", CONTEXTS)
def test_no_number_is_masked_in_every_spectrum_object(url: str, context: str) -> None:
    spec = SpecClient(context=context, svc_url=url)
    ids = spec.query(constraint="limit 2", primary=False)
    records = spec.getSpec(ids)
    for record, one, other in zip(
        records, spec.getSpec(ids, "Spectrum1D"), spec.getSpec(ids, "SpectrumList"), strict=True
    ):
        check(one, record)
        check(other, record)
        check(to_Spectrum1D(record), record)
    aligned = spec.getSpec(ids, align=True)
    whole = spec.getSpec(ids, "Spectrum1D", align=True)
    collection = spec.getSpec(ids, "SpectrumCollection")
    converted = to_Spectrum1D(aligned)
    for row, record in enumerate(aligned):
        first = 1000 + int(np.flatnonzero(record["flux"] == records[row]["flux"][0])[0])
        for made in (whole, collection, converted):
            check(made[row], record, first)


@pytest.mark.proof
@pytest.mark.parametrize("context", CONTEXTS)
def test_no_number_is_left_out_of_pictures(url: str, context: str, tmp_path: Path) -> None:
    spec = SpecClient(context=context, svc_url=url)
    one = spec.query(constraint="limit 1", primary=False)[0]
    assert spec.preview(one).image.size[0] > 0
    spec.plot(one, out=tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0
    spec.plot(spec.getSpec(one, "Spectrum1D"), out=tmp_path / "held.png")
    spec.prospect(one, out=tmp_path / "page.html")
