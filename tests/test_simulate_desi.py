"""The mock DESI has the structure of the survey's files, and its values agree with each other."""

from collections import Counter
from pathlib import Path

import hpgeom
import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_allclose

from commands import command
from specserver.errors import BadParameter
from specserver.simulate import simulate_desi, simulate_sdss
from specserver.simulate.desi.layout import forms
from specserver.surveys.desi import DESI, DESI_EXPOSURES
from specserver.surveys.sdss import SDSS

NSPEC, SEED, PER_FILE = 160, 5, 40


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desi")
    simulate_desi(folder, NSPEC, SEED, per_file=PER_FILE, exposures=True)
    return folder


@pytest.fixture(scope="module")
def spectra(survey: Path) -> list:
    return [one for path in files(survey, "coadd") for one in DESI.reader.read(path)]


def files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.rglob(f"{kind}-*.fits"))


def images(hdus: fits.HDUList) -> list[tuple]:
    """EXTNAME, type and unit of the images of a file, but for those that may be left out."""
    return [
        (hdu.name, hdu.data.dtype.newbyteorder("=").name, hdu.header.get("BUNIT"))
        for hdu in hdus
        if hdu.name.endswith(("_WAVELENGTH", "_FLUX", "_IVAR", "_MASK"))
    ]


def columns(hdu: fits.BinTableHDU) -> dict[str, str]:
    return {column.name: column.format for column in hdu.columns}


def without_targeting(names: dict[str, str]) -> dict[str, str]:
    return {name: form for name, form in names.items() if not name.endswith("_TARGET")}


TILE_ONLY = {"PETAL_LOC", "DEVICE_LOC", "LOCATION", "FIBER", "LAMBDA_REF", "FIBERASSIGN_X",
             "FIBERASSIGN_Y", "PRIORITY", "TILEID", "MEAN_FIBER_X", "MEAN_FIBER_Y"}  # fmt: skip
"""Columns that the files of a tile have, and those of a pixel have not."""


def test_files_are_where_the_survey_has_them(survey: Path) -> None:
    found = files(survey, "coadd")
    assert len(found) == NSPEC // PER_FILE
    for path in found:
        _, name, program, pixel = path.stem.split("-")
        group = str(int(pixel) // 100)
        assert path.parent == survey / "healpix" / name / program / group / pixel
        for kind in ("redrock", "spectra"):
            assert path.with_name(path.name.replace("coadd", kind)).is_file()


def test_coadds_have_the_structure_of_real_ones(survey: Path, real_spectra: Path) -> None:
    with fits.open(real_spectra / "desi" / "coadd-5-169-thru20210419.fits") as real:
        for path in files(survey, "coadd"):
            with fits.open(path) as mock:
                mock.verify("exception")
                names = [hdu.name for hdu in real if "RESOLUTION" not in hdu.name]
                assert [hdu.name for hdu in mock] == names
                unsigned = mock[0].header["SURVEY"] != "main"
                kind = "uint32" if unsigned else "int32"
                wanted = [(n, kind if n.endswith("MASK") else t, u) for n, t, u in images(real)]
                assert images(mock) == wanted
                for name in ("EXP_FIBERMAP", "SCORES"):
                    assert columns(mock[name]) == columns(real[name])
                theirs = without_targeting(columns(real["FIBERMAP"]))
                ours = without_targeting(columns(mock["FIBERMAP"]))
                assert list(ours.items()) == [
                    item for item in theirs.items() if item[0] not in TILE_ONLY
                ]
                for arm in "BRZ":
                    name = f"{arm}_WAVELENGTH"
                    assert np.array_equal(mock[name].data, real[name].data)


def test_other_files_have_the_structure_of_real_ones(survey: Path, real_spectra: Path) -> None:
    for kind, name in (("spectra", "spectra-5-169-thru20210419"), ("redrock", "redrock-test")):
        with fits.open(real_spectra / "desi" / f"{name}.fits") as real:
            for path in files(survey, kind):
                with fits.open(path) as mock:
                    mock.verify("exception")
                    listed = [hdu.name for hdu in real if "RESOLUTION" not in hdu.name]
                    assert [hdu.name for hdu in mock] == listed
                    for table in ("REDSHIFTS", "TSNR2", "SCORES", "EXP_FIBERMAP"):
                        if table in listed:
                            assert columns(mock[table]) == columns(real[table])
                    if kind == "spectra":
                        theirs = without_targeting(columns(real["FIBERMAP"]))
                        assert without_targeting(columns(mock["FIBERMAP"])) == theirs


def test_resolution_comes_when_asked_for(tmp_path: Path) -> None:
    simulate_desi(tmp_path, 3, resolution=True)
    with fits.open(files(tmp_path, "coadd")[0]) as hdus:
        assert [hdu.name for hdu in hdus].index("B_RESOLUTION") == 7
        assert hdus["Z_RESOLUTION"].data.shape == (3, 11, 2881)
        assert hdus["Z_RESOLUTION"].data.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
        assert "RESOLUTION" not in str(hdus[0].header["COMMENT"])


def test_headers_say_that_resolution_is_left_out(survey: Path) -> None:
    for kind in ("coadd", "spectra"):
        with fits.open(files(survey, kind)[0]) as hdus:
            assert "without RESOLUTION" in str(hdus[0].header["COMMENT"])


def test_targets_lie_in_their_pixel(spectra: list) -> None:
    for one in spectra:
        assert hpgeom.angle_to_pixel(64, one.ra_deg, one.dec_deg) == one.row["healpix"]


def test_some_fibres_are_on_the_sky_or_on_nothing_or_bad(spectra: list) -> None:
    kinds = Counter(one.row["objtype"] for one in spectra)
    assert set(kinds) == {"TGT", "SKY", ""}
    assert kinds["TGT"] > 0.7 * NSPEC
    bad = 0
    for one in spectra:
        empty = not one.vectors["ivar"].any()
        assert empty == (one.row["coadd_fiberstatus"] != 0)
        assert not empty or not one.vectors["mask"].any()
        assert (one.id < 0) == (one.row["objtype"] == "")
        assert (one.row["objtype"] == "SKY") == (one.id > 0 and bool(one.id >> 59 & 1))
        bad += empty and one.row["objtype"] == "TGT"
        assert not empty or one.row["zwarn"] != 0
    assert bad > 0


def test_a_target_may_be_in_several_programs(spectra: list) -> None:
    seen: dict[int, list] = {}
    for one in spectra:
        seen.setdefault(one.id, []).append(one)
    twice = [each for each in seen.values() if len(each) == 2]
    assert len(twice) >= 4
    for first, second in twice:
        assert first.row["program"] != second.row["program"]
        assert (first.ra_deg, first.dec_deg) == (second.ra_deg, second.dec_deg)
        assert first.vectors["flux"].tobytes() != second.vectors["flux"].tobytes()


def test_arms_overlap_with_noise_of_their_own(spectra: list) -> None:
    good = [one for one in spectra if one.row["coadd_fiberstatus"] == 0]
    for blue, red, pixels in (("b", "r", slice(2700, 2751)), ("r", "z", slice(4900, 5026))):
        pull = []
        for one in good:
            v = {
                vector.name: np.pad(
                    one.vectors[vector.name], (vector.pixels[0], 7781 - vector.pixels[1])
                )
                for vector in DESI.extra
            }
            both = (v[f"ivar_{blue}"][pixels] > 0) & (v[f"ivar_{red}"][pixels] > 0)
            apart = (v[f"flux_{blue}"] - v[f"flux_{red}"])[pixels][both]
            sigma = np.sqrt(
                1 / v[f"ivar_{blue}"][pixels][both] + 1 / v[f"ivar_{red}"][pixels][both]
            )
            pull.append(apart / sigma)
        joined = np.concatenate(pull)
        assert np.std(joined) == pytest.approx(1.0, abs=0.05)
        assert np.mean(joined) == pytest.approx(0.0, abs=0.05)


def test_blank_sky_is_noise_as_large_as_said(spectra: list) -> None:
    sky = [one.vectors for one in spectra
           if one.row["objtype"] == "SKY" and one.row["coadd_fiberstatus"] == 0]  # fmt: skip
    pull = np.concatenate([v["flux"] * np.sqrt(v["ivar"]) for v in sky])
    assert np.std(pull[pull != 0]) == pytest.approx(1.0, abs=0.05)
    # The sky glows in the red: noise there has lines, in the blue it has not.
    sigma = np.median([np.sqrt(1 / np.maximum(v["ivar"], 1e-4)) for v in sky], axis=0)
    rough = [np.percentile(sigma[c], 99) / np.median(sigma[c])
             for c in (slice(1000, 2300), slice(5800, 7400))]  # fmt: skip
    assert rough[1] > 1.5 * rough[0]


def test_exposures_average_to_the_coadd(survey: Path) -> None:
    path = files(survey, "spectra")[0]
    coadds = DESI.reader.read(path.with_name(path.name.replace("spectra", "coadd")))
    exposures = DESI_EXPOSURES.reader.read(path)
    assert len({one.row["expid"] for one in exposures}) > 2
    for one in coadds:
        mine = [each for each in exposures if each.id == one.id]
        assert 1 <= len(mine) <= 3
        assert one.row["z"] == mine[0].row["z"]
        if one.row["coadd_fiberstatus"]:
            assert all((each.vectors["mask"] & 512).all() for each in mine)
            assert all(each.vectors["flux"].any() for each in mine)
            continue
        assert one.row["coadd_numexp"] == len(mine)
        assert sum(each.row["exptime"] for each in mine) == pytest.approx(one.row["coadd_exptime"])
        for arm in "brz":
            flux, ivar = (
                np.array([each.vectors[f"{name}_{arm}"] for each in mine], "f8")
                for name in ("flux", "ivar")
            )
            total = ivar.sum(axis=0)
            mean = (flux * ivar).sum(axis=0) / np.where(total > 0, total, 1)
            assert_allclose(total, one.vectors[f"ivar_{arm}"], rtol=1e-5, atol=1e-12)
            some = total > 0
            sigma = 1 / np.sqrt(total[some])
            away = np.abs(mean - one.vectors[f"flux_{arm}"])[some] / sigma
            assert away.max() < 1e-4


def test_redshifts_of_good_spectra_are_those_of_their_lines(spectra: list) -> None:
    """The Hα line of strong emitters is where the redshift says."""
    found = 0
    for one in spectra:
        z = one.row["z"]
        if one.row["spectype"] != "GALAXY" or one.row["zwarn"] or not 0 < z < 0.45:
            continue
        snr = one.vectors["flux"] * np.sqrt(one.vectors["ivar"])
        pixel = round((6564.614 * (1 + z) - 3600) / 0.8)
        near = snr[pixel - 3 : pixel + 4].sum()
        beside = snr[pixel - 63 : pixel - 56].sum()
        found += near > beside + 10
    assert found >= 5


@pytest.mark.proof
def test_same_seed_same_bytes_with_any_workers(survey: Path, tmp_path: Path) -> None:
    summary = simulate_desi(tmp_path, NSPEC, SEED, per_file=PER_FILE, exposures=True, workers=2)
    first = {path.relative_to(survey): path.read_bytes() for path in survey.rglob("*.fits")}
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.fits")}
    assert first == again
    assert summary.nbytes == sum(map(len, first.values()))


def test_exposures_do_not_change_the_coadds(survey: Path, tmp_path: Path) -> None:
    simulate_desi(tmp_path, NSPEC, SEED, per_file=PER_FILE)
    assert not files(tmp_path, "spectra")
    for path in files(tmp_path, "coadd"):
        assert path.read_bytes() == (survey / path.relative_to(tmp_path)).read_bytes()


def test_other_seed_other_bytes(tmp_path: Path) -> None:
    for seed in (1, 2):
        simulate_desi(tmp_path / str(seed), 2, seed)
    one, two = (files(tmp_path / name, "coadd")[0].read_bytes() for name in "12")
    assert one != two


@pytest.mark.parametrize(("nspec", "nfile"), [(1, 1), (7, 1), (40, 2), (101, 3)])
def test_writes_as_many_as_asked_for(nspec: int, nfile: int, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    summary = simulate_desi(
        tmp_path, nspec, per_file=50, progress=lambda *state: steps.append(state)
    )
    found = files(tmp_path, "coadd")
    read = sum(len(DESI.reader.read(path)) for path in found)
    assert summary.nspec == nspec == steps[-1][0] == steps[-1][1] == read
    assert len(found) == nfile
    assert sum(summary.families.values()) == nspec


@pytest.mark.proof
def test_objects_of_another_survey_are_observed_where_they_are(tmp_path: Path) -> None:
    simulate_sdss(tmp_path / "sdss", 60, seed=2)
    rows = [
        one.row
        for path in (tmp_path / "sdss").rglob("spec-*.fits")
        for one in SDSS.reader.read(path)
    ]
    rows = [row for row in rows if row["zwarning"] == 0][:25]
    there = [[row[name] for row in rows] for name in ("ra", "dec", "z", "class")]
    simulate_desi(tmp_path / "desi", 30, positions=there)
    found = [one for path in files(tmp_path / "desi", "coadd") for one in DESI.reader.read(path)]
    assert len(found) == 30
    by_place = {(one.ra_deg, one.dec_deg): one.row for one in found}
    for row in rows:
        mine = by_place[row["ra"] % 360, row["dec"]]
        assert mine["objtype"] == "TGT"
        assert mine["spectype"] == row["class"]
        assert mine["coadd_fiberstatus"] == 0
        if not mine["zwarn"]:
            assert mine["z"] == pytest.approx(row["z"], abs=0.02)
        assert mine["healpix"] == hpgeom.angle_to_pixel(64, row["ra"], row["dec"])


def test_objects_are_seen_in_the_light_that_is_given(tmp_path: Path) -> None:
    wave = np.linspace(3000.0, 11000.0, 2000)
    given = [np.full(wave.size, 5.0, "f4"), (20.0 + np.sin(wave / 200)).astype("f4")]
    there = ([150.0, 150.1], [2.0, 2.1], [0.1, 0.2], ["GALAXY", "QSO"])
    simulate_desi(tmp_path, 4, positions=there, light=[(wave, flux) for flux in given])
    found = [one for path in files(tmp_path, "coadd") for one in DESI.reader.read(path)]
    by_place = {round(one.ra_deg, 6): one for one in found}
    for ra, flux in zip(there[0], given, strict=True):
        seen = by_place[ra]
        good = (seen.vectors["ivar"] > 0) & (seen.vectors["mask"] == 0)
        away = seen.vectors["flux"] - np.interp(seen.axis, wave, flux)
        chi = (away * np.sqrt(seen.vectors["ivar"]))[good]
        assert abs(chi.mean()) < 0.05
        assert chi.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nspec": 9, "positions": ([1.0], [0.0], [0.1]), "light": [([1.0], [1.0])] * 2},
        {"nspec": 0},
        {"nspec": 3, "per_file": 0},
        {"nspec": 3, "seed": -1},
        {"nspec": 3, "workers": 0},
        {"nspec": 1, "positions": ([1.0, 2.0], [0.0, 0.0], [0.1, 0.1])},
        {"nspec": 9, "positions": ([1.0, 2.0], [0.0, 0.0], [0.1])},
        {"nspec": 9, "positions": ([1.0], [0.0])},
    ],
)
def test_impossible_requests_are_refused(wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(BadParameter):
        simulate_desi(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_targeting_columns_are_named_after_the_survey() -> None:
    main, third = ({form.name for form in forms("fibermap", name)} for name in ("main", "sv3"))
    assert "SCND_TARGET" in main - third
    assert {"SV3_DESI_TARGET", "SV3_BGS_TARGET"} <= third - main


def test_specutils_reads_the_files(survey: Path) -> None:
    specutils = pytest.importorskip("specutils")
    arms = specutils.SpectrumList.read(files(survey, "coadd")[0], format="DESI coadd")
    assert [len(arm.spectral_axis) for arm in arms] == [2751, 2326, 2881]


def test_the_command_writes_a_survey(tmp_path: Path) -> None:
    printed = command("simulate", "desi", tmp_path, "--nspec", 5, "--exposures")
    assert "5 spectra" in printed
    assert len(files(tmp_path, "spectra")) == 1
