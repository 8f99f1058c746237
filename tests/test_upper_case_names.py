"""Names of files in capitals, and with the other endings of FITS files, are those of spectra."""

import gzip
import shutil
from pathlib import Path

import pytest

from commands import command
from serving import serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.service.fits_tree_source import add_tree
from specserver.simulate import simulate_desi
from specserver.surveys.declaration import is_spectrum_name, stem_of
from specserver.surveys.desi import DESI, DESI_EXPOSURES
from specserver.surveys.lamost import LAMOST
from specserver.surveys.sdss import SDSS
from test_generic import write_table
from test_lamost import write_lamost

ENDINGS = (".FITS", ".FITS.GZ", ".FIT", ".FTS", ".fits.GZ", ".fit", ".fit.gz")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("reader", "stem"),
    [
        (SDSS.reader, "spec-0267-51602-0013"),
        (LAMOST.reader, "spec-58397-EG014118N254444M01_sp03-031"),
        (DESI.reader, "coadd-main-dark-9144"),
        (DESI.reader, "coadd-5-169-thru20210419"),
        (DESI_EXPOSURES.reader, "spectra-sv3-dark-9144"),
    ],
)
def test_every_case_and_ending_means_the_same(reader: object, stem: str, ending: str) -> None:
    usual = reader.identify(Path(f"{stem}.fits"))  # type: ignore[attr-defined]
    for name in (stem.upper() + ending, stem + ending):
        key = reader.identify(Path(name))  # type: ignore[attr-defined]
        assert key is not None
        assert key.group == usual.group
    assert reader.identify(Path(f"{stem}{ending}.bak")) is None  # type: ignore[attr-defined]
    assert DESI.reader.is_companion(Path(f"REDROCK-MAIN-DARK-9144{ending}"))


def renamed(path: Path, folder: Path, ending: str) -> Path:
    """Copy a file under its name in capitals."""
    content = path.read_bytes()
    target = folder / (path.name.removesuffix(".fits").upper() + ending)
    target.write_bytes(gzip.compress(content, 1) if ending.lower().endswith(".gz") else content)
    return target


@pytest.mark.parametrize("ending", [".FITS", ".FITS.GZ", ".FIT"])
def test_files_of_every_survey_are_stored(ending: str, mock_survey: Path, tmp_path: Path) -> None:
    folder, data = tmp_path / "in", tmp_path / "data"
    folder.mkdir()
    simulate_desi(tmp_path / "desi", 4)
    (coadd,) = (tmp_path / "desi").rglob("coadd-*.fits")
    sources = {
        "sdss_dr17": min(mock_survey.rglob("spec-*.fits")),
        "lamost_dr7": write_lamost(tmp_path),
        "desi_dr1": coadd,
    }
    renamed(coadd.with_name(coadd.name.replace("coadd", "redrock")), folder, ending)
    for source in sources.values():
        renamed(source, folder, ending)
    for context, source in sources.items():
        summary = run_ingest(open_root(data), context, [folder], workers=1)
        survey = {"sdss_dr17": SDSS, "lamost_dr7": LAMOST, "desi_dr1": DESI}[context]
        plain = survey.reader.read(source)
        assert summary.stored == len(plain)
        (path,) = [one for one in folder.iterdir() if survey.reader.identify(one)]
        for one, other in zip(plain, survey.reader.read(path), strict=True):
            assert one.vectors["flux"].tobytes() == other.vectors["flux"].tobytes()
            assert one.row["z"] == other.row["z"]
    said = command("info", "--data", data)
    assert all(context in said for context in sources)


def test_files_of_a_tree_are_found(mock_survey: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(mock_survey, tree)
    spectra = []
    for path in sorted(tree.rglob("spec-*.fits"))[:4]:
        spectra += SDSS.reader.read(path)
        renamed(path, path.parent, ".FITS")
        path.unlink()
    add_tree(
        open_root(tmp_path / "data"), "sdss_dr17", tree, reductions=["v5_7_0", "v5_10_0", "v5_13_0"]
    )
    with serve(tmp_path / "data", tree) as running:
        client = SpecClient(svc_url=running.url)
        for one in spectra:
            got = client.getSpec(one.id)
            assert got["flux"].tobytes() == one.vectors["flux"].tobytes()
        assert len(client.getSpec(spectra[0].id, fmt="FITS")) > 100_000


@pytest.mark.proof
def test_rebuilt_files_keep_a_name_that_ends_as_fits_files_do(
    mock_survey: Path, tmp_path: Path
) -> None:
    path = renamed(min(mock_survey.rglob("spec-*.fits")), tmp_path, ".FITS.GZ")
    run_ingest(open_root(tmp_path / "data"), "sdss_dr17", [path], workers=1)
    path.unlink()
    with serve(tmp_path / "data", tmp_path) as running:
        client = SpecClient(svc_url=running.url)
        out = tmp_path / "out"
        out.mkdir()
        client.getSpec(
            client.query(constraint="dec > -90", primary=False),
            fmt="FITS",
            fits="rebuilt",
            out=str(out),
        )
    names = [one.name for one in out.iterdir()]
    assert names == [path.name.removesuffix(".GZ")]


def test_own_files_have_the_same_stem_in_every_case(tmp_path: Path) -> None:
    for name in ("a.fits", "a.FITS", "a.FITS.GZ", "a.fits.Gz", "a.FIT"):
        assert is_spectrum_name(Path(name))
        assert stem_of(Path(name)) == "a"
    source = write_table(tmp_path / "a.fits")
    folder = tmp_path / "in"
    folder.mkdir()
    renamed(source, folder, ".FITS")
    words = ["my_survey", folder, "--reader", "specutils", "--data", tmp_path / "data"]
    command("ingest", *words, "--workers", 1, "--strict")
    assert "my_survey" in command("info", "--data", tmp_path / "data")
