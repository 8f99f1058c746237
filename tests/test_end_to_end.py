"""From FITS files to arrays in a notebook, bit for bit, on mock files and on real ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from serving import Served
from specserver.client.api import SpecClient
from specserver.errors import BadConstraint, BadIdentifier, NotFound, UnknownContext, UnknownField
from specserver.model.ids import unpack_specobjid
from specserver.surveys.sdss import SDSS

FIELDS = ("flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model")


class Original:
    """What astropy reads of one file."""

    def __init__(self, path: Path) -> None:
        with fits.open(path, memmap=False) as hdus:
            self.coadd = {name: native(hdus[1].data[name]) for name in FIELDS}
            row = hdus[2].data[0]
            self.id = int(str(row["SPECOBJID"]).strip()) % 2**64
            self.z = row["Z"]
            self.kind = str(row["CLASS"]).strip()
            self.subclass = str(row["SUBCLASS"]).strip()
            self.plate, self.mjd, self.fiber = (int(row[n]) for n in ("PLATE", "MJD", "FIBERID"))
            self.run2d = str(row["RUN2D"]).strip()
            self.ra, self.dec = float(row["PLUG_RA"]), float(row["PLUG_DEC"])
            self.primary = int(row["SPECPRIMARY"])


def native(values: Any) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(values.dtype.newbyteorder("="))


def originals(folder: Path) -> dict[int, Original]:
    """Return all spectra of a folder by id; a lite and a full file are one."""
    found = (Original(path) for path in sorted(folder.rglob("spec-*.fits")))
    return {one.id: one for one in found}


@pytest.fixture(scope="module", params=["mock", "real"])
def case(
    request: pytest.FixtureRequest,
) -> tuple[SpecClient, dict[int, Original], Served]:
    """A client of a running service, and what astropy reads of the files it serves."""
    name = "served" if request.param == "mock" else "real_served"
    running: Served = request.getfixturevalue(name)
    return SpecClient(svc_url=running.url), originals(running.folder), running


def assert_same(spectrum: np.ndarray, original: Original) -> None:
    assert spectrum.dtype.names == FIELDS
    for name in FIELDS:
        assert spectrum[name].dtype == original.coadd[name].dtype
        assert spectrum[name].tobytes() == original.coadd[name].tobytes(), (original.id, name)


def test_every_vector_of_every_file_arrives_bit_for_bit(case: Any) -> None:
    spec, files, running = case
    every = spec.query(constraint="plate > 0", primary=False)
    assert every.dtype == np.uint64
    assert sorted(every.tolist()) == sorted(files) == sorted(running.ids.tolist())
    spectra = spec.getSpec(every)
    assert len(spectra) == len(files)
    for number, spectrum in zip(every.tolist(), spectra, strict=True):
        assert_same(spectrum, files[number])


def test_catalogue_values_equal_the_files(case: Any) -> None:
    spec, files, _ = case
    names = "specobjid,z,class,subclass,plate,mjd,fiberid,run2d,plug_ra,plug_dec,specprimary"
    table = spec.query(constraint="plate > 0", fields=names, primary=False)
    assert len(table) == len(files)
    for row in table:
        one = files[int(row["specobjid"])]
        assert np.float32(row["z"]).tobytes() == np.float32(one.z).tobytes()
        assert (row["class"], row["subclass"]) == (one.kind, one.subclass)
        assert (row["plate"], row["mjd"], row["fiberid"]) == (one.plate, one.mjd, one.fiber)
        assert row["run2d"] == one.run2d
        assert (row["plug_ra"], row["plug_dec"]) == (one.ra, one.dec)
        assert row["specprimary"] == one.primary


def test_one_identifier_gives_one_object_and_a_list_a_list(case: Any) -> None:
    spec, files, _ = case
    number = max(files)
    assert_same(spec.getSpec(number), files[number])
    for form in (np.uint64(number), str(number), _tuple(number), int(np.uint64(number).view("i8"))):
        assert_same(spec.getSpec(form), files[number])
    (one,) = spec.getSpec([number])
    assert_same(one, files[number])


def _tuple(number: int) -> tuple[int, int, int, str]:
    plate, mjd, fiber, run2d = unpack_specobjid(number).tolist()
    return plate, mjd, fiber, run2d


def test_order_and_duplicates_are_kept(case: Any) -> None:
    spec, files, _ = case
    ids = sorted(files)[:20]
    asked = [*ids[::-1], *ids, ids[3], ids[3]]
    for number, spectrum in zip(asked, spec.getSpec(asked), strict=True):
        assert_same(spectrum, files[number])


def test_aligned_is_a_shift_padded_with_zeros(case: Any) -> None:
    spec, files, _ = case
    ids = sorted(files)[:40]
    aligned = spec.getSpec(ids, align=True)
    assert aligned.ndim == 2
    assert (np.diff(aligned["loglam"], axis=1) > 0).all()
    assert (aligned["loglam"] == aligned["loglam"][0]).all()
    for number, row in zip(ids, aligned, strict=True):
        original = files[number].coadd
        start = int(np.flatnonzero(row["loglam"] == original["loglam"][0])[0])
        stop = start + len(original["loglam"])
        for name in FIELDS:
            assert row[name][start:stop].tobytes() == original[name].tobytes()
            if name != "loglam":
                assert not row[name][:start].any()
                assert not row[name][stop:].any()


def test_cutout_is_a_slice(case: Any) -> None:
    spec, files, _ = case
    ids = sorted(files)[:40]
    cut = spec.getSpec(ids, cutout="6500-7200", values="flux,loglam")
    assert cut.dtype.names == ("flux", "loglam")
    for number, row in zip(ids, cut, strict=True):
        original = files[number].coadd
        inside = (original["loglam"] > np.log10(6500)) & (original["loglam"] < np.log10(7200))
        assert row["flux"].tobytes() == original["flux"][inside].tobytes()


def test_values_cut_the_record_down(case: Any) -> None:
    spec, files, _ = case
    ids = sorted(files)[:5]
    for number, one in zip(ids, spec.getSpec(ids, values=["ivar", "flux"]), strict=True):
        assert set(one.dtype.names) == {"flux", "ivar"}
        assert one["ivar"].tobytes() == files[number].coadd["ivar"].tobytes()
    with pytest.raises(UnknownField, match="flux"):
        spec.getSpec(ids, values="fluxx")


def test_tuples_with_wildcards(case: Any) -> None:
    spec, files, _ = case
    one = files[sorted(files)[len(files) // 2]]
    mates = [f for f in files.values() if (f.plate, f.mjd) == (one.plate, one.mjd)]
    for form in ((one.plate,), (one.plate, one.mjd), (one.plate, one.mjd, "*")):
        assert len(spec.getSpec(form)) == len({f.fiber for f in mates})
    few = [f for f in mates if one.fiber <= f.fiber <= one.fiber + 100]
    got = spec.getSpec((one.plate, one.mjd, f"{one.fiber}-{one.fiber + 100}", one.run2d))
    assert len(got) == len([f for f in few if f.run2d == one.run2d])
    assert_same(spec.getSpec((one.plate, one.mjd, one.fiber, one.run2d)), one)


def test_conversions_carry_units_and_masks(case: Any) -> None:
    spec, files, _ = case
    ids = sorted(files)[:6]
    scale = u.Unit("1e-17 erg / (s cm2 Angstrom)")
    for number, one in zip(ids, spec.getSpec(ids, fmt="Spectrum1D"), strict=True):
        original = files[number].coadd
        assert one.flux.unit.is_equivalent(scale)
        assert np.array_equal(one.flux.to_value(scale).astype("f4"), original["flux"])
        assert np.array_equal(one.mask, original["ivar"] == 0)
        ivar = one.uncertainty.quantity.to_value(scale**-2)
        assert np.allclose(ivar, original["ivar"], rtol=1e-6)
        assert np.allclose(one.spectral_axis.to_value("AA"), 10 ** original["loglam"].astype("f8"),
                           rtol=3e-7)  # fmt: skip
    for number, frame in zip(ids, spec.getSpec(ids, fmt="pandas"), strict=True):
        assert np.array_equal(frame["flux"].to_numpy(), files[number].coadd["flux"])
    for number, table in zip(ids, spec.getSpec(ids, fmt="tables"), strict=True):
        assert np.array_equal(np.asarray(table["ivar"]), files[number].coadd["ivar"])
    both = spec.getSpec(ids, fmt="Spectrum1D", align=True)
    assert both.flux.shape[0] == len(ids)


def test_query_by_position_in_all_forms(case: Any) -> None:
    spec, files, _ = case
    one = files[min(files)]
    far = SkyCoord(one.ra * u.deg, one.dec * u.deg)
    places = SkyCoord([f.ra for f in files.values()], [f.dec for f in files.values()], unit="deg")
    near = far.separation(places).deg <= 2.0
    expected = sorted(np.array(list(files))[near].tolist())
    for found in (
        spec.query(one.ra, one.dec, 2.0, primary=False),
        spec.query(far, 2.0, primary=False),
        spec.query(far.galactic, size=2.0, primary=False),
        spec.query(ra=one.ra, dec=one.dec, size=2.0, primary=False),
    ):
        assert sorted(found.tolist()) == expected
    box = [(one.ra - 1, one.dec - 1), (one.ra + 1, one.dec - 1), (one.ra + 1, one.dec + 1),
           (one.ra - 1, one.dec + 1)]  # fmt: skip
    assert one.id in spec.query(box, primary=False).tolist()
    flat = [coordinate for corner in box for coordinate in corner]
    assert sorted(spec.query(flat, primary=False)) == sorted(spec.query(box, primary=False))


def test_query_fields_and_files(case: Any, tmp_path: Path) -> None:
    spec, files, _ = case
    tuples = spec.query(constraint="z > -1 limit 5", fields="tuple")
    assert all(isinstance(one, tuple) and len(one) == 4 for one in tuples)
    z = spec.query(constraint="plate > 0 order by z", fields="z", primary=False)
    assert np.array_equal(z, np.sort(np.array([f.z for f in files.values()])))
    out = tmp_path / "ids.txt"
    assert spec.query(constraint="plate > 0", out=str(out), primary=False) == "OK"
    spectra = spec.getSpec(str(out))
    assert len(spectra) == len(files)
    # A link, as /dev/stdout is one, is written into and stays a link.
    link = tmp_path / "link.txt"
    link.symlink_to(out)
    text = out.read_text()
    assert spec.query(constraint="plate > 0 limit 1", out=link, primary=False) == "OK"
    assert link.is_symlink()
    assert out.read_text() == text.partition("\n")[0] + "\n"


def test_errors_say_what_is_right(case: Any) -> None:
    spec, files, _ = case
    with pytest.raises(NotFound, match="1234567"):
        spec.getSpec([next(iter(files)), 1234567])
    with pytest.warns(UserWarning, match="1 of 2"):
        assert len(spec.getSpec([next(iter(files)), 1234567], missing="skip")) == 1
    with pytest.raises(BadIdentifier):
        spec.getSpec("not an id")
    with pytest.raises(UnknownContext, match="sdss_dr17"):
        spec.getSpec(next(iter(files)), context="sdss_dr8")
    with pytest.raises(BadConstraint):
        spec.query(constraint="z > 1; drop table objects")


def test_the_service_is_alive_and_tells_its_contexts(case: Any) -> None:
    spec, _, running = case
    assert spec.isAlive()
    assert spec.isAlive(running.url)
    assert not SpecClient(svc_url="http://127.0.0.1:9/spec").isAlive(timeout=1)
    assert {"default", "sdss_dr17"} <= set(spec.list_contexts(fmt="json"))
    spec.set_context("sdss_dr17")
    assert spec.get_context() == "sdss_dr17"
    with pytest.raises(UnknownContext, match="sdss_dr17"):
        spec.set_context("sdss_dr99")
    assert "sdss_dr17.specobj" in spec.catalogs("sdss_dr17")
    spec.set_context("default")


@pytest.mark.proof
def test_other_programs_open_a_segment(case: Any) -> None:
    _, files, running = case
    path = next(running.data.glob("sdss_dr17/seg-*/cube.zarr"))
    group = zarr.open_group(path, mode="r")
    dataset = xarray.open_zarr(path, consolidated=False)
    assert {"id", "first", "count", "wavelength"} < set(dataset.coords)
    for name in ("id", "first", "count"):
        assert dataset[name].attrs["long_name"]
    assert "first - first_pixel" in dataset["first"].attrs["description"]
    for kind in ("float32", "int32"):
        named = group[f"vector_{kind}"][:].tolist()
        assert dataset[f"vector_{kind}"].to_numpy().tolist() == named
        told = [group[kind].attrs["vectors"], dataset[kind].attrs["vectors"]]
        record = {vector.name: vector for vector in SDSS.vectors}
        for about in (*told[0], *told[1]):
            assert about["units"] == record[about["name"]].unit
            assert about["long_name"] == record[about["name"]].meaning
        assert [about["name"] for about in told[0]] == named
    for row, number in enumerate(dataset["id"].to_numpy().tolist()):
        original = files[number].coadd
        start = int(dataset["first"][row]) - int(dataset.attrs["first_pixel"])
        stop = start + int(dataset["count"][row])
        for name, kind in (("flux", "float32"), ("model", "float32"), ("and_mask", "int32")):
            values = dataset[kind].sel({f"vector_{kind}": name})[row, start:stop].to_numpy()
            assert values.tobytes() == original[name].tobytes()
            at = group[f"vector_{kind}"][:].tolist().index(name)
            assert group[kind][row, at, start:stop].tobytes() == original[name].tobytes()
        wave = dataset["wavelength"][start:stop].to_numpy()
        assert np.allclose(np.log10(wave), original["loglam"], atol=5e-7)
        if row == 9:
            break
