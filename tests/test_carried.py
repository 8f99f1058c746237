"""Arrays of the service carry what their numbers mean, and say so when they no longer can."""

import copy
import io
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from specutils import Spectrum

from conftest import CONTEXTS, TwoSurveys
from serving import serve
from specserver.client.api import SpecClient
from specserver.client.plots.spectra import read_spectra
from specserver.client.request import RequestOptions, read_wanted
from specserver.client.results.carried import SpectrumArray
from specserver.client.results.convert import to_pandas, to_Spectrum1D, to_Table
from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.ingest.declare import declare
from specserver.ingest.option_effects import SurveyOptions


@pytest.fixture(scope="module")
def spec(two_surveys: TwoSurveys) -> SpecClient:
    return SpecClient(svc_url=two_surveys.served.url)


@pytest.mark.parametrize("context", CONTEXTS)
def test_an_array_converts_as_getspec_does(spec: SpecClient, context: str) -> None:
    ids = spec.query(constraint="limit 2", context=context)
    arrays = spec.getSpec(ids, context=context)
    tables = spec.getSpec(ids, "Table", context=context)
    spectra = spec.getSpec(ids, "Spectrum1D", context=context)
    for array, table, spectrum in zip(arrays, tables, spectra, strict=True):
        made = to_Table(array)
        assert [made[name].unit for name in made.colnames] == [
            table[name].unit for name in table.colnames
        ]
        one = to_Spectrum1D(array)
        assert one.flux.unit == spectrum.flux.unit
        assert np.array_equal(one.mask, spectrum.mask)
        assert made.meta["survey"] == one.meta["survey"] == spectrum.meta["survey"]
        assert made.meta["context"] == context
        assert made.meta["medium"] == one.meta["medium"] == "vacuum"
        assert one.meta["frame"]
        frame = to_pandas(array)
        assert len(frame) == len(array)
        assert frame.attrs["units"]["flux"] == array.about.flux_unit
        assert frame.attrs["medium"] == "vacuum"
    whole = to_Spectrum1D(spec.getSpec(ids, context=context, align=True))
    assert whole.flux.shape[0] == 2
    assert whole.meta["context"] == context


def test_what_survives_and_what_says_that_it_cannot_know(spec: SpecClient, tmp_path: Path) -> None:
    ids = spec.query(constraint="limit 2", context=CONTEXTS[1])
    arrays = spec.getSpec(ids, context=CONTEXTS[1])
    one, aligned = arrays[0], spec.getSpec(ids, context=CONTEXTS[1], align=True)
    assert isinstance(one, np.ndarray)
    assert isinstance(one, SpectrumArray)
    kept = [one[10:20], one[one["ivar"] > 0], one.copy(), copy.deepcopy(one), aligned[0]]
    kept += [aligned[:, 5:9], one[["flux", "wavelength", "ivar"]], one[[3, 4]]]
    for part in kept:
        assert part.about == (one if part.ndim == 1 and part is not kept[4] else part).about
        assert to_Table(part if part.ndim == 1 else part[0])["flux"].unit == u.Unit(
            "1e-17 erg / (s cm2 Angstrom)"
        )
    for field in ("flux", "ivar", "mask"):
        assert type(one[field]) is np.ndarray
        assert type(aligned[field]) is np.ndarray
    file = io.BytesIO()
    np.save(file, one, allow_pickle=False)
    file.seek(0)
    lost = [np.load(file), np.concatenate([one, arrays[1]]), np.stack([aligned[0], aligned[1]])]
    lost.append(np.array(one))
    spec.getSpec(ids[0], out=tmp_path / "one.npy", context=CONTEXTS[1])
    lost.append(np.load(tmp_path / "one.npy"))
    assert all(np.array_equal(some, one) for some in (lost[0], *lost[3:]))
    for array in lost:
        row = array if array.ndim == 1 else array[0]
        with pytest.warns(UserWarning, match="does not carry its meaning"):
            assert to_Table(row)["flux"].unit is None
        if array is lost[1]:
            # The wavelengths of two spectra one after the other are no axis.
            continue
        with pytest.warns(UserWarning, match="does not carry its meaning"):
            assert to_Spectrum1D(row).flux.unit == u.dimensionless_unscaled
        assert to_pandas(row).attrs == {}
        # Nor is one invented where it is drawn.
        assert read_spectra(row)[0].flux_unit == ""


def test_spectra_of_two_surveys_each_know_their_own(two_surveys: TwoSurveys) -> None:
    spec = SpecClient(svc_url=two_surveys.served.url)
    pair = [(CONTEXTS[0], two_surveys.pairs[0][0]), (CONTEXTS[1], two_surveys.pairs[0][1])]
    arrays = spec.getSpec(pair)
    assert [one.about.context for one in arrays] == list(CONTEXTS)
    assert len({one.about.survey for one in arrays}) == 2
    assert repr(arrays) == f"<2 spectra of {', '.join(CONTEXTS)}>"
    assert repr(arrays[:1]) == f"<1 spectrum of {CONTEXTS[0]}>"
    assert repr(arrays[:0]) == "<0 spectra>"
    wanted = read_wanted("numpy", None, None, align=False)
    for context, number, array in spec.fetch_named(spec.read_named(pair), wanted, RequestOptions()):
        assert (context, number) in pair
        assert array.about.context == context
        assert to_Table(array)["flux"].unit == u.Unit("1e-17 erg / (s cm2 Angstrom)")


@pytest.mark.proof
def test_a_survey_of_ones_own_has_its_own_unit(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    wave = np.linspace(4000, 5000, 50) * u.AA
    Spectrum(flux=np.arange(50.0) * u.Unit("W m-2 um-1"), spectral_axis=wave).write(
        folder / "a.fits", format="tabular-fits"
    )
    data = tmp_path / "data"
    declare(open_root(data), "mine", [folder], SurveyOptions())
    run_ingest(open_root(data), "mine", [folder], workers=1)
    with serve(data, folder) as served:
        own = SpecClient("mine", svc_url=served.url)
        ids = own.query(constraint="limit 1", primary=False)
        array = own.getSpec(ids)[0]
        frame = own.getSpec(ids, "pandas")[0]
    assert to_Spectrum1D(array).flux.unit == u.Unit("W m-2 um-1")
    assert to_Table(array)["flux"].unit == u.Unit("W m-2 um-1")
    assert to_pandas(array).attrs["units"] == frame.attrs["units"]
    for held in (array, frame, to_pandas(array), to_Table(array)):
        (drawn,) = read_spectra(held)
        assert u.Unit(drawn.flux_unit) == u.Unit("W m-2 um-1")
