"""The DESI reader on real and mock files of all kinds, and on files that are not what they seem."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from specserver.errors import BadFile
from specserver.model.grid import locate
from specserver.ops.combine import combine
from specserver.simulate import simulate_desi
from specserver.surveys.desi import DESI, DESI_EXPOSURES

ARMS = {"B": (0, 2751), "R": (2700, 5026), "Z": (4900, 7781)}
NPIX = 7781
REAL = (
    "coadd-1-80693-thru20210204.fits",
    "coadd-4-80613-thru20210324.fits",
    "coadd-5-169-thru20210419.fits",
    "coadd-sv3-dark-9144.fits",
    "spectra-5-169-thru20210419.fits",
)


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mock-desi")
    simulate_desi(folder, 80, seed=3, per_file=20, exposures=True)
    return folder


@pytest.fixture
def one_file(mock: Path, tmp_path: Path) -> Path:
    """A copy of a mock coadd, with its redshifts, that a test may spoil."""
    path = min(mock.rglob("coadd-main-dark-*.fits"))
    redrock = path.with_name(path.name.replace("coadd", "redrock"))
    shutil.copy(redrock, tmp_path)
    return Path(shutil.copy(path, tmp_path))


def read(path: Path) -> list:
    survey = DESI if path.name.startswith("coadd") else DESI_EXPOSURES
    return survey.reader.read(path)


def native(values) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(values.dtype.newbyteorder("="))


def expected_overlap(arms: list[dict[str, np.ndarray]]) -> tuple[np.ndarray, ...]:
    """Combine a pixel after the other, as the survey's pipeline words it, in float64."""
    shape = arms[0]["flux"].shape
    flux, ivar, mask = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.uint32)
    for place in np.ndindex(shape):
        measured = [(float(a["flux"][place]), float(a["ivar"][place])) for a in arms]
        bits = [int(a["mask"][place]) for a in arms]
        good = [one for one, bit in zip(measured, bits, strict=True) if bit == 0]
        if sum(i for _, i in good) == 0:
            good, mask[place] = measured, bits[0] | bits[1]
        ivar[place] = sum(i for _, i in good)
        if ivar[place] > 0:
            flux[place] = sum(f * i for f, i in good if i > 0) / ivar[place]
    return flux, ivar, mask


def check_against_astropy(path: Path) -> None:
    """Assert that arms, merged spectra and catalogue columns are those that astropy reads."""
    spectra = read(path)
    with fits.open(path) as hdus:
        fibermap = hdus["FIBERMAP"].data
        assert [one.id for one in spectra] == fibermap["TARGETID"].tolist()
        arms = {}
        for arm, (first, stop) in ARMS.items():
            arms[arm] = {n: native(hdus[f"{arm}_{n}".upper()].data) for n in ("flux", "ivar")}
            arms[arm]["mask"] = native(hdus[f"{arm}_MASK"].data).astype(np.uint32)
            wave = spectra[0].axis[first:stop]
            assert np.abs(wave - hdus[f"{arm}_WAVELENGTH"].data).max() < 1e-9
            for at, one in enumerate(spectra):
                for name, values in arms[arm].items():
                    got = one.vectors[f"{name}_{arm.lower()}"]
                    assert len(got) == stop - first
                    assert got.tobytes() == values[at].tobytes()
        for at, one in enumerate(spectra):
            row = fibermap[at]
            for name in fibermap.names:
                if name not in ("TARGET_RA", "TARGET_DEC"):
                    value = one.row[name.lower()]
                    wanted = row[name].strip() if isinstance(value, str) else row[name]
                    assert value == wanted or (value != value and wanted != wanted)  # noqa: PLR0124
            if "TARGET_RA" in fibermap.names:
                assert (one.ra_deg, one.dec_deg) == (row["TARGET_RA"], row["TARGET_DEC"])
    check_merged(spectra, arms)


def check_merged(spectra: list, arms: dict[str, dict[str, np.ndarray]]) -> None:
    """Assert that spectra are their arms, bit for bit, but for the overlaps."""
    alone = {"B": (0, 2700), "R": (2751, 4900), "Z": (5026, 7781)}
    merged = {name: np.array([one.vectors[name] for one in spectra]) for name in DESI.dtype.names
              if name != "wavelength"}  # fmt: skip
    for arm, (first, stop) in alone.items():
        cut = slice(first - ARMS[arm][0], stop - ARMS[arm][0])
        for name, values in merged.items():
            assert values[:, first:stop].tobytes() == arms[arm][name][:, cut].tobytes()
    for blue, red, first, stop in (("B", "R", 2700, 2751), ("R", "Z", 4900, 5026)):
        both = [
            {n: v[:, first - ARMS[arm][0] : stop - ARMS[arm][0]] for n, v in arms[arm].items()}
            for arm in (blue, red)
        ]
        flux, ivar, mask = expected_overlap(both)
        overlap = slice(first, stop)
        assert np.array_equal(merged["mask"][:, overlap], mask)
        assert np.array_equal(merged["ivar"][:, overlap], ivar.astype("f4"))
        assert np.array_equal(merged["flux"][:, overlap], flux.astype("f4"))


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_as_astropy_reads_them(name: str, real_spectra: Path) -> None:
    check_against_astropy(real_spectra / "desi" / name)


@pytest.mark.parametrize("pattern", ["coadd-main-dark", "coadd-sv3", "spectra-main-bright"])
def test_mock_files_are_read_as_astropy_reads_them(pattern: str, mock: Path) -> None:
    check_against_astropy(min(mock.rglob(f"{pattern}-*.fits")))


def test_spectra_lie_on_the_lattice_and_have_the_declared_vectors(mock: Path) -> None:
    for survey, kind in ((DESI, "coadd"), (DESI_EXPOSURES, "spectra")):
        one = survey.reader.read(min(mock.rglob(f"{kind}-*.fits")))[0]
        assert locate(survey.grid, one.axis) == 0
        assert len(one.axis) == NPIX == survey.window.count
        assert set(one.vectors) == {vector.name for vector in survey.vectors}
        for vector in survey.vectors:
            assert one.vectors[vector.name].dtype == np.dtype(vector.dtype)
        assert survey.dtype.names == ("flux", "wavelength", "ivar", "mask")
        core = {column.name for column in survey.columns} - {survey.primary[0]}
        assert core - set(one.row) <= {"lastnight"}


def test_places_of_the_real_files(real_spectra: Path) -> None:
    found = {}
    for name in REAL:
        row = read(real_spectra / "desi" / name)[0].row
        found[name] = tuple(row.get(n) for n in ("survey", "program", "healpix", "tileid"))
    assert list(found.values()) == [
        ("unknown", "unknown", -1, 80693),
        ("sv1", "unknown", -1, 80613),
        ("sv3", "unknown", -1, 169),
        ("sv3", "dark", 9144, -1),
        ("sv3", "unknown", -1, 169),
    ]


def test_redshifts_of_a_real_file_come_from_the_file_beside_it(real_spectra: Path) -> None:
    (one,) = read(real_spectra / "desi" / "coadd-4-80613-thru20210324.fits")
    with fits.open(real_spectra / "desi" / "redrock-4-80613-thru20210324.fits") as hdus:
        best = hdus["REDSHIFTS"].data[0]
        assert one.id == best["TARGETID"]
        for name in ("Z", "ZERR", "ZWARN", "DELTACHI2", "SPECTYPE", "SUBTYPE", "CHI2"):
            assert one.row[name.lower()] == best[name]
        assert one.row["tsnr2_lrg"] == hdus["TSNR2"].data["TSNR2_LRG"][0]
    assert "coeff" not in one.row


def test_redshifts_are_joined_on_targetid(mock: Path) -> None:
    for path in sorted(mock.rglob("coadd-*.fits")):
        with fits.open(path.with_name(path.name.replace("coadd", "redrock"))) as hdus:
            table = hdus["REDSHIFTS"].data
            z = dict(zip(table["TARGETID"].tolist(), table["Z"].tolist(), strict=True))
        spectra = read(path)
        assert [one.id for one in spectra] != list(z)
        assert [one.row["z"] for one in spectra] == [z[one.id] for one in spectra]


def test_targets_without_a_redshift_row_have_none(one_file: Path) -> None:
    redrock = one_file.with_name(one_file.name.replace("coadd", "redrock"))
    with fits.open(redrock, memmap=False) as hdus:
        kept = hdus["REDSHIFTS"].data[2:]
        hdus["REDSHIFTS"].data = kept
        hdus.writeto(redrock, overwrite=True)
    spectra = read(one_file)
    known = set(kept["TARGETID"].tolist())
    assert [one.id in known for one in spectra] == [one.row["z"] is not None for one in spectra]
    assert sum(one.row["z"] is None for one in spectra) == 2
    redrock.rename(redrock.with_suffix(".elsewhere"))
    assert all("z" not in one.row for one in read(one_file))
    # The coadd states the depth itself.
    assert read(one_file)[0].row["tsnr2_lrg"] == spectra[0].row["tsnr2_lrg"]


def test_a_broken_redshift_file_is_named(one_file: Path) -> None:
    redrock = one_file.with_name(one_file.name.replace("coadd", "redrock"))
    redrock.write_bytes(redrock.read_bytes()[:4000])
    with pytest.raises(BadFile, match=redrock.name):
        read(one_file)


def test_bad_fibres_and_negative_targets_are_carried(real_spectra: Path) -> None:
    spectra = read(real_spectra / "desi" / "coadd-5-169-thru20210419.fits")
    assert spectra[0].id == -1695072
    assert [one.row["coadd_fiberstatus"] for one in spectra] == [513, 512, 515, 1, 0]
    for one in spectra[:4]:
        assert not any(one.vectors[name].any() for name in ("flux", "ivar", "mask"))
    exposures = read(real_spectra / "desi" / "spectra-5-169-thru20210419.fits")
    assert [one.row["fiberstatus"] for one in exposures] == [513, 512, 515, 1, 0]
    for one in exposures[:4]:
        assert one.vectors["flux_z"].any()
        assert not one.vectors["ivar"].any()
        assert (one.vectors["mask"] & 512).all()
    assert exposures[0].row["expid"] == 85502


def test_cut_down_fibermaps_leave_the_position_open(real_spectra: Path) -> None:
    spectra = read(real_spectra / "desi" / "coadd-sv3-dark-9144.fits")
    assert all(np.isnan([one.ra_deg, one.dec_deg]).all() for one in spectra)
    assert all(one.row["ra"] is None and one.row["dec"] is None for one in spectra)
    # Masked there in bit 0, without weight.
    assert any((one.vectors["mask"] == 1).any() for one in spectra)


def test_keys_tell_spectra_of_one_target_apart(mock: Path) -> None:
    seen: dict[int, set[int]] = {}
    for path in mock.rglob("coadd-*.fits"):
        for one in read(path):
            seen.setdefault(one.id, set()).add(one.key)
            assert -(2**63) <= one.key < 2**63
    assert max(map(len, seen.values())) == 2
    exposures = [one for path in mock.rglob("spectra-*.fits") for one in read(path)]
    assert len({(one.id, one.key) for one in exposures}) == len(exposures)
    assert len({one.id for one in exposures}) < len(exposures)


def test_gzipped_files_read_the_same(one_file: Path) -> None:
    plain = read(one_file)
    redrock = one_file.with_name(one_file.name.replace("coadd", "redrock"))
    for path in (one_file, redrock):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    packed = read(one_file.with_name(one_file.name + ".gz"))
    for one, two in zip(plain, packed, strict=True):
        assert (one.id, one.key, one.row["z"]) == (two.id, two.key, two.row["z"])
        assert all(
            values.tobytes() == two.vectors[n].tobytes() for n, values in one.vectors.items()
        )


@pytest.mark.parametrize(
    "name",
    [
        "coadd-0-1000-thru20210419.fits",
        "coadd-9-80605-4xsubset1.fits.gz",
        "coadd-9-80605-1xsubset6.fits",
        "coadd-2-80605-lowspeedsubset3.fits",
        "coadd-2-80605-exp00068657.fits",
        "coadd-2-80605-20210324.fits",
        "coadd-main-dark-9144.fits",
        "coadd-sv1-backup-0.fits.gz",
    ],
)
def test_names_of_the_survey(name: str) -> None:
    assert DESI.reader.identify(Path(name)) is not None
    assert not DESI.reader.is_companion(Path(name))
    other = Path(name.replace("coadd", "spectra"))
    assert DESI.reader.identify(other) is None
    assert DESI.reader.is_companion(other)
    assert DESI_EXPOSURES.reader.identify(other) is not None


@pytest.mark.parametrize(
    "name",
    [
        "coadd-10-169-thru20210419.fits",
        "coadd-5-169-20210419-x.fits",
        "coadd-5-169-thru2021.fits",
        "coadd-main-dark.fits",
        "coadd-main-dark-x9144.fits",
        "coadd-main-9144.fits",
        "coadd-main-dark-9144.fits.bak",
        "my-coadd-main-dark-9144.fits",
        "spec-0266-51602-0013.fits",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    for survey in (DESI, DESI_EXPOSURES):
        assert survey.reader.identify(Path(name)) is None
        assert not survey.reader.is_companion(Path(name))


@pytest.mark.parametrize(
    "kind", ["redrock", "rrdetails", "emline", "qso_qn", "qso_mgii", "hpixexp"]
)
def test_files_beside_are_companions(kind: str) -> None:
    for rest in ("main-dark-9144.fits", "5-169-thru20210419.fits.gz", "test.fits"):
        for survey in (DESI, DESI_EXPOSURES):
            assert survey.reader.is_companion(Path(f"{kind}-{rest}"))
            assert survey.reader.identify(Path(f"{kind}-{rest}")) is None


def test_files_of_one_place_are_neighbours() -> None:
    names = (
        "coadd-main-dark-9144.fits",
        "coadd-main-dark-9144.fits.gz",
        "coadd-sv3-dark-9144.fits",
    )
    plain, packed, other = (DESI.reader.identify(Path(name)) for name in names)
    assert plain.group == packed.group != other.group
    assert plain.group[:2] == other.group[:2]


Change = Callable[[fits.HDUList], object]


def drop(name: str) -> Change:
    return lambda hdus: hdus.pop(hdus.index_of(name))


def off_lattice(hdus: fits.HDUList) -> None:
    hdus["R_WAVELENGTH"].data = hdus["R_WAVELENGTH"].data + 2e-6


def short(hdus: fits.HDUList) -> None:
    hdus["Z_IVAR"].data = hdus["Z_IVAR"].data[:, :-1]


def in_doubles(hdus: fits.HDUList) -> None:
    hdus["B_FLUX"].data = hdus["B_FLUX"].data.astype("f8")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("FIBERMAP"), "there is no HDU FIBERMAP"),
        (drop("R_IVAR"), "there is no HDU R_IVAR"),
        (drop("B_WAVELENGTH"), "there is no HDU B_WAVELENGTH"),
        (off_lattice, "R_WAVELENGTH is not 5760.0 to 7620.0 Å in steps of 0.8 Å"),
        (short, "Z_IVAR is .*, expected"),
        (in_doubles, "B_FLUX is .* float64, expected"),
        (lambda hdus: hdus["Z_FLUX"].header.set("BUNIT", "Jy"), "BUNIT of Z_FLUX is 'Jy'"),
        (lambda hdus: hdus["FIBERMAP"].columns.change_name("TARGETID", "ID"), "no column TARGETID"),
        (lambda hdus: hdus[0].header.set("SURVEY", "sv3"), "survey sv3, the file's name main"),
        (lambda hdus: hdus[0].header.set("PROGRAM", "bright"), "program bright"),
        (lambda hdus: hdus[0].header.set("HPXPIXEL", 17), "pixel 17, the file's name"),
    ],
)
def test_files_that_are_not_what_they_should_be(
    change: Change, reason: str, one_file: Path
) -> None:
    with fits.open(one_file, memmap=False) as hdus:
        change(hdus)
        hdus.writeto(one_file, overwrite=True)
    with pytest.raises(BadFile, match=reason):
        read(one_file)


def test_a_real_file_under_another_name_is_refused(real_spectra: Path, tmp_path: Path) -> None:
    for name, other, reason in (
        ("coadd-sv3-dark-9144.fits", "coadd-main-dark-9144.fits", "sv3.*main"),
        ("coadd-5-169-thru20210419.fits", "coadd-5-170-thru20210419.fits", "tile 169.*170"),
        ("coadd-5-169-thru20210419.fits", "coadd-6-169-thru20210419.fits", "petal 5.*6"),
        ("coadd-5-169-thru20210419.fits", "coadd-main-dark-169.fits", "pixel None.*169"),
        ("coadd-sv3-dark-9144.fits", "coadd-5-9144-thru20210419.fits", "tile None.*9144"),
    ):
        copy = shutil.copy(real_spectra / "desi" / name, tmp_path / other)
        with pytest.raises(BadFile, match=reason):
            DESI.reader.read(Path(copy))


@pytest.mark.parametrize("left", [0, 2000, 6000, 30_000, 100_000, 900_000])
def test_a_file_cut_off_anywhere_is_refused(left: int, one_file: Path) -> None:
    one_file.write_bytes(one_file.read_bytes()[:left])
    with pytest.raises(BadFile):
        read(one_file)


def test_a_missing_arm_is_left_empty(one_file: Path) -> None:
    whole = read(one_file)
    with fits.open(one_file, memmap=False) as hdus:
        for name in ("R_WAVELENGTH", "R_FLUX", "R_IVAR", "R_MASK"):
            hdus.pop(hdus.index_of(name))
        hdus.writeto(one_file, overwrite=True)
    for one, before in zip(read(one_file), whole, strict=True):
        for name in ("flux", "ivar"):
            got = one.vectors[name]
            assert not got[2751:4900].any()
            assert not one.vectors[f"{name}_r"].any()
            assert got[:2751].tobytes() == before.vectors[f"{name}_b"].tobytes()
            assert got[4900:].tobytes() == before.vectors[f"{name}_z"].tobytes()
        assert not one.vectors["mask"][2751:4900].any()


def test_exposures_without_their_number_are_refused(mock: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(min(mock.rglob("spectra-*.fits")), tmp_path))
    with fits.open(path, memmap=False) as hdus:
        hdus["FIBERMAP"].columns.change_name("EXPID", "OTHER")
        hdus.writeto(path, overwrite=True)
    with pytest.raises(BadFile, match="EXPID"):
        read(path)


def test_scores_of_an_exposure_are_its_own(mock: Path) -> None:
    """The redshift file beside has columns of the same names, of all exposures of a target."""
    for path in sorted(mock.rglob("spectra-main-*.fits"))[:2]:
        spectra = read(path)
        with fits.open(path) as hdus:
            scores = hdus["SCORES"].data
            names = [name for name in scores.names if name.startswith("TSNR2_")]
            assert names
            for name in names:
                assert [one.row[name.lower()] for one in spectra] == scores[name].tolist(), name
        assert all("z" in one.row for one in spectra)


def test_wavelengths_are_called_barycentric() -> None:
    for survey in (DESI, DESI_EXPOSURES):
        (wave,) = [one.meaning for one in survey.record if one.name == "wavelength"]
        assert wave == "vacuum wavelength, barycentric"
        assert survey.frame == "ICRS; wavelengths in vacuum, barycentric"
        assert "heliocentric" not in str(survey)


def test_resolution_does_not_matter(tmp_path: Path) -> None:
    simulate_desi(tmp_path / "with", 4, resolution=True)
    simulate_desi(tmp_path / "without", 4)
    (one,), (two,) = ([*(tmp_path / n).rglob("coadd-*.fits")] for n in ("with", "without"))
    assert one.stat().st_size > 3 * two.stat().st_size
    for left, right in zip(read(one), read(two), strict=True):
        assert left.vectors["flux"].tobytes() == right.vectors["flux"].tobytes()


SHAPE = (2, 3, 5)
FLUX = arrays(np.float32, SHAPE, elements=st.floats(-1e4, 1e4, width=32))
IVAR = arrays(np.float32, SHAPE, elements=st.sampled_from([0.0, 0.0, 0.5, 3.25, 1e-3, 117.0]))
MASK = arrays(np.uint32, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 512, 2**31]))


@given(FLUX, IVAR, MASK)
def test_combining_is_the_weighted_mean(flux, ivar, mask) -> None:
    arms = [{"flux": flux[i], "ivar": ivar[i], "mask": mask[i]} for i in (0, 1)]
    wanted = expected_overlap(arms)
    got = combine(flux, ivar, mask)
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-15)
    assert np.array_equal(got[2], wanted[2])
    assert got[2].dtype == np.uint32


@given(FLUX, IVAR)
def test_a_single_measurement_keeps_its_bits(flux, ivar) -> None:
    ivar[1], mask = 0.0, np.zeros(SHAPE, np.uint32)
    flux[1] = np.nan
    mean, total, bits = combine(flux, ivar, mask)
    assert np.array_equal(mean.astype("f4"), np.where(ivar[0] > 0, flux[0], 0))
    assert np.array_equal(total.astype("f4"), ivar[0])
    assert not bits.any()
