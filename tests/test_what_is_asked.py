"""What commands ask: a folder that is there, the service that is meant, a port that is free."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import specserver
from commands import command
from serving import Served, serve
from specserver.cli.main import app
from specserver.cli.options import in_options
from specserver.client.api import SpecClient
from specserver.digests import read_record, seal
from specserver.errors import (
    SKIPPED,
    BadArguments,
    BadConstraint,
    BadParameter,
    NoCatalog,
    NotAuthenticated,
    NotFound,
    QueryTimeout,
    SpecServerWarning,
    StoreError,
    TooMuch,
)

READING = [
    ("info",),
    ("contexts",),
    ("catalogs",),
    ("verify",),
    ("serve", "--workers", 1),
    ("catalog", "list"),
    ("catalog", "add", "sdss_dr17", "mine", "table.fits"),
    ("catalog", "remove", "sdss_dr17", "mine"),
    ("tree", "list"),
    ("tree", "remove", "sdss_dr17"),
    ("token", "list"),
    ("token", "revoke", "abcdef"),
    ("context", "public", "sdss_dr17"),
]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPECSERVER_URL", "SPECSERVER_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("words", READING, ids=lambda words: "-".join(map(str, words[:2])))
def test_a_folder_that_is_not_there_is_named(words: tuple[object, ...], tmp_path: Path) -> None:
    gone = tmp_path / "nowhere"
    said = command(*words, "--data", gone, code=1)
    assert f"{gone}: there is no such data folder" in said
    assert "serving" not in said
    assert not gone.exists()
    plain_file = tmp_path / "file"
    plain_file.write_text("")
    assert f"{plain_file}: is no folder" in command(*words, "--data", plain_file, code=1)


def test_opening_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere: there is no such data folder"):
        specserver.open(tmp_path / "nowhere")


def test_a_folder_that_is_empty_is_no_error(tmp_path: Path) -> None:
    assert "holds no spectra" in command("verify", "--data", tmp_path)
    command("info", "--data", tmp_path)
    assert specserver.open(tmp_path).contexts() == []


@pytest.fixture
def unknown_survey(mock_data: Path, tmp_path: Path) -> Path:
    """A data folder with a context whose survey is not installed, beside one that is."""
    for name in ("sdss_dr17", "toy_dr1"):
        shutil.copytree(mock_data / "sdss_dr17", tmp_path / name)
    for marker in (tmp_path / "toy_dr1").glob("seg-*/segment.json"):
        values = read_record(marker.read_bytes()).values
        marker.write_bytes(seal({**values, "context": "toy_dr1", "survey": "toy"}))
    return tmp_path


@pytest.mark.proof
def test_a_survey_that_is_not_installed_is_named(
    unknown_survey: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = ("toy_dr1 is held here but not served", "its survey 'toy'", "with pip")
    for words, code in ((["contexts"], 0), (["info"], 0), (["catalogs"], 0), (["verify"], 1)):
        said = command(*words, "--data", unknown_survey, code=code)
        assert all(text in said for text in wanted)
    assert "150 spectra" in said
    with serve(unknown_survey, unknown_survey) as running:
        assert "toy_dr1" not in SpecClient(svc_url=running.url).list_contexts(fmt="text")
    told = capfd.readouterr().err
    assert all(text in told for text in wanted)


def test_a_damaged_commit_record_keeps_nothing_else_from_being_served(
    mock_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("sdss_dr16", "sdss_dr17"):
        shutil.copytree(mock_data / "sdss_dr17", tmp_path / name)
    for marker in (tmp_path / "sdss_dr16").glob("seg-*/segment.json"):
        marker.write_bytes(marker.read_bytes()[:-20])
    with serve(tmp_path, tmp_path) as running:
        client = SpecClient("sdss_dr17", svc_url=running.url)
        assert len(client.query(constraint="plate > 0", primary=False)) == 150
        assert "sdss_dr17" in client.list_contexts(fmt="text")
    assert "Traceback" not in capfd.readouterr().err
    assert "sdss_dr17" in command("contexts", "--data", tmp_path)
    assert "segment.json" in command("verify", "--data", tmp_path, code=1)


def test_the_service_of_the_option_then_of_the_environment_then_the_folder(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = "http://127.0.0.1:9/spec"
    (tmp_path / "sub").mkdir()
    for name in ("contexts", "catalogs", "info"):
        monkeypatch.delenv("SPECSERVER_URL", raising=False)
        monkeypatch.setenv("SPECSERVER_DATA", str(served.data))
        said = command(name)
        assert f"asking the data folder {served.data}" in said
        assert "sdss_dr17" in said
        monkeypatch.setenv("SPECSERVER_DATA", str(tmp_path))
        monkeypatch.setenv("SPECSERVER_URL", served.url)
        said = command(name)
        assert f"asking the service at {served.url} (SPECSERVER_URL)" in said
        assert "sdss_dr17" in said
        assert "data folder" not in said
        monkeypatch.setenv("SPECSERVER_URL", away)
        said = command(name, "--url", served.url)
        assert f"asking the service at {served.url} (--url)" in said
        assert "sdss_dr17" in said
        assert away in command(name, code=1)


def test_where_nothing_is_named_and_no_folder_is_there_the_service_here_is_asked(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SPECSERVER_URL", "SPECSERVER_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("specserver.client.session.DEFAULT_URL", served.url)
    for name in ("contexts", "catalogs", "info"):
        said = command(name)
        assert f"asking the service at {served.url} (here)" in said
        assert "sdss_dr17" in said
    monkeypatch.setattr("specserver.client.session.DEFAULT_URL", "http://127.0.0.1:9/spec")
    assert "there is no such data folder" in command("catalogs", code=1)


def test_messages_speak_of_options(served: Served, tmp_path: Path) -> None:
    url, few = ("--url", served.url), ",".join(map(str, served.ids[:2]))
    for words, option in (
        (("get", f"5,{few}"), "; --skip-missing returns the others"),
        (("get", few, "--medium", "air", "--align"), "; --resample brings them to air"),
        (("get", few, "--cutout", "5"), "--cutout 5 is not possible"),
        (("query", "--where", "select"), "--where"),
        (("query", "--where", "redshift > 2"), "'specserver catalogs --json' describes them"),
        (("query", "--region", "1,2,3"), "got 3 numbers"),
        (
            ("stack", "--ids", tmp_path, "--context", "a,b", "--out", "a.png"),
            "with identifiers one release",
        ),
    ):
        said = command(*words, *url, code=2)
        assert option in said
        assert "='" not in said.replace("--context=", "")
    for error, shown in (
        (NotFound([5], [], SKIPPED), "no spectrum for 5; --skip-missing returns the others"),
        (NotAuthenticated("no token"), "no token; send a token with --token or SPECSERVER_TOKEN"),
        (NoCatalog("a", ["a.b"]), "name another with --catalog (a.b)"),
        (BadConstraint("class = 'QSO'", "no"), """--where "class = 'QSO'" refused: no"""),
        (BadParameter("positions", "a b.csv", "no"), "FILE 'a b.csv' is not possible: no"),
        (QueryTimeout(3.0), "or for longer with timeout= of the Python client as far"),
        (TooMuch("pixels (a larger step= make fewer)", 9, 3), "a larger --step make fewer"),
        (TooMuch("bytes (give wave=, or method='mean')", 9, 3), "give --wave, or --method mean)"),
        (BadParameter("ra_col", None, "no"), "--ra-col is not possible: no"),
        (BadParameter("unit of ra", "m", "no"), "unit of ra='m' is not possible: no"),
        (BadParameter("page", 7, "no, align=True", "align=True"), "no, --align"),
        (BadArguments("primary=False finds all", "primary=False"), "--all finds all"),
        (BadArguments("fields='tuple' names", "fields='tuple'"), "--fields tuple names"),
        (SpecServerWarning("class='QSO'"), "class='QSO'"),
    ):
        assert shown in in_options(error, app)
    with pytest.raises(NotFound) as found:
        SpecClient(svc_url=served.url).getSpec([5, served.ids[0]])
    assert found.value.settings == ("missing='skip'",)
    data = ("--data", tmp_path)
    assert "own files" not in command("context", "private", "sdss_dr17", *data)
    assert "mine is private" in command("context", "private", "mine", *data)
    assert "specserver." in command("token", "create", "--user", "ada", "--context", "mine", *data)
    command("token", "create", "--user", "ada", "--context", "yours", *data, code=2)
    assert "mine is public" in command("context", "public", "mine", *data)


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        yield taken.getsockname()[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_busy_port_is_told_before_anything_is_served(
    workers: int, busy_port: int, mock_data: Path
) -> None:
    said = command("serve", "--data", mock_data, "--port", busy_port, "--workers", workers, code=1)
    assert f"cannot listen on port {busy_port} of 127.0.0.1: another program listens there" in said
    assert "--port" in said
    assert "serving" not in said
    assert "/spec" not in said


def test_a_demonstration_on_a_busy_port_begins_nothing(busy_port: int, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    said = command("demo", "--once", "--port", busy_port, "--folder", folder, code=1)
    assert f"cannot listen on port {busy_port}" in said
    assert not folder.exists()


def test_an_address_that_is_not_ours_is_told(mock_data: Path) -> None:
    said = command("serve", "--data", mock_data, "--host", "192.0.2.1", "--workers", 1, code=1)
    assert "of 192.0.2.1: " in said
    assert "serving" not in said
