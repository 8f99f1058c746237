"""Spectra served straight from a tree of original files, held against the same in segments."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from astropy.io import fits

from commands import command
from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import NoCatalog, NotFound, StoreError, TooMuch, UnknownContext
from specserver.ingest import run_ingest
from specserver.model.ids import unpack_specobjid
from specserver.service import SpectroscopicService
from specserver.service import fits_tree_source as service_tree
from specserver.service.fits_tree_source import FitsTreeSource, add_tree
from specserver.service.stream import StreamRequest
from specserver.store.trees import remove_tree

OTHERS = ["v5_7_0", "v5_10_0", "v5_11_0", "v5_13_0"]
"""Reductions of the test files that are not of DR17."""
ROOTS = {"26": "sdss", "v5_7_0": "boss"}


def arrange(files: list[Path], top: Path, *, link: bool = False) -> None:
    """Lay files out as the archive does: all levels, lite and full, each under its reduction."""
    for path in files:
        with fits.open(path) as hdus:
            run2d = str(hdus[2].data["RUN2D"][0]).strip()
            plate = int(hdus[2].data["PLATE"][0])
            kind = "full" if len(hdus) > 5 else "lite"
        redux = top / "dr17" / ROOTS.get(run2d, "eboss") / "spectro" / "redux"
        inner = Path() if run2d == "26" else Path(kind)
        folder = redux / run2d / "spectra" / inner / f"{plate:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / path.name
        if target.exists():
            continue
        if link:
            target.symlink_to(path)
        else:
            shutil.copy(path, target)


@pytest.fixture(scope="module")
def mock_tree(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpecClient]:
    """A client of a service that has nothing but the mock survey's files."""
    data = tmp_path_factory.mktemp("tree-data")
    add_tree(open_root(data), "sdss_dr17", mock_survey, reductions=OTHERS)
    with serve(data, mock_survey) as running:
        yield SpecClient(svc_url=running.url)


@pytest.fixture(scope="module")
def real_tree(real_spectra: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpecClient]:
    """A client of a service that has nothing but the real files, in the archive's layout."""
    top = tmp_path_factory.mktemp("sas")
    arrange(sorted((real_spectra / "sdss").rglob("spec-*.fits*")), top)
    data = tmp_path_factory.mktemp("real-tree-data")
    extra = [word for run2d in OTHERS for word in ("--run2d", run2d)]
    said = command("tree", "add", "sdss_dr17", top, "--data", data, *extra)
    assert "spectra in" in said
    with serve(data, top) as running:
        yield SpecClient(svc_url=running.url)


@pytest.fixture(params=["mock", "real"])
def pair(request: pytest.FixtureRequest) -> tuple[SpecClient, SpecClient, np.ndarray]:
    """A client of segments, a client of the tree of the same files, and all identifiers."""
    segments: Served = request.getfixturevalue(
        {"mock": "served", "real": "real_served"}[request.param]
    )
    tree = request.getfixturevalue(f"{request.param}_tree")
    return SpecClient(svc_url=segments.url), tree, segments.ids


def same(one: Any, other: Any) -> bool:
    """Tell whether two lists of arrays are the same, bit for bit."""
    pairs = zip(one, other, strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"align": True},
        {"cutout": "6500-7200"},
        {"cutout": "6500-7200", "align": True},
        {"values": "flux,ivar"},
        {"values": "model", "align": True},
    ],
    ids=str,
)
def test_a_tree_answers_as_segments_do(pair: Any, asked: dict[str, Any]) -> None:
    segments, tree, ids = pair
    assert same(segments.getSpec(ids, **asked), tree.getSpec(ids, **asked))


def test_every_format_and_identifier_works_from_a_tree(
    mock_tree: SpecClient, served: Served
) -> None:
    segments = SpecClient(svc_url=served.url)
    some = served.ids[:12].tolist()
    tuples = unpack_specobjid(some).tolist()
    asked = [*some[::-1], *tuples, some[2], np.uint64(some[3]).view("i8")]
    assert same(segments.getSpec(asked), mock_tree.getSpec(asked))
    original = mock_tree.getSpec(tuples[0], fmt="FITS")
    plate, mjd, fiber, _ = tuples[0]
    named = served.folder.rglob(f"spec-{plate:04d}-{mjd}-{fiber:04d}.fits")
    assert original in [path.read_bytes() for path in named]
    for fmt in ("pandas", "Table", "Spectrum1D"):
        one, other = segments.getSpec(some, fmt=fmt), mock_tree.getSpec(some, fmt=fmt)
        for left, right in zip(one, other, strict=True):
            if fmt == "Spectrum1D":
                assert left.flux.unit == right.flux.unit
                assert (left.flux == right.flux).all()
                assert left.meta["redshift"] == right.meta["redshift"]
            else:
                assert len(left) == len(right)
                assert (np.asarray(left["flux"]) == np.asarray(right["flux"])).all()


def test_the_documented_endpoints_answer_from_a_tree(mock_tree: SpecClient, served: Served) -> None:
    some = served.ids[:30].tolist()
    for path, form in (
        ("getSpec", {"align": "False"}),
        ("getSpec", {"align": "True"}),
        ("getSpec", {"align": "True", "cutout": "5000-6000"}),
        ("listSpan", {}),
    ):
        fields = {"id_list": ",".join(map(str, some)), "context": "default", **form}
        answers = [
            httpx.post(f"{url}/{path}", data=fields)
            for url in (served.url, mock_tree.get_svc_url())
        ]
        assert [answer.status_code for answer in answers] == [200, 200], answers[1].text[:300]
        assert answers[0].content == answers[1].content


def test_tuples_with_wildcards_list_the_folders(pair: Any) -> None:
    segments, tree, ids = pair
    plates = sorted({int(one) for one in unpack_specobjid(ids)["plate"]})
    for plate in (plates[0], plates[-1]):
        whole = segments.getSpec((plate,))
        assert same(whole, tree.getSpec((plate, "*", "*", "*")))
        assert same(whole, tree.getSpec((plate,)))
        low, high = f"{plate}-{plate}", "1-300"
        try:
            some = segments.getSpec((low, "*", high))
        except NotFound:
            with pytest.raises(NotFound):
                tree.getSpec((low, "*", high))
        else:
            assert same(some, tree.getSpec((low, "*", high)))


def test_catalogue_columns_come_from_the_files(mock_tree: SpecClient, served: Served) -> None:
    some = served.ids[:20].tolist()
    names = "specobjid,z,class,plate,ra,dec,run2d"
    rows = []
    for url in (served.url, mock_tree.get_svc_url()):
        fields = {"id": ",".join(map(str, some)), "fields": names}
        rows.append(httpx.get(f"{url}/query", params=fields).text)
    assert rows[0] == rows[1]
    assert len(rows[0].splitlines()) == 21
    service = SpectroscopicService(open_root(served.data))
    assert service.archive.info("default").nspec == len(served.ids)
    told = mock_tree.list_contexts("sdss_dr17", fmt="json")
    assert (told["nspec"], told["files"], told["catalogs"]) == (len(served.ids),) * 2 + ({},)


def test_a_query_of_a_tree_alone_says_what_to_do(mock_tree: SpecClient) -> None:
    for request in ({"ra": 10.0, "dec": 0.0, "size": 1.0}, {"constraint": "z > 0"}):
        with pytest.raises(NoCatalog, match="catalog add"):
            mock_tree.query(**request)
    assert mock_tree.catalogs(fmt="json") == {}
    asked = {"id": "(266,51602,'*')", "fields": "colour"}
    answer = httpx.get(f"{mock_tree.get_svc_url()}/query", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field")


@pytest.fixture
def small(mock_survey: Path, tmp_path: Path) -> tuple[Path, Path, list[Path]]:
    """A data folder with a tree of a few files of DR17 that a test may spoil."""
    files = sorted((mock_survey / "v5_13_2" / "spectra" / "lite").rglob("*.fits"))[:6]
    arrange(files, tmp_path / "sas")
    add_tree(open_root(tmp_path / "data"), "sdss_dr17", tmp_path / "sas")
    found = sorted((tmp_path / "sas").rglob("*.fits"))
    assert len(found) == 6
    return tmp_path / "data", tmp_path / "sas", found


def parts_of(path: Path) -> tuple[int, int, int]:
    plate, mjd, fiber = path.name.removesuffix(".gz")[5:-5].split("-")
    return int(plate), int(mjd), int(fiber)


def read(data: Path, given: Any, context: str = "default") -> list[np.ndarray]:
    service = SpectroscopicService(open_root(data))
    return list(service.read(service.resolve(str(given), context)))


def test_a_missing_file_is_an_identifier_not_found(small: Any) -> None:
    data, _, (first, second, *_) = small
    assert len(read(data, parts_of(first))) == 1
    first.unlink()
    plate, mjd, fiber = parts_of(first)
    with pytest.raises(NotFound, match=rf"\({plate}, {mjd}, {fiber}\) in sdss_dr17"):
        read(data, (plate, mjd, fiber))
    service = SpectroscopicService(open_root(data))
    both = f"{parts_of(first)}\n{parts_of(second)}"
    assert service.resolve(both, "default", missing="skip").nspec == 1


def test_files_that_come_and_go_while_the_service_runs(small: Any) -> None:
    data, _, (first, *_) = small
    service = SpectroscopicService(open_root(data))
    away = first.with_suffix(".away")
    first.rename(away)
    with pytest.raises(NotFound):
        service.resolve(str(parts_of(first)), "default")
    away.rename(first)
    selection = service.resolve(str(parts_of(first)), "default")
    (before,) = service.read(selection)
    with fits.open(first, mode="update") as hdus:
        hdus[1].data["flux"] += 1
    (after,) = service.read(selection)
    assert (after["flux"] == before["flux"] + 1).all()
    first.unlink()
    with pytest.raises(StoreError, match=first.name):
        list(service.read(selection))


def test_a_tree_that_is_away_is_no_tree_without_files(small: Any, tmp_path: Path) -> None:
    data, sas, (first, *_) = small
    sas.rename(tmp_path / "away")
    with pytest.raises(StoreError, match="out of reach"):
        read(data, parts_of(first))
    (tmp_path / "away").rename(sas)
    assert len(read(data, parts_of(first))) == 1


def test_a_compressed_file_is_read_as_well(small: Any) -> None:
    data, _, (first, *_) = small
    (before,) = read(data, parts_of(first))
    subprocess.run(["gzip", str(first)], check=True)
    (after,) = read(data, parts_of(first))
    assert before.tobytes() == after.tobytes()


def test_a_file_in_the_wrong_place_is_never_served(small: Any) -> None:
    data, _, (first, second, *_) = small
    shutil.copy(second, first)
    with pytest.raises(StoreError, match=first.name):
        read(data, parts_of(first))
    first.write_bytes(second.read_bytes()[:50_000])
    with pytest.raises(StoreError, match="cut off"):
        read(data, parts_of(first))


def test_no_request_leaves_the_tree(small: Any, tmp_path: Path) -> None:
    data, sas, (first, *_) = small
    plate, mjd, fiber = parts_of(first)
    outside = tmp_path / "v9_9_9" / "spectra" / "lite" / f"{plate:04d}"
    outside.mkdir(parents=True)
    shutil.copy(first, outside)
    for run2d in ("v9_9_9", "../v9_9_9", "../../v9_9_9", "v5_13_2/../../../../../../v9_9_9"):
        service = SpectroscopicService(open_root(data))
        source = service.archive.search("default").sources[-1]
        assert isinstance(source, FitsTreeSource)
        tree = source.tree
        assert tree.find((plate, mjd, fiber), run2d) is None
    # A link within the tree is followed, one that leads out is not, unless the operator says so.
    inside = first.parent.parent / "9999"
    (sas / "elsewhere").mkdir()
    moved = sas / "elsewhere" / first.name
    first.rename(moved)
    first.symlink_to(moved)
    assert len(read(data, (plate, mjd, fiber))) == 1
    moved.rename(tmp_path / first.name)
    first.unlink()
    first.symlink_to(tmp_path / first.name)
    with pytest.raises(NotFound):
        read(data, (plate, mjd, fiber))
    with pytest.raises(NotFound):
        read(data, (plate, mjd, f"{fiber}-{fiber}"))
    assert not inside.exists()
    add_tree(open_root(data), "sdss_dr17", sas, follow_links=True)
    assert len(read(data, (plate, mjd, fiber))) == 1


@pytest.mark.parametrize("level", [".", "dr17", "dr17/eboss/spectro/redux"])
def test_a_tree_may_begin_at_any_level(small: Any, tmp_path: Path, level: str) -> None:
    _, sas, files = small
    data = tmp_path / "other"
    info = add_tree(open_root(data), "sdss_dr17", sas / level)
    assert info.nfiles == len(files)
    assert len(read(data, parts_of(files[-1]))) == 1


def test_another_release_and_another_reduction_are_not_served(small: Any, tmp_path: Path) -> None:
    data, sas, files = small
    redux = sas / "dr17" / "eboss" / "spectro" / "redux"
    with pytest.raises(StoreError, match="v5_7_2"):
        add_tree(open_root(tmp_path / "other"), "sdss_dr12", redux)
    with pytest.raises(StoreError, match="out of reach"):
        add_tree(open_root(tmp_path / "other"), "sdss_dr17", tmp_path / "nowhere")
    with pytest.raises(UnknownContext):
        add_tree(open_root(tmp_path / "other"), "sdss_dr7", redux)
    assert not (tmp_path / "other").exists()
    # In DR16 the folder v5_13_2 of the same mirror is out of bounds.
    (redux / "v5_13_0" / "spectra").mkdir(parents=True)
    shutil.copytree(redux / "v5_13_2", redux / "v5_13_0", dirs_exist_ok=True)
    add_tree(open_root(data), "sdss_dr16", redux)
    plate, mjd, fiber = parts_of(files[0])
    with pytest.raises(NotFound, match="in sdss_dr16;"):
        read(data, (plate, mjd, fiber, "v5_13_2"), "sdss_dr16")
    with pytest.raises(StoreError, match="its place in the tree says"):
        read(data, (plate, mjd, fiber), "sdss_dr16")


@pytest.mark.proof
def test_segments_and_tree_serve_one_context(
    mock_survey: Path, served: Served, tmp_path: Path
) -> None:
    files = sorted((mock_survey / "26" / "spectra").rglob("spec-*.fits"))
    lite = [path for path in files if "full" not in path.parts]
    run_ingest(open_root(tmp_path), "sdss_dr17", lite[::2], workers=1)
    add_tree(open_root(tmp_path), "sdss_dr17", mock_survey)
    service, whole = (
        SpectroscopicService(open_root(tmp_path)),
        SpectroscopicService(open_root(served.data)),
    )
    given = "\n".join(str(parts_of(path)) for path in lite)
    mixed, held = service.resolve(given, "default"), whole.resolve(given, "default")
    assert len(set(mixed.source_index.tolist())) == 2
    assert mixed.ids.tolist() == held.ids.tolist()
    assert same(service.read(mixed), whole.read(held))
    # Segments come first: what both have is read of them, and a wildcard names each once.
    plate = parts_of(lite[0])[0]
    listed = service.resolve(f"({plate}, '*')", "default")
    assert listed.ids.tolist() == whole.resolve(f"({plate}, '*')", "default").ids.tolist()
    assert (listed.source_index == 0).sum() == len(
        [p for p in lite[::2] if parts_of(p)[0] == plate]
    )
    # Its catalogue knows what is ingested, and nothing of the rest.
    assert service.archive.info("default").nspec == len(lite[::2])
    # A stream of both is of one form.
    cells = list(service.stream(mixed, StreamRequest(columns=["z", "specobjid"])).batches)
    assert np.concatenate([one.ids for one in cells]).tolist() == mixed.ids.tolist()
    for one in cells:
        assert one.columns is not None
        assert one.columns.column("specobjid").to_pylist() == one.ids.tolist()
    with serve(tmp_path, mock_survey) as running:
        spec = SpecClient(svc_url=running.url)
        assert same(spec.getSpec(mixed.ids), whole.read(held))


def test_too_many_files_for_one_request(
    mock_survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tree(open_root(tmp_path), "sdss_dr17", mock_survey)
    monkeypatch.setattr(service_tree, "MAX_FILES", 3)
    with pytest.raises(TooMuch, match="original files"):
        SpectroscopicService(open_root(tmp_path)).resolve("(266,'*')", "default")


def test_the_command_line_declares_lists_and_removes_trees(small: Any) -> None:
    data, sas, files = small
    assert remove_tree(open_root(data).context("sdss_dr17"))
    assert command("tree", "add", "sdss_dr17", sas, "--data", data).startswith("sdss_dr17: 6 spec")
    assert str(sas) in command("tree", "list", "--data", data)
    assert "original files" in command("contexts", "--data", data)
    assert str(sas) in command("info", "--data", data)
    command("catalogs", "--data", data)
    assert "no spectra" in command("tree", "add", "sdss_dr16", sas, "--data", data, code=1)
    command("tree", "remove", "sdss_dr17", "--data", data)
    assert "no tree" in command("tree", "remove", "sdss_dr17", "--data", data, code=2)
    assert all(path.exists() for path in files)
