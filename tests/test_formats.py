"""getSpec in every form: collections, lists, files on disk, progress, and its keywords."""

import io
import re
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import InverseVariance
from astropy.table import Table
from specutils import Spectrum, SpectrumCollection, SpectrumList

from serving import Served, serve
from specserver import specClient
from specserver.client.api import SpecClient
from specserver.client.progress import Watch, in_notebook
from specserver.client.session import Session
from specserver.client.storage import Storage, open_target
from specserver.client.writing import put_spectra
from specserver.data.root import open_root
from specserver.errors import (
    BadParameter,
    NotFound,
    StoreError,
    UnknownContext,
    UnknownField,
    UnknownProfile,
)
from specserver.ingest import run_ingest
from specserver.model.ids import unpack_specobjid

SCALE = u.Unit("1e-17 erg / (s cm2 Angstrom)")
ALL_FORMATS = ("numpy", "pandas", "Table", "tables", "Spectrum1D", "Spectrum")
ALL_FORMATS += (
    "SpectrumCollection",
    "Spectrum1DCollection",
    "SpectrumList",
    "Spectrum1DList",
    "FITS",
)


@pytest.fixture
def spec(served: Served) -> SpecClient:
    return SpecClient(svc_url=served.url)


def few(served: Served, count: int = 4) -> list[int]:
    """Ids of different families and lengths."""
    return served.ids[:: len(served.ids) // count][:count].tolist()


def path_of(served: Served, number: int) -> Path:
    """The original file of a mock spectrum."""
    plate, mjd, fiber, run2d = unpack_specobjid(number).tolist()
    found = list(served.folder.rglob(f"spec-{plate:04d}-{mjd}-{fiber:04d}.fits*"))
    return next(one for one in found if run2d in one.parts or len(found) == 1)


# Formats


@pytest.mark.parametrize("fmt", ["SpectrumCollection", "spectrum1dcollection"])
def test_a_collection_is_aligned_and_knows_each_spectrum(
    spec: SpecClient, served: Served, fmt: str
) -> None:
    ids = few(served)
    made = spec.getSpec(ids, fmt=fmt)
    rows = spec.getSpec(ids, align=True)
    loose = spec.getSpec(ids, fmt="Spectrum1D")
    assert isinstance(made, SpectrumCollection)
    assert made.flux.shape == made.spectral_axis.shape == made.mask.shape == rows.shape
    assert made.flux.unit == SCALE
    assert np.array_equal(made.flux.value, rows["flux"])
    assert isinstance(made.uncertainty, InverseVariance)
    assert np.array_equal(made.uncertainty.array, rows["ivar"])
    assert np.array_equal(made.mask, rows["ivar"] == 0)
    for index, (number, one) in enumerate(zip(ids, loose, strict=True)):
        meta = made[index].meta
        assert meta["id"] == number
        assert meta["redshift"] == one.meta["redshift"]
        assert meta["sky"].shape == made[index].flux.shape
        inside = rows[index]["ivar"] > 0
        good = one.uncertainty.array > 0
        assert np.allclose(
            made[index].spectral_axis[inside].to_value("AA"), one.spectral_axis[good].to_value("AA")
        )


def test_a_collection_of_one_identifier_has_one_row(spec: SpecClient, served: Served) -> None:
    number = few(served)[0]
    made = spec.getSpec(number, fmt="SpectrumCollection")
    assert made.flux.shape == (1, len(spec.getSpec(number)))


@pytest.mark.parametrize("align", [False, True])
def test_a_spectrum_list(spec: SpecClient, served: Served, align: bool) -> None:
    ids = few(served)
    made = spec.getSpec(ids, fmt="Spectrum1DList", align=align)
    assert isinstance(made, SpectrumList)
    arrays = spec.getSpec(ids, align=align)
    for number, one, array in zip(ids, made, arrays, strict=True):
        assert isinstance(one, Spectrum)
        assert one.meta["id"] == number
        assert one.flux.shape == array.shape
        assert np.array_equal(one.flux.value, array["flux"])
        wave = one.spectral_axis.to_value("AA")
        assert np.allclose(np.log10(wave), array["loglam"], atol=3e-7)


@pytest.mark.parametrize("fmt", ALL_FORMATS)
def test_every_format_in_any_case_and_one_for_one(
    spec: SpecClient, served: Served, fmt: str
) -> None:
    ids = few(served, 3)
    kind = type(spec.getSpec(ids, fmt=fmt))
    assert (
        type(spec.getSpec(ids, fmt=fmt.upper())) is type(spec.getSpec(ids, fmt=fmt.lower())) is kind
    )
    one, listed = spec.getSpec(ids[0], fmt=fmt), spec.getSpec(ids[:1], fmt=fmt)
    if kind in {SpectrumList, SpectrumCollection}:
        assert type(one) is type(listed) is kind
    else:
        assert isinstance(listed, list)
        assert type(listed[0]) is type(one)
        assert not isinstance(one, list)


def test_aligned_spectra_are_one_spectrum(spec: SpecClient, served: Served) -> None:
    made = spec.getSpec(few(served), fmt="Spectrum1D", align=True)
    assert isinstance(made, Spectrum)
    assert made.flux.ndim == 2
    assert isinstance(spec.getSpec(few(served), fmt="pandas", align=True), list)


def test_an_unknown_format_names_the_known(spec: SpecClient, served: Served) -> None:
    with pytest.raises(BadParameter, match="SpectrumCollection"):
        spec.getSpec(few(served), fmt="hdf5")


# Agreement with specutils' own reading of the original file


def specutils_reading(path: Path) -> Spectrum:
    """What specutils makes of a file; it warns of the slashes in SDSS's unit of flux."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=u.UnitsWarning)
        return Spectrum.read(path)


@pytest.mark.proof
def test_spectrum1d_agrees_with_specutils_reading_of_the_original(real_served: Served) -> None:
    spec = SpecClient(svc_url=real_served.url)
    folder = real_served.folder
    chosen = sorted(folder.glob("spec-*.fits"))[::5][:10]
    assert len(chosen) == 10
    for path in chosen:
        theirs = specutils_reading(path)
        with fits.open(path, memmap=False) as hdus:
            number = int(str(hdus[2].data["SPECOBJID"][0]).strip()) % 2**64
            and_mask = np.asarray(hdus[1].data["and_mask"])
        ours = spec.getSpec(number, fmt="Spectrum1D")
        assert ours.flux.unit.is_equivalent(theirs.flux.unit)
        flux = ours.flux.to_value(theirs.flux.unit)
        assert np.allclose(flux, theirs.flux.value, rtol=2e-7, atol=0)
        ivar = ours.uncertainty.quantity.to_value(theirs.flux.unit**-2)
        assert np.allclose(ivar, theirs.uncertainty.array, rtol=2e-7, atol=0)
        snr = flux * np.sqrt(ivar)
        assert np.allclose(
            snr, theirs.flux.value * np.sqrt(theirs.uncertainty.array), rtol=5e-7, atol=0
        )
        wave = ours.spectral_axis.to_value("AA")
        # Their axis is 10**loglam of a loglam rounded to float32: off by 0.006 Å at the red end.
        assert np.allclose(wave, theirs.spectral_axis.to_value("AA"), rtol=7e-7)
        # Masks differ on purpose. specutils masks every pixel with any bit of and_mask, also
        # those that merely note something (bit 16 NEARBADPIXEL, 23 BRIGHTSKY …), and leaves
        # ivar == 0 unmasked. INTERFACE.md: ivar == 0, plus the survey's bad bits; SDSS names
        # none, as its pipeline gives every unusable pixel ivar 0.
        assert np.array_equal(theirs.mask, and_mask != 0)
        assert np.array_equal(ours.mask, ivar == 0)
        assert np.array_equal(ours.meta["and_mask"], and_mask)


# out=


@pytest.mark.parametrize(
    ("fmt", "ending"),
    [
        ("numpy", ".npy"),
        ("pandas", ".csv"),
        ("Table", ".ecsv"),
        ("FITS", ".fits"),
        ("Spectrum1D", ".fits"),
    ],
)
def test_out_writes_a_file_a_spectrum_named_as_on_the_server(
    spec: SpecClient, served: Served, tmp_path: Path, fmt: str, ending: str
) -> None:
    ids = few(served)
    out = tmp_path / "made" / "here"
    assert spec.getSpec(ids, fmt=fmt, out=str(out)) == "OK"
    names = {path_of(served, one).name.removesuffix(".gz").removesuffix(".fits") for one in ids}
    assert {path.name for path in out.iterdir()} == {name + ending for name in names}
    for number, original in zip(ids, spec.getSpec(ids), strict=True):
        path = out / (path_of(served, number).name.removesuffix(".fits") + ending)
        if fmt == "numpy":
            read = np.load(path, allow_pickle=False)
            assert read.dtype == original.dtype
            assert read.tobytes() == original.tobytes()
        elif fmt == "pandas":
            frame = pd.read_csv(path)
            for name in original.dtype.names:
                assert np.array_equal(
                    frame[name].to_numpy().astype(original[name].dtype), original[name]
                )
        elif fmt == "Table":
            table = Table.read(path, format="ascii.ecsv")
            assert table["flux"].unit == SCALE
            assert np.array_equal(table["ivar"], original["ivar"])
        elif fmt == "FITS":
            assert path.read_bytes() == path_of(served, number).read_bytes()
        else:
            one = Spectrum.read(path, format="tabular-fits")
            assert np.allclose(one.flux.to_value(SCALE), original["flux"], rtol=1e-6)
            assert np.array_equal(one.mask, original["ivar"] == 0)


def test_out_honours_values_align_and_cutout(
    spec: SpecClient, served: Served, tmp_path: Path
) -> None:
    ids = few(served)
    asked = {"values": "flux,loglam", "cutout": "5000-6000"}
    assert spec.getSpec(ids, out=tmp_path, **asked) == "OK"
    whole = spec.getSpec(ids, **asked)
    for number, row in zip(ids, whole, strict=True):
        read = np.load(tmp_path / path_of(served, number).with_suffix(".npy").name)
        assert read.dtype.names == ("flux", "loglam")
        assert read.tobytes() == row.tobytes()


def test_out_of_one_spectrum_may_name_the_file(
    spec: SpecClient, served: Served, tmp_path: Path
) -> None:
    number = few(served)[0]
    assert spec.getSpec(number, fmt="FITS", out=tmp_path / "mine.fits") == "OK"
    assert (tmp_path / "mine.fits").read_bytes() == path_of(served, number).read_bytes()
    with pytest.raises(BadParameter, match="no folder"):
        spec.getSpec(number, out=tmp_path / "none" / "mine.npy")
    with pytest.raises(BadParameter, match="is a file"):
        spec.getSpec([number], out=tmp_path / "mine.fits")


@pytest.mark.proof
def test_two_reductions_of_one_plate_mjd_fiber_get_two_names(
    mock_survey: Path, tmp_path: Path
) -> None:
    one = next(path for path in sorted(mock_survey.rglob("spec-*.fits")) if "v5_13_2" in path.parts)
    other = tmp_path / "other" / one.name
    other.parent.mkdir()
    with fits.open(one, memmap=False) as hdus:
        row = hdus[2].data
        number = int(str(row["SPECOBJID"][0]).strip()) % 2**64
        plate, mjd, fiber, _ = unpack_specobjid(number).tolist()
        twin = int(specClient.pack_specobjid(plate, mjd, fiber, "v5_10_0"))
        row["RUN2D"][0] = "v5_10_0"
        row["SPECOBJID"][0] = str(twin) if row["SPECOBJID"].dtype.kind in "US" else twin
        hdus.writeto(other)
    run_ingest(open_root(tmp_path / "data"), "sdss_dr17", [one, other], workers=1)
    with serve(tmp_path / "data", tmp_path) as running:
        spec = SpecClient(svc_url=running.url)
        stem = one.name.removesuffix(".fits")
        for fmt, ending in (("numpy", ".npy"), ("FITS", ".fits")):
            out = tmp_path / fmt
            assert spec.getSpec([number, twin, number], fmt=fmt, out=out) == "OK"
            names = {f"{stem}-v5_13_2{ending}", f"{stem}-v5_10_0{ending}"}
            assert {path.name for path in out.iterdir()} == names
        assert (tmp_path / "FITS" / f"{stem}-v5_10_0.fits").read_bytes() == other.read_bytes()
        spec.getSpec([twin], out=tmp_path / "alone")
        assert [path.name for path in (tmp_path / "alone").iterdir()] == [f"{stem}.npy"]


def test_a_folder_never_holds_half_a_file(tmp_path: Path) -> None:
    put = open_target(Session(), tmp_path / "new", None, ".npy", single=False)
    put("a.npy", b"first")
    (tmp_path / "new" / "b.npy").mkdir()
    with pytest.raises(OSError, match=r"b\.npy"):
        put("b.npy", b"cannot take the place of a folder")
    put("a.npy", b"second")
    assert (tmp_path / "new" / "a.npy").read_bytes() == b"second"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.npy", "b.npy"]


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "", ".hidden", "a\\b", "nul\0x"])
def test_names_from_the_wire_never_leave_the_folder(tmp_path: Path, name: str) -> None:
    spectra: Any = SimpleNamespace(data=[np.zeros(1)], columns={"@name": np.array([name])})
    with pytest.raises(StoreError, match="no name of a file"):
        put_spectra(spectra, "numpy", open_target(Session(), tmp_path, None, ".npy", single=False))
    assert list(tmp_path.iterdir()) == []


def test_out_may_be_a_virtual_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(Storage, "put", lambda _, *given, token: sent.append((*given, token)))
    for out in ("vos://dir/", "vos://"):
        open_target(Session(), out, "mine", ".npy", single=False)("a.npy", b"data")
    assert sent == [("dir/a.npy", b"data", "mine"), ("a.npy", b"data", "mine")]


# Memory


@pytest.mark.proof
def test_memory_of_a_long_list(spec: SpecClient, served: Served, tmp_path: Path) -> None:
    """Besides the result no more than batches; with out= nothing that grows."""
    ids = np.tile(served.ids, 20)

    def peak_of(count: int) -> int:
        tracemalloc.start()
        assert spec.getSpec(ids[:count], values="flux", out=tmp_path) == "OK"
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_of(300)
    # Memory of other threads is counted too, but seldom in all three measurements.
    peaks = {count: min(peak_of(count) for _ in range(3)) for count in (700, 1800)}
    # Identifiers and their text are some 200 bytes a spectrum, the spectra 16 kB.
    assert peaks[1800] - peaks[700] < 1100 * 600
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()  # other tests of this process may have left some
    tracemalloc.start()
    spectra = spec.getSpec(ids[:1800], values="flux")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(one.nbytes for one in spectra)
    assert size > 25e6
    assert peak < size + 2.5 * 256 * size / 1800 + 2e6
    assert pool.bytes_allocated() - before < 1e6


# Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_watch(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *np.linspace(0, seconds, 10).tolist()])
    monkeypatch.setattr("specserver.client.progress.perf_counter", lambda: next(clock))
    with Watch("spectra") as watch:
        for done in range(10):
            watch(done + 1, 10)


def test_a_bar_for_a_terminal_when_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """From two seconds on; and its line is erased at the end."""
    monkeypatch.setenv("TERM", "xterm")
    for seconds in (1.9, 5):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        run_watch(seconds, monkeypatch)
        shown = terminal.getvalue()
        assert ("10/10" in shown) == (seconds > 2)
        assert shown.rpartition("10/10")[2].endswith("\x1b[1A\x1b[2K" if shown else "")


def test_the_first_rate_is_that_of_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers tell together what each has done, so the first messages come at once."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    clock = iter([0.0, 2.0, 2.1, 2.5])
    monkeypatch.setattr("specserver.client.progress.perf_counter", lambda: next(clock))
    with Watch("files") as watch:
        for done, total in ((20, 600), (400, 900), (500, 1000)):
            watch(done, total)
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert re.search("500/1000 +200/s +time left 0:00:02", shown)


def test_no_bar_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    run_watch(60, monkeypatch)
    assert not pipe.getvalue()


class Display:
    """What a notebook shows at one place."""

    shown: list[dict[str, str]]

    def display(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(data)

    update = display


def test_a_bar_in_a_notebook_without_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output that is replaced, and is empty when the notebook is saved."""
    shell, places = SimpleNamespace(kernel=object()), []

    def place() -> Display:
        places.append(Display())
        places[-1].shown = []
        return places[-1]

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(DisplayHandle=place))
    cell = io.StringIO()
    monkeypatch.setattr(sys, "stderr", cell)
    assert in_notebook()
    run_watch(1.9, monkeypatch)
    assert places == []
    run_watch(5, monkeypatch)
    (only,) = places
    assert only.shown[-2]["text/plain"] == "10 of 10 spectra"
    assert '<progress value="10" max="10"' in only.shown[-2]["text/html"]
    assert set(only.shown[-1].values()) == {""}
    assert not cell.getvalue()
    shell.kernel = None
    assert not in_notebook()


def test_of_several_transfers_one_shows_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("specserver.client.progress.perf_counter", iter(range(99)).__next__)
    with Watch("spectra") as first, Watch("others") as second:
        for done in range(9):
            first(done, 9)
            second(done, 9)
    assert "spectra" in terminal.getvalue()
    assert "others" not in terminal.getvalue()


def test_verbose_and_debug_tell_on_stderr(
    spec: SpecClient, served: Served, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ids = served.ids[:60]
    spec.getSpec(ids, values="flux")
    assert capsys.readouterr() == ("", "")
    spec.getSpec(ids, verbose=True)
    assert "60 spectra" in capsys.readouterr().err
    for fmt in ("numpy", "FITS"):
        spec.getSpec(ids, fmt=fmt, verbose=True, debug=True, out=tmp_path)
        told = capsys.readouterr()
        assert told.out == ""
        assert "60 spectra" in told.err
        assert "POST" in told.err
        assert len(told.err) < 900  # not all the identifiers


# The other keywords


def test_duplicates_and_order_in_every_format(spec: SpecClient, served: Served) -> None:
    a, b, *_ = few(served)
    ids = [b, a, b, b]
    names = [path_of(served, one) for one in ids]
    assert spec.getSpec(ids, fmt="FITS") == [path.read_bytes() for path in names]
    for fmt in ("Spectrum1D", "SpectrumList"):
        assert [one.meta["id"] for one in spec.getSpec(ids, fmt=fmt)] == ids
    collection = spec.getSpec(ids, fmt="SpectrumCollection")
    assert [one["id"] for one in collection.meta] == ids
    assert [frame.attrs["id"] for frame in spec.getSpec(ids, fmt="pandas")] == ids


@pytest.mark.parametrize("fmt", ["numpy", "pandas", "SpectrumList", "FITS"])
def test_missing_is_an_error_or_skipped_with_a_warning(
    spec: SpecClient, served: Served, tmp_path: Path, fmt: str
) -> None:
    ids = [1234567, *few(served, 2)]
    with pytest.raises(NotFound, match=r"1234567 in sdss_dr17"):
        spec.getSpec(ids, fmt=fmt)
    with pytest.raises(NotFound, match="1234567"):
        spec.getSpec(ids, fmt=fmt, out=tmp_path)
    with pytest.warns(UserWarning, match="1 of 3.*1234567") as caught:
        assert len(spec.getSpec(ids, fmt=fmt, missing="skip")) == 2
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="1 of 3"):
        assert spec.getSpec(ids, fmt=fmt, missing="skip", out=tmp_path) == "OK"
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.warns(UserWarning, match="1 of 1"):
        assert len(spec.getSpec([1234567], fmt=fmt, missing="skip")) == 0
    with pytest.raises(BadParameter, match="skip"):
        spec.getSpec(ids, fmt=fmt, missing="ignore")


def test_values_of_every_kind(spec: SpecClient, served: Served) -> None:
    number = few(served)[0]
    whole = spec.getSpec(number)
    for values in ("flux,ivar", ["flux", "ivar"], " ivar , flux ", ("ivar", "flux")):
        assert spec.getSpec(number, values=values).dtype.names == ("flux", "ivar")
    assert spec.getSpec(number, values="all").dtype == whole.dtype
    assert list(spec.getSpec(number, values="loglam,sky", fmt="pandas").columns) == [
        "loglam",
        "sky",
    ]
    with pytest.raises(UnknownField, match="flux"):
        spec.getSpec(number, values="flux,continuum")
    made = spec.getSpec([number], values="flux", fmt="SpectrumCollection")
    assert made.uncertainty is None
    assert not made.mask.any()


def test_tuple_rules_reach_every_format(spec: SpecClient, served: Served) -> None:
    number = few(served)[0]
    plate, mjd, fiber, run2d = unpack_specobjid(number).tolist()
    expected = path_of(served, number).read_bytes()
    assert spec.getSpec((plate, mjd, fiber, run2d), fmt="FITS") == expected
    assert spec.getSpec(f"({plate},{mjd},{fiber},{run2d})", fmt="FITS") == expected
    several = spec.getSpec((plate, mjd, "*"), fmt="SpectrumList")
    assert number in {one.meta["id"] for one in several}
    several = spec.getSpec((plate, mjd, "*"), fmt="FITS")
    assert isinstance(several, list)
    assert expected in several


def test_context_and_profile_of_a_call(spec: SpecClient, served: Served, tmp_path: Path) -> None:
    number = few(served)[0]
    for fmt in ("numpy", "FITS"):
        for more in ({}, {"out": tmp_path}):
            spec.getSpec(number, fmt=fmt, context="sdss_dr17", profile="default", **more)
            with pytest.raises(UnknownContext, match="sdss_dr17"):
                spec.getSpec(number, fmt=fmt, context="sdss_dr8", **more)
            with pytest.raises(UnknownProfile, match="default"):
                spec.getSpec(number, fmt=fmt, profile="fast", **more)


def test_an_empty_list_asks_nothing(tmp_path: Path) -> None:
    nowhere = SpecClient(svc_url="http://127.0.0.1:9/spec")
    assert nowhere.getSpec([]) == []
    assert nowhere.getSpec([], fmt="FITS") == []
    assert nowhere.getSpec([], out=tmp_path / "x") == "OK"
    assert not (tmp_path / "x").exists()


def test_arguments_by_position_in_the_documented_order(
    spec: SpecClient, served: Served, tmp_path: Path
) -> None:
    ids = few(served, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = spec.getSpec(ids, "numpy", None, True, "5000-6000", "sdss_dr17", "default")
    assert rows.shape[0] == 2
    assert spec.getSpec(ids, "numpy", tmp_path) == "OK"
    with pytest.raises(TypeError, match="formats"):
        spec.getSpec(ids, formats="numpy")


# The command line


@pytest.mark.proof
def test_the_command_line_writes_files_as_the_client_does(served: Served, tmp_path: Path) -> None:
    ids = few(served, 2)
    names = {path_of(served, one).name.removesuffix(".fits") for one in ids}
    for options, ending in (
        (["--fmt", "fits"], ".fits"),
        (["--fmt", "npy", "--resample", "--cutout", "5000-5100"], ".npy"),
    ):
        out = tmp_path / "_".join(options).replace("-", "")
        command = [sys.executable, "-m", "specserver", "get", *map(str, ids), *options]
        command += ["--out", str(out), "--url", served.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert {path.name for path in out.iterdir()} == {name + ending for name in names}
        assert done.stdout == ""
        assert "2 spectra" in done.stderr
        assert "━" not in done.stderr  # no bar where nobody watches
