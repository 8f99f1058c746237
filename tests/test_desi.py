"""A survey with many spectra a file, arms, negative identifiers and signed keys, end to end."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from serving import serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import NotFound, StoreError, UnknownField
from specserver.ingest import run_ingest
from specserver.ingest.verify import verify
from specserver.model.grid import PixelRange
from specserver.service import QueryRequest, SpectroscopicService
from specserver.simulate import simulate_desi
from specserver.store.layout import SegmentInfo, commit_segment
from specserver.store.writer import SegmentArrays, write_arrays
from specserver.store.zarr import Segment
from specserver.surveys.desi import DESI
from stored import chunk_of

ARMS = {"b": (0, 2751), "r": (2700, 5026), "z": (4900, 7781)}


@pytest.fixture(scope="module")
def mock_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desi")
    simulate_desi(folder, 60, seed=5, per_file=20, exposures=True)
    return folder


@pytest.fixture(scope="module", params=["mock", "real"])
def files(request: pytest.FixtureRequest) -> Path:
    if request.param == "mock":
        return request.getfixturevalue("mock_files")
    return request.getfixturevalue("real_spectra") / "desi"


@pytest.fixture(scope="module")
def client(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpecClient]:
    data = tmp_path_factory.mktemp("desi-data") / "data"
    for context in ("desi_edr", "desi_edr_exposures"):
        summary = run_ingest(open_root(data), context, [files], workers=1)
        assert summary.stored
        assert not summary.refused
        again = run_ingest(open_root(data), context, [files], workers=1)
        assert (again.stored, again.files) == (0, summary.files)
    assert not [fault for finding in verify(open_root(data)) for fault in finding.faults]
    with serve(data, files) as running:
        yield SpecClient("desi_edr", svc_url=running.url)


def opened(folder: Path, pattern: str) -> Iterator[fits.HDUList]:
    for path in sorted(folder.rglob(pattern)):
        with fits.open(path) as units:
            yield units


@pytest.mark.proof
def test_arms_come_as_the_files_have_them(client: SpecClient, files: Path) -> None:
    for units in opened(files, "coadd-*.fits"):
        header, ids = units[0].header, units["FIBERMAP"].data["TARGETID"].tolist()
        if "SURVEY" in header:
            asked = [(one, header["SURVEY"], header["PROGRAM"]) for one in ids]
        else:
            asked = ids
        for arm, (first, stop) in ARMS.items():
            names = [f"{name}_{arm}" for name in ("flux", "ivar", "mask")]
            found = client.getSpec(asked, values=["wavelength", *names])
            aligned = client.getSpec(asked, values=names, align=True)
            assert aligned.shape == (len(ids), stop - first)
            for row, (one, line) in enumerate(zip(found, aligned, strict=True)):
                for name in names:
                    published = units[name.upper()[-1] + "_" + name[:-2].upper()].data[row]
                    expected = published.astype(one.dtype[name])
                    assert one[name].tobytes() == line[name].tobytes() == expected.tobytes()
                published = units[f"{arm.upper()}_WAVELENGTH"].data
                # The files step as numpy.arange does, and end 5e-10 Å off the lattice.
                assert np.abs(one["wavelength"] - published).max() < 1e-9


def test_the_whole_is_the_arms_and_their_mean_in_the_overlaps(client: SpecClient) -> None:
    ids = client.query(constraint="targetid <> 0", primary=False, fields="tuple")
    whole = client.getSpec(ids)
    assert whole[0].dtype.names == ("flux", "wavelength", "ivar", "mask")
    assert all(np.array_equal(one["wavelength"], 3600 + 0.8 * np.arange(7781)) for one in whole)
    names = [f"{name}_{arm}" for arm in ARMS for name in ("flux", "ivar", "mask")]
    for one, arms in zip(whole, client.getSpec(ids, values=names), strict=True):
        assert len(arms) == 7781
        alone = np.ones(7781, bool)
        for low, high, (left, right) in ((2700, 2751, "br"), (4900, 5026, "rz")):
            alone[low:high] = False
            cut = slice(low, high)
            weights = [
                np.where(arms[f"mask_{arm}"][cut] == 0, arms[f"ivar_{arm}"][cut], 0).astype("f8")
                for arm in (left, right)
            ]
            fluxes = [arms[f"flux_{arm}"][cut].astype("f8") for arm in (left, right)]
            total = weights[0] + weights[1]
            good = total > 0
            mean = (weights[0] * fluxes[0] + weights[1] * fluxes[1])[good] / total[good]
            assert np.array_equal(one["flux"][cut][good], mean.astype("f4"))
            assert np.array_equal(one["ivar"][cut], total.astype("f4"))
        for name in ("flux", "ivar", "mask"):
            each = np.zeros(7781, one.dtype[name])
            for arm, (first, stop) in ARMS.items():
                each[first:stop] = arms[f"{name}_{arm}"][first:stop]
            assert np.array_equal(one[name][alone], each[alone])


def test_redshifts_are_those_of_the_same_target(client: SpecClient, files: Path) -> None:
    fields = "targetid,survey,program,healpix,tileid,z,zerr,zwarn,spectype,deltachi2,ra,dec"
    rows = client.query(constraint="targetid <> 0", primary=False, fields=fields)
    known = {}
    for units in opened(files, "redrock-*.fits"):
        header = units[0].header
        place = tuple(header.get(name) for name in ("HPXPIXEL", "SURVEY", "PROGRAM"))
        place = place if place[0] is not None else (header["TILEID"],)
        known |= {(*place, int(one["TARGETID"])): one for one in units["REDSHIFTS"].data}
    joined = 0
    for row in rows:
        place = (int(row["tileid"]),)
        if row["healpix"] >= 0:
            place = (int(row["healpix"]), row["survey"], row["program"])
        found = known.get((*place, int(row["targetid"])))
        if found is not None:
            joined += 1
            for name in ("z", "zerr", "zwarn", "deltachi2"):
                assert row[name] == found[name.upper()]
            assert row["spectype"] == found["SPECTYPE"].strip()
    assert joined


def test_bad_fibres_are_carried_with_their_flags(client: SpecClient, files: Path) -> None:
    empty = 0
    for units in opened(files, "coadd-*.fits"):
        table = units["FIBERMAP"].data
        for row, number in enumerate(table["TARGETID"].tolist()):
            if not units["B_FLUX"].data[row].any() and not units["R_FLUX"].data[row].any():
                (one,) = client.getSpec([number], values="ivar,flux")
                assert not one["ivar"].any()
                status = client.query(
                    constraint=f"targetid = {number}", fields="coadd_fiberstatus", primary=False
                )
                assert int(status[0]) == int(table["COADD_FIBERSTATUS"][row])
                empty += 1
    assert empty


def test_identifiers_alone_in_tuples_and_with_wildcards(client: SpecClient) -> None:
    rows = client.query(constraint="targetid <> 0", primary=False, fields="tuple")
    number, survey, program, _ = rows[0]
    one = client.getSpec((number, survey, program))
    assert one.shape == (7781,)
    assert np.array_equal(client.getSpec(number), one)
    assert np.array_equal(client.getSpec(f"({number}, {survey}, *)")[0], one)
    assert np.array_equal(client.getSpec(str(number)), one)
    assert len(client.getSpec((number, "*", program))) == 1
    assert len(client.getSpec([(number, survey), number])) == 2
    table = client.query(
        constraint="targetid <> 0", primary=False, fields="targetid,survey,program"
    )
    assert len(client.getSpec(table)) == len(table)
    negative = [row for row in rows if row[0] < 0]
    assert negative
    assert len(client.getSpec([row[0] for row in negative])) == len(negative)
    with pytest.raises(NotFound):
        client.getSpec((number, survey, "nowhere"))
    with pytest.raises(UnknownField, match="flux_b"):
        client.getSpec(number, values="flux_x")


def test_exposures_are_a_context_of_their_own(client: SpecClient, files: Path) -> None:
    rows = client.query(
        constraint="targetid <> 0", primary=False, fields="tuple", context="desi_edr_exposures"
    )
    published = {}
    for units in opened(files, "spectra-*.fits"):
        table = units["FIBERMAP"].data
        for row, (number, expid) in enumerate(zip(table["TARGETID"], table["EXPID"], strict=True)):
            published[int(number), int(expid)] = units["R_FLUX"].data[row].astype("<f4")
    assert set(rows) == set(published)
    found = client.getSpec(rows, values="flux_r", context="desi_edr_exposures")
    for key, one in zip(rows, found, strict=True):
        assert one["flux_r"].tobytes() == published[key].tobytes()
    number = rows[0][0]
    several = client.getSpec(f"({number}, '*')", context="desi_edr_exposures")
    assert len(several) == sum(key[0] == number for key in published)


def test_pictures_are_drawn(client: SpecClient) -> None:
    ids = client.query(constraint="targetid > 0", fields="tuple", primary=True)
    assert client.preview(ids[0]).size[0] > 100
    assert client.plotGrid(ids[:4], 2, 2).size[0] > 100
    assert client.stackedImage(ids, align=True, fmt="numpy").shape == (len(ids), 7781)
    assert client.getSpec(ids[0], fmt="Spectrum1D").flux.unit.to_string().startswith("1e-17")


@pytest.mark.proof
def test_the_best_of_each_target_is_marked_among_all(tmp_path: Path, mock_files: Path) -> None:
    (first, *_) = sorted(mock_files.rglob("coadd-*.fits"))
    spectra = DESI.reader.read(first)
    numbers = [one.id for one in spectra]
    # The same targets in another programme: deeper for the first half, failed for the others.
    other = tmp_path / "other"
    other.mkdir()
    for kind in ("coadd", "redrock"):
        source = first.with_name(first.name.replace("coadd", kind))
        with fits.open(source) as units:
            header = units[0].header
            words = (header["SURVEY"], header["PROGRAM"], str(header["HPXPIXEL"]))
            header["PROGRAM"] = "other"
            if kind == "redrock":
                half = len(numbers) // 2
                units["REDSHIFTS"].data["ZWARN"][:half] = 0
                units["REDSHIFTS"].data["ZWARN"][half:] = 4
                units["TSNR2"].data["TSNR2_LRG"][:half] = 1e6
            units.writeto(other / f"{kind}-{words[0]}-other-{words[2]}.fits")
    data = tmp_path / "data"
    assert run_ingest(open_root(data), "desi_edr", [first], workers=1).stored == len(numbers)
    assert run_ingest(open_root(data), "desi_edr", [other], workers=1).stored == len(numbers)
    service = SpectroscopicService(open_root(data))
    fields = ("targetid", "program", "zwarn", "zcat_primary")
    rows = service.query(QueryRequest("desi_edr", fields=fields, primary=False)).to_pylist()
    assert len(rows) == 2 * len(numbers)
    for number in numbers:
        mine = {row["program"]: row for row in rows if row["targetid"] == number}
        assert sum(row["zcat_primary"] for row in mine.values()) == 1
        best = next(row for row in mine.values() if row["zcat_primary"])
        good = [row for row in mine.values() if row["zwarn"] == 0]
        assert not good or best in good
        selection = service.resolve([number], "desi_edr")
        assert selection.nspec == 1
        (told,) = service.query(
            QueryRequest("desi_edr", constraint=f"targetid = {number}", fields=("program",))
        ).to_pylist()
        assert told["program"] == best["program"]
    assert service.query(QueryRequest("desi_edr")).num_rows == len(numbers)


def arrays_of(tmp_path: Path, *, change: bool = False) -> Segment:
    """Write some arms; with a change, where the store would not keep it."""
    rng = np.random.default_rng(1)
    vectors = {one.name: [] for one in DESI.vectors}
    for _ in range(3):
        for name, kind in (("flux", "<f4"), ("ivar", "<f4"), ("mask", "<u4")):
            whole = rng.normal(0, 1000, 7781).astype(kind if kind != "<u4" else "<i4").astype(kind)
            vectors[name].append(whole)
            for arm, (first, stop) in ARMS.items():
                values = whole[first:stop].copy()
                for low, high in next(v.own for v in DESI.extra if v.name == f"{name}_{arm}"):
                    values[low - first : high - first] = rng.integers(0, 9, high - low)
                vectors[f"{name}_{arm}"].append(values)
    if change:
        vectors["flux_r"][1][1300] += 1
    arrays = SegmentArrays(np.arange(3), np.zeros(3, np.int32), np.full(3, 7781, np.int32), vectors)
    folder = open_root(tmp_path).context("desi_edr").segment("seg-1")
    write_arrays(folder, replace(DESI), "desi_edr", arrays, on_lattice=True)
    commit_segment(folder, SegmentInfo(folder.name, "desi_edr", "desi", 3, True, 0, "a test"))
    segment = Segment(folder)
    for name, values in vectors.items():
        first, stop = ARMS.get(name[-1], (0, 7781)) if "_" in name else (0, 7781)
        whole = np.array([np.pad(one, (first, 7781 - stop)) for one in values])
        for run in (PixelRange(0, 7781), PixelRange(2600, 2720), PixelRange(4950, 7000)):
            read = segment.request([name], np.array([2, 0]), run)()[name]
            expected = whole[[2, 0], run.first : run.stop]
            assert read.tobytes() == expected.tobytes()
            laid = np.ones((2, run.count + 2), read.dtype)
            segment.request([name], np.array([2, 0]), run)(lambda *_, laid=laid: [*laid[:, 1:-1]])
            assert laid.tobytes() == np.pad(expected, ((0, 0), (1, 1)), constant_values=1).tobytes()
    return segment


def test_what_arms_share_is_stored_once(tmp_path: Path) -> None:
    segment = arrays_of(tmp_path)
    whole, *arms = (
        sum(chunk_of(segment, name, row)[2] for row in range(3))
        for name in ("flux", "flux_b", "flux_r", "flux_z")
    )
    assert sum(arms) < 0.15 * whole


def test_an_arm_that_differs_where_it_should_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="flux_r: differs from flux"):
        arrays_of(tmp_path, change=True)
