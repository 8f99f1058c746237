"""Spectra in vacuum and in air: published as they are, brought together in vacuum."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pytest
import urllib3
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from matplotlib import pyplot as plt
from specutils.utils.wcs_utils import air_to_vac

from commands import command
from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.client.inputs.context_ids import read_ids
from specserver.client.request import RequestOptions, ResultOptions, read_wanted
from specserver.client.results.convert import to_pandas, to_Spectrum1D, to_Table
from specserver.client.results.decode import Spectra
from specserver.client.results.media import in_medium
from specserver.client.spectra import fetch_spectra
from specserver.data.root import open_root
from specserver.errors import BadParameter
from specserver.model.lines import air_to_vacuum, vacuum_to_air
from specserver.ops.media import change_of, common_medium, limits_in
from specserver.service import SpectroscopicService
from specserver.service.alignment import Resampling
from specserver.service.composite import Stacking, StackLimits, StackRequest
from specserver.service.media import _stated
from specserver.service.pictures import _plotted, part_of
from specserver.service.spectra import cut_pixels
from specserver.service.stream import StreamRequest
from specserver.wire.head import StreamHead

HALPHA = 6564.614
STEP = 0.5
UNIT = u.Unit("1e-17 erg / (s cm2 AA)")


def write(path: Path, medium: str | None, *, error: bool = True) -> Path:
    """Write a line at Hα, its wavelengths in a medium, and what the file says of it."""
    wave = np.arange(6000.0, 7000.0, STEP)
    centre = HALPHA if medium in {None, "vac"} else float(vacuum_to_air(HALPHA))
    columns = {"wavelength": wave * u.AA}
    columns["flux"] = (1 + 9 * np.exp(-0.5 * ((wave - centre) / 2) ** 2)) * UNIT
    if error:
        columns["uncertainty"] = np.full(len(wave), 0.1) * UNIT
    primary = fits.PrimaryHDU()
    if medium is not None:
        primary.header["AIRORVAC"] = medium
    fits.HDUList([primary, fits.table_to_hdu(Table(columns))]).writeto(path)
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A context of each medium, one of both and one that does not say; one without errors."""
    top = tmp_path_factory.mktemp("media")
    data = top / "data"
    kinds = {"mixed": ["vac", "air"], "silent": [None, None], "several": ["vac", "air", None]}
    for context, media in kinds.items():
        (top / context).mkdir()
        names = [f"{at}.fits" for at in range(1, len(media) + 1)]
        for name, medium in zip(names, media, strict=True):
            write(top / context / name, medium)
        rows = [f"{at},10.0,{at}.0,0.0" for at in range(1, len(media) + 1)]
        (top / f"{context}.csv").write_text("\n".join(["id,ra,dec,z", *rows]) + "\n")
        ingest(data, context, top / context, top / f"{context}.csv")
    (top / "plain").mkdir()
    write(top / "plain" / "1.fits", "air", error=False)
    write(top / "plain" / "2.fits", "vac", error=False)
    ingest(data, "plain", top / "plain", top / "mixed.csv")
    with serve(data, top) as running:
        yield running


def ingest(data: Path, context: str, folder: Path, table: Path) -> None:
    command(
        "ingest", context, folder, "--data", data, "--workers", 1, "--reader", "specutils",
        "--catalog", table, "--step", STEP,
    )  # fmt: skip


@pytest.fixture(scope="module")
def spec(many: Served) -> SpecClient:
    return SpecClient(svc_url=many.url)


def fetched(
    spec: SpecClient, ids: Any, wanted: ResultOptions, context: str | None = None
) -> list[Spectra]:
    """Return the parts of an answer, before they become what `getSpec` gives."""
    options = RequestOptions(context)
    named = read_ids(spec.session, ids, None, options)
    return fetch_spectra(spec.session, named, wanted, options)


def peak(wave: Any, flux: Any) -> float:
    """Return the centre of the line."""
    weight = np.where(np.abs(wave - HALPHA) < 12, np.nan_to_num(flux) - 1, 0)
    return float((wave * weight).sum() / weight.sum())


# --- As published ---


def test_spectra_are_published_as_they_are_with_their_medium(spec: SpecClient) -> None:
    wave = np.arange(6000.0, 7000.0, STEP)
    for record in spec.getSpec([1, 2, 3], context="several"):
        assert record["wavelength"].tobytes() == wave.tobytes()
    media = ["vacuum", "air", "unknown"]
    for fmt in ("Table", "Spectrum1D", "SpectrumList"):
        made = spec.getSpec([1, 2, 3], fmt, context="several")
        assert [one.meta["medium"] for one in made] == media
    frames = spec.getSpec([1, 2, 3], "pandas", context="several")
    assert [one.attrs["medium"] for one in frames] == media
    loose = read_wanted("numpy", None, None, align=False)
    (whole,) = fetched(spec, [1, 2, 3], loose, context="several")
    assert (whole.media, whole.head.medium) == (media, "")


def test_arrays_carry_the_medium_that_they_are_in(spec: SpecClient) -> None:
    def media(given: Any, **asked: Any) -> list[str]:
        arrays = spec.getSpec(given, context="several", **asked)
        for array in arrays:
            medium = array.about.medium
            assert to_Table(array).meta["medium"] == medium
            assert to_Spectrum1D(array).meta["medium"] == medium
            assert to_pandas(array).attrs["medium"] == medium
            assert array[3:9].about.medium == medium
        return [one.about.medium for one in arrays]

    assert media([1, 2, 3]) == ["vacuum", "air", "unknown"]
    assert media([3, 1, 2, 1], assume_medium="air") == ["air", "vacuum", "air", "vacuum"]
    assert media([1, 2], medium="vacuum") == ["vacuum", "vacuum"]
    assert media([1, 2, 3], medium="air", assume_medium="vacuum") == ["air"] * 3
    assert media([1, 2], align="resample") == ["vacuum", "vacuum"]
    assert media([1, 2], align="resample", medium="air") == ["air", "air"]
    assert media([3], align="resample") == ["unknown"]
    assert spec.getSpec([1, 2], context="several", align="resample").about.medium == "vacuum"
    # Of several contexts, and for programs.
    pairs = [("several", 2), ("mixed", 1), ("silent", 1), ("several", 1)]
    each = ["air", "vacuum", "unknown", "vacuum"]
    assert [one.about.medium for one in spec.getSpec(pairs)] == each
    loose = read_wanted("numpy", None, None, align=False)
    found = spec.fetch_named(spec.read_named(pairs), loose, RequestOptions())
    assert [one.about.medium for _, _, one in found] == each
    assert [one.about.context for _, _, one in found] == [name for name, _ in pairs]
    joint = [("several", 2), ("mixed", 1)]
    whole = spec.getSpec(joint, align="resample", medium="air")
    assert (whole.about.medium, whole.about.context) == ("air", "several, mixed")
    assert to_Spectrum1D(whole).meta["medium"] == "air"
    resampled = read_wanted("numpy", None, None, align="resample")
    found = spec.fetch_named(spec.read_named(joint), resampled, RequestOptions())
    assert {one.about.medium for _, _, one in found} == {"vacuum"}


def test_an_array_of_sdss_says_the_medium_that_it_was_brought_to(served: Served) -> None:
    spec = SpecClient(svc_url=served.url)
    ids = served.ids[:2]
    assert [one.about.medium for one in spec.getSpec(ids)] == ["vacuum"] * 2
    air = spec.getSpec(ids, medium="air")
    assert [one.about.medium for one in air] == ["air", "air"]
    assert to_Spectrum1D(air[0]).meta["medium"] == to_Table(air[1]).meta["medium"] == "air"
    assert spec.getSpec(ids, align=True).about.medium == "vacuum"
    assert spec.getSpec(ids, align="resample", medium="air").about.medium == "air"


def test_files_say_the_medium(spec: SpecClient, tmp_path: Path) -> None:
    asked = {"context": "several", "medium": "vacuum"}
    for fmt, ending in (("Table", ".ecsv"), ("Spectrum1D", ".fits")):
        for given, where in (
            ([1, 2], tmp_path / ending[1:]),
            ([("several", 1), ("mixed", 2)], tmp_path / f"{ending[1:]}s"),
        ):
            spec.getSpec(given, fmt, where, **asked)
            files = sorted(where.iterdir())
            assert len(files) == 2
            for file in files:
                is_table = ending == ".ecsv"
                said = Table.read(file).meta["medium"] if is_table else fits.getval(file, "MEDIUM")
                assert said == "vacuum"


def test_a_survey_of_one_medium_says_so(served: Served) -> None:
    spec = SpecClient(svc_url=served.url)
    one = int(served.ids[0])
    assert spec.getSpec(one, "Table").meta["medium"] == "vacuum"
    record, same = spec.getSpec(one), spec.getSpec(one, medium="vacuum")
    assert same.dtype == record.dtype
    assert same.tobytes() == record.tobytes()
    air = spec.getSpec(one, "Spectrum1D", medium="air")
    assert air.meta["medium"] == "air"
    wave = spec.getSpec(one, "Spectrum1D").spectral_axis.to_value(u.AA)
    assert np.allclose(air.spectral_axis.to_value(u.AA), vacuum_to_air(wave), rtol=0, atol=1e-6)
    array = spec.getSpec(one, medium="air")
    assert array["flux"].tobytes() == record["flux"].tobytes()
    assert np.abs(10 ** array["loglam"] - vacuum_to_air(wave)).max() < 1e-6
    with pytest.raises(BadParameter, match="resample"):
        spec.getSpec(served.ids[:2], align=True, medium="air")
    with pytest.raises(BadParameter, match="FITS"):
        spec.getSpec(one, "FITS", medium="air")


# --- Into a medium ---


def test_wavelengths_are_converted_when_a_caller_says_so(spec: SpecClient) -> None:
    vacuum, air = spec.getSpec([1, 2], context="mixed", medium="vacuum")
    plain = spec.getSpec([1, 2], context="mixed")
    assert vacuum.tobytes() == plain[0].tobytes()
    theirs = air_to_vac(plain[1]["wavelength"] * u.AA, method="Ciddor1996").value
    assert np.abs(air["wavelength"] - theirs).max() < 1e-3
    # Flux density per Å, and its ivar, are as stored.
    for name in ("flux", "ivar"):
        assert air[name].tobytes() == plain[1][name].tobytes()
    one = spec.getSpec(1, context="mixed", medium="air", fmt="Table")
    assert one.meta["medium"] == "air"
    assert np.allclose(one["wavelength"], vacuum_to_air(plain[0]["wavelength"]), atol=1e-9)


def test_what_is_not_known_is_brought_nowhere(spec: SpecClient, tmp_path: Path) -> None:
    for ask in (
        {"medium": "vacuum"},
        {"align": "resample"},
        {"medium": "air", "out": tmp_path / "files"},
    ):
        with pytest.raises(BadParameter, match=r"of 3 spectra \(3\).*known.*--medium.*assume"):
            spec.getSpec([1, 2, 3], context="several", **ask)
    with pytest.raises(BadParameter, match="assume_medium"):
        spec.stack([1, 3], context="several", z=0.0)
    with pytest.raises(BadParameter, match="assume_medium"):
        spec.plot([1, 3], context="several")
    with pytest.raises(BadParameter, match="assume_medium"):
        spec.prospect([1, 3], context="several", overplot=True, show=False)
    with pytest.raises(BadParameter, match="'vacuum' or 'air'"):
        spec.getSpec(1, context="several", medium="water")
    with pytest.raises(BadParameter, match="'vacuum' or 'air'"):
        spec.stack([1, 2], context="several", assume_medium="unknown")
    made = spec.getSpec(
        [1, 2, 3], "Table", context="several", medium="vacuum", assume_medium="vacuum"
    )
    assert [one.meta["medium"] for one in made] == ["vacuum"] * 3
    # By themselves they may be brought together: in the medium that they have.
    cube = spec.getSpec([1, 2], "Spectrum1D", context="silent", align="resample")
    assert cube.meta["medium"] == "unknown"
    assert peak(cube.spectral_axis.to_value(u.AA), cube.flux.value[0]) == pytest.approx(
        HALPHA, abs=0.01
    )
    unknown = spec.stack([1, 2], context="silent", z=0.0)
    assert unknown.meta["medium"] == "unknown"
    assert "not known" in unknown.plot().axes[0].get_xlabel()
    assumed = spec.stack([1, 2], context="silent", z=0.0, assume_medium="air")
    assert assumed.meta["medium"] == "vacuum"
    at = peak(assumed.wavelength, assumed.flux)
    assert at == pytest.approx(HALPHA + 1.81, abs=0.02)


# --- Together ---


def test_resampled_spectra_are_in_vacuum(spec: SpecClient) -> None:
    cube = spec.getSpec([1, 2], context="mixed", align="resample")
    for row in cube:
        assert peak(row["wavelength"], row["flux"]) == pytest.approx(HALPHA, abs=2e-3)
    made = spec.getSpec([1, 2], "SpectrumCollection", context="mixed", align="resample")
    assert [one["medium"] for one in made.meta] == ["vacuum", "vacuum"]
    air = spec.getSpec([1, 2], context="mixed", align="resample", medium="air")
    for row in air:
        at = peak(row["wavelength"], row["flux"])
        assert at == pytest.approx(float(vacuum_to_air(HALPHA)), abs=2e-3)
    both = spec.getSpec([1, 2, 3], context="several", align="resample", assume_medium="vacuum")
    assert peak(both["wavelength"][2], both["flux"][2]) == pytest.approx(HALPHA, abs=2e-3)


def test_across_contexts_they_are_in_vacuum(spec: SpecClient) -> None:
    ids = [("mixed", 2), ("plain", 2), ("several", 1)]
    cube = spec.getSpec(ids, align="resample", values="flux,wavelength")
    for row in cube:
        assert peak(row["wavelength"], row["flux"]) == pytest.approx(HALPHA, abs=2e-3)
    with pytest.raises(BadParameter, match="assume_medium"):
        spec.getSpec([("mixed", 2), ("silent", 1)], align="resample")
    alone = spec.getSpec([("mixed", 2), ("silent", 1)], fmt="Table")
    assert [one.meta["medium"] for one in alone] == ["air", "unknown"]


@pytest.mark.parametrize("method", ["mean", "median", "ivar"])
@pytest.mark.parametrize("frame", ["rest", "observed"])
def test_composites_are_in_vacuum(spec: SpecClient, method: Any, frame: Any) -> None:
    for ids in ([2], [1, 2]):
        made = spec.stack(ids, frame, method, context="mixed")
        assert made.meta["medium"] == "vacuum"
        assert peak(made.wavelength, made.flux) == pytest.approx(HALPHA, abs=5e-3)
        assert made.flux[np.isfinite(made.flux)].max() == pytest.approx(10, rel=0.05)
        assert made.meta["weighted"]
    assert made.to_Table().meta["medium"] == "vacuum"


def test_a_cutout_is_between_vacuum_wavelengths(spec: SpecClient, many: Served) -> None:
    low, high = 6500.2, 6600.2
    one, other = spec.getSpec([1, 2], context="mixed", cutout=(low, high), align="resample")
    assert one["wavelength"][one["ivar"] > 0].min() >= low - STEP
    assert (other["ivar"] > 0).sum() == pytest.approx((one["ivar"] > 0).sum(), abs=1)
    for number, change in ((1, np.array), (2, air_to_vacuum)):
        record = spec.getSpec(number, context="mixed", cutout=(low, high))
        whole = spec.getSpec(number, context="mixed")["wavelength"]
        inside = (change(whole) >= low) & (change(whole) <= high)
        assert record["wavelength"].tobytes() == whole[inside].tobytes()
        form = {"id_list": str(number), "context": "mixed", "cutout": f"{low}-{high}"}
        assert posted(many, form)["wavelength"].tobytes() == whole[inside].tobytes()
    # In air where air is asked for.
    record = spec.getSpec(2, context="mixed", cutout=(low, high), medium="air")
    whole = spec.getSpec(2, context="mixed")["wavelength"]
    assert np.array_equal(record["wavelength"], whole[(whole >= low) & (whole <= high)])


def posted(many: Served, form: dict[str, str]) -> Any:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = urllib3.request("POST", f"{many.url}/getSpec", body=urlencode(form), headers=kind)
    if answer.status != 200:
        raise AssertionError(answer.data)
    return np.load(BytesIO(answer.data))


def test_the_documented_endpoint_and_the_command_convert(
    many: Served, spec: SpecClient, tmp_path: Path
) -> None:
    form = {"id_list": "2", "context": "mixed", "medium": "vacuum"}
    expected = spec.getSpec(2, context="mixed", medium="vacuum")
    assert posted(many, form)["wavelength"].tobytes() == expected["wavelength"].tobytes()
    with pytest.raises(AssertionError, match="assume_medium"):
        posted(many, form | {"id_list": "3", "context": "several"})
    with pytest.raises(AssertionError, match="vacuum"):
        posted(many, form | {"medium": "water"})
    out = tmp_path / "files"
    options = ("--context", "mixed", "--url", many.url, "--fmt", "ecsv")
    command("get", "2", *options, "--medium", "vacuum", "--out", out)
    (file,) = out.iterdir()
    table = Table.read(file)
    assert table.meta["medium"] == "vacuum"
    assert np.allclose(table["wavelength"], expected["wavelength"], rtol=0, atol=1e-9)


# --- Beside lines ---


@pytest.mark.proof
def test_figures_are_in_vacuum(spec: SpecClient) -> None:
    plt.switch_backend("agg")
    for given in (
        2,
        spec.getSpec(2, context="mixed"),
        spec.getSpec(2, "pandas", context="mixed"),
        to_pandas(spec.getSpec(2, context="mixed")),
        spec.getSpec(2, "Table", context="mixed"),
        spec.getSpec(2, "Spectrum1D", context="mixed"),
    ):
        spec.plot(given, context="mixed", rest_frame=False)
        axes = plt.gcf().axes[0]
        (line,) = [one for one in axes.lines if one.get_label() == "flux"]
        assert peak(line.get_xdata(), line.get_ydata()) == pytest.approx(HALPHA, abs=2e-3)
        assert axes.get_xlabel() == "vacuum wavelength (Å)"
    spec.plot(3, context="several", rest_frame=False)
    assert plt.gcf().axes[0].get_xlabel() == "wavelength (Å), in vacuum or in air: not known"
    spec.plot(3, context="several", rest_frame=False, assume_medium="air")
    assert plt.gcf().axes[0].get_xlabel() == "vacuum wavelength (Å)"
    spec.plot([1, 2], context="mixed", rest_frame=False)
    waves = [
        one.get_xdata() for one in plt.gcf().axes[0].lines if str(one.get_label()).find("z =") > 0
    ]
    assert max(one[0] for one in waves) == pytest.approx(float(air_to_vacuum(6000.0)))
    plt.close("all")


def test_previews_and_pages_are_in_vacuum(spec: SpecClient, many: Served, monkeypatch: Any) -> None:
    service = SpectroscopicService(open_root(many.data))
    drawn = list(_plotted(service.resolve([1, 2, 3], "several"), lambda: None))
    assert [one.medium for one in drawn] == ["vacuum", "vacuum", "unknown"]
    for one in drawn:
        assert peak(one.wave, one.flux) == pytest.approx(HALPHA, abs=2e-3)
    assert spec.preview(3, context="several", fmt="raw")[:4] == b"\x89PNG"
    assert spec.plotGrid([1, 2, 3], 2, 2, context="several", fmt="raw")[:4] == b"\x89PNG"
    page = spec.prospect([1, 2, 3], context="several", show=False)
    assert "medium" in page.html
    seen = []
    monkeypatch.setattr(
        "specserver.client.plots.page.make_page", lambda spectra, _: seen.extend(spectra)
    )
    spec.prospect([1, 2, 3], context="several", show=False)
    for one in seen:
        assert peak(one.wave, one.flux) == pytest.approx(HALPHA, abs=2e-3)
    assert [dict(one.facts).get("medium") for one in seen] == [None, None, "unknown"]


# --- Without uncertainties ---


@pytest.mark.parametrize("method", ["mean", "median", "ivar"])
@pytest.mark.parametrize("clip", [None, 3.0])
def test_without_uncertainties_all_pixels_count_alike(
    spec: SpecClient, method: Any, clip: float | None, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="no uncertainties"):
        made = spec.stack([1, 2], method=method, sigma_clip=clip, context="plain")
    assert made.meta["weighted"] is False
    assert (made.nspec, made.meta["medium"]) == (2, "vacuum")
    inside = (made.wavelength > 6010) & (made.wavelength < 6990)
    assert (made.count[inside] == 2).all()
    assert np.isnan(made.error).all()
    assert np.isfinite(made.error_bootstrap[inside]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = spec.stack(
            [1, 2],
            method="median" if method == "median" else "mean",
            sigma_clip=clip,
            context="mixed",
        )
    assert np.allclose(made.flux, whole.flux, rtol=1e-6, equal_nan=True)
    assert made.to_Spectrum1D().uncertainty is None
    assert made.to_Table().meta["weighted"] is False
    made.save(tmp_path / "made.png")
    made.save(tmp_path / "made.ecsv")


def test_without_uncertainties_what_is_not_covered_is_no_zero(spec: SpecClient) -> None:
    cube = spec.getSpec([1, 2], align="resample", context="plain")
    assert "ivar" not in (cube.dtype.names or ())
    flux = np.asarray(cube["flux"])
    assert np.isnan(flux[:, [0, -1]]).all()
    assert not (flux == 0).any()
    assert np.isfinite(flux).mean() > 0.9
    masked = spec.getSpec([1, 2], fmt="Spectrum1D", align="resample", context="plain")
    assert masked.mask[:, 0].all()


# --- The rules ---


def test_the_rules() -> None:
    assert common_medium(["vacuum", "air"], None, [1, 2]) == "vacuum"
    assert common_medium(["air"], None, [1]) == "vacuum"
    assert common_medium(["unknown"], None, [1]) == "unknown"
    assert common_medium([], None, []) == "vacuum"
    with pytest.raises(BadParameter):
        common_medium(["unknown"], "vacuum", [1])
    assert change_of("air", "air") is None
    assert change_of("unknown", "vacuum") is None
    into_air = change_of("vacuum", "air")
    assert into_air is not None
    wave = np.linspace(1990.0, 2010.0, 200)
    assert (np.diff(into_air(wave)) >= 0).all()
    assert limits_in((5000.0, 6000.0), "unknown") == (5000.0, 6000.0)
    assert limits_in((5000.0, 6000.0), "air")[0] == pytest.approx(4998.606, abs=1e-3)


# --- On a lattice ---


def in_air(selection: Any, medium: str | None = "air") -> Any:
    return replace(selection, surveys=(replace(selection.survey, medium=medium),))


def test_a_lattice_in_air_is_laid_on_one_in_vacuum(mock_data: Path) -> None:
    service = SpectroscopicService(open_root(mock_data))
    ids = service.archive.open_release("default").catalog.place(np.arange(3)).ids.tolist()
    vacuum = service.resolve(ids, "default")
    air = in_air(vacuum)
    limits = StackLimits(2**18, 10**9)

    def run(selection: Any, **asked: Any) -> Any:
        making = Stacking(selection, StackRequest(frame="observed", **asked), limits)
        list(making)
        return making

    for method in ("mean", "median"):
        one, other = run(vacuum, method=method), run(air, method=method)
        assert (one.medium, other.medium) == ("vacuum", "vacuum")
        # The same features lie at other wavelengths: 1.8 Å at 6500, a pixel and a bit.
        first, second = one.result, other.result
        at = np.interp(air_to_vacuum(first.wave), second.wave, second.stacked.flux)
        good = (first.wave > 4500) & (first.wave < 8500) & np.isfinite(at)
        off = np.abs(at - first.stacked.flux)[good]
        scatter = np.abs(np.diff(first.stacked.flux[good]))
        assert np.median(off) < np.median(scatter)
    nobody = run(in_air(vacuum, "unknown"))
    assert nobody.medium == "unknown"
    assert np.array_equal(
        nobody.result.stacked.flux, run(vacuum).result.stacked.flux, equal_nan=True
    )
    # What the catalogue does not say, in a survey that leaves it to its rows, is not known.
    assert run(in_air(vacuum, None)).medium == "unknown"
    assert run(in_air(vacuum, None), assume_medium="air").medium == "vacuum"


def test_limits_of_a_lattice_in_air_are_in_vacuum(mock_data: Path) -> None:
    service = SpectroscopicService(open_root(mock_data))
    ids = service.archive.open_release("default").catalog.place(np.arange(3)).ids.tolist()
    selection = in_air(service.resolve(ids, "default"))
    low, high = 6500.0, 6600.0
    for record in service.read(selection, None, (low, high)):
        wave = air_to_vacuum(10.0 ** record["loglam"].astype(float))
        assert (np.abs(wave[[0, -1]] - [low, high]) < 1.6).all()
        assert ((wave > low - 0.01) & (wave < high + 0.01)).all()
    first, count = cut_pixels(selection, (low, high))
    assert isinstance(head := service.stream(selection, StreamRequest()).head, StreamHead)
    assert head.medium == "air"
    for batch in service.stream(selection, StreamRequest(["flux"], (low, high))).batches:
        assert batch.first.tolist() == first.tolist()
        assert batch.count.tolist() == count.tolist()
        assert (batch.start <= batch.first).all()
        assert (batch.start + batch.width >= batch.first + batch.count).all()
    with pytest.raises(BadParameter, match="vacuum"):
        service.read(in_air(selection, "unknown"), None, None, "vacuum")
    (record,) = service.read(part_of(selection, np.array([0])), None, None, "vacuum")
    (plain,) = service.read(part_of(selection, np.array([0])))
    assert record["flux"].tobytes() == plain["flux"].tobytes()
    assert (
        np.abs(
            10.0 ** record["loglam"] - air_to_vacuum(10.0 ** plain["loglam"].astype(float))
        ).max()
        < 1e-6
    )


def test_lattices_of_two_media_are_not_shifted_onto_one_another(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SpecClient(svc_url=served.url)
    asked = read_wanted("numpy", None, None, align="resample")
    ids = served.ids[:2].tolist()
    (loose,) = fetched(spec, ids, read_wanted("numpy", None, None, align=False))
    selection = SpectroscopicService(open_root(served.data)).resolve(ids, loose.head.context)
    plain = Resampling.of(selection, None, None, None)
    monkeypatch.setattr("specserver.service.alignment.media_of", lambda _: ["air", "vacuum"])
    mixed = Resampling.of(selection, None, None, None)
    whole, same = (np.concatenate(list(one.read())) for one in (mixed, plain))
    assert mixed.medium == "vacuum"
    window = mixed.lattice.window
    wave = mixed.lattice.grid.wave(window.first, window.count)
    shift = window.first - plain.lattice.window.first
    # That in vacuum is where it was, bit for bit.
    npix = plain.lattice.window.count
    assert shift <= 0
    kept = whole["flux"][1][-shift : -shift + npix]
    assert np.array_equal(kept, same["flux"][1][: len(kept)])
    lit = np.flatnonzero(loose.data[0]["ivar"])
    ends = 10.0 ** loose.data[0]["loglam"][lit[[0, -1]]].astype(float)
    there = wave[whole["ivar"][0] > 0][[0, -1]]
    assert np.abs(there - air_to_vacuum(ends)).max() < 2.5
    (aligned,) = fetched(spec, ids, read_wanted("numpy", None, None, align=True))
    with pytest.raises(BadParameter, match="resample"):
        in_medium(replace(aligned, media=["air", "vacuum"]), asked)
    assert in_medium(replace(aligned, media=["air", "air"]), asked).media == ["air", "air"]


def test_an_older_data_folder_says_in_air_or_nothing() -> None:
    class Old:
        columns: ClassVar = {"in_air": "boolean"}

        def columns_of(self, names: Any, rows: Any) -> pa.Table:
            return pa.table({name: [True, False, None] for name in names}).take(pa.array(rows))

    source = SimpleNamespace(catalog=Old())
    assert _stated(source, np.array([0, 1, 2])) == ["air", "unknown", "unknown"]
    source = SimpleNamespace(catalog=SimpleNamespace(columns={}))
    assert _stated(source, np.array([0])) == ["unknown"]
