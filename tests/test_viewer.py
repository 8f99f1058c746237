"""The interactive viewer: what it is given, the page, and the page in a real browser."""

import json
import sys
import time
import webbrowser
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains

from serving import Served
from specserver.client.api import SpecClient
from specserver.client.inspection import inspected, read_inspection
from specserver.client.plots.page import ViewerPage
from specserver.client.plots.spectra import read_spectra
from specserver.errors import BadParameter, NotFound
from specserver.model.lines import EMISSION_LINES
from specserver.render.display import unit_label

pytestmark = pytest.mark.proof

NSPEC = 20
# Finds the parts of the page by name, whatever Bokeh numbers them.
PARTS = """
const doc = Bokeh.documents[0]
const get = (name) => doc.get_model_by_name(name)
const drawn = () => get("plot").renderers.filter((one) => one.name && one.name !== "pointer")
"""


@pytest.fixture(scope="module")
def client(served: Served) -> SpecClient:
    return SpecClient(svc_url=served.url)


@pytest.fixture(scope="module")
def chosen(served: Served) -> list[int]:
    return [int(one) for one in served.ids[:NSPEC]]


@pytest.fixture(scope="module")
def pages(client: SpecClient, chosen: list[int], tmp_path_factory: Any) -> Path:
    """Two saved pages, of one spectrum and of twenty."""
    folder = tmp_path_factory.mktemp("pages")
    assert client.prospect(chosen[0], out=folder / "one.html") == "OK"
    assert client.prospect(chosen, out=str(folder / "many.html"), title="Twenty") == "OK"
    return folder


class Page:
    """A page in the browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, path: Path, size: tuple[int, int] = (1300, 820)) -> None:
        self.driver.set_window_size(*size)
        self.driver.get_log("performance")
        self.driver.get(path.as_uri())
        self.until("return get('shown').get('flux').length > 0")

    def run(self, code: str, *values: Any) -> Any:
        return self.driver.execute_script(PARTS + code, *values)

    def until(self, code: str) -> None:
        """Wait until code returns true; Bokeh is there and idle then."""
        ready = "if (!globalThis.Bokeh?.documents?.[0]?.is_idle) return false;"
        deadline = time.monotonic() + 20
        while not self.driver.execute_script(ready + PARTS + code):
            assert time.monotonic() < deadline, code
            time.sleep(0.05)

    def column(self, source: str, name: str) -> np.ndarray:
        code = (
            f"return Array.from(get('{source}').get('{name}'), (x) => Number.isNaN(x) ? null : x)"
        )
        return np.array(self.run(code), dtype=float)

    def set(self, part: str, **values: Any) -> None:
        self.run(f"get('{part}').setv(arguments[0])", values)

    def click(self, part: str) -> None:
        """Click on a part with the pointer."""
        at = self.run(f"""
            const box = Bokeh.index.get_one(get("{part}")).el.getBoundingClientRect()
            return [box.left + box.width / 2, box.top + box.height / 2]
        """)
        self.click_at(*map(int, at))

    def click_at(self, x: int, y: int) -> None:
        actions = self.pointer()
        actions.w3c_actions.pointer_action.move_to_location(x, y)
        actions.w3c_actions.pointer_action.click()
        actions.perform()

    def value(self, path: str) -> Any:
        part, _, name = path.partition(".")
        return self.run(f"return get('{part}').{name}")

    def errors(self) -> list[str]:
        return [one["message"] for one in self.driver.get_log("browser") if one["level"] != "INFO"]

    def requests(self) -> list[str]:
        """Return the URLs that the page asked for since it was opened."""
        events = [
            json.loads(one["message"])["message"] for one in self.driver.get_log("performance")
        ]
        sent = [one for one in events if one["method"] == "Network.requestWillBeSent"]
        return [one["params"]["request"]["url"] for one in sent]

    def inside(self, x: float, y: float) -> tuple[int, int]:
        """Return where on the screen a point of the plot is, its coordinates from 0 to 1."""
        code = """
        const view = Bokeh.index.get_one(get("plot"))
        const at = view.el.getBoundingClientRect()
        const {left, top, width, height} = view.frame.bbox
        return [at.left + left + arguments[0] * width, at.top + top + arguments[1] * height]
        """
        across, down = self.run(code, x, y)
        return int(across), int(down)

    def pointer(self) -> ActionChains:
        return ActionChains(self.driver, duration=50)


@pytest.fixture
def page(browser: webdriver.Chrome) -> Iterator[Page]:
    """The browser; after the test, it has met no error and asked the network for nothing."""
    page = Page(browser)
    page.errors()
    yield page
    assert page.errors() == []
    asked = page.requests()
    assert any(url.startswith("file:") for url in asked)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def shown(page: Page) -> dict[str, np.ndarray]:
    names = ("wave", "rest", "flux", "noise", "model", "sky")
    return {name: page.column("shown", name) for name in names}


def test_the_page_draws_the_spectrum_as_it_was_served(page, pages, client, chosen):
    page.open(pages / "one.html")
    record, drawn = client.getSpec(chosen[0]), shown(page)
    good = record["ivar"] > 0
    assert good.any()
    assert np.allclose(drawn["wave"], 10.0 ** record["loglam"].astype(float), rtol=3e-7)
    assert np.array_equal(drawn["flux"][good], record["flux"][good].astype(float))
    assert np.allclose(drawn["noise"][good], record["ivar"][good] ** -0.5, rtol=1e-6)
    assert np.array_equal(drawn["model"][good], record["model"][good].astype(float))
    assert np.array_equal(drawn["sky"], record["sky"].astype(float))
    assert np.isnan(drawn["flux"][~good]).all()
    table = client.query(constraint=f"specobjid = {chosen[0]}", fields="specobjid,z,class,ra")
    z = float(table["z"][0])
    assert np.allclose(drawn["rest"], drawn["wave"] / (1 + z), rtol=1e-6)
    info = page.value("info.text")
    for text in (str(chosen[0]), f"{z:.5f}", str(table["class"][0]), f"{table['ra'][0]:.6f}"):
        assert text in info
    assert page.value("next.visible") is False


def test_the_redshift_moves_the_lines_and_the_axis_at_rest(page, pages):
    page.open(pages / "one.html")
    waves = np.array([line.wave_aa for line in EMISSION_LINES])
    given = page.value("number.value")
    assert np.allclose(page.column("emission", "x"), waves * (1 + given), rtol=1e-6)
    page.set("coarse", value=0.5)
    assert page.value("number.value") == 0.5
    assert np.allclose(page.column("emission", "x"), waves * 1.5)
    assert page.value("rest_range.end") == pytest.approx(page.value("plot.x_range.end") / 1.5)
    page.set("fine", value=0.01)
    assert page.value("number.value") == pytest.approx(0.51)
    assert np.allclose(page.column("emission", "x"), waves * 1.51)
    page.set("number", value=0.123456)
    assert page.value("fine.value") == 0
    assert np.allclose(page.column("emission", "x"), waves * 1.123456)
    assert np.allclose(page.column("shown", "rest"), page.column("shown", "wave") / 1.123456)
    night = page.column("sky_lines", "x")
    page.click("given")
    assert np.allclose(page.column("emission", "x"), waves * (1 + given))
    assert np.array_equal(page.column("sky_lines", "x"), night)


def weighted(values: np.ndarray, ivar: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the smoothed values, as numpy makes them; gaps stay."""
    weights = np.convolve(ivar, kernel, "same")
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.convolve(values * ivar, kernel, "same") / weights
    return np.where(ivar > 0, means, np.nan)


def test_smoothing_weighs_by_inverse_variance(page, pages, client, chosen):
    page.open(pages / "one.html")
    record = client.getSpec(chosen[0])
    flux, ivar = record["flux"].astype(float), record["ivar"].astype(float)
    at = np.arange(-12, 13)
    gauss = np.exp(-0.5 * (at / 3.0) ** 2)
    page.set("smoothing", value=3.0)
    assert np.allclose(page.column("shown", "flux"), weighted(flux, ivar, gauss), equal_nan=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.sqrt(np.convolve(ivar, gauss**2, "same")) / np.convolve(ivar, gauss, "same")
    noise[ivar == 0] = np.nan
    assert np.allclose(page.column("shown", "noise"), noise, equal_nan=True)
    page.set("kernel", active=1)
    box = weighted(flux, ivar, np.ones(3))
    assert np.allclose(page.column("shown", "flux"), box, equal_nan=True)
    assert page.value("smoothing.title") == "Smoothing, width in pixels"
    page.set("smoothing", value=4.0)
    box = weighted(flux, ivar, np.array([0.5, 1, 1, 1, 0.5]))
    assert np.allclose(page.column("shown", "flux"), box, equal_nan=True)
    page.set("smoothing", value=0.0)
    good = ivar > 0
    assert np.array_equal(page.column("shown", "flux")[good], flux[good])


def test_next_and_previous_go_through_the_spectra(page, pages, client, chosen):
    page.open(pages / "many.html")
    spectra = client.getSpec(chosen)

    def is_shown(index: int) -> None:
        good = spectra[index]["ivar"] > 0
        flux = page.column("shown", "flux")
        assert len(flux) == len(good)
        assert np.array_equal(flux[good], spectra[index]["flux"][good].astype(float))
        assert str(chosen[index]) in page.value("info.text")
        assert page.value("place.value") == index + 1

    is_shown(0)
    assert page.value("previous.disabled") is True
    page.click("next")
    is_shown(1)
    page.set("number", value=0.7)
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: 'n'}))")
    is_shown(2)
    assert page.value("number.value") != 0.7
    page.click("previous")
    is_shown(1)
    assert page.value("number.value") == 0.7
    page.set("place", value=NSPEC)
    is_shown(NSPEC - 1)
    assert page.value("next.disabled") is True
    assert f"of {NSPEC}" in page.run("return get('page').children[1].children[2].text")


def test_the_legend_hides_and_shows(page, pages):
    page.open(pages / "one.html")
    state = "return Object.fromEntries(drawn().map((line) => [line.name, line.visible]))"
    assert page.run(state) == {"flux": True, "model": True, "noise": True, "sky": False}
    where = """
    const legend = get("plot").above.find((one) => one.type === "Legend")
    const items = Bokeh.index.find_one(legend).shadow_el.querySelectorAll(".bk-item")
    return [...items].map((item) => {
      const box = item.getBoundingClientRect()
      return [item.textContent.trim(), box.left + box.width / 2, box.top + box.height / 2]
    })"""
    for label, x, y in page.run(where):
        name = "noise" if "noise" in label else label
        after = str(not page.run(state)[name]).lower()
        page.click_at(int(x), int(y))
        page.until(f"return drawn().find((one) => one.name === '{name}').visible === {after}")
    assert page.run(state) == {"flux": False, "model": False, "noise": False, "sky": True}


def test_kinds_of_lines_are_chosen(page, pages):
    page.open(pages / "one.html")
    counts = "return ['emission', 'absorption', 'sky_lines'].map((one) => get(one).get('x').length)"
    emission, absorption, night = page.run(counts)
    assert emission == len(EMISSION_LINES)
    assert absorption > 0
    assert night == 0
    page.set("kinds", active=[2])
    assert page.run(counts)[:2] == [0, 0]
    assert page.run(counts)[2] > 0
    assert page.run("return get('above').get('name').length") == 0
    # The lines of a multiplet share a name until there is room for one each.
    page.set("kinds", active=[1])
    page.set("number", value=0.0)
    names = "return get('below').get('name').filter((name) => name === 'Ca II').length"
    assert page.run(names) == 1
    page.run("get('plot').x_range.setv({start: 8400, end: 8800})")
    assert page.run(names) == 3


@pytest.mark.parametrize("size", [(480, 800), (1300, 820)])
def test_labels_of_lines_do_not_overlap(page, pages, size):
    page.open(pages / "one.html", size)
    page.set("kinds", active=[0, 1, 2])
    for z in (0.0, 0.1, 0.8, 2.5):
        page.set("number", value=z)
        scale = page.run(
            "const p = get('plot'); return p.inner_width / (p.x_range.end - p.x_range.start)"
        )
        for source in ("above", "below"):
            x, y = page.column(source, "x") * scale, page.column(source, "y")
            assert len(x)
            for row in np.unique(y):
                assert (np.diff(np.sort(x[y == row])) >= 12.9).all(), (z, source)


def tooltip(page: Page) -> list[str]:
    """Return the values that the tooltip shows."""
    return page.run("""
    const all = (root) => [...root.querySelectorAll("*")].flatMap(
      (el) => [el, ...(el.shadowRoot ? all(el.shadowRoot) : [])])
    const rows = all(document).filter((el) => el.className === "bk-tooltip-row-value")
    return rows.map((el) => el.textContent)""")


def pointed(page: Page, across: float) -> list[str]:
    """Move the pointer over the plot; return the values that the tooltip shows."""
    pointer = page.pointer()
    pointer.w3c_actions.pointer_action.move_to_location(*page.inside(across, 0.5))
    pointer.perform()
    deadline = time.monotonic() + 5
    while not (said := tooltip(page)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return said


def test_the_wheel_and_the_pointer(page, pages):
    page.open(pages / "one.html")
    width = "const {start, end} = get('plot').x_range; return end - start"
    rest = "const {start, end} = get('rest_range'); return end - start"
    whole, scale = page.run(width), page.run(width) / page.run(rest)
    x, y = page.inside(0.5, 0.5)
    said = pointed(page, 0.5)
    wave = float(said[0].split()[0])
    middle = page.run("const {start, end} = get('plot').x_range; return (start + end) / 2")
    assert wave == pytest.approx(middle, abs=5)
    assert float(said[1].split()[0]) == pytest.approx(wave / scale, abs=0.02)
    wheel = ActionChains(page.driver)
    wheel.w3c_actions.wheel_action.scroll(x, y, 0, -300)
    wheel.perform()
    page.until(f"const now = (() => {{ {width} }})(); return now < {0.8 * whole}")
    assert page.run(width) / page.run(rest) == pytest.approx(scale)
    drag(page, page.inside(0.5, 0.5), page.inside(0.7, 0.5))
    assert page.run(width) / page.run(rest) == pytest.approx(scale)
    page.run("get('plot').toolbar.tools.find((one) => one.type === 'ResetTool').do.emit()")
    page.until(f"const now = (() => {{ {width} }})(); return Math.abs(now - {whole}) < 1e-6")
    assert page.run(width) / page.run(rest) == pytest.approx(scale)


def drag(page: Page, start: tuple[int, int], stop: tuple[int, int]) -> None:
    """Drag over the plot; the spectrum goes along."""
    before = page.value("plot.x_range.start")
    actions = page.pointer()
    hand = actions.w3c_actions.pointer_action
    hand.move_to_location(*start)
    hand.pointer_down()
    hand.move_to_location(*stop)
    hand.pointer_up()
    actions.perform()
    page.until(f"return get('plot').x_range.start < {before}")


@pytest.mark.parametrize("size", [(420, 760), (1300, 820)])
def test_dark_and_light_fill_the_window(page, pages, size, tmp_path):
    page.open(pages / "many.html", size)
    colours = """return [
        get("plot").background_fill_color, getComputedStyle(document.body).backgroundColor
    ]"""
    assert page.run(colours) == ["#FFFFFF", "rgb(255, 255, 255)"]
    page.set("dark", active=True)
    page.until("return getComputedStyle(document.body).backgroundColor === 'rgb(20, 22, 26)'")
    assert page.run(colours)[0] == "#14161A"
    code = "return [document.documentElement.scrollWidth, innerWidth, get('plot').inner_width]"
    scrolled, width, inner = page.run(code)
    assert scrolled <= width
    assert inner > 0.6 * width
    assert page.driver.save_screenshot(str(tmp_path / "dark.png"))


@pytest.fixture(scope="module")
def held(client: SpecClient, chosen: list[int]) -> dict[str, tuple[Any, int]]:
    """Spectra in every form that a caller may hold, and how many there are."""
    from astropy.nddata import StdDevUncertainty
    from specutils import Spectrum

    first, three = chosen[0], chosen[:3]
    spectrum = client.getSpec(first, "Spectrum1D")
    with np.errstate(divide="ignore"):
        errors = spectrum.uncertainty.represent_as(StdDevUncertainty)
    other = Spectrum(
        flux=spectrum.flux[::-1],
        spectral_axis=spectrum.spectral_axis[::-1].to("nm"),
        uncertainty=errors[::-1],
        mask=spectrum.mask[::-1],
        meta={"model": spectrum.meta["model"][::-1]},
    )
    return {
        "array": (client.getSpec(first), 1),
        "aligned": (client.getSpec(three, align=True), 3),
        "list": (client.getSpec(three), 3),
        "tuple": (tuple(client.getSpec(three)), 3),
        "frame": (client.getSpec(first, "pandas"), 1),
        "frames": (client.getSpec(three, "pandas"), 3),
        "table": (client.getSpec(first, "Table"), 1),
        "spectrum": (spectrum, 1),
        "rows": (client.getSpec(three, "Spectrum1D", align=True), 3),
        "spectrum list": (client.getSpec(three, "SpectrumList"), 3),
        "collection": (client.getSpec(three, "SpectrumCollection"), 3),
        "descending, in nm, standard deviations": (other, 1),
    }


def test_spectra_that_a_caller_holds_are_read(held, client, chosen):
    records = client.getSpec(chosen[:3])
    for name, (data, count) in held.items():
        read = read_spectra(data)
        assert read is not None, name
        assert len(read) == count, name
        for one, record in zip(read, records, strict=False):
            pixels = np.rint(1e4 * np.log10(one.wave))
            inside = np.isin(pixels, np.rint(1e4 * record["loglam"].astype(float)))
            good = record["ivar"] > 0
            assert np.array_equal(one.flux[inside][good], record["flux"][good]), name
            assert np.allclose(one.ivar[inside], record["ivar"], rtol=1e-5), name
            assert np.array_equal(one.model[inside][good], record["model"][good]), name
            assert not one.ivar[~inside].any(), name
            assert unit_label(one.flux_unit).startswith("10⁻¹⁷ erg"), name
    assert read_spectra(chosen) is None
    assert read_spectra(np.array(chosen)) is None


def test_one_page_shows_all_that_a_caller_holds(held, client, chosen, page, tmp_path):
    record = client.getSpec(chosen[0])
    good = record["ivar"] > 0
    data = [data for data, _ in held.values() if not isinstance(data, list | tuple)]
    assert client.prospect(data, out=tmp_path / "held.html", z=0.25) == "OK"
    page.open(tmp_path / "held.html")
    firsts, at = [], 1
    for value, count in held.values():
        if not isinstance(value, list | tuple):
            firsts.append(at)
            at += count
    assert page.value("place.high") == at - 1
    for place in firsts:
        page.set("place", value=place)
        assert page.value("number.value") == 0.25
        flux = page.column("shown", "flux")
        assert np.array_equal(flux[np.isfinite(flux)], record["flux"][good].astype(float))
        assert page.value("plot.left[0].axis_label").startswith("flux density (10⁻¹⁷ erg")


def test_the_axis_tells_where_the_medium_is_not_known(client, chosen, page, tmp_path):
    known, unknown = (client.getSpec(one, "pandas") for one in chosen[:2])
    unknown.attrs["medium"] = "unknown"
    assert client.prospect([known, unknown], out=tmp_path / "media.html") == "OK"
    page.open(tmp_path / "media.html")
    labels = [page.value(f"plot.{side}[0].axis_label") for side in ("below", "above")]
    assert labels == ["vacuum wavelength (Å)", "rest-frame vacuum wavelength (Å)"]
    page.set("place", value=2)
    labels = [page.value(f"plot.{side}[0].axis_label") for side in ("below", "above")]
    text = "wavelength (Å), in vacuum or in air: not known"
    assert labels == [text, f"rest-frame {text}"]


def test_others_are_seen_behind_the_one_that_is_chosen(page, client, chosen, tmp_path):
    assert client.prospect(chosen[:3], out=tmp_path / "over.html", overplot=True) == "OK"
    page.open(tmp_path / "over.html")
    ends = "const {start, end} = get('plot').x_range; return [start, end]"
    limits = page.run(ends)
    page.click("next")
    page.until("return get('place').value === 2")
    assert page.run(ends) == limits
    others = "const others = drawn().filter((line) => line.name.includes('sdss_dr17'));"
    others += "const flux = drawn().find((line) => line.name === 'flux');"
    colour = "({glyph}) => glyph.line_color.value ?? glyph.line_color"
    colours = page.run(f"{others} return others.map({colour})")
    assert len(set(colours)) == 3
    # The legend shows a sample of each: also of the selected one, which is drawn again in front.
    assert page.run(f"{others} return ({colour})(flux)") == colours[1]
    assert all(page.run(f"{others} return others.map((l) => l.data_source.get('flux').length)"))
    labels = "get('plot').above.flatMap((part) => part.items ?? []).map((item) => item.label.value)"
    told = page.run(f"return {labels}")[:3]
    assert [label.startswith("▸ ") for label in told] == [False, True, False]
    for label, number in zip(told, chosen[:3], strict=True):
        assert label.removeprefix("▸ ").startswith("sdss_dr17  ")
        assert label.endswith(f"specobjid={number}")
    page.run(f"{others} others[1].visible = false")
    assert page.run(f"{others} return flux.visible") is False
    fluxes = [record["flux"][record["ivar"] > 0] for record in client.getSpec(chosen[:3])]
    page.set("scaling", active=1)
    scaled = page.run(f"""{others} return others.map((line) => [...line.data_source.get('flux')]
        .filter(Number.isFinite))""")
    factors = [np.median(after) / np.median(own) for after, own in zip(scaled, fluxes, strict=True)]
    assert factors[1] == 1
    # The medians are of the wavelengths that both have.
    assert np.median(scaled[0]) == pytest.approx(np.median(scaled[1]), rel=0.3)
    assert page.run(f"return {labels}")[0] == f"{told[0]}  × {factors[0]:.3g}"
    assert page.value("plot.y_range.end") > max(map(np.median, scaled))


def press(page: Page, keys: str) -> None:
    for key in keys:
        page.run("dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))", key)


def strip(page: Page, code: str) -> Any:
    """Return what a script finds in the buttons of the thumbnails."""
    find = "Bokeh.index.get_one(get('strip')).shadow_el.querySelectorAll('.strip button')"
    return page.run(f"const buttons = [...{find}]; {code}")


def saved(page: Page, folder: Path, part: str) -> Path:
    """Return the file that a button of the page saves."""
    page.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
    )
    path = folder / f"inspection-Ada-L.{part}"
    page.click(part)
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return path


def test_what_is_said_of_spectra_is_saved_and_read_again(page, pages, client, chosen, tmp_path):
    page.open(pages / "many.html", (1300, 900))
    page.run("localStorage.clear()")
    page.set("scanner", value="Ada L.")
    press(page, "4")
    assert page.value("quality.active") is None  # the panel is closed
    press(page, "i4gn")
    page.set("number", value=0.712345)
    press(page, "2qRSSCz")
    comment = 'two objects, "blended"; α'
    page.set("comment", value=comment)
    press(page, "u33")
    assert page.value("place.value") == 3
    press(page, "n")
    page.set("comment", value="#7")
    assert strip(page, "return buttons.map((one) => one.dataset.said)")[:4] == ["4", "2RC", "", ""]
    assert "2 of 20 spectra" in page.value("progress.text")
    kept = read_inspection(saved(page, tmp_path, "csv"))
    assert kept["id"].tolist() == [str(chosen[at]) for at in (0, 1, 3)]
    assert set(kept["context"]) == {"sdss_dr17"}
    assert set(kept["VI_scanner"]) == {"Ada L."}
    assert kept["VI_quality"].tolist() == [4, 2, -1]
    assert kept["VI_issue"].tolist() == ["", "RC", ""]
    assert kept["VI_spectype"].tolist() == ["GALAXY", "QSO", ""]
    assert kept["VI_comment"].tolist() == ["", comment, "#7"]
    assert kept["VI_z"].dropna().tolist() == [0.712345]
    table = client.query(constraint=f"specobjid = {chosen[0]}", fields="specobjid,z,class")
    assert (kept["z"][0], kept["class"][0]) == (float(table["z"][0]), table["class"][0])
    ecsv = saved(page, tmp_path, "ecsv")
    read = Table.read(ecsv)
    assert [read[name].dtype.kind for name in ("id", "z", "VI_quality")] == ["U", "f", "i"]
    for other in (ecsv, read, read.to_pandas()):
        assert inspected(other) == inspected(tmp_path / "inspection-Ada-L.csv")
    # A page that is loaded anew has it all.
    page.open(pages / "many.html", (1300, 900))
    assert strip(page, "return buttons.map((one) => one.dataset.said)")[:2] == ["4", "2RC"]
    page.run("localStorage.clear()")


def test_earlier_results_are_shown(page, client, chosen, tmp_path):
    comment = 'two objects, "blended"; α'
    earlier = Table(
        {
            "id": chosen[:3],
            "VI_quality": [4, 2, -1],
            "VI_issue": ["", "RC", ""],
            "VI_z": np.ma.array([0, 0.7, 0], mask=[1, 0, 1]),
            "VI_spectype": ["", "QSO", ""],
            "VI_comment": ["", comment, "#7"],
        }
    )
    client.prospect(chosen[1:4], out=tmp_path / "again.html", inspection=earlier[:2])
    page.open(tmp_path / "again.html", (1300, 900))
    badges = "return buttons.map((one) => one.dataset.said)"
    assert page.value("comment.value") == comment
    assert page.value("corrected.value") == 0.7
    assert [page.value("issues.active"), page.value("spectype.active")] == [[0, 1], 1]
    assert strip(page, badges) == ["2RC", "", ""]
    earlier.write(tmp_path / "other.ecsv")
    find = "return Bokeh.index.get_one(get('load')).shadow_el.querySelector('input')"
    page.run(find).send_keys(str(tmp_path / "other.ecsv"))
    page.until("return get('progress').text.includes('Read 2 rows. 1 are of spectra')")
    press(page, "n")
    assert page.value("comment.value") == "#7"
    (tmp_path / "none.csv").write_text("no table")
    page.run(find).send_keys(str(tmp_path / "none.csv"))
    page.until("return get('progress').text.includes('no table of inspected spectra')")
    assert strip(page, badges) == ["2RC", "", ""]
    page.run("localStorage.clear()")


def test_files_of_inspected_spectra(client, chosen, tmp_path):
    path = tmp_path / "vi.csv"
    columns = "TARGETID,EXPID,Redrock_spectype,Redrock_z,VI_scanner,VI_quality,VI_issue,VI_z"
    path.write_text(f"{columns}\n39627788403084375,1,GALAXY,0.22,Ada,1,R,0.23\n7,1,STAR,0,,4,,\n")
    read = read_inspection(path)
    assert read["id"].tolist() == ["39627788403084375", "7"]
    assert read.dtypes["VI_quality"] == np.int8
    assert read[["z", "VI_z"]].to_numpy().dtype == np.float64
    assert read["class"].tolist() == ["GALAXY", "STAR"]
    assert (read["VI_z"][0], np.isnan(read["VI_z"][1])) == (0.23, True)
    for bad, match in {
        "id,VI_quality\n1,5\n": "VI_quality='5'.*0 to 4",
        "id,VI_z\n1,far\n": "VI_z='far'.*corrected",
        "name,VI_z\n1,0.2\n": "column id",
        "": "empty file",
    }.items():
        path.write_text(bad)
        with pytest.raises(BadParameter, match=match):
            client.prospect(chosen[0], inspection=path)
    with pytest.raises(BadParameter, match=r"none\.csv"):
        read_inspection(tmp_path / "none.csv")
    with pytest.raises(BadParameter, match="integers or text"):
        client.prospect(chosen[0], inspection=Table({"id": [1.0]}))


VALUES = {
    "id": ["5", "267-51602-350", "desi_dr1:5", "3.007153575622349e+17", "5.0", "5e17", "5."],
    "z": ["0.1", "-1e-5", "abc"],
    "VI_quality": ["", "-1", "0", "4", "3.0", "5", "9", "-2", "1.5", "nan", "four", "0x2"],
    "VI_issue": ["", "R", "SCR", "XYZ", "RX", "r"],
    "VI_z": ["", "0.5", " 1. ", ".5", "2e-3", "nan", "NaN", "inf", "1e999", "abc", "0x1", "1_0"],
    "VI_spectype": ["", "GALAXY", "QSO", "STAR", "BLOB", "qso"],
    "VI_comment": ["", "any, 'text' <b>"],
}


def test_the_page_and_python_refuse_the_same_values(page, client, chosen, tmp_path):
    client.prospect(chosen[:2], out=tmp_path / "page.html", inspection=True)
    page.open(tmp_path / "page.html", (1300, 900))
    path, refused = tmp_path / "said.csv", []
    for column, value in [(name, value) for name, some in VALUES.items() for value in some]:
        row = {"id": str(chosen[0]), "VI_comment": "seen", column: f'"{value}"'}
        path.write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
        try:
            said = f"Read {int(read_inspection(path)['id'][0] == str(chosen[0]))} rows."
        except BadParameter:
            refused.append((column, value))
            said = f"Nothing is read: row 1 has no possible {column} ("
        page.set("load", value=b64encode(path.read_bytes()).decode())
        assert said in page.value("progress.text"), (column, value)
    first = {name: [value for column, value in refused if column == name] for name in VALUES}
    assert first["id"] == VALUES["id"][3:]
    assert first["VI_quality"] == VALUES["VI_quality"][5:]
    assert first["VI_issue"] == VALUES["VI_issue"][3:]
    assert first["VI_z"] == VALUES["VI_z"][7:]
    assert first["VI_spectype"] == VALUES["VI_spectype"][4:]
    assert (first["z"], first["VI_comment"]) == (["abc"], [])
    page.run("localStorage.clear()")


def test_fits_of_the_survey_are_offered_with_its_template(page, client, tmp_path):
    found = client.query(
        constraint="class = 'QSO' and class_noqso = 'STAR' and z > 0.1",
        fields="specobjid,z,z_noqso",
    )
    client.prospect(int(found["specobjid"][0]), out=tmp_path / "fits.html", inspection=True)
    page.open(tmp_path / "fits.html")
    assert [text.partition(":")[0] for _, text in page.value("fits.options")] == [
        "best", "without quasars",
    ]  # fmt: skip
    model, wave = page.column("shown", "model"), page.column("shown", "wave")
    z = float(found["z"][0])
    page.set("number", value=z + 0.1)
    moved, factor = page.column("shown", "model"), (1.1 + z) / (1 + z)
    inside = np.isfinite(moved)
    assert inside.any()
    assert np.allclose(moved[inside], np.interp(wave / factor, wave, model)[inside], equal_nan=True)
    press(page, "f")
    assert page.value("number.value") == pytest.approx(float(found["z_noqso"][0]), abs=1e-6)
    assert np.isnan(page.column("shown", "model")).all()
    press(page, "f")
    assert np.array_equal(page.column("shown", "model"), model, equal_nan=True)


def test_thumbnails_and_tooltip_follow(page, pages, client, chosen):
    page.open(pages / "many.html")
    inks = """return buttons.map(({firstChild}) => firstChild.getContext("2d")
        .getImageData(0, 0, firstChild.width, firstChild.height).data.some((level) => level))"""
    deadline = time.monotonic() + 5
    while not (drawn := strip(page, inks))[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(drawn) == NSPEC
    assert drawn[0]
    assert pointed(page, 0.5)
    strip(page, "buttons[1].click()")
    page.until("return get('place').value === 2")
    record, deadline = client.getSpec(chosen[1]), time.monotonic() + 5
    while time.monotonic() < deadline:
        said = tooltip(page)
        at = np.argmin(np.abs(10 ** record["loglam"].astype(float) - float(said[0].split()[0])))
        if abs(float(said[2]) - record["flux"][at]) < 1e-3:
            break
        time.sleep(0.05)
    assert float(said[2]) == pytest.approx(record["flux"][at], abs=1e-3)
    assert strip(page, "return buttons.findIndex((one) => one.classList.contains('shown'))") == 1


def test_text_of_a_caller_stays_text(client, chosen, page, tmp_path):
    evil = "</script><script>globalThis.evil = 1</script><img src=x onerror='evil=2'> $$x$$"
    frame = client.getSpec(chosen[0], "pandas")
    frame.attrs |= {"id": evil, "context": evil}
    client.prospect([frame, frame], out=tmp_path / "evil.html", title=evil)
    page.open(tmp_path / "evil.html")
    assert page.run("return globalThis.evil ?? null") is None
    assert (
        page.run("return Bokeh.index.get_one(get('info')).shadow_el.querySelector('img')") is None
    )
    assert page.driver.title == evil


def test_a_spectrum_without_noise_model_or_lattice(page, tmp_path):
    # Steps of no lattice, though none so long that it is a gap.
    wave = 4000 + 3.3 * (np.arange(300) + np.random.default_rng(3).uniform(-0.09, 0.09, 300))
    data = np.zeros(300, dtype=[("wavelength", "f8"), ("flux", "f4")])
    data["wavelength"], data["flux"] = wave, np.sin(wave / 50)
    data["flux"][17] = np.nan
    SpecClient(svc_url="http://127.0.0.1:9/spec").prospect(data, out=tmp_path / "bare.html")
    page.open(tmp_path / "bare.html")
    assert np.array_equal(page.column("shown", "wave"), wave)
    assert page.run("return drawn().map((line) => line.name)") == ["flux"]
    assert np.flatnonzero(np.isnan(page.column("shown", "flux"))).tolist() == [17]


def test_wavelengths_that_are_no_numbers_do_not_hide_the_others(client, page, tmp_path):
    wave = np.linspace(4000.0, 5000.0, 50)
    wave[[0, 20, 49]] = np.nan
    table = Table({"wavelength": wave, "flux": np.ones(50)})
    client.prospect(table, out=tmp_path / "page.html")
    page.open(tmp_path / "page.html")
    low, high = page.value("plot.x_range.start"), page.value("plot.x_range.end")
    assert low < wave[1]
    assert wave[48] < high
    assert high - low < 1100.0


def test_a_dead_fibre_does_not_set_the_axes_of_the_others(client, page, tmp_path):
    faint = Table({"wavelength": np.linspace(4000.0, 5000.0, 50), "flux": np.full(50, 5e-17)})
    dead = Table({"wavelength": np.linspace(7000.0, 9000.0, 50), "flux": np.full(50, np.nan)})
    client.prospect([faint, dead], out=tmp_path / "page.html", overplot=True)
    page.open(tmp_path / "page.html")
    for place in (1, 2):
        page.set("place", value=place)
        assert 5e-17 < page.value("plot.y_range.end") < 1e-16
        assert page.value("plot.x_range.end") < 5100


def test_a_notebook_shows_the_page_in_a_frame(client, chosen, browser, page, tmp_path):
    got = client.prospect(chosen[:2], show=False, height=400, inspection=True)
    assert isinstance(got, ViewerPage)
    # A notebook keeps the repr beside the page.
    assert repr(got).startswith("<ViewerPage of 1.")
    assert len(repr(got)) < 100
    assert len(got._repr_html_()) < 1.2 * len(got.html)
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><body>{got._repr_html_()}</body>", encoding="utf-8")
    browser.get(path.as_uri())
    browser.switch_to.frame(browser.find_element("tag name", "iframe"))
    page.until("return get('shown').get('flux').length > 0")
    assert page.value("plot.outer_height") == 400
    code = "return [document.documentElement.scrollHeight, innerHeight]"
    needed, given = page.run(code)
    assert needed <= given
    browser.switch_to.default_content()


def test_a_terminal_opens_a_browser_and_a_notebook_does_not(client, chosen, monkeypatch, capsys):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or False)
    assert client.prospect(chosen[0]) is None
    path = Path(opened[0].removeprefix("file://"))
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert str(path) in capsys.readouterr().err
    path.unlink()
    displayed: list[Any] = []
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    display = SimpleNamespace(display=displayed.append)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert client.prospect(chosen[0]) is None
    assert len(opened) == 1
    assert "<iframe srcdoc=" in displayed[0]._repr_html_()


def test_what_cannot_be_shown_is_refused(client, chosen, tmp_path):
    with pytest.raises(BadParameter, match="one spectrum or more"):
        client.prospect([])
    with pytest.raises(BadParameter, match="2,000"):
        client.prospect(np.arange(2001, dtype=np.uint64))
    with pytest.raises(BadParameter, match="not both"):
        client.prospect([client.getSpec(chosen[0]), chosen[1]])
    with pytest.raises(BadParameter, match="for each of 2"):
        client.prospect(chosen[:2], z=[0.1, 0.2, 0.3])
    with pytest.raises(BadParameter, match="greater than -1"):
        client.prospect(chosen[0], z=-1)
    with pytest.raises(BadParameter, match="a number"):
        client.prospect(chosen[0], z="far")
    with pytest.raises(BadParameter, match="not a folder"):
        client.prospect(chosen[0], out=tmp_path)
    with pytest.raises(BadParameter, match="no folder"):
        client.prospect(chosen[0], out=tmp_path / "none" / "page.html")
    with pytest.raises(BadParameter, match="no pixels"):
        client.prospect(client.getSpec(chosen[0])[:0])
    with pytest.raises(NotFound):
        client.prospect([chosen[0], 17])
    with pytest.warns(UserWarning, match="not found"):
        assert client.prospect([chosen[0], 17], missing="skip", show=False)


def test_many_spectra_are_packed_and_announced(tmp_path):
    data = np.zeros((201, 1000), dtype=[("loglam", "f4"), ("flux", "f4"), ("ivar", "f4")])
    data["loglam"] = 3.6 + 1e-4 * np.arange(1000)
    data["flux"] = np.random.default_rng(5).normal(size=data.shape)
    data["ivar"] = 1
    client = SpecClient(svc_url="http://127.0.0.1:9/spec")
    small = client.prospect(data[:1], show=False)
    with pytest.warns(UserWarning, match="201 spectra make a page"):
        large = client.prospect(data, show=False)
    # Two vectors of float32 in base64, and a few hundred bytes of what is known of each.
    per_spectrum = (len(large.html) - len(small.html)) / 200
    assert per_spectrum < 2 * 1000 * 4 * 4 / 3 + 900
