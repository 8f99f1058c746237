"""Files that were cut off: refused with the reason by every survey and reader, then taken whole."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from commands import command
from serving import serve
from specserver.catalog.tables.tablefile import read_table
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadFile, IngestError, SpecServerError
from specserver.ingest.declare import declare
from specserver.ingest.option_effects import SurveyOptions
from specserver.model.ids import unpack_specobjid
from specserver.ops.wholefits import require_whole
from specserver.service.fits_tree_source import add_tree
from specserver.simulate import simulate_desi
from specserver.store.layout import list_segments
from specserver.surveys.sdss import SDSS
from test_generic import write_table
from test_lamost import write_lamost

BLOCK = 2880


@pytest.fixture(scope="module")
def samples(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each survey, by the context that it goes into."""
    folder = tmp_path_factory.mktemp("samples")
    simulate_desi(folder / "desi", 40, seed=3, per_file=20, exposures=True)
    return {
        "sdss_dr17": next(iter(sorted(mock_survey.rglob("full/**/spec-*.fits")))),
        "desi_edr": min((folder / "desi").rglob("coadd-*.fits")),
        "desi_edr_exposures": min((folder / "desi").rglob("spectra-*.fits")),
        "lamost_dr7": write_lamost(folder),
        "my_survey": write_table(folder / "one.fits"),
    }


def borders(path: Path) -> list[int]:
    """Return where the HDUs of a file end, bytes."""
    with fits.open(path) as hdus:
        return [one._data_offset + one._data_size for one in hdus]


def ingest(data: Path, context: str, folder: Path, *, code: int) -> str:
    """Ingest a folder by the command, strictly."""
    more = ["--reader", "specutils"] if context == "my_survey" else []
    words = [context, folder, "--data", data, "--workers", 1, "--strict"]
    return command("ingest", *words, *more, code=code)


def stored(data: Path, context: str) -> int:
    """Return how many spectra a context holds."""
    return sum(info.nspec for info in list_segments(open_root(data).context(context)))


@pytest.mark.proof
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(
    "context", ["sdss_dr17", "desi_edr", "desi_edr_exposures", "lamost_dr7", "my_survey"]
)
def test_a_cut_file_is_refused_and_the_whole_one_is_stored_later(
    context: str, packed: bool, samples: dict[str, Path], tmp_path: Path
) -> None:
    whole = samples[context].read_bytes()
    end = borders(samples[context])[-1]
    assert end == len(whole)
    path = tmp_path / "in" / (samples[context].name + (".gz" if packed else ""))
    path.parent.mkdir()
    for left in (len(whole) // 2, len(whole) - BLOCK // 2):
        path.write_bytes(gzip.compress(whole[:left], 1) if packed else whole[:left])
        said = ingest(tmp_path / "data", context, path.parent, code=1)
        assert path.name in said
        assert "cut off" in said
        assert stored(tmp_path / "data", context) == 0
    path.write_bytes(gzip.compress(whole, 1) if packed else whole)
    ingest(tmp_path / "data", context, path.parent, code=0)
    assert stored(tmp_path / "data", context) > 0


@pytest.mark.parametrize("context", ["sdss_dr17", "lamost_dr7", "desi_edr", "my_survey"])
def test_a_packed_file_that_is_cut_or_changed_is_refused(
    context: str, samples: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    whole = gzip.compress(samples[context].read_bytes(), 1)
    checksum = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]
    for spoilt in (whole[:-1], whole[:-8], whole[: len(whole) // 2], checksum):
        (folder / (samples[context].name + ".gz")).write_bytes(spoilt)
        said = ingest(tmp_path / "data", context, folder, code=1)
        assert "does not unpack to its end" in said
    assert stored(tmp_path / "data", context) == 0


def test_the_real_coadd_of_five_targets_cut_at_1208160_bytes(
    real_spectra: Path, tmp_path: Path
) -> None:
    original = real_spectra / "desi" / "coadd-1-80693-thru20210204.fits"
    path = tmp_path / "in" / original.name
    path.parent.mkdir()
    path.write_bytes(original.read_bytes()[:1_208_160])
    said = ingest(tmp_path / "data", "desi_edr", path.parent, code=1)
    assert "cut off inside HDU 11" in said
    shutil.copy(original, path)
    ingest(tmp_path / "data", "desi_edr", path.parent, code=0)
    assert stored(tmp_path / "data", "desi_edr") == 5


@pytest.mark.parametrize("context", ["sdss_dr17", "desi_edr", "desi_edr_exposures", "lamost_dr7"])
def test_a_cut_anywhere_but_between_hdus_is_seen(
    context: str, samples: dict[str, Path], tmp_path: Path
) -> None:
    whole, ends = samples[context].read_bytes(), borders(samples[context])
    path = tmp_path / "cut.fits"
    rng = np.random.default_rng(5)
    near = [end + away for end in ends for away in (-BLOCK, -80, -1, 1, 5, 9, 80, 2879, BLOCK)]
    for left in {*near, *range(1, 9), *rng.integers(1, len(whole), 60).tolist()}:
        if left in ends or not 9 <= left < len(whole):
            continue
        path.write_bytes(whole[:left])
        with pytest.raises(BadFile, match="cut off"):
            require_whole(path)
    path.write_bytes(whole)
    require_whole(path)


def test_a_file_that_lost_a_part_inside_is_refused(
    samples: dict[str, Path], tmp_path: Path
) -> None:
    whole = samples["desi_edr"].read_bytes()
    middle = borders(samples["desi_edr"])[5] - 20_000
    path = tmp_path / samples["desi_edr"].name
    for lost in (1, 80, BLOCK, 3 * BLOCK):
        path.write_bytes(whole[:middle] + whole[middle + lost :])
        with pytest.raises(BadFile, match=r"bytes that are no HDU|cut off"):
            require_whole(path)


def test_padding_is_a_part_of_the_file_and_zeros_behind_it_are_none(
    samples: dict[str, Path], tmp_path: Path
) -> None:
    whole = samples["lamost_dr7"].read_bytes()
    data = 4 * 5 * 3909
    header = len(whole) - -(-data // BLOCK) * BLOCK
    path = tmp_path / "a.fits"
    path.write_bytes(whole[: header + data])
    with pytest.raises(BadFile, match="bytes are missing of the padding"):
        require_whole(path)
    path.write_bytes(whole + bytes(5000))
    require_whole(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(BadFile, match="bytes that are no HDU"):
        require_whole(path)
    path.write_bytes(b"")
    with pytest.raises(BadFile, match="empty"):
        require_whole(path)


def test_every_real_file_is_whole(real_spectra: Path) -> None:
    names = [*real_spectra.rglob("*.fit"), *real_spectra.rglob("*.fits*")]
    assert len(names) > 100
    for path in names:
        require_whole(path)


def test_random_groups_and_many_axes_are_measured(tmp_path: Path) -> None:
    groups = fits.GroupData(np.ones((4, 1, 1, 2, 3), np.float32), bitpix=-32, parnames=["A"],
                            pardata=[np.ones(4, np.float32)])  # fmt: skip
    path = tmp_path / "groups.fits"
    for unit in (fits.GroupsHDU(groups), fits.PrimaryHDU(np.ones((1,) * 8 + (900,), np.float32))):
        unit.writeto(path, overwrite=True)
        whole = path.read_bytes()
        require_whole(path)
        path.write_bytes(whole[:-BLOCK])
        with pytest.raises(BadFile, match="cut off"):
            require_whole(path)


def test_cut_redshifts_beside_a_whole_coadd(samples: dict[str, Path], tmp_path: Path) -> None:
    coadd = samples["desi_edr"]
    redrock = coadd.with_name(coadd.name.replace("coadd", "redrock"))
    shutil.copy(coadd, tmp_path)
    there = borders(redrock)
    (tmp_path / redrock.name).write_bytes(redrock.read_bytes()[: there[-1] - BLOCK])
    said = ingest(tmp_path / "data", "desi_edr", tmp_path, code=1)
    assert f"{redrock.name}: cut off" in said
    assert stored(tmp_path / "data", "desi_edr") == 0


def keep(names: Callable[[str], bool], path: Path) -> None:
    """Leave only some HDUs in a file."""
    with fits.open(path, memmap=False) as hdus:
        for name in [one.name for one in hdus[1:] if not names(one.name)]:
            hdus.pop(hdus.index_of(name))
        hdus.writeto(path, overwrite=True)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (lambda name: name != "B_MASK", "B_MASK"),
        (lambda name: name not in {"Z_FLUX", "Z_IVAR", "Z_MASK"}, "Z_FLUX, Z_IVAR, Z_MASK"),
        (lambda name: name not in {"R_WAVELENGTH", "R_IVAR"}, "R_IVAR, R_WAVELENGTH"),
        (lambda name: not name.startswith(("R_", "Z_")) and name != "SCORES", "no SCORES"),
    ],
    ids=["mask", "wavelength alone", "two", "cut between HDUs"],
)
def test_an_arm_is_whole_or_not_there(
    names: Callable[[str], bool], reason: str, samples: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(samples["desi_edr"], tmp_path))
    keep(names, path)
    said = ingest(tmp_path / "data", "desi_edr", path, code=1)
    assert reason in said


def test_an_arm_that_lacks_what_the_others_have_is_refused(tmp_path: Path) -> None:
    simulate_desi(tmp_path / "in", 4, resolution=True)
    (path,) = (tmp_path / "in").rglob("coadd-*.fits")
    keep(lambda name: name != "Z_RESOLUTION", path)
    said = ingest(tmp_path / "data", "desi_edr", path, code=1)
    assert "there is no HDU Z_RESOLUTION" in said


def test_a_cut_file_of_a_tree_is_told_when_it_is_asked_for(
    mock_survey: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(mock_survey, tree)
    path = next(iter(sorted(tree.rglob("full/**/spec-*.fits"))))
    (one,) = SDSS.reader.read(path)
    # The spectrum itself is all there, exposures behind it are not.
    path.write_bytes(path.read_bytes()[:-BLOCK])
    for other in tree.rglob(path.name):
        if other != path:
            other.unlink()
    add_tree(
        open_root(tmp_path / "data"), "sdss_dr17", tree, reductions=["v5_7_0", "v5_10_0", "v5_13_0"]
    )
    with serve(tmp_path / "data", tree) as running:
        client = SpecClient(svc_url=running.url)
        for asked in ({}, {"fmt": "FITS"}):
            with pytest.raises(SpecServerError, match="cut off"):
                client.getSpec(tuple(unpack_specobjid([one.id])[0]), **asked)


def test_a_cut_first_file_declares_no_survey(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes()[:-BLOCK])
    with pytest.raises(IngestError, match="cut off"):
        declare(open_root(tmp_path / "data"), "my_survey", [path], SurveyOptions())


def test_a_cut_table_of_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    Table({"ra": np.arange(5000.0), "dec": np.zeros(5000)}).write(path)
    whole = path.read_bytes()
    for name, content in (
        ("a.fits", whole[:-BLOCK]),
        ("b.fits.gz", gzip.compress(whole[:-BLOCK])),
        ("c.fits.gz", gzip.compress(whole)[:-4]),
        ("d.csv.gz", gzip.compress(b"ra,dec\n1,2\n3,4\n")[:-4]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadFile, match=r"cut off|unpack"):
            read_table(tmp_path / name)
