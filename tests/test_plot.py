"""`plot`: what is drawn of an identifier or of a spectrum, looked at in the figure itself."""

import sys
import warnings
from io import BytesIO
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import QTable, Table
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from specutils import Spectrum

from serving import Served
from specserver.client.api import SpecClient
from specserver.client.plots.figure import draw
from specserver.errors import BadParameter, NotFound, UnknownContext
from specserver.render.display import DisplaySpectrum
from specserver.render.figure.spectrum import FigureLook
from specserver.render.style import DARK, LIGHT, flux_limits


@pytest.fixture(scope="module")
def spec(served: Served) -> SpecClient:
    return SpecClient(svc_url=served.url)


@pytest.fixture(scope="module")
def galaxy(spec: SpecClient) -> int:
    condition = "class = 'GALAXY' and zwarning = 0 order by sn_median desc limit 1"
    return int(spec.query(constraint=condition)[0])


@pytest.fixture(scope="module")
def z(spec: SpecClient, galaxy: int) -> float:
    (found,) = spec.query(constraint=f"specobjid = {galaxy}", fields="z")
    return float(found)


@pytest.fixture(autouse=True)
def no_screen():
    """A backend without a screen, and no figures left."""
    plt.switch_backend("agg")
    plt.close("all")
    yield
    plt.close("all")


def curve(label: str):
    (line,) = [one for one in plt.gcf().axes[0].lines if one.get_label() == label]
    return line


def names() -> list[str]:
    return [text.get_text() for text in plt.gcf().axes[0].texts]


def test_a_fibre_on_the_sky_has_no_class_redshift_and_lines(spec):
    found = spec.query(constraint="zwarning > 0", fields="specobjid,zwarning", primary=False)
    spec.plot(int(found["specobjid"][(found["zwarning"] & 1) > 0][0]))
    axes = plt.gcf().axes[0]
    assert axes.get_title(loc="left").endswith("sky fibre")
    assert axes.get_xlabel() == "vacuum wavelength (Å)"
    assert not any(names())


def test_an_identifier_is_plotted_at_rest_with_its_redshift(spec, galaxy, z):
    assert spec.plot(galaxy) is plt.gcf()
    record = spec.getSpec(galaxy)
    wave = 10.0 ** record["loglam"].astype(float)
    assert np.allclose(curve("flux").get_xdata(), wave / (1 + z), rtol=1e-6)
    # Flux density stays as observed.
    good = record["ivar"] > 0
    assert np.array_equal(curve("flux").get_ydata()[good], record["flux"][good])
    assert np.isnan(curve("flux").get_ydata()[~good]).all()
    axes = plt.gcf().axes[0]
    assert axes.get_xlabel() == "rest-frame vacuum wavelength (Å)"
    assert axes.get_ylabel() == "flux density (10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹)"
    plate, mjd, fiber, _ = _tuple(galaxy)
    title = axes.get_title(loc="left")
    assert title.startswith(f"{plate}-{mjd}-{fiber} specobjid={galaxy}")
    assert f"z = {z:.4f}" in title
    assert {"Hα", "Mg b"} <= set(names())


def test_in_the_observed_frame_the_lines_move(spec, galaxy, z):
    spec.plot(galaxy, rest_frame=False, em_lines="Hα", mark_lines="em")
    wave = 10.0 ** spec.getSpec(galaxy)["loglam"].astype(float)
    assert np.allclose(curve("flux").get_xdata(), wave, rtol=1e-6)
    places = [line.get_xdata()[0] for line in plt.gcf().axes[0].lines]
    assert any(abs(place - 6564.614 * (1 + z)) < 1e-6 for place in places)
    assert plt.gcf().axes[0].get_xlabel() == "vacuum wavelength (Å)"


@pytest.mark.parametrize("fmt", ["numpy", "pandas", "Table", "Spectrum1D"])
def test_every_form_of_spectrum(spec, galaxy, z, fmt):
    spec.plot(spec.getSpec(galaxy, fmt=fmt), z=z, xlim=(4800, 5100), ylim=(-1, 5))
    spec_x = curve("flux").get_xdata()
    plt.close("all")
    spec.plot(galaxy)
    assert np.allclose(spec_x, curve("flux").get_xdata(), rtol=1e-6)


@pytest.mark.proof
def test_forms_of_identifier(spec, galaxy, served):
    for form in (str(galaxy), np.uint64(galaxy), [galaxy], (*_tuple(galaxy),)):
        spec.plot(form)
        assert str(galaxy) in plt.gcf().axes[0].get_title(loc="left")
    with pytest.raises(NotFound):
        spec.plot(5)
    with pytest.raises(BadParameter, match="plot draws one"):
        spec.plot([galaxy] * 9)
    with pytest.raises(BadParameter, match="plot draws one"):
        spec.plot([])
    with pytest.raises(UnknownContext):
        spec.plot(galaxy, "nonesuch")
    with pytest.raises(TypeError, match="colour"):
        spec.plot(galaxy, colour="red")


def _tuple(number: int):
    from specserver.model.ids import unpack_specobjid

    return unpack_specobjid(number).tolist()


def test_several_without_names_are_numbered(spec, galaxy):
    record = np.array(spec.getSpec(galaxy))
    spec.plot([record, record])
    legend = plt.gcf().axes[0].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["spectrum 1", "spectrum 2"]
    plt.close("all")
    spec.plot([record])
    assert "spectrum" not in plt.gcf().axes[0].get_title(loc="left")


def test_without_a_redshift_the_frame_is_observed(spec, galaxy):
    record = spec.getSpec(galaxy)
    spec.plot(record)
    assert plt.gcf().axes[0].get_xlabel() == "vacuum wavelength (Å)"
    assert names() == []
    with pytest.warns(UserWarning, match="give z="):
        spec.plot(record, rest_frame=True)
    assert plt.gcf().axes[0].get_xlabel() == "vacuum wavelength (Å)"


@pytest.mark.proof
def test_a_star_has_the_lines_of_its_type_and_a_quasar_none_in_absorption(spec):
    for condition, has, has_not in (
        ("class = 'STAR' and subclass like 'G%'", {"Mg b", "Hα", "Ca K"}, {"[O III]", "TiO"}),
        ("class = 'STAR' and subclass like 'M%'", {"TiO", "Na I"}, {"Hβ", "[O III]"}),
        ("class = 'STAR' and subclass like 'A%'", {"Hβ", "Hγ"}, {"Mg b", "[O III]"}),
        ("class = 'QSO' and z between 1 and 2", {"Mg II", "C III]"}, {"Ca K", "Mg b", "Fe II"}),
    ):
        (number, *_) = spec.query(constraint=f"{condition} and zwarning = 0 limit 1")
        spec.plot(number)
        assert has <= set(names())
        assert not has_not & set(names())
    spec.plot(number, mark_lines="abs", xlim=(1800, 2400))
    assert "Fe II" in names()
    with pytest.raises(BadParameter, match="class, em, abs"):
        spec.plot(number, mark_lines="some")


@pytest.mark.proof
def test_it_is_drawn_into_axes_of_the_caller(spec, galaxy, tmp_path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4))
    assert spec.plot(galaxy, ax=left) is left
    assert spec.plot([galaxy, galaxy], ax=right, title="two") is right
    assert [axes.get_xlabel() for axes in figure.axes] == ["rest-frame vacuum wavelength (Å)"] * 2
    assert plt.get_fignums() == [figure.number]
    assert spec.plot(galaxy, ax=right, out=tmp_path / "both.png") is None
    with Image.open(tmp_path / "both.png") as picture:
        assert picture.size == (1200, 400)
    for name, keywords in (
        ("dark", {"dark": True}), ("figsize", {"figsize": (3, 3)}), ("values", {"sky": True}),
    ):  # fmt: skip
        with pytest.raises(BadParameter, match=f"{name}.*ax="):
            spec.plot(galaxy, ax=left, **keywords)


def test_smoothing_is_a_mean_by_inverse_variance(spec, galaxy):
    spec.plot(galaxy, smooth=3)
    record = spec.getSpec(galaxy)
    weights = np.where(record["ivar"] > 0, record["ivar"], 0).astype(float)
    at = len(record) // 2
    around = slice(at - 12, at + 13)
    kernel = np.exp(-0.5 * (np.arange(-12, 13) / 3) ** 2) * weights[around]
    expected = (kernel * record["flux"][around]).sum() / kernel.sum()
    shown = curve("flux, smoothed by σ = 3 pixels").get_ydata()
    assert shown[at] == pytest.approx(expected, rel=1e-6)
    assert np.array_equal(np.isnan(shown), weights == 0)
    with pytest.raises(BadParameter, match="smooth"):
        spec.plot(galaxy, smooth=-1)


def test_a_faint_spectrum_is_smoothed_unless_the_caller_says_how(spec):
    faint = np.zeros(1000, [("wavelength", "f8"), ("flux", "f8"), ("ivar", "f8")])
    faint["wavelength"], faint["ivar"] = np.linspace(4000, 5000, 1000), 1.0
    faint["flux"] = 2 + np.random.default_rng(1).normal(size=1000)
    spec.plot(faint)
    assert np.nanstd(curve("flux, smoothed by σ = 3 pixels").get_ydata()) < 0.5
    assert any(np.array_equal(line.get_ydata(), faint["flux"]) for line in plt.gcf().axes[0].lines)
    spec.plot(faint, smooth=0)
    assert np.array_equal(curve("flux").get_ydata(), faint["flux"])
    bright = faint.copy()
    bright["flux"] += 5
    spec.plot([faint, bright])
    texts = [text.get_text() for text in plt.gcf().axes[0].get_legend().get_texts()]
    assert texts == ["spectrum 1", "spectrum 2"]


def test_several_spectra_are_smoothed_alike(spec):
    bright = np.ones(1000, [("wavelength", "f8"), ("flux", "f8"), ("ivar", "f8")])
    bright["wavelength"], bright["flux"] = np.linspace(4000, 5000, 1000), 4.0
    faint, dead = bright.copy(), bright.copy()
    faint["flux"], dead["ivar"] = 2.0, 0.0
    for several, smoothed in (([faint, bright], 0), ([faint, faint], 2), ([faint, dead], 2)):
        spec.plot(several)
        told = [text.get_text() for text in plt.gcf().axes[0].get_legend().get_texts()]
        assert sum("smoothed by σ = 3" in text for text in told) == smoothed


def test_masked_pixels_are_gaps_with_a_bar_below(spec, galaxy):
    spectrum = spec.getSpec(galaxy, fmt="Spectrum1D")
    spectrum.mask[1000:1010] = True
    spec.plot(spectrum, z=0.0, smooth=2)
    axes = plt.gcf().axes[0]
    assert np.isnan(curve("flux, smoothed by σ = 2 pixels").get_ydata()[1000:1010]).all()
    (bars,) = [one for one in axes.collections if one.get_label() == "masked"]
    wave = spectrum.spectral_axis.value
    ends = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in bars.get_paths()]
    assert any(low < wave[1000] and wave[1009] < high for low, high in ends)
    assert not any(low < wave[1020] < high for low, high in ends)


def test_the_power_of_ten_stands_in_the_unit():
    wave = np.linspace(4000.0, 5000.0, 500)
    figure = Figure((10.0, 4.5))
    faint = DisplaySpectrum(wave, np.full(500, 3e-17), flux_unit="erg / (s cm2 Angstrom)")
    draw(figure, [faint], FigureLook())
    axes = figure.axes[0]
    assert axes.get_ylabel() == "flux density (10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹)"
    figure.draw_without_rendering()
    assert axes.yaxis.get_offset_text().get_text() == ""
    assert {"0", "1", "2", "3"} <= {label.get_text() for label in axes.get_yticklabels()}


def test_noise_at_the_ends_does_not_set_the_limits():
    rng = np.random.default_rng(1)
    noise = np.where(np.arange(4000) < 600, 50.0, 1.0)
    flux, ivar = 10 + noise * rng.normal(size=4000), noise**-2.0
    low, high = flux_limits(DisplaySpectrum(np.arange(4000.0) + 4000, flux, ivar))
    assert low > -2
    assert 12 < high < 20
    # A line that is significant there does.
    flux[300:306] = 900.0
    assert flux_limits(DisplaySpectrum(np.arange(4000.0) + 4000, flux, ivar))[1] > 700


def test_a_notebook_shows_a_figure_once(spec, galaxy, monkeypatch):
    shown, shell = [], SimpleNamespace(execution_count=1)
    display = SimpleNamespace(display=lambda data, **_: shown.append(data))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("specserver.client.plots.figure._SILENT", frozenset())
    monkeypatch.setattr(plt, "show", lambda: shown.append("drawn"))
    figure = spec.plot(galaxy)
    figure._ipython_display_()
    assert shown == ["drawn"]
    shell.execution_count = 2
    figure._ipython_display_()
    assert shown[1]["image/png"].startswith(b"\x89PNG")


@pytest.mark.proof
def test_rcparams_do_not_leak(spec, galaxy, tmp_path):
    """The predecessor left its dark colours behind for every later figure."""
    with mpl.rc_context({"axes.facecolor": "#abcdef", "font.size": 7.5}):
        before = dict(mpl.rcParams)
        spec.plot(galaxy, dark=True)
        spec.plot(galaxy, out=tmp_path / "a.png", dark=True)
        assert dict(mpl.rcParams) == before
        assert plt.figure().add_subplot().get_facecolor()[:3] == mpl.colors.to_rgb("#abcdef")


@pytest.mark.proof
def test_out_saves_and_shows_nothing(spec, galaxy, tmp_path):
    for name, head in (("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml")):
        assert spec.plot(galaxy, out=tmp_path / name) is None
        assert (tmp_path / name).read_bytes().startswith(head)
    assert plt.get_fignums() == []
    with pytest.raises(BadParameter, match=r"png"):
        spec.plot(galaxy, out=tmp_path / "a.doc")
    with pytest.raises(BadParameter, match="no folder"):
        spec.plot(galaxy, out=str(tmp_path / "none" / "a.png"))


@pytest.mark.proof
def test_dark_is_really_dark(spec, galaxy, tmp_path):
    spec.plot(galaxy, dark=True, sky=True, out=tmp_path / "dark.png")
    spec.plot(galaxy, out=tmp_path / "light.png")
    dark, light = (
        np.asarray(Image.open(BytesIO((tmp_path / name).read_bytes())).convert("L"))
        for name in ("dark.png", "light.png")
    )
    assert np.percentile(dark, 80) < 64
    assert np.percentile(light, 20) > 230
    spec.plot(galaxy, dark=True)
    every = [one for one in plt.gcf().findobj(Text) if one.get_text().strip()]
    shown = {mpl.colors.to_hex(one.get_color()).upper() for one in every}
    assert shown <= {DARK.ink, DARK.emission, DARK.absorption}


@pytest.mark.proof
def test_what_is_drawn(spec, galaxy):
    labels = {}
    for keywords in (
        {}, {"values": "flux"}, {"model": False}, {"values": ["flux", "noise"]},
        {"values": "flux", "model": True},
    ):  # fmt: skip
        spec.plot(galaxy, **keywords)
        labels[str(keywords)] = plt.gcf().axes[0].get_legend_handles_labels()[1]
    assert list(labels.values()) == [
        ["flux", "model"], ["flux"], ["flux"], ["flux", "1σ noise"], ["flux", "model"],
    ]  # fmt: skip
    spec.plot(galaxy, sky=True, values="flux,ivar")
    assert [one.get_title(loc="left")[:3] for one in plt.gcf().axes[1:]] == ["sky", "inv"]
    record = spec.getSpec(galaxy)
    drawn = plt.gcf().axes[1].lines[-1].get_ydata()
    assert np.array_equal(drawn, record["sky"])
    with pytest.raises(BadParameter, match="flux, model, noise, sky, ivar"):
        spec.plot(galaxy, values="flux,nonesuch")


@pytest.mark.parametrize(
    ("given", "emission", "absorption"),
    [
        ("em", True, False), ("emission", True, False), ("e", True, False), ("abs", False, True),
        ("absorption", False, True), ("all", True, True), ("both", True, True), (True, True, True),
        (None, False, False), ("", False, False), (False, False, False),
    ],
)  # fmt: skip
def test_mark_lines(spec, galaxy, given, emission, absorption):
    spec.plot(galaxy, mark_lines=given)
    assert ("Hα" in names()) is emission
    assert ("Mg b" in names()) is absorption


@pytest.mark.proof
def test_named_lines(spec, galaxy):
    for given in ("H-alpha", "Halpha", "Hα", ["H-alpha"]):
        spec.plot(galaxy, mark_lines="em", em_lines=given)
        assert names() == ["Hα"]
    spec.plot(galaxy, mark_lines="em", em_lines=["[O III] 5007", "H-beta"])
    assert sorted(names()) == ["Hβ", "[O III]"]
    assert len([line for line in plt.gcf().axes[0].lines if line.get_linestyle() == "--"]) == 2
    spec.plot(galaxy, mark_lines="abs", abs_lines=["K (Ca II 3933)", "H-delta"])
    assert sorted(names()) == ["Ca K", "Hδ"]
    spec.plot(galaxy, mark_lines=None, lines={"mine": 5000.0})
    assert names() == ["mine"]
    with pytest.raises(BadParameter, match="known lines are"):
        spec.plot(galaxy, em_lines="H-omega")
    with pytest.raises(BadParameter, match="vacuum"):
        spec.plot(galaxy, lines={"mine": "here"})
    with pytest.raises(BadParameter, match="mark_lines"):
        spec.plot(galaxy, mark_lines="some")


@pytest.mark.proof
def test_named_lines_replace_those_of_the_class(spec, galaxy):
    spec.plot(galaxy, em_lines=["Halpha"])
    assert names() == ["Hα"]
    spec.plot(galaxy, abs_lines="Ca K", lines={"mine": 5000.0})
    assert sorted(names()) == ["Ca K", "mine"]
    spec.plot(galaxy, mark_lines="all", em_lines="Hα")
    assert {"Hα", "Mg b"} <= set(names())


def test_an_array_of_ones_own_says_no_medium_and_takes_title_and_redshift(spec):
    own = np.zeros(300, [("wavelength", "f8"), ("flux", "f8")])
    own["wavelength"], own["flux"] = np.linspace(4000, 7000, 300), 1.0
    spec.plot(own)
    assert plt.gcf().axes[0].get_xlabel() == "wavelength (Å)"
    spec.plot(own, title="mine", z=0.1, assume_medium="air")
    assert plt.gcf().axes[0].get_xlabel() == "rest-frame vacuum wavelength (Å)"
    assert plt.gcf().axes[0].get_title(loc="left") == "mine"
    assert "[O III]" in names()


@pytest.mark.proof
def test_a_spectrum_that_was_brought_to_rest_is_not_shifted_again(spec, galaxy, z):
    moved = spec.getSpec(galaxy, fmt="Spectrum1D")
    spec.plot(moved)
    at_rest = curve("flux").get_xdata()
    moved.shift_spectrum_to(redshift=0)
    spec.plot(moved)
    assert np.allclose(curve("flux").get_xdata(), at_rest)
    moved.shift_spectrum_to(redshift=z / 2)
    spec.plot(moved)
    assert np.allclose(curve("flux").get_xdata(), at_rest)


def test_a_spectrum_of_ones_own_has_the_redshift_that_it_states(spec):
    axis, flux = np.linspace(4000, 7000, 300) * u.AA, np.ones(300) * u.Jy
    for given, meta, expected in ((None, {}, 0), (0.1, {}, 0.1), (None, {"redshift": 0.1}, 0.1)):
        spec.plot(Spectrum(flux=flux, spectral_axis=axis, redshift=given, meta=meta))
        assert np.allclose(curve("flux").get_xdata(), axis.value / (1 + expected))
        at_rest = plt.gcf().axes[0].get_xlabel().startswith("rest")
        assert at_rest == (expected > 0)


@pytest.mark.parametrize("unit", ["Angstrom", "nm", "um", "THz"])
@pytest.mark.parametrize("kind", [Table, QTable, pd.DataFrame])
def test_a_table_of_ones_own_has_the_wavelengths_of_its_unit(spec, kind, unit):
    wave = np.linspace(7000, 4000, 300)
    flux = np.where(abs(wave - 5500) < 20, 9.0, 1.0)
    axis = u.Quantity(wave, u.AA).to(unit, u.spectral())
    if kind is pd.DataFrame:
        own = pd.DataFrame({"wavelength": axis.value, "flux": flux})
        own.attrs["units"] = {"wavelength": unit, "flux": "Jy"}
    else:
        own = kind({"wavelength": axis, "flux": flux * u.Jy})
    spec.plot(own)
    shown = curve("flux").get_xdata()
    assert np.allclose(shown, wave[::-1])
    assert np.array_equal(curve("flux").get_ydata(), flux[::-1])


def test_masked_flux_of_ones_own_is_a_gap(spec):
    own = Table({"wavelength": np.linspace(4000, 7000, 300), "flux": np.ones(300)}, masked=True)
    own["flux"].mask[7:9] = True
    for held in (own, own.as_array()):
        spec.plot(held)
        assert np.flatnonzero(np.isnan(curve("flux").get_ydata())).tolist() == [7, 8]


def test_masked_whole_numbers_of_ones_own_are_gaps(spec):
    own = Table(
        {"wavelength": np.linspace(4000, 7000, 300), "flux": np.ones(300, int)}, masked=True
    )
    own["flux"].mask[7:9] = True
    for held in (own, np.ma.array(own.as_array())):
        spec.plot(held)
        assert np.flatnonzero(np.isnan(curve("flux").get_ydata())).tolist() == [7, 8]


@pytest.mark.parametrize("name", ["wavelength", "flux", "ivar", "mask"])
@pytest.mark.parametrize("kind", ["c16", "U3", "O", "M8[s]"])
def test_vectors_of_ones_own_that_are_no_real_numbers_are_refused(spec, tmp_path, name, kind):
    """The imaginary part of a flux was left out, and text met a formula."""
    made = {"wavelength": np.linspace(4000, 7000, 300), "flux": np.ones(300), "ivar": np.ones(300)}
    own = Table(made | {name: np.ones(300, int).astype(kind)})
    for held in (own, own.as_array(), own.to_pandas()):
        with pytest.raises(BadParameter, match=rf"data='{name} of the type .*: (real|whole) "):
            spec.plot(held)
    with pytest.raises(BadParameter, match=rf"data='{name} of the type"):
        spec.prospect(own, out=tmp_path / "p.html")


@pytest.mark.parametrize(
    "own",
    [
        np.ones(300), np.ones((300, 2)), {"wavelength": [4000.0], "flux": [1.0]},
        Table({"lambda": [4000.0], "flux": [1.0]}),
        Table({"wavelength": [4000.0] * u.kg, "flux": [1.0]}),
    ],
)  # fmt: skip
def test_what_is_no_spectrum_of_ones_own_is_told_so(spec, own):
    with pytest.raises(BadParameter, match=r"data=.*wavelength"):
        spec.plot(own)


@pytest.mark.proof
def test_an_array_and_a_table_of_the_service_say_which_spectrum_they_are(spec, galaxy, z):
    for held in (spec.getSpec(galaxy), spec.getSpec([galaxy, galaxy])[1][:2000]):
        spec.plot(held)
        assert plt.gcf().axes[0].get_title(loc="left") == str(galaxy)
    for fmt in ("Table", "pandas", "Spectrum1D"):
        spec.plot(spec.getSpec(galaxy, fmt=fmt))
        assert plt.gcf().axes[0].get_title(loc="left") == f"{galaxy}    z = {z:.4f}"
        assert plt.gcf().axes[0].get_xlabel() == "rest-frame vacuum wavelength (Å)"


def test_a_name_may_have_dollars():
    """Between two of them matplotlib reads a formula."""
    named = DisplaySpectrum(np.arange(4000.0, 4100.0), np.ones(100), title="$a_{$")
    for spectra in ([named], [named, named]):
        figure = plt.figure()
        draw(figure, spectra, FigureLook())
        figure.savefig(BytesIO())


def test_a_pixel_between_two_gaps_is_shown():
    wave, ivar = np.arange(4000.0, 4010.0), np.zeros(10)
    ivar[[4, 7, 8]] = 1.0
    for spectrum in (
        DisplaySpectrum(wave[:1], np.ones(1)), DisplaySpectrum(wave, np.ones(10), ivar)
    ):  # fmt: skip
        figure = plt.figure()
        draw(figure, [spectrum], FigureLook(parts=("flux",), smooth=0.0))
        (points,) = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    assert points.get_xdata().tolist() == [4004.0]


@pytest.mark.proof
def test_texts_do_not_overlap(spec, galaxy):
    """Names of lines stand apart from each other, from the title and from the legend."""
    for keywords in ({}, {"rest_frame": False}, {"xlim": (6400, 6800)}, {"figsize": (7, 4)}):
        spec.plot(galaxy, **keywords)
        figure = plt.gcf()
        figure.draw_without_rendering()
        axes = figure.axes[0]
        every = [*axes.texts, axes._left_title, *axes.get_legend().get_texts()]
        boxes = [text.get_window_extent() for text in every]
        for index, box in enumerate(boxes):
            for other in range(index):
                assert not box.overlaps(boxes[other]), (every[index], every[other], keywords)


def test_labels_and_limits(spec, galaxy):
    spec.plot(
        galaxy, title="mine", xlabel="x", ylabel="y", xlim=[5000, 6000], ylim="[-1.5, 9]",
        figsize=(6, 3), spec_args={"color": "red", "linewidth": 2}, model_args={"c": "blue"},
        grid=False,
    )  # fmt: skip
    axes = plt.gcf().axes[0]
    assert (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()) == ("mine", "x", "y")
    assert (axes.get_xlim(), axes.get_ylim()) == ((5000, 6000), (-1.5, 9))
    assert plt.gcf().get_size_inches().tolist() == [6, 3]
    assert (curve("flux").get_color(), curve("flux").get_linewidth()) == ("red", 2)
    assert curve("model").get_color() == "blue"
    spec.plot(galaxy, xlim=(None, 6000), ylim=(0, None))
    axes = plt.gcf().axes[0]
    assert axes.get_xlim()[0] < 5000 < axes.get_xlim()[1] == 6000
    assert axes.get_ylim()[0] == 0 < axes.get_ylim()[1]
    for wrong in (
        {"xlim": (1,)},
        {"xlim": (1, 1)},
        {"ylim": (np.nan, None)},
        {"ylim": "a,b"},
        {"z": -2},
        {"z": "far"},
    ):
        with pytest.raises(BadParameter, match=next(iter(wrong))):
            spec.plot(galaxy, **wrong)


def test_impossible_values_are_refused_and_tiny_axes_drawn(spec, galaxy):
    for wrong in (
        {"xlabel": "a$b_c\nnew $\\frac$"}, {"lines": {"$\\nosuch$": 5000}},
        {"spec_args": {"label": "$\\nosuch$"}}, {"model_args": {"transform": 5}},
        {"ivar_args": {"zorder": "x"}}, {"sky_args": {"snap": "x"}},
        {"smooth": 1e9}, {"smooth": "x"}, {"smooth": (1, 2)},
        {"figsize": (0, 0)}, {"figsize": 3}, {"figsize": (1e6, 5)}, {"lines": [5000]},
        {"title": 5}, {"title": "$a_{$"}, {"ax": Figure()}, {"ax": []}, {"out": 5},
        {"spec_args": 5}, {"spec_args": {"nosuch": 1}}, {"model_args": {"lw": "x"}},
    ):  # fmt: skip
        with pytest.raises(BadParameter, match=next(iter(wrong))):
            spec.plot(galaxy, **wrong)
    for size in (1e-4, 0.0):
        tiny = plt.figure().add_axes((0.5, 0.5, size, size))
        assert spec.plot(galaxy, ax=tiny) is tiny


def test_showing_on_a_backend_without_screen_does_not_warn(spec, galaxy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec.plot(galaxy)
    assert len(plt.get_fignums()) == 1


@pytest.mark.proof
def test_arguments_are_known_by_each_of_their_names_and_reach_every_curve(spec, galaxy):
    args = {"ds": "default", "lw": 3, "c": "red", "ls": ":", "marker": ".", "markevery": [5, 90]}
    spec.plot(
        galaxy, values="all", spec_args=args, model_args=args, sky_args=args, ivar_args=args
    )  # fmt: skip
    flux, model = curve("flux"), curve("model")
    sky, ivar = (axes.lines[-1] for axes in plt.gcf().axes[1:])
    for line in (flux, model, sky, ivar):
        assert (line.get_drawstyle(), line.get_linewidth(), line.get_color()) == (
            "default",
            3,
            "red",
        )
        assert (line.get_linestyle(), line.get_markevery()) == (":", [5, 90])


@pytest.mark.proof
def test_a_unit_is_a_formula_where_matplotlib_reads_it(spec, galaxy):
    table = spec.getSpec(galaxy, "pandas")
    for unit, read in (("counts $\\nosuch$", False), ("$10^{-17}$ W", True)):
        table.attrs["units"] = {"flux": unit}
        spec.plot(table, values="flux,sky,ivar")
        axes = plt.gcf().axes
        label, title = axes[0].yaxis.label, axes[1]._left_title
        assert unit in label.get_text()
        assert unit in title.get_text()
        assert (label.get_parse_math(), title.get_parse_math()) == (read, read)


def test_pixels_without_a_wavelength_are_not_drawn(spec):
    own = np.ones(300, [("wavelength", "f8"), ("flux", "f8")])
    own["wavelength"] = np.linspace(4000, 7000, 300)
    some, none = own.copy(), own.copy()
    some["wavelength"][[0, 17, 299]] = np.nan
    some["flux"][17] = 1e9
    none["wavelength"] = np.nan
    spec.plot(own[::-1])
    assert plt.gcf().axes[0].get_xlim() == (4000, 7000)
    spec.plot(some)
    assert plt.gcf().axes[0].get_xlim() == tuple(some["wavelength"][[1, 298]])
    assert plt.gcf().axes[0].get_ylim()[1] < 2
    spec.plot(none)
    assert "no good pixels" in names()
    spec.plot([none, some])
    assert plt.gcf().axes[0].get_xlim() == tuple(some["wavelength"][[1, 298]])


@pytest.mark.parametrize("where", ["flux", "ivar"])
def test_a_spectrum_without_good_pixels_does_not_set_common_axes(spec, where):
    faint = np.ones(300, [("wavelength", "f8"), ("flux", "f8"), ("ivar", "f8")])
    faint["wavelength"], faint["flux"] = np.linspace(4000, 7000, 300), 5e-17
    faint["ivar"] = 1e36
    dead = faint.copy()
    dead["wavelength"] += 5000
    dead[where] = np.nan if where == "flux" else 0
    for several in ([faint, dead], [dead, faint]):
        spec.plot(several)
        axes = plt.gcf().axes[0]
        assert 5e-17 < axes.get_ylim()[1] < 1e-16
        assert axes.get_xlim() == (4000, 7000)
    spec.plot([dead, dead])
    assert plt.gcf().axes[0].get_xlim() == (9000, 12000)


@pytest.mark.proof
@pytest.mark.parametrize("npix", [1, 2, 100])
def test_few_pixels_and_dead_fibres(npix):
    wave = np.linspace(4000.0, 4000.0 + npix, npix)
    for ivar in (np.zeros(npix), np.ones(npix)):
        spectrum = DisplaySpectrum(wave, np.ones(npix), ivar, title="one", flux_unit="Jy", z=0.1)
        figure, png = Figure((10.0, 4.5)), BytesIO()
        draw(figure, [spectrum], FigureLook())
        figure.savefig(png, format="png")
        shown = np.asarray(Image.open(png).convert("RGB"))
        assert (shown == tuple(bytes.fromhex(LIGHT.ink[1:]))).all(axis=2).any()
