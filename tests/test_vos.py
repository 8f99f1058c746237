"""Virtual storage: what is put is there, whole or not at all, and no name leads out of a space."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from serving import Served, serve
from specserver import specClient
from specserver.auth import TokenBook
from specserver.cli.main import app
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.data.user_storage import StorageLimits, UserStorage
from specserver.errors import BadParameter, NoSuchFile, NotAuthenticated, QuotaExceeded
from specserver.model.spacename import split_name

ROOMY = StorageLimits(10**9, 1000, 10**8)
QUOTA = 3_000_000
MAX_FILE = 2_000_000
SECRET = b"root of all\n"


@dataclass(frozen=True)
class Stored:
    """A service with two users, and a file beside their spaces that is nobody's business."""

    running: Served
    tokens: dict[str, str]

    def client(self, user: str = "ada") -> SpecClient:
        client = SpecClient(svc_url=self.running.url)
        client.set_token(self.tokens[user])
        return client

    @property
    def spaces(self) -> Path:
        return self.running.data / "spaces"


@pytest.fixture(scope="module")
def stored(
    mock_survey: Path, mock_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stored]:
    data = tmp_path_factory.mktemp("vos") / "data"
    shutil.copytree(mock_data / "sdss_dr17", data / "sdss_dr17")
    (data / "secret").write_bytes(SECRET)
    now = datetime.now(UTC)
    tokens = {
        user: TokenBook(open_root(data)).create(user, now=now) for user in ("ada", "bob", "eve")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECSERVER_VOS_QUOTA_BYTES", str(QUOTA))
        patch.setenv("SPECSERVER_VOS_MAX_FILE_BYTES", str(MAX_FILE))
        # Uploads are not bounded by what is held in memory.
        patch.setenv("SPECSERVER_MAX_BODY_BYTES", "200000")
        with serve(data, mock_survey) as running:
            yield Stored(running, tokens)


@pytest.fixture
def vos(stored: Stored) -> Iterator[SpecClient]:
    """The client of a user whose space is empty."""
    client = stored.client()
    yield client
    for name in client.vos.ls():
        client.vos.rm(name, recursive=True)


# --- What users do --------------------------------------------------------------------------------


def test_files_go_in_and_come_out(vos: SpecClient, tmp_path: Path) -> None:
    content = os.urandom(1_500_000)
    assert vos.vos.put("vos://a/b/data.bin", content) == "OK"
    assert vos.vos.get("a/b/data.bin") == content
    assert vos.vos.put("empty", b"") == "OK"
    assert vos.vos.get("vos://empty") == b""
    assert vos.vos.ls() == ["a/", "empty"]
    assert vos.vos.ls("vos://a/") == ["b/"]
    (entry,) = vos.vos.entries("a/b")
    assert (entry.name, entry.nbytes, entry.is_folder) == ("data.bin", 1_500_000, False)
    assert abs((datetime.now(UTC) - entry.modified).total_seconds()) < 60
    used = vos.vos.usage()
    assert (used.nbytes, used.nentries, used.nbytes_limit) == (1_500_000, 4, QUOTA)
    assert vos.vos.get("a/b/data.bin", tmp_path / "here") == "OK"
    assert (tmp_path / "here").read_bytes() == content
    assert list(tmp_path.iterdir()) == [tmp_path / "here"]
    vos.vos.put("empty", str(tmp_path / "here"))
    assert vos.vos.get("empty") == content
    vos.vos.put("empty", b"less")
    assert vos.vos.get("empty") == b"less"


@pytest.mark.parametrize(
    "name", ["naïve Σ.txt", "a b#c?d&e=f", "100%", "%2e%2e", "x;y,z", "~", "日本", "a..b", "'\""]
)
def test_unusual_names_are_names(vos: SpecClient, name: str) -> None:
    vos.vos.put(f"vos://{name}/{name}", b"x")
    assert vos.vos.ls() == [f"{name}/"]
    assert vos.vos.get(f"{name}/{name}") == b"x"
    vos.vos.rm(f"{name}/{name}")
    vos.vos.rm(name)
    assert vos.vos.ls() == []


def test_a_name_is_one_however_it_is_composed(vos: SpecClient) -> None:
    vos.vos.put("e\u0301", b"x")
    assert vos.vos.get("\u00e9") == b"x"
    assert vos.vos.ls() == ["\u00e9"]


def test_folders_are_made_and_removed(vos: SpecClient) -> None:
    vos.vos.mkdir("vos://x/y/z/")
    vos.vos.mkdir("x/y")
    vos.vos.put("x/y/file", b"x")
    with pytest.raises(BadParameter, match="recursive"):
        vos.vos.rm("x")
    assert vos.vos.ls("x/y") == ["file", "z/"]
    vos.vos.rm("x", recursive=True)
    assert vos.vos.ls() == []
    assert vos.vos.usage().nentries == 0


def test_what_is_not_there(vos: SpecClient) -> None:
    vos.vos.put("folder/file", b"x")
    for call in (vos.vos.get, vos.vos.rm, vos.vos.ls):
        with pytest.raises(NoSuchFile, match="'absent'"):
            call("absent")
    for call in (vos.vos.ls, lambda name: vos.vos.put(f"{name}/x", b"")):
        with pytest.raises(BadParameter, match="not a folder"):
            call("folder/file")
    with pytest.raises(BadParameter, match="it is a folder"):
        vos.vos.put("folder", b"x")
    with pytest.raises(NoSuchFile):
        vos.vos.get("folder")
    with pytest.raises(BadParameter, match="cannot be read"):
        vos.vos.put("x", "no-such-local-file")


def test_a_visitor_is_told_how_to_get_a_space(stored: Stored) -> None:
    client = SpecClient(svc_url=stored.running.url)
    for token in ("", "anonymous.0.0.anon_access"):
        client.set_token(token)
        for call in (client.vos.ls, client.vos.usage, lambda: client.vos.put("x", b"x" * 300_000)):
            with pytest.raises(NotAuthenticated, match="specserver token create"):
                call()
    assert not (stored.spaces / "anonymous").exists()
    assert not (stored.spaces / "files").exists()


def test_what_is_left_of_a_refused_upload_is_no_request(stored: Stored) -> None:
    to = urlsplit(stored.running.url)
    body = f"GET {to.path}/ping HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 200_000
    line = http.client.HTTPConnection(to.hostname or "", to.port, timeout=30)
    for headers in ({}, {"X-DL-AuthToken": stored.tokens["ada"]}):
        line.request("PUT", f"{to.path}/vos/big", body=body, headers=headers)
        answer = line.getresponse()
        assert answer.status == (413 if headers else 401)
        assert b"code" in answer.read()
        line.request("GET", f"{to.path}/contexts?context=absent")
        answer = line.getresponse()
        assert answer.status == 404
        answer.read()
    line.close()


def test_users_do_not_see_each_other(stored: Stored, vos: SpecClient) -> None:
    vos.vos.put("mine", b"ada")
    bob = stored.client("bob").vos
    assert bob.ls() == []
    bob.put("mine", b"bob")
    assert vos.vos.get("mine") == b"ada"
    bob.rm("mine")
    assert vos.vos.get("mine") == b"ada"


def test_a_file_that_is_still_the_same_is_not_sent_again(stored: Stored, vos: SpecClient) -> None:
    vos.vos.put("file", b"one")
    headers = {"X-DL-AuthToken": stored.tokens["ada"]}
    first = urllib3.request("GET", f"{stored.running.url}/vos/file", headers=headers)
    assert first.headers["Content-Disposition"].startswith("attachment")
    again = headers | {"If-None-Match": first.headers["ETag"]}
    second = urllib3.request("GET", f"{stored.running.url}/vos/file", headers=again)
    assert (second.status, second.data) == (304, b"")
    vos.vos.put("file", b"two")
    third = urllib3.request("GET", f"{stored.running.url}/vos/file", headers=again)
    assert (third.status, third.data) == (200, b"two")


def test_parallel_uploads_with_many_parents_stay_within_the_entries(tmp_path: Path) -> None:
    """Each upload alone has room; together, with the folders above them, they have not."""
    space = UserStorage(tmp_path / "ada", StorageLimits(10**6, 18, 10**6))
    drafts = [space.draft(f"a{i}/b/c/d/file", 1) for i in range(4)]
    kept = 0
    for draft in drafts:
        draft.write(b"x")
        try:
            draft.commit()
            kept += 1
        except QuotaExceeded:
            pass
        finally:
            draft.discard()
        used = space.usage()
        assert used.nentries <= 18
    found = list((tmp_path / "ada" / "files").rglob("*"))
    assert len(found) == used.nentries == 5 * kept
    assert kept >= 3
    with pytest.raises(QuotaExceeded):
        space.draft("z1/z2/z3/z4/z5/file", 1)
    with pytest.raises(QuotaExceeded):
        space.make_folder("y1/y2/y3/y4/y5/y6")


def test_parallel_requests_cannot_pass_the_quota_of_entries(
    mock_survey: Path, mock_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(mock_data / "sdss_dr17", data / "sdss_dr17")
    token = TokenBook(open_root(data)).create("ada", now=datetime.now(UTC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECSERVER_VOS_MAX_ENTRIES", "30")
        with serve(data, mock_survey) as running:
            client = SpecClient(svc_url=running.url)
            client.set_token(token)

            def put(number: int) -> bool:
                try:
                    client.vos.put(f"f{number}/g/h/i/j/k/l/m/n/file", b"x")
                except QuotaExceeded:
                    return False
                return True

            with ThreadPoolExecutor(12) as pool:
                done = list(pool.map(put, range(12)))
            assert client.vos.usage().nentries == 10 * sum(done) <= 30
    assert 1 <= sum(done) <= 3


def test_the_folders_of_spaces_are_for_their_owner(tmp_path: Path) -> None:
    space = UserStorage(tmp_path / "spaces" / "ada", ROOMY)
    space.make_folder("a/b")
    for folder in [tmp_path / "spaces", *(tmp_path / "spaces").rglob("*")]:
        if folder.is_dir():
            assert folder.stat().st_mode & 0o077 == 0, folder


# --- Queries and spectra --------------------------------------------------------------------------


def test_a_query_writes_there_and_getspec_reads_it(vos: SpecClient) -> None:
    ids = vos.query(constraint="plate > 0", primary=False)[:5]
    condition = f"specobjid in ({', '.join(map(str, ids))})"
    wanted = vos.query(constraint=condition, primary=False)
    assert vos.query(constraint=condition, primary=False, out="vos://list/ids.txt") == "OK"
    assert vos.vos.read_text("list/ids.txt") == "".join(f"{one}\n" for one in wanted)
    spectra = vos.getSpec("vos://list/ids.txt", values="flux")
    straight = vos.getSpec(wanted, values="flux")
    assert len(spectra) == 5
    for one, other in zip(spectra, straight, strict=True):
        assert np.array_equal(one, other)
    vos.query(constraint=condition, primary=False, fields="specobjid,z", out="vos://t.csv")
    text = vos.vos.read_text("t.csv")
    assert text.startswith("specobjid,z\n")
    assert text.count("\n") == 6
    assert len(vos.getSpec("vos://t.csv", values="flux")) == 5


def test_getspec_writes_a_file_a_spectrum(vos: SpecClient) -> None:
    ids = vos.query(constraint="plate > 0", primary=False)[:3]
    assert vos.getSpec(ids, values="flux,ivar", out="vos://some/spectra/") == "OK"
    names = vos.vos.ls("some/spectra")
    assert len(names) == 3
    kept = {vos.vos.get(f"some/spectra/{name}") for name in names}
    straight = vos.getSpec(ids, values="flux,ivar")
    loaded = {np.load(BytesIO(data)).tobytes() for data in kept}
    assert loaded == {one.tobytes() for one in straight}


@pytest.mark.proof
def test_pictures_and_pages_are_kept_there(vos: SpecClient) -> None:
    number = vos.query(constraint="plate > 0", primary=False)[0]
    vos.plot(number, out="vos://pictures/one.png")
    vos.preview(number, out="vos://preview.png")
    assert vos.prospect(number, out="vos://page.html") == "OK"
    for name in ("pictures/one.png", "preview.png"):
        assert vos.vos.get(name).startswith(b"\x89PNG")
    assert b"<html" in vos.vos.get("page.html")[:200]


def test_names_are_checked_before_anything_is_asked() -> None:
    client = SpecClient(svc_url="http://127.0.0.1:9/spec")
    with pytest.raises(BadParameter, match="dot"):
        client.query(1.0, 2.0, 3.0, out="vos://../x")
    with pytest.raises(BadParameter, match="slash at its end"):
        client.query(1.0, 2.0, 3.0, out="vos://folder/")


def test_the_page_of_the_guide(stored: Stored, vos: SpecClient) -> None:
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "access.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    ids = vos.query(constraint="plate > 0", primary=False)[:2]
    ra, dec = vos.query(constraint="plate > 0 limit 1", fields="ra,dec")[0]["ra", "dec"]
    code = "\n".join(blocks).replace("specserver.4f1c2a9b03.…", stored.tokens["ada"])
    code = code.replace("180, 0, 2", f"{ra}, {dec}, 0.01")
    names: dict[str, object] = {"ids": ids}
    specClient.set_svc_url(stored.running.url)
    try:
        exec(code.replace("spec.vos.ls", "listed = spec.vos.ls"), names)
    finally:
        specClient.set_svc_url(None)
        specClient.set_token(None)
    assert names["listed"] == ["ids.txt", "spectra/"]
    assert vos.vos.ls() == ["old/"]


def run(*words: str, stdin: bytes = b"") -> bytes:
    done = CliRunner().invoke(app, words, input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout_bytes


@pytest.mark.proof
def test_the_command_line(
    stored: Stored, vos: SpecClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECSERVER_TOKEN", stored.tokens["ada"])
    monkeypatch.setenv("SPECSERVER_URL", stored.running.url)
    monkeypatch.chdir(tmp_path)
    Path("ids.txt").write_bytes(b"1\n2\n")
    assert run("vos", "put", "ids.txt", "qso/") == b"vos://qso/ids.txt\n"
    run("vos", "put", "-", "vos://qso/more", stdin=b"3\n")
    assert run("vos", "ls") == b"qso/\n"
    assert run("vos", "ls", "qso") == b"ids.txt\nmore\n"
    assert b"4 B" in run("vos", "ls", "-l", "qso")
    assert run("vos", "get", "qso/more", "-") == b"3\n"
    run("vos", "get", "vos://qso/more")
    assert Path("more").read_bytes() == b"3\n"
    run("vos", "rm", "qso/more")
    run("vos", "mkdir", "empty")
    run("vos", "rm", "-r", "qso")
    assert run("vos", "ls") == b"empty/\n"
    where = ("--where", "plate > 0 order by specobjid limit 2", "--all")
    run("query", *where, "--out", "vos://two")
    assert run("vos", "get", "two", "-") == run("query", *where)
    run("get", "--ids", "vos://two", "--values", "flux", "--out", "vos://spectra/")
    assert len(vos.vos.ls("spectra")) == 2
    assert CliRunner().invoke(app, ("vos", "ls", "--token", "wrong")).exit_code == 2


# --- Names cannot leave the user's folder ---------------------------------------------------------

ATTACKS = [
    "../secret",
    "../../secret",
    "../../../secret",
    "a/../../../../secret",
    "a/..",
    "..",
    ".",
    "./secret",
    "a/./b",
    "%2e%2e/%2e%2e/%2e%2e/secret",
    "%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret",
    "..%2f..%2f..%2fsecret",
    "a%2f..%2f..%2f..%2f..%2fsecret",
    "..%5c..%5c..%5csecret",
    "..\\..\\secret",
    "a%5cb",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "a//b",
    "a/",
    "%00",
    "a%00.txt",
    "../../../secret%00.txt",
    "%c0%ae%c0%ae/%c0%ae%c0%ae/secret",
    "%e0%80%ae%e0%80%ae/secret",
    "%ff%fe",
    ".hidden",
    "a/.hidden",
    ".%0asecret",
    "a%0ab",
    "a%0d%0aSet-Cookie:x",
    "a%7fb",
    "%e2%80%ae",
    "a%e2%80%8bb",
    "%20",
    "a%20",
    "%20a",
    "%2e%2e;/secret",
    "..;/..;/secret",
    "....//....//secret",
    "x" * 256,
    "%c3%a9" * 128,
    "/".join("x" * 17),
    "x/" * 600,
    "../bob/files/mine",
    "../../bob/files/mine",
    "..%2fusage",
    "~/../../secret",
    "link/../../secret",
    "link",
    "link/x",
    "door/secret",
    "door/new",
    "door/../secret",
]


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Return all that is below a folder, with content; what keeps count is left out."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            if path.name != "usage":
                found[name] = path.read_bytes()
        else:
            found[name] = None
    return found


def raw(url: str, method: str, path: str, token: str, body: bytes) -> tuple[int, bytes]:
    """Send a request as it is, with no client that tidies the path."""
    to = urlsplit(url)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=20)
    try:
        connection.putrequest(method, f"{to.path}/{path}", skip_accept_encoding=True)
        connection.putheader("X-DL-AuthToken", token)
        if method == "PUT":
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body if method == "PUT" else None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def besieged(stored: Stored) -> Stored:
    """The service, where the user eve's folder even has links that lead out."""
    stored.client("bob").vos.put("mine", b"bob")
    stored.client("eve").vos.put("a/b", b"eve")
    files = stored.spaces / "eve" / "files"
    (files / "link").symlink_to(stored.running.data / "secret")
    (files / "door").symlink_to(stored.running.data)
    return stored


@pytest.mark.parametrize("name", ATTACKS, ids=lambda name: name[:40])
def test_no_name_leads_out_of_a_space(besieged: Stored, name: str) -> None:
    data, token = besieged.running.data, besieged.tokens["eve"]
    before = tree(data)
    for method in ("GET", "DELETE", "PUT"):
        for path in (f"vos/{name}", f"vos?path={name}"):
            if method != "GET" and "?" in path:
                continue
            status, answer = raw(besieged.running.url, method, path, token, b"written")
            assert SECRET not in answer
            assert b"root:" not in answer
            assert b"sdss_dr17" not in answer
            assert status in {200, 201, 400, 404, 405}
            if status >= 400:
                assert b"Traceback" not in answer
            # What is below, 'a/' of a folder and links themselves, may change; nothing else may.
            after = tree(data)
            inside = "spaces/eve/files/"
            assert {one: after[one] for one in after if not one.startswith(inside)} == {
                one: before[one] for one in before if not one.startswith(inside)
            }
    shutil.rmtree(data / "spaces" / "eve" / "files")
    (data / "spaces" / "eve" / "usage").unlink(missing_ok=True)
    besieged.client("eve").vos.put("a/b", b"eve")
    files = besieged.spaces / "eve" / "files"
    (files / "link").symlink_to(data / "secret")
    (files / "door").symlink_to(data)


REFUSED = [
    name for name in ATTACKS if name not in {"a/", "link", "link/x", "door/secret", "door/new"}
]


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: name[:40])
def test_such_names_keep_nothing(besieged: Stored, name: str) -> None:
    files = besieged.spaces / "eve" / "files"
    before = sorted(files.rglob("*"))
    status, answer = raw(besieged.running.url, "PUT", f"vos/{name}", besieged.tokens["eve"], b"x")
    assert status in {400, 404}, answer
    assert b'"code":"' in answer
    assert sorted(files.rglob("*")) == before


def test_links_are_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    space = UserStorage(tmp_path / "space", ROOMY)
    keep(space, "kept", b"x")
    files = tmp_path / "space" / "files"
    (files / "link").symlink_to(outside / "secret")
    (files / "door").symlink_to(outside)
    os.mkfifo(files / "pipe")
    assert [one.name for one in space.entries()] == ["kept"]
    for name in ("link", "pipe"):
        with pytest.raises(NoSuchFile):
            space.open(name)
    with pytest.raises((NoSuchFile, BadParameter)):
        space.entries("door")
    for name in ("door/secret", "door/new"):
        with pytest.raises((NoSuchFile, BadParameter)):
            space.open(name)
        with pytest.raises((NoSuchFile, BadParameter)):
            keep(space, name, b"y")
        with pytest.raises((NoSuchFile, BadParameter)):
            space.remove(name)
    with pytest.raises((NoSuchFile, BadParameter)):
        space.make_folder("door/new")
    keep(space, "link", b"y")  # replaces the link, not what it points to
    assert read(space, "link") == b"y"
    space.remove("door", recursive=True)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == SECRET


def keep(space: UserStorage, name: str, content: bytes) -> None:
    draft = space.draft(name, len(content))
    try:
        draft.write(content)
        draft.commit()
    finally:
        draft.discard()


def read(space: UserStorage, name: str) -> bytes:
    file, _ = space.open(name)
    with file:
        return file.read()


TRICKY = ["..", ".", "", "a", "b", "\\", "\0", "~", "..\\..", "c:", ".a", "a ", "\u202e"]
PARTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "a", "b", "\\", "\0", "~", "..\\..", "c:", ".a", "a ", "\u202e"]
    ),
    st.text(max_size=6),
)


@pytest.mark.proof
@given(st.lists(PARTS, max_size=6).map("/".join))
@settings(max_examples=400)
def test_any_text_names_a_place_within_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    top = tmp_path_factory.getbasetemp() / "any-text"
    space = UserStorage(top / "space", ROOMY)
    (top / "secret").parent.mkdir(exist_ok=True)
    (top / "secret").write_bytes(SECRET)
    try:
        parts = split_name(name)
    except BadParameter:
        for call in (space.open, space.entries, space.remove, space.make_folder):
            with pytest.raises(BadParameter):
                call(name)
        with pytest.raises(BadParameter):
            space.draft(name, 0)
        return
    for part in parts:
        assert part not in {"", ".", ".."}
        assert "/" not in part
        assert "\0" not in part
        assert part == unicodedata.normalize("NFC", part)
    if parts and not name.endswith("/"):
        keep(space, name, b"x")
        place = top / "space" / "files" / Path(*parts)
        assert place.resolve().is_relative_to((top / "space" / "files").resolve())
        assert place.read_bytes() == b"x"
        assert read(space, name) == b"x"
        space.remove(parts[0], recursive=True)
    assert {path.name for path in top.iterdir()} <= {"secret", "space"}
    assert (top / "secret").read_bytes() == SECRET


# --- Quota ----------------------------------------------------------------------------------------


def test_a_space_that_is_full_says_so_and_takes_nothing(vos: SpecClient) -> None:
    vos.vos.put("one", bytes(1_900_000))
    with pytest.raises(QuotaExceeded, match=r"3,800,000 bytes are more than the 3,000,000"):
        vos.vos.put("two", bytes(1_900_000))
    with pytest.raises(QuotaExceeded, match=r"in one file are more than the 2,000,000"):
        vos.vos.put("three", bytes(MAX_FILE + 1))
    assert vos.vos.ls() == ["one"]
    vos.vos.put("one", bytes(2_000_000))  # in place of the old one there is room
    vos.vos.rm("one")
    assert vos.vos.put("two", bytes(1_900_000)) == "OK"


def test_uploads_at_the_same_time_do_not_overdraw(stored: Stored, vos: SpecClient) -> None:
    def put(number: int) -> bool:
        try:
            stored.client().vos.put(f"f{number}", bytes(700_000))
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(put, range(8)))
    assert 1 <= sum(kept) <= 4
    assert vos.vos.usage().nbytes == sum(kept) * 700_000 <= QUOTA


def test_the_number_of_files_is_bounded(tmp_path: Path) -> None:
    space = UserStorage(tmp_path, StorageLimits(10**6, 3, 10**6))
    for name in ("a", "b/c"):
        keep(space, name, b"x")
    with pytest.raises(QuotaExceeded, match="4 files are more than the 3"):
        keep(space, "d", b"x")
    with pytest.raises(QuotaExceeded):
        space.make_folder("e")
    keep(space, "a", b"another")
    space.remove("a")
    keep(space, "d", b"x")


@pytest.mark.proof
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "rm", "mkdir", "tear", "lose"]),
            st.sampled_from(["a", "b", "d/a", "d/e/f"]),
            st.integers(0, 50),
        ),
        max_size=25,
    )
)
@settings(max_examples=60)
def test_the_count_is_right_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    space = UserStorage(tmp_path_factory.mktemp("count"), StorageLimits(120, 6, 50))
    usage = space.folder / "usage"
    for what, name, nbytes in steps:
        try:
            if what == "put":
                keep(space, name, bytes(nbytes))
            elif what == "rm":
                space.remove(name.split("/")[0], recursive=True)
            elif what == "mkdir":
                space.make_folder(f"{name}-")
            elif usage.exists() and what == "tear":
                usage.write_text(usage.read_text()[: nbytes % 4])
            else:
                usage.unlink(missing_ok=True)
        except (QuotaExceeded, NoSuchFile):
            pass
        files = list((space.folder / "files").rglob("*"))
        total = sum(path.stat().st_size for path in files if path.is_file())
        counted = space.usage()
        assert (counted.nbytes, counted.nentries) == (total, len(files))
        assert total <= 120
        assert list((space.folder / "drafts").glob("*")) == []


# --- Half-written files ---------------------------------------------------------------------------

KILLED = """
import sys, time
from pathlib import Path
from specserver.data.user_storage import UserStorage, StorageLimits
space = UserStorage(Path(sys.argv[1]), StorageLimits(1000, 10, 1000))
draft = space.draft("file", 900)
draft.write(b"new" * 100)
print("half", flush=True)
time.sleep(60)
"""


def test_a_killed_writer_leaves_the_old_file_and_no_debts(tmp_path: Path) -> None:
    space = UserStorage(tmp_path, StorageLimits(1000, 10, 1000))
    keep(space, "file", b"old")
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"half\n"
    assert read(space, "file") == b"old"
    with pytest.raises(QuotaExceeded):
        keep(space, "other", bytes(200))  # what is under way counts
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert read(space, "file") == b"old"
    keep(space, "other", bytes(900))
    assert list((tmp_path / "drafts").iterdir()) == []
    assert [one.name for one in space.entries()] == ["file", "other"]


def test_an_upload_that_breaks_off_leaves_nothing(stored: Stored, vos: SpecClient) -> None:
    vos.vos.put("file", b"old")
    to = urlsplit(stored.running.url)
    head = (
        f"PUT {to.path}/vos/file HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        f"X-DL-AuthToken: {stored.tokens['ada']}\r\n\r\n"
    )
    with socket.create_connection((to.hostname, to.port)) as line:
        line.sendall(head.encode() + b"new" * 1000)
        drafts = stored.spaces / "ada" / "drafts"
        wait_until(lambda: any(drafts.iterdir()))
        assert vos.vos.get("file") == b"old"
    wait_until(lambda: not any(drafts.iterdir()))
    assert vos.vos.get("file") == b"old"
    assert vos.vos.usage().nbytes == 3


def wait_until(true: object) -> None:
    assert callable(true)
    for _ in range(400):
        if true():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it never came true")


def test_a_length_must_be_stated_and_kept(stored: Stored, vos: SpecClient) -> None:
    url = f"{stored.running.url}/vos/{quote('file')}"
    headers = {"X-DL-AuthToken": stored.tokens["ada"]}
    chunked = urllib3.request("PUT", url, body=iter([b"abc", b"def"]), headers=headers)
    assert chunked.status == 411
    draft = UserStorage(stored.spaces / "ada", ROOMY).draft("file", 5)
    try:
        with pytest.raises(BadParameter, match="5 were stated"):
            draft.write(b"123456")
        draft.write(b"123")
        with pytest.raises(BadParameter, match="cut off"):
            draft.commit()
    finally:
        draft.discard()
    assert vos.vos.ls() == []
