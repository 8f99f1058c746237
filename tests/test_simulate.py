"""The mock survey has the structure of the real files, and its values agree with each other."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from specserver.errors import BadParameter
from specserver.model.grid import LogLinear, locate
from specserver.model.ids import pack_specobjid
from specserver.simulate import simulate_sdss
from specserver.simulate.sdss.layout import FAMILIES

NSPEC = 72
VECTORS = ("flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model")


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("survey")
    simulate_sdss(folder, NSPEC, seed=5, full_fraction=0.1)
    return folder


def lite_files(folder: Path, run2d: str = "*") -> list[Path]:
    found = folder.glob(f"{run2d}/spectra/**/spec-*.fits")
    return sorted(path for path in found if "full" not in path.parts)


def vectors(unit) -> dict[str, np.ndarray]:
    by_lower = {name.lower(): name for name in unit.columns.names}
    return {name: np.asarray(unit.data[by_lower[name]]) for name in VECTORS}


def form(text: str) -> str:
    """A TFORM without the width of text, and ``1A`` as ``A``."""
    return "A" if text.endswith("A") else text


def structure(path: Path, *, widths: bool):
    with fits.open(path) as units:
        units.verify("exception")
        shown = []
        for unit in units[1:4]:
            head = unit.header
            shown.append(
                [
                    (
                        head[f"TTYPE{i}"],
                        head[f"TFORM{i}"] if widths else form(head[f"TFORM{i}"]),
                        head.get(f"TDIM{i}"),
                        head.get(f"TZERO{i}"),
                    )
                    for i in range(1, head["TFIELDS"] + 1)
                ]
            )
        names = [unit.header.get("EXTNAME") for unit in units[1:4]]
        return len(units), names, shown, units[3].header["NAXIS2"], units[0].header["BITPIX"]


@pytest.mark.parametrize("run2d", FAMILIES)
def test_structure_equals_the_real_family(run2d, survey, real_spectra):
    with (real_spectra / "MANIFEST.csv").open(newline="") as file:
        rows = [row for row in csv.reader(file) if row[0].startswith("sdss/spec") and run2d in row]
    assert rows, f"no real file of {run2d}"
    widths = not FAMILIES[run2d].upper
    real = structure(real_spectra / rows[0][0], widths=widths)
    for path in lite_files(survey, run2d)[:3]:
        assert structure(path, widths=widths) == real


@pytest.mark.proof
@pytest.mark.parametrize("run2d", FAMILIES)
def test_values_agree_across_units(run2d, survey):
    for path in lite_files(survey, run2d):
        with fits.open(path) as units:
            head, row, array = units[0].header, units[2].data[0], vectors(units[1])
            plate, mjd, fiber = (int(part) for part in path.stem.split("-")[1:])
            shown = (row["PLATE"], row["MJD"], row["FIBERID"], row["RUN2D"].strip())
            assert shown == (plate, mjd, fiber, run2d)
            assert int(row["SPECOBJID"]) % 2**64 == pack_specobjid(plate, mjd, fiber, run2d)
            assert (head["PLATEID"], head["MJD"], head["FIBERID"]) == (plate, mjd, fiber)
            assert (head["PLUG_RA"], head["PLUG_DEC"]) == pytest.approx(
                (row["PLUG_RA"], row["PLUG_DEC"]), abs=1e-9
            )
            assert head.get("RUN2D", "26") == run2d
            loglam = array["loglam"].astype("<f4")
            assert locate(LogLinear(1e-4), loglam) == round(float(loglam[0]) * 1e4)
            good = array["ivar"] > 0
            if good.any():
                snr = np.median((array["flux"] * np.sqrt(array["ivar"]))[good])
                assert row["SN_MEDIAN_ALL"] == pytest.approx(snr, rel=1e-5)
                assert row["WAVEMIN"] == pytest.approx(10 ** float(loglam[good][0]), rel=1e-6)
                assert row["WAVEMAX"] == pytest.approx(10 ** float(loglam[good][-1]), rel=1e-6)
                chi = ((array["flux"] - array["model"]) * np.sqrt(array["ivar"]))[good]
                assert 0.9 < np.percentile(np.abs(chi), 68.3) < 1.25
            assert np.bitwise_or.reduce(array["or_mask"]) == row["ANYORMASK"]
            assert all(np.isfinite(values).all() for values in array.values())
            ra = row["RA"] if run2d != "26" else row["PLUG_RA"]
            dec = row["DEC"] if run2d != "26" else row["PLUG_DEC"]
            assert np.hypot(
                (ra - row["PLUG_RA"]) * np.cos(np.radians(dec)), dec - row["PLUG_DEC"]
            ) < (0.08 / 3600)
            expected = np.cos(np.radians(dec)) * np.cos(np.radians(ra))
            assert row["CX"] == pytest.approx(expected, abs=1e-12)


def test_coeff0_is_wrong_in_run2d_26_only(survey):
    for path in lite_files(survey):
        with fits.open(path) as units:
            first = float(vectors(units[1])["loglam"][0])
            same = abs(units[0].header["COEFF0"] - first) < 1e-6
            assert same == ("RUN2D" in units[0].header)


def test_ids_pass_2_to_the_63_and_plates_have_five_digits(survey):
    plates = {int(path.stem.split("-")[1]) for path in lite_files(survey)}
    assert max(plates) >= 10000
    ids = [path for path in lite_files(survey, "v5_13_0") if "spec-10656-" in path.name]
    with fits.open(ids[0]) as units:
        assert int(units[2].data["SPECOBJID"][0]) > 2**63


@pytest.mark.proof
def test_some_spectra_repeat_an_object(survey):
    seen: dict[tuple[float, float], list[int]] = {}
    for path in lite_files(survey, "26"):
        with fits.open(path) as units:
            row = units[2].data[0]
            key = (float(row["PLUG_RA"]), float(row["PLUG_DEC"]))
            seen.setdefault(key, []).append(int(row["SPECPRIMARY"]))
    twice = [marks for marks in seen.values() if len(marks) == 2]
    assert twice
    assert all(sum(marks) <= 1 for marks in twice)


def test_full_files_hold_the_lite_ones(survey):
    full = sorted(survey.glob("*/spectra/full/*/*.fits"))
    assert full
    for path in full:
        run2d = path.relative_to(survey).parts[0]
        middle = ("lite",) if run2d != "26" else ()
        lite = survey.joinpath(run2d, "spectra", *middle, path.parent.name, path.name).read_bytes()
        assert path.read_bytes()[: len(lite)] == lite
        with fits.open(path) as units:
            units.verify("exception")
            listed = [
                value.upper() for key, value in units[0].header.items() if key.startswith("EXPID")
            ]
            assert [unit.name for unit in units[4:]] == listed
            assert len(listed) == units[0].header["NEXP"]


@pytest.mark.proof
def test_same_seed_same_bytes_with_any_workers(survey, tmp_path):
    summary = simulate_sdss(tmp_path, NSPEC, seed=5, full_fraction=0.1, workers=2)
    first = {path.relative_to(survey): path.read_bytes() for path in survey.rglob("*.fits")}
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.fits")}
    assert first == again
    assert summary.nbytes == sum(len(content) for content in first.values())


def test_other_seed_other_bytes(tmp_path):
    simulate_sdss(tmp_path / "a", 2, seed=1, families=["26"])
    simulate_sdss(tmp_path / "b", 2, seed=2, families=["26"])
    contents = [[p.read_bytes() for p in lite_files(tmp_path / name)] for name in "ab"]
    assert contents[0] != contents[1]


@pytest.mark.parametrize("nspec", [1, 5, 6, 41])
def test_writes_as_many_as_asked_for(nspec, tmp_path):
    steps: list[tuple[int, int]] = []
    summary = simulate_sdss(tmp_path, nspec, progress=lambda *state: steps.append(state))
    assert summary.nspec == nspec == steps[-1][0] == steps[-1][1] == len(lite_files(tmp_path))
    assert sum(summary.families.values()) == nspec


@pytest.mark.parametrize(
    "wrong",
    [{"nspec": 0}, {"nspec": 3, "families": ["v6_0_4"]}, {"nspec": 3, "full_fraction": 2.0}],
)
def test_impossible_requests_are_refused(wrong, tmp_path):
    with pytest.raises(BadParameter):
        simulate_sdss(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_specutils_reads_every_family(survey):
    specutils = pytest.importorskip("specutils")
    for run2d in FAMILIES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the survey's own unit text is not FITS standard
            spectrum = specutils.Spectrum.read(lite_files(survey, run2d)[0])
        with fits.open(lite_files(survey, run2d)[0]) as units:
            assert np.array_equal(spectrum.flux.value, vectors(units[1])["flux"])
