"""Pictures that the server draws: previews, grids, stacked images, through the front door."""

import pickle
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
import urllib3
from astropy.table import Table
from astropy.visualization import ZScaleInterval
from matplotlib.figure import Figure
from PIL import Image

from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.client.plots.figure import draw
from specserver.client.plots.image import PngImage
from specserver.data.root import open_root
from specserver.errors import BadParameter, MixedLattices, NotFound, TooMuch, UnknownContext
from specserver.ingest import run_ingest
from specserver.ingest.declare import declare
from specserver.ingest.option_effects import SurveyOptions
from specserver.model.ids import unpack_specobjid
from specserver.model.lines import EMISSION_LINES, SpectralLine, lines_of
from specserver.render.display import DisplaySpectrum, unit_label
from specserver.render.figure.spectrum import FigureLook
from specserver.render.png.encode import encode_png
from specserver.render.png.palette import palette_of
from specserver.render.png.preview import grid_png, preview_png
from specserver.render.png.stacked_image import ImageLook, Stack
from specserver.render.style import (
    DARK,
    LIGHT,
    find_ticks,
    flux_limits,
    place_marks,
)

WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def spec(served: Served) -> SpecClient:
    return SpecClient(svc_url=served.url)


@pytest.fixture(scope="module")
def ids(served: Served) -> list[int]:
    return [int(number) for number in served.ids]


@pytest.fixture(scope="module")
def repeated(served: Served, ids: list[int]) -> list[int]:
    """A list of exactly 1,000 identifiers."""
    return [ids[index % len(ids)] for index in range(1000)]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def colour_of(text: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(text[1:]))


def has_colour(png: bytes, colour: str) -> bool:
    return bool((pixels(png) == colour_of(colour)).all(axis=2).any())


def post(url: str, fields: dict, **headers: str) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager() as pool:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return pool.request("POST", url, body=urlencode(fields), headers=kind | headers)


# --- previews ---------------------------------------------------------------------------------


def test_a_preview_is_bytes_of_a_png_that_show_themselves(spec, ids, tmp_path):
    picture = spec.preview(ids[0])
    assert isinstance(picture, bytes)
    assert isinstance(picture, PngImage)
    assert picture._repr_png_() == bytes(picture)
    assert pickle.loads(pickle.dumps(picture)) == picture
    assert picture.size == picture.image.size == Image.open(BytesIO(picture)).size
    assert np.array_equal(np.asarray(picture.image), pixels(picture))
    picture.save(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == picture
    picture.save(tmp_path / "one.jpg")
    assert (tmp_path / "one.jpg").read_bytes().startswith(b"\xff\xd8")


def test_a_preview_shows_flux_model_noise_and_is_really_dark_when_dark(spec, ids):
    light, dark = spec.preview(ids[0]), spec.preview(ids[0], dark=True)
    for colour in (LIGHT.flux, LIGHT.noise, LIGHT.model):
        assert has_colour(light, colour)
    for colour in (DARK.flux, DARK.noise, DARK.model):
        assert has_colour(dark, colour)
    assert (pixels(light)[0, 0] == colour_of(LIGHT.paper)).all()
    assert not (pixels(dark) == WHITE).all(axis=2).any()


def test_raw_is_plain_bytes_and_out_writes_a_file(spec, ids, tmp_path):
    raw = spec.preview(ids[0], fmt="raw")
    assert type(raw) is bytes
    assert spec.preview(ids[0], out=tmp_path / "a.png") == "OK"
    assert (tmp_path / "a.png").read_bytes() == raw
    with pytest.raises(BadParameter, match="no folder"):
        spec.preview(ids[0], out=tmp_path / "none" / "a.png")


def test_every_kind_of_identifier_in_preview(spec, ids):
    number = max(ids)
    plate, mjd, fiber, run2d = unpack_specobjid(number).tolist()
    expected = spec.preview(number)
    signed = int(np.uint64(number).view("i8"))
    for form in (str(number), np.uint64(number), signed, (plate, mjd, fiber, run2d), [number]):
        assert spec.preview(form) == expected


def test_tuples_work_in_preview_and_grid_and_image(spec, ids):
    """The predecessor's server did not take them."""
    tuples = [tuple(unpack_specobjid(number).tolist()) for number in ids[:4]]
    assert spec.preview(tuples[0]) == spec.preview(ids[0])
    assert spec.plotGrid(tuples, 2, 2) == spec.plotGrid(ids[:4], 2, 2)
    assert spec.stackedImage(tuples) == spec.stackedImage(ids[:4])


@pytest.mark.parametrize("form", ["text", "file", "table", "array", "frame"])
def test_lists_of_every_form(spec, ids, form, tmp_path):
    some = ids[:4]
    given = {
        "text": "\n".join(map(str, some)),
        "file": str(tmp_path / "ids.txt"),
        "table": Table({"specobjid": np.array(some, "u8")}),
        "array": np.array(some, "u8"),
        "frame": Table({"specobjid": np.array(some, "u8")}).to_pandas(),
    }[form]
    (tmp_path / "ids.txt").write_text("\n".join(map(str, some)))
    assert spec.plotGrid(given, 2, 2) == spec.plotGrid(some, 2, 2)
    assert spec.stackedImage(given) == spec.stackedImage(some)


def test_errors_say_what_is_wrong(spec, ids):
    with pytest.raises(NotFound, match="5"):
        spec.preview(5)
    with pytest.raises(UnknownContext):
        spec.preview(ids[0], context="nonesuch")
    with pytest.raises(BadParameter, match="empty list"):
        spec.plotGrid([], 2, 2)
    with pytest.raises(TypeError, match="colour"):
        spec.preview(ids[0], colour="red")
    with pytest.raises(BadParameter, match="raw"):
        spec.preview(ids[0], fmt="gif")


def test_preview_by_get_as_the_old_client_asks(served, ids):
    with urllib3.PoolManager() as pool:
        url = f"{served.url}/preview?id={ids[0]}&context=default&profile=default"
        answer = pool.request("GET", url)
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        assert pool.request("GET", f"{served.url}/preview").status == 422
        assert pool.request("GET", f"{served.url}/preview?id=5").status == 404
        assert pool.request("GET", f"{served.url}/preview?id=hello").status == 400
    assert post(f"{served.url}/preview", {"id": ids[0]}).data == answer.data
    assert post(f"{served.url}/preview", {"id_list": f"[{ids[0]}]"}).data == answer.data
    assert post(f"{served.url}/preview", {"dark": "true"}).status == 422
    assert post(f"{served.url}/plotGrid", {}, **{"Content-Type": "application/json"}).status == 400


def test_a_preview_of_several_is_a_column(spec, ids):
    one, two = spec.plotGrid(ids[:1], 1, 1), spec.preview(ids[:2])
    assert two == spec.plotGrid(ids[:2], 1, 2)
    assert two.height > one.height


# --- drawing ----------------------------------------------------------------------------------


def made(npix: int = 4000, **changes) -> DisplaySpectrum:
    wave = 10 ** (3.58 + 1e-4 * np.arange(npix))
    flux = 10 + np.random.default_rng(3).normal(size=npix)
    fields = {"flux": flux, "ivar": np.ones(npix), "model": np.full(npix, 10.0)}
    about = {"title": "1-2-3", "flux_unit": "10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹", "z": 0.1}
    return DisplaySpectrum(**({"wave": wave, "lines": EMISSION_LINES} | fields | about | changes))


@pytest.mark.parametrize("npix", [0, 1, 2, 40])
def test_spectra_of_few_pixels_are_drawn(npix):
    png = preview_png(made(npix))
    assert has_colour(png, LIGHT.ink)
    assert has_colour(png, LIGHT.model) is (npix > 0)


def test_a_dead_fibre_says_so():
    dead = made(flux=np.zeros(4000), ivar=np.zeros(4000), model=np.zeros(4000))
    png = preview_png(dead)
    # Only the legend has the colour of the flux, above the frame.
    assert not (pixels(png)[40:] == colour_of(LIGHT.flux)).all(axis=2).any()
    assert pixels(png)[100:200, 300:560].min() < 100


def test_not_a_number_and_infinity_are_drawn_as_gaps_or_clipped():
    flux = made().flux.copy()
    flux[100:200], flux[300], flux[400] = np.nan, np.inf, -np.inf
    assert has_colour(preview_png(made(flux=flux)), LIGHT.flux)


def test_a_gap_is_a_gap():
    """Columns over pixels without information have no flux."""
    ivar = np.ones(4000)
    ivar[1000:3000] = 0
    spectrum = made(ivar=ivar, model=None, lines=())
    shown = (pixels(preview_png(spectrum))[40:280] == colour_of(LIGHT.flux)).all(axis=2)
    width = shown.shape[1]
    low, high = spectrum.wave[1010], spectrum.wave[2990]
    ends = spectrum.wave[0], spectrum.wave[-1]
    left, right = (78 + (one - ends[0]) / (ends[1] - ends[0]) * (width - 92) for one in (low, high))
    assert shown[:, 79 : int(left) - 3].any(axis=0).all()
    assert not shown[:, int(left) + 2 : int(right) - 2].any()


def test_a_masked_pixel_is_a_gap_with_a_bar_at_the_lower_edge():
    """Masked pixels were drawn as data: spikes down to 0."""
    flux, masked = made().flux.copy(), np.zeros(4000, bool)
    masked[2000:2003] = True
    flux[masked] = -1e6
    plain, marked = (
        preview_png(made(flux=flux, masked=where, model=None, lines=())) for where in (None, masked)
    )
    assert not has_colour(plain, LIGHT.masked)
    shown = (pixels(marked)[40:] == colour_of(LIGHT.masked)).all(axis=2)
    lines, columns = np.nonzero(shown)
    assert 5 <= np.ptp(lines) <= 8
    assert np.ptp(columns) <= 3
    # The axis does not go down to it.
    trace = (pixels(plain)[200:290, 90:840] == colour_of(LIGHT.flux)).all(axis=2)
    assert trace.any()
    assert not (pixels(marked)[200:290, 90:840] == colour_of(LIGHT.flux)).all(axis=2).any()
    grid = grid_png([made(), made(masked=masked)], 2, 1)
    assert has_colour(grid, LIGHT.masked)


def test_a_grid_has_a_legend_and_each_cell_its_power_of_ten():
    one = made(lines=())
    for nx, ny in ((1, 1), (3, 2), (1, 12)):
        drawn = pixels(grid_png([one], nx, ny))
        foot = drawn[-2 * (13 + 8) :]
        for colour in (LIGHT.flux, LIGHT.noise, LIGHT.model):
            assert (foot == colour_of(colour)).all(axis=2).any(), (nx, colour)
    faint = made(flux=one.flux * 1e-9, ivar=None, model=None, lines=())
    alike = made(flux=one.flux, ivar=None, model=None, lines=())
    # The curve is the same, and its numbers are; only the unit differs.
    curves = [pixels(preview_png(spectrum))[30:320, 60:] for spectrum in (faint, alike)]
    assert (curves[0] != curves[1]).mean() < 0.01
    assert not np.array_equal(*(pixels(preview_png(each)) for each in (faint, alike)))


def has_noise(png: bytes) -> bool:
    """Tell whether anything is blue, as noise is; its trace is blended with the paper."""
    red, _, blue = np.moveaxis(pixels(png).astype(int), -1, 0)
    return bool((blue > red + 60).any())


def test_no_noise_is_drawn_where_no_uncertainties_are_known():
    stated, unknown = (made(model=None, lines=(), ivar=ivar) for ivar in (np.ones(4000), None))
    assert has_noise(preview_png(stated))
    assert not has_noise(preview_png(unknown))
    assert has_noise(grid_png([stated], 1, 1))
    assert not has_noise(grid_png([unknown], 1, 1))
    for several, known in (([stated], True), ([unknown], False), ([unknown, unknown], False)):
        figure = Figure((8, 4))
        draw(figure, several, FigureLook())
        lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 4000]
        assert len(lines) == len(several) + known


@pytest.mark.proof
def test_a_preview_of_a_survey_without_uncertainties_draws_none(tmp_path: Path) -> None:
    rows = Table({"wavelength": np.arange(4000.0, 5000.0), "flux": np.linspace(1, 2, 1000)})
    rows["wavelength"].unit, rows["flux"].unit = "Angstrom", "1e-17 erg / (s cm2 Angstrom)"
    rows.write(tmp_path / "one.fits")
    declare(
        open_root(tmp_path / "data"),
        "bare",
        [tmp_path / "one.fits"],
        SurveyOptions(medium="vacuum"),
    )
    run_ingest(open_root(tmp_path / "data"), "bare", [tmp_path / "one.fits"], workers=1)
    with serve(tmp_path / "data", tmp_path) as running:
        client = SpecClient("bare", svc_url=running.url)
        (number,) = client.query(constraint="limit 1")
        assert not has_noise(client.preview(number))
        assert not has_noise(client.plotGrid([number], 1, 1))


def test_a_long_title_ends_before_the_legend():
    short, long = (pixels(preview_png(made(title=title)))[:26] for title in ("a" * 9, "a" * 300))
    several = pixels(preview_png(made(title="one " * 80)))[:26]
    legend = np.flatnonzero((short == colour_of(LIGHT.model)).all(axis=2).any(axis=0))[0] - 10
    assert np.array_equal(short[:, legend:], long[:, legend:])
    assert np.array_equal(short[:, legend:], several[:, legend:])
    assert (long[:, legend - 60 : legend] < 200).any()


def test_a_long_title_keeps_its_release_and_leaves_class_and_redshift_free():
    long = made(title=f"{'7' * 17} main dark desi_dr1", kind="GALAXY")
    for nx, part in ((5, (slice(18), slice(40, 370))), (10, (slice(14), slice(20, 210)))):
        drawn, short, plain = (
            pixels(grid_png([spectrum], nx, nx))[part]
            for spectrum in (
                long,
                replace(long, title=f"{'7' * 17} desi_dr1"),
                replace(long, title=""),
            )
        )
        assert np.array_equal(drawn, short)
        assert not np.array_equal(drawn, plain)


@pytest.mark.parametrize("nx", [1, 5, 10])
def test_each_spectrum_has_its_unit_where_units_differ(nx):
    several = [made(flux_unit=unit) for unit in ("mJy", "Jy", "")]
    drawn = pixels(grid_png(several, nx, 3))
    assert not np.array_equal(drawn, pixels(grid_png(several[::-1], nx, 3)))
    # The axis of them all has no unit; that of one unit stays as it was.
    alone = pixels(grid_png([several[0]] * 3, nx, 3))
    letters = 13 if nx == 1 else 11 if nx == 5 else 9
    assert not np.array_equal(drawn[:, :letters], alone[:, :letters])
    plain = pixels(grid_png([several[2]] * 3, nx, 3))
    assert np.array_equal(drawn[:, :letters], plain[:, :letters])


def test_a_bright_pixel_does_not_wrap_around():
    """What is brighter than the axis goes out at the top, and nowhere else."""
    flux, ivar = np.full(4000, 1.0), np.ones(4000)
    flux[2000], ivar[2000] = 1e9, 1e-18
    shown = pixels(preview_png(made(flux=flux, ivar=ivar, model=None, lines=())))
    drawn = np.flatnonzero((shown[35:39, 90:840] < 200).all(axis=2).any(axis=0))
    assert 1 <= len(drawn) <= 3
    # The rest is one level line.
    level = (shown[:, 100:400] == colour_of(LIGHT.flux)).all(axis=2)
    assert level.any(axis=1).sum() <= 2


def test_flux_limits_keep_a_line_and_leave_out_a_hot_pixel():
    flux = np.ones(4000)
    flux[500:506] = 40.0
    flux[3000] = 9000.0
    ivar = np.full(4000, 25.0)
    ivar[3000] = 1e-8
    low, high = flux_limits(made(flux=flux, ivar=ivar, model=None, lines=()))
    assert 39 < high < 60
    assert low < 0


def test_names_of_lines_do_not_overlap():
    for z in (0.0, 0.05, 0.3, 1.0, 2.5, 5.0):
        marks = place_marks(EMISSION_LINES, 1 + z, (3600.0, 10400.0), 130.0)
        places = [mark.place for mark in marks if mark.name]
        assert np.diff(places).min(initial=np.inf) >= 130.0 - 1e-6
        assert all(3600 <= place <= 10400 for place in places)


@pytest.mark.parametrize("gap", [60.0, 130.0, 400.0])
def test_a_name_stands_near_its_line_and_the_least_prominent_are_left_out(gap):
    """In a grid, names stood 700 Å from their lines."""
    for kind, z in (("GALAXY", 0.03), ("GALAXY", 0.3), ("QSO", 2.5)):
        marks = place_marks(lines_of(kind), 1 + z, (3600.0, 9800.0), gap)
        away = [abs(mark.place - np.mean(mark.waves)) for mark in marks]
        assert max(away) <= 1.5 * gap
        assert all(mark.name for mark in marks)
    names = [mark.name for mark in place_marks(lines_of("GALAXY"), 1.03, (3600.0, 9800.0), gap)]
    assert {"Hα", "[O III]"} <= set(names)
    assert ("[N II]" in names) is (gap < 200)


def test_lines_of_one_name_share_it_and_none_is_lost():
    lines = tuple(SpectralLine(name, wave, "emission") for name, wave in [
        ("[S II]", 6718.0), ("[S II]", 6733.0), ("Hα", 6564.0)])  # fmt: skip
    marks = place_marks(lines, 1.0, (6000.0, 7000.0), 30.0)
    assert [(mark.name, mark.waves) for mark in marks] == [
        ("Hα", (6564.0,)),
        ("[S II]", (6718.0, 6733.0)),
    ]


def test_lines_have_their_right_names():
    """The predecessor called 4341.68 Å Hβ, and 5756.19 Å [Ne II]."""
    names = {round(line.wave_aa, 2): line.name for line in EMISSION_LINES}
    assert names[4341.68] == "Hγ"
    assert names[5756.19] == "[N II]"


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (3700.0, 10300.0, ["4000", "6000", "8000", "10000"]),
        (-0.3, 1.2, ["0.0", "0.5", "1.0"]),
        (-4.0, 0.5, ["−4", "−2", "0"]),
    ],
)
def test_ticks_are_round_numbers(low, high, labels):
    assert find_ticks(low, high, 4 if low > 0 else 3).labels == labels


def test_units_read_as_the_field_writes_them():
    expected = "10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹"
    assert unit_label("1e-17 erg / (s cm2 Angstrom)") == expected
    assert unit_label("1e-17 erg / (Angstrom s cm2)") == expected
    assert unit_label("Jy") == "Jy"


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (400, 1300), (1300, 900)])
@pytest.mark.parametrize("kind", ["noise", "narrow noise", "lines"])
def test_the_png_of_an_array_is_that_array(shape, kind):
    """Noise is sent as it is or packed by its frequencies, drawings by what repeats downwards."""
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 4 if kind == "narrow noise" else 256, shape, dtype=np.uint8)
    if kind == "lines":
        levels[1 : shape[0] * 3 // 4] = levels[0]
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    for image in (levels, levels[::-1]):
        shown = Image.open(BytesIO(encode_png(image, palette)))
        assert np.array_equal(np.asarray(shown.convert("RGB")), palette[image])


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_the_colours_of_a_drawing_are_those_of_the_theme_and_what_lies_between(colours):
    palette = palette_of(colours)
    exact = palette.rgb.astype(float)
    share = np.arange(16)[:, None] / 15
    levels = np.arange(16, dtype=np.uint8)
    paper = np.array(colour_of(colours.paper))
    on_paper = np.full(16, palette.number[colours.paper], np.uint8)
    for colour in (colours.ink, colours.flux, colours.model, colours.noise, colours.emission):
        wanted = np.array(colour_of(colour))
        shown = exact[palette.lay(on_paper, levels, colour)]
        assert np.abs(shown - (paper + (wanted - paper) * share)).max() <= 1
        # Over anything at all: as it is where free, the colour where covered, else very near.
        for below in range(256):
            shown = exact[palette.lay(np.full(16, below, np.uint8), levels, colour)]
            true = exact[below] + (wanted - exact[below]) * share
            assert np.abs(shown[0] - exact[below]).max() <= 1
            assert np.array_equal(shown[15], wanted)
            assert np.linalg.norm(shown - true, axis=1).max() < 64


# --- grids ------------------------------------------------------------------------------------


def cells(png: bytes, nx: int, ny: int) -> np.ndarray:
    """Return whether each cell of a grid has a spectrum, ny × nx."""
    shown = (pixels(png) == colour_of(LIGHT.flux)).all(axis=2)
    height, width = shown.shape
    rows = [shown[height * row // ny : height * (row + 1) // ny] for row in range(ny)]
    return np.array([
        [row[:, width * column // nx : width * (column + 1) // nx].sum() > 50
         for column in range(nx)] for row in rows
    ])  # fmt: skip


def test_nx_is_columns_and_ny_is_rows(spec, ids):
    """The predecessor swapped them."""
    wide, tall = spec.plotGrid(ids[:6], 3, 2), spec.plotGrid(ids[:6], 2, 3)
    assert cells(wide, 3, 2).all()
    assert cells(tall, 2, 3).all()
    assert wide.width / wide.height > 2 > tall.width / tall.height
    partly = cells(spec.plotGrid(ids[:4], 3, 2), 3, 2)
    assert partly.tolist() == [[True, True, True], [True, False, False]]


def test_page_is_the_page_of_the_list(spec, ids):
    """The predecessor ignored it."""
    pages = [spec.plotGrid(ids[:7], 3, 1, page=page) for page in range(3)]
    assert len(set(pages)) == 3
    assert pages[1] == spec.plotGrid(ids[3:6], 3, 1)
    assert pages[2] == spec.plotGrid(ids[6:7], 3, 1)
    assert spec.getGridPlot(ids[:7], 3, 1, page=1) == pages[1]


def test_a_page_beyond_the_end_is_the_last_one(spec, ids):
    last = spec.plotGrid(ids[:7], 3, 1, page=2)
    with pytest.warns(UserWarning, match="no such page; this is the last one, page=2"):
        assert spec.plotGrid(ids[:7], 3, 1, page=3) == last
    with pytest.raises(BadParameter, match="page"):
        spec.plotGrid(ids[:7], 3, 1, page=-1)
    with pytest.raises(BadParameter, match="nx"):
        spec.plotGrid(ids[:7], 0, 1)


def test_a_grid_beyond_the_limit_is_too_much(spec, ids):
    with pytest.raises(TooMuch, match="pixels"):
        spec.plotGrid(ids[:1], 1000, 1000)


def test_aligned_grids_have_one_wavelength_axis(spec, ids):
    assert spec.plotGrid(ids[:4], 2, 2, align=True) != spec.plotGrid(ids[:4], 2, 2)
    one = made(2000)
    assert grid_png([one], 1, 1) != grid_png([one], 1, 1, waves=(3000.0, 9000.0))


def test_a_missing_spectrum_is_left_out_on_request(spec, ids):
    with pytest.warns(UserWarning, match="1 identifiers have nothing to show .* left out: 5"):
        grid = spec.plotGrid([*ids[:3], 5], 2, 2, missing="skip")
    assert grid == spec.plotGrid(ids[:3], 2, 2)
    with pytest.warns(UserWarning, match=r"left out: 5, \(4055, '\*', 408, '26'\)$"):
        spec.plotGrid([ids[0], 5, (4055, "*", 408, 26)], 2, 2, missing="skip")
    with pytest.raises(NotFound):
        spec.plotGrid([*ids[:3], 5], 2, 2)


def test_the_old_clients_ncols_is_its_ny(served, ids):
    """It sends ny as ncols and no nx; served as rows, its user sees the grid that was asked for."""
    listed = {"id_list": str(ids[:6]), "context": "default", "profile": "default"}
    old = post(f"{served.url}/plotGrid", {**listed, "ncols": 2, "debug": False})
    ours = post(f"{served.url}/gridPlot", {**listed, "nx": 3, "ny": 2})
    assert old.data == ours.data
    assert cells(old.data, 3, 2).all()


# --- stacked images ---------------------------------------------------------------------------


def test_stacked_image_of_exactly_1000_ids_is_not_black(spec, repeated):
    image = np.asarray(spec.stackedImage(repeated, align=True).image.convert("L"))
    assert image.shape[0] == 1000
    assert image.std() > 20
    assert (image.max(axis=1) > 0).all()


def test_stacked_image_has_a_row_for_each_spectrum(spec, ids):
    """The predecessor dropped rows."""
    for count in (1, 2, 99, 100, 101):
        assert spec.stackedImage(ids[:count], thickness=1).height == count


def test_a_stacked_image_without_a_size_is_readable_for_few_and_for_many(spec, ids):
    """48 spectra were a strip of 4657 × 48 pixels, and 3 a line."""
    for count, rows in ((1, 40), (3, 120), (48, 480), (149, 447)):
        picture = spec.stackedImage(ids[:count], align=True)
        assert picture.height == rows
        assert 600 < picture.width <= 1200
    assert ImageLook().size(2000, 4657, 2**24) == (1000, 1165)
    assert ImageLook(thickness=1).size(2000, 4657, 2**24) == (2000, 1165)
    assert ImageLook(scale=(1, 1)).size(2000, 4657, 2**24) == (2000, 4657)


def test_each_row_has_its_own_scale_unless_it_is_to_be_common(spec, ids):
    fluxes = spec.stackedImage(ids[:20], fmt="numpy", align=True)
    levels = np.median(np.abs(fluxes), axis=1)
    pair = [ids[int(np.argmin(levels))], ids[int(np.argmax(levels))]]
    own, common = (
        np.asarray(spec.stackedImage(pair, align=True, scale=scale).image.convert("L"))
        for scale in (None, "common")
    )
    half = len(own) // 2
    # The first is below: it is faint.
    assert own[half:].std() > 40 < own[:half].std()
    assert common[half:].std() < 0.5 * own[half:].std()
    assert common[:half].mean() > 2 * common[half:].mean()
    with pytest.raises(BadParameter, match="common"):
        spec.stackedImage(pair, scale="own")


def test_a_stacked_image_has_axes_on_request(spec, ids):
    plain = spec.stackedImage(ids[:30], align=True)
    whole = spec.stackedImage(ids[:30], align=True, axes=True, cmap="viridis")
    assert whole.width > plain.width + 120
    assert whole.height > plain.height + 40
    shown = pixels(whole)
    # The bar has the colours of the map from the bottom to the top.
    column = shown[:, plain.width + 100 :]
    ends = [np.argwhere((column == end).all(axis=2)) for end in ((68, 1, 84), (253, 231, 36))]
    assert ends[0][:, 0].max() > ends[1][:, 0].max()
    for axes in ("wavelength", ["redshift"], "redshift,colorbar"):
        assert spec.stackedImage(ids[:3], align=True, axes=axes) not in {plain, whole}
    # Without a common lattice there is no wavelength axis, and the rest is drawn.
    assert spec.stackedImage(ids[:3], axes=True).height < whole.height
    with pytest.raises(BadParameter, match="align=True"):
        spec.stackedImage(ids[:3], axes="wavelength")
    with pytest.raises(BadParameter, match="colorbar"):
        spec.stackedImage(ids[:3], axes="nonesuch")


def test_a_spectrum_without_light_has_no_value_in_a_stacked_image():
    stack = Stack(3, 100, (3, 100))
    stack.add(0, np.array([np.arange(100.0), np.zeros(100), np.ones(100)], np.float32))
    assert (stack.levels(ImageLook(yflip=True), 254, 255) == 255).all(axis=1).tolist() == [
        False, True, False,
    ]  # fmt: skip


def test_a_wrong_type_is_the_callers_error_and_said_with_the_value(spec, ids):
    for wrong in ({"thickness": "x"}, {"thickness": 1.5}, {"cmap": 5}):
        ((name, value),) = wrong.items()
        with pytest.raises(BadParameter, match=f"{name}: .*, not {value!r}"):
            spec.stackedImage(ids[:3], **wrong)


def test_stacked_image_is_as_wide_and_as_high_as_asked_for(spec, ids):
    """The predecessor swapped width and height."""
    assert spec.stackedImage(ids[:10], width=640, height=200).size == (640, 200)
    assert spec.stackedImage(ids[:10], width=640).size == (640, 400)
    natural = spec.stackedImage(ids[:10], scale=1).size
    assert natural == (max(len(one) for one in spec.getSpec(ids[:10], values="flux")), 10)
    assert spec.stackedImage(ids[:10], scale=(0.5, 3)).size == (round(natural[0] / 2), 30)
    assert spec.stackedImage(ids[:10], thickness=4).height == 40
    assert spec.stackedImage(ids[:10], scale=2.0).size == (natural[0] * 2, 20)


def expected_levels(rows: list[np.ndarray]) -> np.ndarray:
    """Return grey levels by zscale as astropy computes it of all pixels, NaN outside."""
    width = max(map(len, rows))
    image = np.full((len(rows), width), np.nan)
    for line, row in zip(image, rows, strict=True):
        line[: len(row)] = row
    low, high = ZScaleInterval(n_samples=10**9).get_limits(image[np.isfinite(image)])
    return np.clip((image - low) / (high - low) * 255, 0, 255)


@pytest.mark.proof
def test_bright_pixels_are_clipped_and_never_wrapped(spec, ids):
    rows = [one["flux"] for one in spec.getSpec(ids[:40])]
    expected = expected_levels(rows)[::-1]
    drawn = post(f"{spec.get_svc_url()}/stackedImage", {"id_list": str(ids[:40]), "common": "true",
        "xscale": 1, "yscale": 1, "thickness": 1}).data  # fmt: skip
    image = np.asarray(Image.open(BytesIO(drawn)).convert("L")).astype(float)
    known = np.isfinite(expected)
    assert (image[~known] == 0).all()
    # Limits come from a sample, so levels differ a little; a wrapped one would by more than 100.
    assert np.abs(image - expected)[known].max() < 40
    assert np.median(np.abs(image - expected)[known]) < 10
    assert (image[expected == 255] > 215).all()


def test_the_first_spectrum_is_the_bottom_row_unless_yflip(spec, ids):
    image = np.asarray(spec.stackedImage(ids[:30]).image.convert("L"))
    flipped = np.asarray(spec.stackedImage(ids[:30], yflip=True).image.convert("L"))
    assert np.array_equal(image[::-1], flipped)
    backwards = np.asarray(spec.stackedImage(ids[:30][::-1]).image.convert("L"))
    assert np.abs(backwards[::-1].astype(int) - image).mean() < 5
    lengths = [len(one) for one in spec.getSpec(ids, values="flux")]
    short, long = ids[int(np.argmin(lengths))], ids[int(np.argmax(lengths))]
    image = np.asarray(spec.stackedImage([short, long], scale=1).image.convert("L"))
    assert not image[1, min(lengths) :].any()
    assert image[0, min(lengths) :].any()


def test_the_array_is_the_fluxes(spec, ids):
    array = spec.stackedImage(ids[:20], fmt="numpy")
    assert array.dtype == np.float32
    for row, one in zip(array, spec.getSpec(ids[:20]), strict=True):
        assert row[: len(one)].tobytes() == one["flux"].tobytes()
        assert not row[len(one) :].any()
    aligned = spec.stackedImage(ids[:20], fmt="numpy", align=True)
    assert np.array_equal(aligned, spec.getSpec(ids[:20], align=True)["flux"])
    flipped = spec.stackedImage(ids[:20], fmt="numpy", align=True, yflip=True)
    assert np.array_equal(flipped, aligned[::-1])


def test_align_moves_the_rows(spec, ids):
    first, plain = (spec.stackedImage(ids, align=align) for align in (True, False))
    assert first.width > plain.width
    assert first != plain


def test_colours(spec, ids):
    gray = np.asarray(spec.stackedImage(ids[:9]).image.convert("L")).astype(int)
    inverse = np.asarray(spec.stackedImage(ids[:9], inverse=True).image.convert("L")).astype(int)
    assert np.abs(gray - (255 - inverse)).max() <= 1
    assert len(np.unique(pixels(spec.stackedImage(ids[:9], cmap="viridis")).reshape(-1, 3))) > 50
    with pytest.raises(BadParameter, match="viridis"):
        spec.stackedImage(ids[:9], cmap="nonesuch")


def test_keywords_are_never_silently_ignored(spec, ids):
    with pytest.raises(BadParameter, match="as they are"):
        spec.stackedImage(ids[:9], fmt="numpy", width=100)
    for wrong in ({"thickness": 0}, {"scale": 0.0}, {"width": -1}, {"fmt": "gif"}, {"scale": "x"}):
        with pytest.raises(BadParameter, match=next(iter(wrong))):
            spec.stackedImage(ids[:9], **wrong)
    with pytest.raises(TooMuch, match="pixels"):
        spec.stackedImage(ids[:9], width=50_000, height=50_000)


def test_raw_is_the_png_as_plain_bytes(spec, ids, tmp_path):
    raw = spec.stackedImage(ids[:3], fmt="raw")
    assert type(raw) is bytes
    assert raw == spec.stackedImage(ids[:3])
    assert spec.stackedImage(ids[:3], "numpy", out=tmp_path / "a.npy") == "OK"
    assert np.array_equal(np.load(tmp_path / "a.npy"), spec.stackedImage(ids[:3], "numpy"))


def test_a_list_beyond_the_largest_picture_is_averaged_and_no_row_is_lost():
    """Every spectrum has its part in the picture; a bright one is seen wherever it is."""
    look = ImageLook()
    assert look.size(20_000, 4700, 10**6) == (10**6 // 1175, 1175)
    nspec, npix, size = 1000, 90, (70, 31)
    for bright in (0, 1, 499, 998, 999):
        stack = Stack(nspec, npix, size)
        flux = np.random.default_rng(1).normal(size=(nspec, npix)).astype(np.float32)
        flux[bright] += 1e4
        for at in range(0, nspec, 256):
            stack.add(at, flux[at : at + 256])
        assert stack.mean.sum() == pytest.approx(flux.sum(), rel=1e-3)
        assert stack.weight.sum() == nspec * npix
        shown = np.asarray(Image.open(BytesIO(stack.png(look))).convert("L"))
        assert shown.shape == size
        row = size[0] - 1 - bright * size[0] // nspec
        assert (shown[row] == 255).all()


@pytest.mark.parametrize("size", [(300, 90), (70, 90), (300, 31), (70, 31)])
def test_pixels_of_a_smaller_picture_are_means_of_those_of_the_spectra(size):
    """What is outside of a spectrum, or no number, has no part in them."""
    rng = np.random.default_rng(1)
    nspec, npix = 300, 90
    left, stop = rng.integers(0, 40, nspec), rng.integers(40, npix + 1, nspec)
    columns = np.arange(npix)
    inside = (columns >= left[:, None]) & (columns < stop[:, None])
    flux = np.where(inside, rng.normal(5, 1, (nspec, npix)), 0).astype(np.float32)
    flux[inside & (rng.random((nspec, npix)) < 0.01)] = np.inf
    known = inside & np.isfinite(flux)
    stack = Stack(nspec, npix, size, (left, stop))
    for at in range(0, nspec, 128):
        stack.add(at, flux[at : at + 128])
    rows, bins = (
        np.arange(nspec) * size[0] // nspec,
        np.searchsorted(stack.starts, columns, "right"),
    )
    total, weight = np.zeros(size), np.zeros(size)
    place = (rows[:, None], bins[None, :] - 1)
    np.add.at(total, place, np.where(known, flux, 0))
    np.add.at(weight, place, known)
    assert np.array_equal(stack.weight, weight)
    assert np.allclose(stack.mean, total, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_an_image_without_contrast_is_drawn(value):
    stack = Stack(3, 50, (3, 50))
    stack.add(0, np.full((3, 50), value, np.float32))
    assert pixels(stack.png(ImageLook())).shape == (3, 50, 3)


# --- spectra off the lattice, and real files --------------------------------------------------


@pytest.fixture(scope="module")
def off_lattice(real_spectra: Path, tmp_path_factory: pytest.TempPathFactory):
    """A service with one real spectrum whose wavelengths were shifted by part of a pixel."""
    from astropy.io import fits

    folder = tmp_path_factory.mktemp("off") / "files"
    folder.mkdir()
    paths = sorted((real_spectra / "sdss").rglob("spec-*.fits"))[:2]
    for number, path in enumerate(paths):
        with fits.open(path) as hdus:
            if number == 0:
                hdus[1].data["loglam"] += 3e-5
            hdus.writeto(folder / path.name, checksum=False, output_verify="ignore")
    data = tmp_path_factory.mktemp("off-data") / "data"
    run_ingest(open_root(data), "sdss_dr17", [folder], workers=1)
    with serve(data, folder) as running:
        yield running


def test_a_spectrum_off_the_lattice_is_drawn_and_stacked(off_lattice):
    spec = SpecClient(svc_url=off_lattice.url)
    numbers = [int(one) for one in off_lattice.ids]
    for number in numbers:
        assert has_colour(spec.preview(number), LIGHT.flux)
    assert spec.stackedImage(numbers, scale=1).height == 2
    with pytest.raises(MixedLattices):
        spec.stackedImage(numbers, align=True)
    with pytest.raises(MixedLattices):
        spec.stackedImage(numbers, "numpy", align=True)


def test_a_sky_fibre_has_no_lines(real_served):
    """The pipeline gives it a class and a redshift all the same, which mean nothing."""
    spec = SpecClient(svc_url=real_served.url)
    rows = spec.query(constraint="zwarning > 0", fields=["specobjid", "zwarning"], primary=False)
    marked = {True: [], False: []}
    for row in rows:
        png = spec.preview(int(row["specobjid"]))
        has_lines = has_colour(png, LIGHT.emission) or has_colour(png, LIGHT.absorption)
        marked[bool(row["zwarning"] & 1)].append(has_lines)
    assert marked[True]
    assert not any(marked[True])
    assert any(marked[False])


def test_previews_of_real_spectra(real_served):
    spec = SpecClient(svc_url=real_served.url)
    for number in real_served.ids[:30].tolist():
        png = spec.preview(number)
        assert has_colour(png, LIGHT.ink)
