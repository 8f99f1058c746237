"""fmt='FITS': the original release file, byte for byte, or one rebuilt that says so."""

import gzip
import hashlib
import io
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import urllib3
from astropy.io import fits
from astropy.units import UnitsWarning
from specutils import Spectrum

from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadParameter, NoOriginal
from specserver.ingest import run_ingest
from specserver.model.ids import unpack_specobjid
from specserver.surveys.sdss import SDSS

FIELDS = ("flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def number_of(path: Path) -> int:
    with fits.open(path, memmap=False) as hdus:
        return int(str(hdus[2].data["SPECOBJID"][0]).strip()) % 2**64


def bulk(running: Served, **asked: Any) -> Any:
    return urllib3.request("POST", f"{running.url}/bulk/files", json=asked, retries=False)


def classic(running: Served, **asked: Any) -> Any:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url, body = f"{running.url}/getSpec", urlencode(asked)
    return urllib3.request("POST", url, body=body, headers=headers, retries=False)


@pytest.fixture(scope="module")
def tree(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lite, full and gzipped files."""
    folder = tmp_path_factory.mktemp("tree")
    paths = sorted(mock_survey.rglob("spec-*.fits"))
    full = [path for path in paths if path.stat().st_size > 400_000][:2]
    lite = [path for path in paths if path.stat().st_size < 400_000][:4]
    assert len(full) == 2
    for path in (*full, *lite[:2]):
        shutil.copy2(path, folder)
    for path in lite[2:]:
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=1))
    return folder


@pytest.fixture(scope="module")
def running(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("tree-data")
    run_ingest(open_root(data), "sdss_dr17", [tree], workers=1)
    with serve(data, tree) as service:
        yield service


@pytest.fixture(scope="module")
def files(tree: Path) -> dict[int, Path]:
    return {number_of(path): path for path in sorted(tree.iterdir())}


def test_lite_full_and_gz_come_byte_for_byte(running: Served, files: dict[int, Path]) -> None:
    spec = SpecClient(svc_url=running.url)
    got = spec.getSpec(list(files), fmt="FITS")
    assert isinstance(got, list)
    for data, path in zip(got, files.values(), strict=True):
        assert sha256(data) == sha256(path.read_bytes())
    kinds = {
        (path.suffix, len(data) > 400_000) for data, path in zip(got, files.values(), strict=True)
    }
    assert kinds == {(".fits", False), (".fits", True), (".gz", False)}
    for number, path in files.items():
        one = spec.getSpec(number, fmt="fits")
        assert isinstance(one, bytes)
        assert one == path.read_bytes()


@pytest.mark.proof
def test_real_files_come_byte_for_byte(real_served: Served) -> None:
    spec = SpecClient(svc_url=real_served.url)
    known = {sha256(path.read_bytes()) for path in real_served.folder.rglob("spec-*.fits*")}
    got = spec.getSpec(real_served.ids, fmt="FITS")
    assert len(got) == len(real_served.ids)
    for number, data in zip(real_served.ids.tolist(), got, strict=True):
        assert sha256(data) in known
        with fits.open(io.BytesIO(data)) as hdus:
            assert int(str(hdus[2].data["SPECOBJID"][0]).strip()) % 2**64 == number


def test_files_keep_their_names(running: Served, files: dict[int, Path], tmp_path: Path) -> None:
    assert SpecClient(svc_url=running.url).getSpec(list(files), fmt="FITS", out=tmp_path) == "OK"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in files.values()
    }


@pytest.mark.parametrize(
    "more", [{"align": True}, {"cutout": "5000-6000"}, {"values": "flux"}, {"align": "resample"}]
)
def test_a_file_is_not_aligned_or_cut(
    running: Served, files: dict[int, Path], more: dict[str, Any]
) -> None:
    with pytest.raises(BadParameter, match="whole"):
        SpecClient(svc_url=running.url).getSpec(list(files), fmt="FITS", **more)


@pytest.fixture(scope="module")
def fragile(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service whose original files, but the last two, tests may spoil."""
    folder = tmp_path_factory.mktemp("fragile")
    for path in sorted(mock_survey.rglob("spec-*.fits"))[:8]:
        shutil.copy2(path, folder)
    data = tmp_path_factory.mktemp("fragile-data")
    run_ingest(open_root(data), "sdss_dr17", [folder], workers=1)
    with serve(data, folder) as service:
        yield service


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2880])


def touched(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))


def linked_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def flipped(path: Path) -> None:
    """Change one bit, and nothing that tells of it."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[50_000] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


SPOILT = (
    (gone, "reach"),
    (cut, "bytes then"),
    (touched, "time of change"),
    (linked_elsewhere, "changed|reach"),
    (replaced_by_a_pipe, "no file"),
    (flipped, "bytes are not those that were read"),
)


@pytest.mark.parametrize("case", range(len(SPOILT)), ids=[spoil.__name__ for spoil, _ in SPOILT])
def test_a_spoilt_original_is_never_served(fragile: Served, tmp_path: Path, case: int) -> None:
    spoil, said = SPOILT[case]
    spec = SpecClient(svc_url=fragile.url)
    number = sorted(fragile.ids.tolist())[case]
    plate, mjd, fiber, _ = unpack_specobjid(number).tolist()
    path = fragile.folder / f"spec-{plate:04d}-{mjd}-{fiber:04d}.fits"
    whole = spec.getSpec(number)
    others = sorted(fragile.ids.tolist())[-2:]
    spoil(path)
    with pytest.raises(
        NoOriginal, match=f"{number}.*{path.name}.*({said}).*fits='rebuilt'"
    ) as caught:
        spec.getSpec([others[0], number], fmt="FITS")
    assert str(path.parent) not in caught.value.message  # where files lie is told to nobody
    with pytest.raises(NoOriginal):
        spec.getSpec(number, fmt="FITS", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert bulk(fragile, ids=str(number)).status == 410
    assert classic(fragile, id_list=str(number), format="FITS").status == 410
    assert len(spec.getSpec(others, fmt="FITS")) == 2
    rebuilt = spec.getSpec(number, fmt="FITS", fits="rebuilt")
    with fits.open(io.BytesIO(rebuilt)) as hdus:
        assert np.array_equal(hdus[1].data["flux"], whole["flux"])


def test_only_recorded_paths_can_be_asked_for(running: Served) -> None:
    for ids in ("../../etc/passwd", "/etc/passwd", "file:///etc/passwd"):
        assert bulk(running, ids=ids).status == 400
    assert bulk(running, ids="123456").status == 404
    assert bulk(running, ids="123456", path="/etc/passwd").status == 422
    assert bulk(running, ids="123456", fits="forged").status == 422
    assert bulk(running, ids=str(running.ids[0]), context="../x").status == 404


def test_the_classic_endpoint_answers_one_file_or_an_archive(
    running: Served, files: dict[int, Path]
) -> None:
    for number, path in files.items():
        got = classic(running, id_list=str(number), format="FITS", align="False", cutout="")
        assert got.status == 200
        assert got.data == path.read_bytes()
        assert path.name in got.headers["Content-Disposition"]
    ids = [*files, next(iter(files))]
    got = classic(running, id_list="\n".join(map(str, ids)), format="fits")
    assert got.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(got.data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.name: path.read_bytes() for path in files.values()
        }
    number = str(ids[0])
    assert classic(running, id_list=number, format="FITS", align="True").status == 400
    assert classic(running, id_list=number, format="FITS", cutout="5000-6000").status == 400
    assert classic(running, id_list=number, format="FITS", fits="forged").status == 400
    assert (
        b"rebuilt by specserver"
        in classic(running, id_list=number, format="FITS", fits="rebuilt").data
    )


# Rebuilt files


@pytest.mark.proof
def test_a_rebuilt_file_says_what_it_is_and_holds_the_values(
    real_served: Served, tmp_path: Path
) -> None:
    spec = SpecClient(svc_url=real_served.url)
    ids = real_served.ids[::7].tolist()
    made = spec.getSpec(ids, fmt="FITS", fits="rebuilt")
    originals = spec.getSpec(ids, fmt="FITS")
    for number, data, original in zip(ids, made, originals, strict=True):
        assert data != original
        with fits.open(io.BytesIO(data)) as new, fits.open(io.BytesIO(original)) as old:
            new.verify("exception")
            assert new[0].header["ORIGIN"] == "specserver"
            assert "rebuilt by specserver" in str(new[0].header["HISTORY"])
            assert "not the release file" in str(new[0].header["HISTORY"])
            assert new[1].name == "COADD"
            assert new[1].columns.names == list(FIELDS)
            for name in FIELDS:
                values = np.asarray(new[1].data[name])
                assert values.tobytes() == np.asarray(old[1].data[name]).tobytes()
                assert values.dtype == old[1].data[name].dtype
            row, theirs = new[2].data[0], old[2].data[0]
            assert int(row["SPECOBJID"]) == number
            for name in ("PLATE", "MJD", "FIBERID"):
                assert new[0].header[name] == row[name] == theirs[name]
            assert new[0].header["RUN2D"] == row["RUN2D"] == str(theirs["RUN2D"]).strip()
            assert new[0].header["BUNIT"] == old[0].header["BUNIT"]
            assert new[0].header["TELESCOP"] == old[0].header["TELESCOP"]
            assert new[0].header["VERS2D"] == old[0].header["VERS2D"]
            assert new[0].header["RA"] == row["RA"]
            for name in ("Z", "PLUG_RA", "ZWARNING"):
                assert row[name] == theirs[name]
            assert row["CLASS"] == str(theirs["CLASS"]).strip()
    for number in ids[:4]:
        path = tmp_path / str(number)
        spec.getSpec([number], fmt="FITS", fits="rebuilt", out=path)
        (file,) = path.iterdir()
        assert file.name.startswith("spec-")
        with warnings.catch_warnings():
            # specutils warns of the slashes in SDSS's unit of flux, as it does of the original.
            warnings.filterwarnings("ignore", category=UnitsWarning)
            one = Spectrum.read(file)
        assert np.array_equal(one.flux.value, spec.getSpec(number)["flux"])
        assert one.meta["header"]["REBUILT"]


@pytest.mark.proof
def test_a_rebuilt_file_is_read_as_the_original_was(real_served: Served, tmp_path: Path) -> None:
    """The reader of the ingest takes it, and finds the same spectrum and catalogue row."""
    spec = SpecClient(svc_url=real_served.url)
    ids = real_served.ids[::9].tolist()
    for kind in ("original", "rebuilt"):
        spec.getSpec(ids, fmt="FITS", fits=kind, out=tmp_path / kind)
    for path in sorted((tmp_path / "rebuilt").iterdir()):
        (new,) = SDSS.reader.read(path)
        (old,) = SDSS.reader.read(tmp_path / "original" / path.name)
        assert (new.id, new.ra_deg, new.dec_deg, new.reduction) == (
            old.id,
            old.ra_deg,
            old.dec_deg,
            old.reduction,
        )
        assert new.axis.tobytes() == old.axis.tobytes()
        for name, values in old.vectors.items():
            assert new.vectors[name].tobytes() == values.tobytes()
        for name in ("z", "class", "subclass", "plate", "specprimary", "sn_median"):
            assert new.row[name] == old.row[name]


def test_a_rebuilt_gz_is_a_plain_file(
    running: Served, files: dict[int, Path], tmp_path: Path
) -> None:
    number = next(one for one, path in files.items() if path.suffix == ".gz")
    SpecClient(svc_url=running.url).getSpec([number], fmt="FITS", fits="rebuilt", out=tmp_path)
    (made,) = tmp_path.iterdir()
    assert made.name == files[number].name.removesuffix(".gz")
    assert made.read_bytes().startswith(b"SIMPLE")


def test_a_wrong_kind_is_refused(running: Served) -> None:
    with pytest.raises(BadParameter, match="original or rebuilt"):
        SpecClient(svc_url=running.url).getSpec(running.ids, fmt="FITS", fits="forged")  # type: ignore[arg-type]
