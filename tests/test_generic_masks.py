"""Masks of files of any kind: which columns and images are masks, and which bits are bad."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.table import Table

from commands import command
from serving import serve
from specserver.client.api import SpecClient
from specserver.errors import BadFile
from specserver.surveys.anyfile import ReadSpectrum, read_file
from specserver.surveys.statedmask import MASKS, MaskRule, mask_rule

NPIX = 500
WAVE = 4000.0 + 2.5 * np.arange(NPIX)
FLUX = 5 + np.sin(WAVE / 50)
MARKS = np.where(np.arange(NPIX) % 50 == 7, 4, 0).astype(np.int16)
BAD = np.flatnonzero(MARKS).tolist()


def write_table(path: Path, cards: dict[str, object] | None = None, **columns: Any) -> Path:
    """Write a spectrum as a table, with other columns."""
    table = Table({"wave": WAVE, "flux": FLUX, "ivar": np.full(NPIX, 4.0), **columns})
    table["wave"].unit, table["flux"].unit = "Angstrom", "1e-17 erg / (s cm2 Angstrom)"
    primary = fits.PrimaryHDU()
    primary.header.update(cards or {})
    fits.HDUList([primary, fits.table_to_hdu(table)]).writeto(path, overwrite=True)
    return path


def write_images(path: Path, *others: fits.ImageHDU) -> Path:
    """Write a spectrum as an image, with others beside it."""
    primary = fits.PrimaryHDU(FLUX)
    primary.header.update({"CRVAL1": WAVE[0], "CDELT1": 2.5, "CRPIX1": 1.0, "CUNIT1": "Angstrom"})
    fits.HDUList([primary, *others]).writeto(path, overwrite=True)
    return path


def write_visit(path: Path, marks: npt.NDArray[np.int16], name: str = "") -> Path:
    """Write a file as APOGEE's apVisit are: three chips, wavelengths falling."""
    flux, wave = FLUX[:300].reshape(3, 100), WAVE[:300][::-1].reshape(3, 100)
    primary = fits.PrimaryHDU()
    primary.header["SURVEY"] = "apogee"
    primary.header["HISTORY"] = "AP1DVISIT: APOGEE Reduction Pipeline"
    hdus = [primary]
    for values, unit in (
        (flux, "Flux (10^-17 erg/s/cm^2/Ang)"),
        (np.ones((3, 100)), "Flux Error (10^-17 erg/s/cm^2/Ang)"),
        (marks, "Flag Mask (bitwise)"),
        (wave, "Wavelength (Ang)"),
    ):
        hdus.append(fits.ImageHDU(values))
        hdus[-1].header["BUNIT"] = unit
    hdus[3].name = name
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def only(path: Path) -> ReadSpectrum:
    """Return the one spectrum of a file."""
    (one,) = read_file(path)
    return one


def masked(one: ReadSpectrum) -> list[int]:
    """Return which pixels of a spectrum are masked."""
    return [int(at) for at in np.flatnonzero(one.mask)]


@pytest.mark.parametrize(
    "name", ["MASK", "PixMask", "DQ", "AND_MASK", "andmask", "QUALITY", "flags"]
)
def test_a_column_that_is_called_as_masks_are_is_one(tmp_path: Path, name: str) -> None:
    one = only(write_table(tmp_path / "a.fits", **{name: MARKS}))
    assert masked(one) == BAD
    assert one.flux.tobytes() == FLUX.tobytes()
    assert one.ivar is not None
    assert one.ivar.tobytes() == np.full(NPIX, 4.0).tobytes()
    assert one.remarks == ()
    assert masked(only(write_table(tmp_path / "a.fits", **{name: MARKS > 0}))) == BAD
    assert masked(only(write_table(tmp_path / "a.fits", **{name: MARKS.astype(float)}))) == BAD


def test_all_masks_of_a_table_count_but_for_those_of_single_exposures(tmp_path: Path) -> None:
    other = np.zeros(NPIX, np.int32)
    other[3] = 1
    one = only(write_table(tmp_path / "a.fits", mask=MARKS, dq=other))
    assert masked(one) == sorted([3, *BAD])
    one = only(write_table(tmp_path / "a.fits", ANDMASK=other, ORMASK=MARKS))
    assert (masked(one), one.remarks) == ([3], ())
    # Weights are no mask.
    one = only(write_table(tmp_path / "a.fits", DQ=other, DQ_WGT=np.ones(NPIX)))
    assert (masked(one), one.remarks) == ([3], ())


def test_a_mask_in_a_text_table_is_one(tmp_path: Path) -> None:
    table = Table({"wavelength": WAVE, "flux": FLUX, "dq": MARKS})
    table["wavelength"].unit, table["flux"].unit = "Angstrom", "Jy"
    table.write(tmp_path / "a.ecsv")
    assert masked(only(tmp_path / "a.ecsv")) == BAD


def test_formats_that_say_which_bits_are_bad(tmp_path: Path) -> None:
    marks = np.zeros(NPIX, np.int32)
    marks[[3, 5, 7]] = 1, 2, 8
    one = only(write_table(tmp_path / "a.fits", {"SDQFLAGS": 10}, DQ=marks))
    assert masked(one) == [5, 7]
    one = only(write_table(tmp_path / "a.fits", {"TELESCOP": "JWST"}, DQ=marks))
    assert masked(one) == [3]
    # The highest bit of 32, and no number where there is no flag, as in tables of floats.
    floats = np.where(marks == 1, np.nan, -(2.0**31))
    one = only(write_table(tmp_path / "a.fits", {"TELESCOP": "JWST"}, DQ=floats))
    assert masked(one) == []
    good = (MARKS == 0).astype(np.int64)
    one = only(write_table(tmp_path / "a.fits", {"DMODCLS": "OneSpec"}, mask=good))
    assert masked(one) == BAD
    one = only(write_table(tmp_path / "a.fits", {"TELESCOP": "FUSE"}, QUALITY=np.full(NPIX, 100)))
    assert masked(one) == []
    assert len(one.remarks) == 1


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("mask", np.where(MARKS, "bad", "ok"), "text"),
        ("flags", np.linspace(0.0, 1.0, NPIX), "nothing says"),
        ("OR_MASK", MARKS, "nothing says"),
        ("goodpix", MARKS, "nothing says"),
    ],
)
def test_what_looks_like_a_mask_and_is_not_taken_is_said(
    tmp_path: Path, name: str, values: npt.NDArray[Any], why: str
) -> None:
    one = only(write_table(tmp_path / "a.fits", **{name: values}))
    assert masked(one) == []
    (remark,) = one.remarks
    assert name in remark.kind
    assert why in remark.kind


def test_masks_tell_no_tables_apart_but_by_the_name_mask(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    tables = [
        fits.BinTableHDU(
            fits.getdata(write_table(path, **{name: MARKS}), 1), header=fits.getheader(path, 1)
        )
        for name in ("ANDMASK", "PIXMASK", "PIXMASK", "mask")
    ]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path, overwrite=True)
    assert [masked(one) for one in read_file(path)] == [BAD] * 3


def test_vectors_in_cells_have_their_own_masks(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    marks = np.stack([MARKS, np.roll(MARKS, 1)])
    table = Table(
        {
            "WAVE": np.stack([WAVE, WAVE]), "FLUX": np.stack([FLUX, FLUX]), "DQ": marks,
            "QUALITY": [1, 1],
        },
    )  # fmt: skip
    table["WAVE"].unit = "Angstrom"
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(table)]).writeto(path)
    first, second = read_file(path)
    assert masked(first) == BAD
    assert masked(second) == [at + 1 for at in BAD]
    assert first.remarks == ()


def test_images_beside_that_of_flux_are_masks_by_name_or_unit(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    for name in ("MASK", "PIXMASK", "DQ", "SPEC_MASK"):
        assert masked(only(write_images(path, fits.ImageHDU(MARKS, name=name)))) == BAD
    flags = fits.ImageHDU(MARKS)
    flags.header["BUNIT"] = "Flag Mask (bitwise)"
    assert masked(only(write_images(path, flags))) == BAD
    other = np.zeros(NPIX, np.uint8)
    other[0] = 1
    both = fits.ImageHDU(MARKS, name="MASK"), fits.ImageHDU(other, name="DQ")
    assert masked(only(write_images(path, *both))) == [0, *BAD]
    one = only(write_images(path, fits.ImageHDU(MARKS, name="SKY")))
    assert (masked(one), one.remarks) == ([], ())
    # Another shape: a certain mask is refused, a possible one is reported.
    one = only(write_images(path, fits.ImageHDU(MARKS[1:], name="PIXMASK")))
    assert masked(one) == []
    assert "another shape" in one.remarks[0].kind
    with pytest.raises(BadFile, match="HDU DQ has the shape"):
        only(write_images(path, fits.ImageHDU(MARKS[1:], name="DQ")))


def test_masks_that_a_loader_leaves_aside_are_laid_on_its_flux(tmp_path: Path) -> None:
    marks = np.zeros((3, 100), np.int16)
    # Of APOGEE's bits, 0-7 and 14 are bad; 8-13 are advice.
    for bit in range(15):
        marks[1, bit] = 1 << bit
    one = only(write_visit(tmp_path / "apVisit-a.fits", marks))
    bad = [100 + bit for bit in (*range(8), 14)]
    assert masked(one) == sorted(299 - at for at in bad)
    assert one.flux.tobytes() == FLUX[:300][::-1].tobytes()
    assert one.remarks == ()
    one = only(write_visit(tmp_path / "apVisit-a.fits", marks[:, 1:]))
    assert masked(one) == []
    assert "another shape" in one.remarks[0].kind


def test_emission_lines_of_spspec_are_no_bad_pixels(tmp_path: Path) -> None:
    path, planes = tmp_path / "spSpec-51602-0267-013.fit", np.ones((5, 100), np.float32)
    planes[3] = 0
    planes[3, :3] = [1 << 30, 1, (1 << 30) + (1 << 24)]
    image = fits.PrimaryHDU(planes)
    image.header.update(
        {
            "TELESCOP": "SDSS 2.5-M", "FIBERID": 13, "COEFF0": 3.58, "COEFF1": 1e-4,
            "CRVAL1": 3.58, "CD1_1": 1e-4, "CRPIX1": 1, "BUNIT": "1.0E-17 erg/cm/s/Ang",
        }
    )  # fmt: skip
    image.writeto(path)
    assert masked(only(path)) == [1, 2]


def test_masks_follow_a_loader_that_sorts_by_wavelength(tmp_path: Path) -> None:
    # Two segments in cells, the second before the first, as COS has them.
    path = tmp_path / "a.fits"
    half = NPIX // 2
    cells = {
        name: np.stack([values[half:], values[:half]])
        for name, values in {
            "WAVELENGTH": WAVE, "FLUX": FLUX.astype(np.float32),
            "ERROR": np.ones(NPIX, np.float32), "DQ": MARKS,
        }.items()
    }  # fmt: skip
    cells["FLUX"][0, 9] = np.nan
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "HST", "INSTRUME": "COS"})
    table = fits.table_to_hdu(Table({**cells, "SEGMENT": ["FUVA", "FUVB"]}))
    fits.HDUList([primary, table]).writeto(path)
    one = only(path)
    assert masked(one) == sorted([*BAD, half + 9])
    # Bits that the file calls serious.
    fits.setval(path, "SDQFLAGS", value=3, ext=1)
    assert masked(only(path)) == [half + 9]


def test_rules_of_bits() -> None:
    def bad(rule: MaskRule, values: np.ndarray, name: str) -> list[bool] | None:
        flags = rule.bad(values, name)
        return None if flags is None else flags.tolist()

    rule = MaskRule(serious=2)
    assert bad(rule, np.array([0, 1, 2, 3]), "DQ") == [False, False, True, True]
    assert bad(rule, np.array([0, 1, 2, 3]), "mask") == [False, True, True, True]
    assert rule.bad(np.array(["a"]), "mask") is None
    high = np.array([0, 2**63, 1], np.uint64)
    assert bad(MaskRule(), high, "mask") == [False, True, True]
    assert mask_rule([{"SDQFLAGS": True}]).serious is None
    assert all(name == name.lower() for name in MASKS)


@pytest.mark.proof
def test_what_reads_masks_honours_them_and_an_ingest_says_what_is_not_taken(
    tmp_path: Path,
) -> None:
    folder, data, report = tmp_path / "spectra", tmp_path / "data", tmp_path / "report.jsonl"
    folder.mkdir()
    for number in range(3):
        write_table(folder / f"m{number}.fits", {"RA": 10.0, "DEC": 1.0, "REDSHIFT": 0.0}, DQ=MARKS)
    for number in range(2):
        write_table(folder / f"t{number}.fits", OR_MASK=MARKS)
    given = ("ingest", "mine", folder, "--data", data, "--reader", "specutils", "--workers", 1)
    printed = " ".join(command(*given, "--report", report).split())
    assert printed.count("OR_MASK looks like a mask and is not taken") == 1
    assert "2 spectra, stored all the same" in printed
    notes = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(one["became"], Path(one["path"]).name, len(one["ids"])) for one in notes] == [
        ("stored", "t0.fits", 1), ("stored", "t1.fits", 1),
    ]  # fmt: skip
    with serve(data, folder) as running:
        client = SpecClient("mine", svc_url=running.url)
        ids = client.query(constraint="name LIKE 'm%'").tolist()
        one = client.getSpec(ids[0])
        assert one["ivar"].tobytes() == np.full(NPIX, 4.0).tobytes()
        spectrum = client.getSpec(ids[0], fmt="Spectrum1D")
        assert np.flatnonzero(spectrum.mask).tolist() == BAD
        rows = client.getSpec(ids, align="resample")
        # The lattice has steps of 1 Å; those within a masked pixel have its bit.
        at = np.searchsorted(rows["wavelength"][0], WAVE[BAD])
        assert (rows["mask"][:, at] == 1).all()
        made = client.stack(ids, "observed")
        inside = np.abs(made.wavelength[:, None] - WAVE[BAD]).min(axis=1) < 0.7
        assert (made.count[inside] == 0).all()
        # The lattice goes a pixel beyond the spectra at either end.
        assert (made.count[~inside][2:-2] == 3).all()


def test_spectra_stored_without_their_mask_are_in_conflict(tmp_path: Path) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    path = write_table(folder / "a.fits", DQ=np.zeros(NPIX, np.int16))
    given = ("ingest", "mine", folder, "--data", data, "--reader", "specutils", "--workers", 1)
    command(*given)
    write_table(path, DQ=MARKS)
    assert "other values are stored" in command(*given)
    assert "replaced 1" in " ".join(command(*given, "--replace").split())


@pytest.mark.proof
def test_real_files_have_their_masks(real_spectra: Path) -> None:
    folder = real_spectra / "other"
    visit = folder / "apVisit-r13-5095-55844-128.fits"
    with fits.open(visit) as hdus:
        wanted = (hdus[3].data & 0b0100000011111111).ravel()[::-1] != 0
    assert np.array_equal(only(visit).mask, wanted)
    assert wanted.sum() == 200
    segments = folder / "MRK209_cos_x1dsum.fits"
    with fits.open(segments) as hdus:
        serious = (hdus[1].data["DQ"] & hdus[1].header["SDQFLAGS"]).ravel() != 0
        wanted = serious[np.argsort(hdus[1].data["WAVELENGTH"].ravel())]
    assert np.array_equal(only(segments).mask, wanted)
    assert wanted.sum() == 3732
    (path,) = folder.glob("spSpec-*")
    bits = fits.getdata(path)[3].astype(np.int64)
    # 84 pixels have only the bit of an emission line.
    assert np.array_equal(only(path).mask, (bits & ~(1 << 30)) != 0)
    assert [(bits != 0).sum(), only(path).mask.sum()] == [274, 190]
    (path,) = folder.glob("med-58646-*")
    assert [int(one.mask.sum()) for one in read_file(path)] == [0, 0, 4, 4, 4, 0, 0, 0]
