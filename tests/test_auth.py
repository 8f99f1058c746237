"""Tokens, private contexts, and what only administrators may do."""

import json
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from commands import command
from serving import Served, serve
from specserver import specClient
from specserver.auth import (
    ANONYMOUS,
    Caller,
    TokenBook,
    check_private,
    check_user,
    is_private,
    parse_expiry,
    set_private,
)
from specserver.cli.main import app
from specserver.client.api import SpecClient
from specserver.client.session import Session
from specserver.data.root import open_root
from specserver.errors import (
    BadParameter,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    StoreError,
    UnknownCatalog,
    UnknownContext,
)
from specserver.ingest import run_ingest
from specserver.service import SpectroscopicService
from specserver.service.query import QueryRequest

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OLD_ANONYMOUS = "anonymous.0.0.anon_access"


# --- Tokens ---------------------------------------------------------------------------------------


def test_a_token_tells_who_asks(tmp_path: Path) -> None:
    book = TokenBook(open_root(tmp_path))
    token = book.create("ada", contexts=["sdss_dr17"], now=NOW)
    assert book.caller(token, NOW) == Caller("ada", False, frozenset({"sdss_dr17"}))
    admin = book.create("grace", is_admin=True, now=NOW)
    assert book.caller(f"  {admin}\n", NOW) == Caller("grace", True)
    assert [one.user for one in book.records()] == ["ada", "grace"]
    assert token.split(".")[0] == "specserver"
    assert token.count(".") == 2


def test_the_file_holds_no_secret_and_is_for_its_owner(tmp_path: Path) -> None:
    token = TokenBook(open_root(tmp_path)).create("ada", now=NOW)
    secret = token.rpartition(".")[2]
    assert len(secret) == 43  # 256 bits
    path = tmp_path / "tokens.json"
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.glob("*.draft")] == []


def test_a_wrong_secret_of_a_known_token_is_refused(tmp_path: Path) -> None:
    book = TokenBook(open_root(tmp_path))
    one, other = (book.create("ada", now=NOW) for _ in range(2))
    mixed = ".".join([*one.split(".")[:2], other.split(".")[2]])
    with pytest.raises(NotAuthenticated, match="unknown here, or was revoked"):
        book.caller(mixed, NOW)


@pytest.mark.parametrize("token", ["", "   ", OLD_ANONYMOUS, "dltest.99998.99998.test_access"])
def test_no_token_and_tokens_of_the_data_lab_are_anonymous(token: str, tmp_path: Path) -> None:
    assert TokenBook(open_root(tmp_path)).caller(token, NOW) is ANONYMOUS
    assert ANONYMOUS.is_anonymous
    assert not ANONYMOUS.may_see("sdss_dr17")


@given(st.text())
def test_no_text_is_a_token(token: str) -> None:
    book = TokenBook(open_root(Path("nowhere")))
    if not token.strip() or re.fullmatch(r"[^\s.]+\.[0-9]+\.[0-9]+\.\S+", token.strip()):
        assert book.caller(token, NOW) is ANONYMOUS
    else:
        with pytest.raises(NotAuthenticated, match="specserver token create"):
            book.caller(token, NOW)


def test_an_expired_token_is_refused_and_says_so(tmp_path: Path) -> None:
    book = TokenBook(open_root(tmp_path))
    token = book.create("ada", expires=NOW + timedelta(days=30), now=NOW)
    assert book.caller(token, NOW + timedelta(days=29)).user == "ada"
    with pytest.raises(NotAuthenticated, match="expired at 2026-05-31 12:00 UTC"):
        book.caller(token, NOW + timedelta(days=30))


def test_a_revoked_token_is_refused_by_those_who_knew_it(tmp_path: Path) -> None:
    server, operator = TokenBook(open_root(tmp_path)), TokenBook(open_root(tmp_path))
    token, other = (operator.create(user, now=NOW) for user in ("ada", "grace"))
    assert server.caller(token, NOW).user == "ada"
    assert operator.revoke(token).user == "ada"  # the whole token does as well as its id
    with pytest.raises(NotAuthenticated):
        server.caller(token, NOW)
    assert server.caller(other, NOW).user == "grace"
    with pytest.raises(BadParameter, match=r"known tokens: [0-9a-f]{10}$"):
        operator.revoke("0123456789")


def test_tokens_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda n: TokenBook(open_root(tmp_path)).create(f"u{n}", now=NOW), range(24))
        )
    book = TokenBook(open_root(tmp_path))
    assert {book.caller(token, NOW).user for token in made} == {f"u{n}" for n in range(24)}


@pytest.mark.parametrize("content", ["", "[]", '{"version": 9, "tokens": []}', '{"tokens": 1'])
def test_a_damaged_file_lets_nobody_in(content: str, tmp_path: Path) -> None:
    token = TokenBook(open_root(tmp_path)).create("ada", now=NOW)
    (tmp_path / "tokens.json").write_text(content)
    with pytest.raises(StoreError, match=r"tokens\.json"):
        TokenBook(open_root(tmp_path)).caller(token, NOW)


@pytest.mark.parametrize("user", ["", ".", "..", "a/b", "Ada", "-a", "a.", "a b", "ä", "anonymous"])
def test_names_that_users_cannot_have(user: str) -> None:
    with pytest.raises(BadParameter, match="user="):
        check_user(user)


def test_names_that_users_have() -> None:
    for user in ("a", "ada", "ada.lovelace", "x-1_2", "0" * 64):
        assert check_user(user) == user
    with pytest.raises(BadParameter):
        check_user("0" * 65)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("30d", NOW + timedelta(days=30)),
        ("12h", NOW + timedelta(hours=12)),
        ("2 w", NOW + timedelta(days=14)),
        ("1Y", NOW + timedelta(hours=8766)),
        ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-05-01T14:30+02:00", datetime(2026, 5, 1, 12, 30, tzinfo=UTC)),
        ("never", None),
    ],
)
def test_ends_of_tokens(text: str, end: datetime | None) -> None:
    assert parse_expiry(text, NOW) == end


@pytest.mark.parametrize("text", ["", "soon", "0d", "2026-04-30", "99999y", "-3d", "30", "30 days"])
def test_what_is_no_end_of_a_token(text: str) -> None:
    with pytest.raises(BadParameter, match="30d"):
        parse_expiry(text, NOW)


def test_a_damaged_mark_hides_a_context(tmp_path: Path) -> None:
    assert not is_private(open_root(tmp_path), "sdss_dr17")
    set_private(open_root(tmp_path), "sdss_dr17", private=True)
    assert is_private(open_root(tmp_path), "sdss_dr17")
    (tmp_path / "sdss_dr17" / "access.json").write_text("{")
    assert is_private(open_root(tmp_path), "sdss_dr17")
    set_private(open_root(tmp_path), "sdss_dr17", private=False)
    assert not is_private(open_root(tmp_path), "sdss_dr17")


def test_a_lost_mark_closes_and_is_told(tmp_path: Path) -> None:
    for name in ("sdss_dr16", "sdss_dr17"):
        set_private(open_root(tmp_path), name, private=True)
    (tmp_path / "sdss_dr17" / "access.json").unlink()
    assert is_private(open_root(tmp_path), "sdss_dr17")
    (fault,) = check_private(open_root(tmp_path))
    assert "sdss_dr17/access.json is lost" in fault
    assert "specserver context private sdss_dr17" in fault
    set_private(open_root(tmp_path), "sdss_dr17", private=True)
    assert check_private(open_root(tmp_path)) == []
    # A folder of an older version, or a lost register: the contexts' own files still say it.
    (tmp_path / "private.json").unlink()
    assert is_private(open_root(tmp_path), "sdss_dr17")
    assert check_private(open_root(tmp_path)) == []
    (tmp_path / "sdss_dr17" / "access.json").unlink()
    assert is_private(open_root(tmp_path), "sdss_dr17")
    set_private(open_root(tmp_path), "sdss_dr17", private=False)
    assert not is_private(open_root(tmp_path), "sdss_dr17")
    assert is_private(open_root(tmp_path), "sdss_dr16")


def test_a_damaged_register_closes_every_context(tmp_path: Path) -> None:
    set_private(open_root(tmp_path), "sdss_dr17", private=True)
    (tmp_path / "desi_edr").mkdir()
    assert not is_private(open_root(tmp_path), "desi_edr")
    for damaged in (b"", b"{", b"[]", b'{"version": 9, "contexts": []}', b'{"version": 1}'):
        (tmp_path / "private.json").write_bytes(damaged)
        assert is_private(open_root(tmp_path), "desi_edr")
        (fault,) = check_private(open_root(tmp_path))
        assert "private.json" in fault
    set_private(open_root(tmp_path), "desi_edr", private=False)
    assert not is_private(open_root(tmp_path), "desi_edr")
    assert is_private(open_root(tmp_path), "sdss_dr17")


@pytest.mark.proof
def test_all_that_is_written_into_a_private_context_is_for_its_owner(
    mock_survey: Path, tmp_path: Path
) -> None:
    plates = sorted({path.parent for path in mock_survey.rglob("spec-*") if path.is_file()})
    old = os.umask(0o022)
    try:
        set_private(open_root(tmp_path), "sdss_dr17", private=True)
        run_ingest(open_root(tmp_path), "sdss_dr17", plates[:1], workers=1)
        run_ingest(open_root(tmp_path), "sdss_dr17", plates[1:2], workers=2)
        table = tmp_path.parent / "own.csv"
        number = SpectroscopicService(open_root(tmp_path)).query(
            QueryRequest("sdss_dr17", None, "plate > 0", ("specobjid",))
        )
        table.write_text(f"specobjid,quality\n{number.column(0)[0].as_py()},3\n")
        data = ["--data", str(tmp_path)]
        run("catalog", "add", "sdss_dr17", "own", str(table), *data)
        run("context", "private", "sdss_dr17", *data)
        listed = [tmp_path / "sdss_dr17", *(tmp_path / "sdss_dr17").rglob("*")]
        assert len(listed) > 60
        for path in (*listed, tmp_path / "private.json"):
            assert path.stat().st_mode & 0o077 == 0, path
        set_private(open_root(tmp_path), "sdss_dr17", private=False)
        for path in (tmp_path / "sdss_dr17").rglob("*"):
            assert path.stat().st_mode & 0o044 == 0o044, path
    finally:
        os.umask(old)


# --- Through the front door -----------------------------------------------------------------------


@dataclass(frozen=True)
class Guarded:
    """A service with a private newest release, sdss_dr17, and a public one, sdss_dr16."""

    running: Served
    open_ids: np.ndarray
    """Identifiers that both releases hold."""
    closed_id: int
    """One that only the private release holds."""
    ada: str
    """Token that names the private release."""
    bob: str
    """Token that names none."""
    admin: str

    def client(self, token: str = "") -> SpecClient:
        client = SpecClient(svc_url=self.running.url)
        client.set_token(token)
        return client

    def ask(self, method: str, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return urllib3.request(method, f"{self.running.url}/{path}", headers=names)


@pytest.fixture(scope="module")
def guarded(
    mock_survey: Path, mock_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    data = tmp_path_factory.mktemp("guarded") / "data"
    shutil.copytree(mock_data / "sdss_dr17", data / "sdss_dr17")
    plate = min(path for path in mock_survey.rglob("spec-*") if path.is_file()).parent
    run_ingest(open_root(data), "sdss_dr16", [plate], workers=1)
    set_private(open_root(data), "sdss_dr17", private=True)
    book, now = TokenBook(open_root(data)), datetime.now(UTC)
    ada = book.create("ada", contexts=["sdss_dr17"], now=now)
    bob = book.create("bob", now=now)
    admin = book.create("grace", is_admin=True, now=now)
    with serve(data, mock_survey, workers=2, spawned=False) as running:
        client = SpecClient(svc_url=running.url)
        few = client.query(constraint="plate > 0", primary=False, context="sdss_dr16")
        closed = np.setdiff1d(running.ids, few)
        assert len(few) > 1
        assert len(closed) > 1
        yield Guarded(running, few, int(closed[0]), ada, bob, admin)


@pytest.mark.parametrize("who", ["", "bob", OLD_ANONYMOUS])
def test_a_private_context_is_not_there_for_strangers(guarded: Guarded, who: str) -> None:
    client = guarded.client(guarded.bob if who == "bob" else who)
    listed = client.list_contexts(fmt="json")
    assert sorted(listed) == ["default", "sdss_dr16"]
    assert listed["default"]["resolved"] == "sdss_dr16"
    for text in (client.list_contexts(), client.list_contexts(fmt="csv")):
        assert "sdss_dr17" not in text
    for call in (
        lambda: client.set_context("sdss_dr17"),
        lambda: client.list_contexts("sdss_dr17"),
        lambda: client.catalogs("sdss_dr17"),
        lambda: client.query(constraint="plate > 0", context="sdss_dr17"),
        lambda: client.getSpec(guarded.closed_id, context="sdss_dr17"),
    ):
        with pytest.raises(UnknownContext) as hidden:
            call()
        assert "sdss_dr17'; known here: sdss_dr16" in hidden.value.message


def test_a_private_context_answers_as_one_that_does_not_exist(guarded: Guarded) -> None:
    hidden = guarded.ask("GET", "contexts?context=sdss_dr17")
    absent = guarded.ask("GET", "contexts?context=sdss_dr11")
    assert hidden.status == absent.status == 404
    assert hidden.data.replace(b"dr17", b"dr11") == absent.data
    assert "sdss_dr17" not in guarded.ask("GET", "available").data.decode()


def test_its_spectra_and_catalogues_cannot_be_had_by_another_name(guarded: Guarded) -> None:
    client = guarded.client(guarded.bob)
    for context in ("default", "sdss_dr16"):
        with pytest.raises(NotFound) as missing:
            client.getSpec(guarded.closed_id, context=context)
        assert "sdss_dr17" not in missing.value.message
    with pytest.raises((UnknownCatalog, UnknownContext)):
        client.query(constraint="plate > 0", catalog="sdss_dr17.specobj")
    everything = client.query(constraint="plate > 0", primary=False)
    assert guarded.closed_id not in everything.tolist()
    assert len(client.getSpec(guarded.open_ids)) == len(guarded.open_ids)


@pytest.mark.parametrize("who", ["ada", "admin"])
def test_a_token_that_names_it_shows_it(guarded: Guarded, who: str) -> None:
    client = guarded.client(getattr(guarded, who))
    listed = client.list_contexts(fmt="json")
    assert sorted(listed) == ["default", "sdss_dr16", "sdss_dr17"]
    assert listed["default"]["resolved"] == "sdss_dr17"
    client.set_context("sdss_dr17")
    assert len(client.getSpec(guarded.closed_id)) > 0
    every = client.query(constraint="plate > 0", primary=False)
    assert np.array_equal(np.sort(every), np.sort(guarded.running.ids))


def test_a_token_for_one_call(guarded: Guarded) -> None:
    client = guarded.client()
    assert len(client.getSpec(guarded.closed_id, token=guarded.ada)) > 0
    with pytest.raises(NotFound):
        client.getSpec(guarded.closed_id)


def test_every_look_up_of_a_call_has_its_token_and_timeout(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: set[tuple[object, bool]] = set()
    send = Session.send

    def noted(session: Session, *given: Any, **options: Any) -> Any:
        asked.add((options.get("token"), options.get("timeout_s") in {70, 80}))
        return send(session, *given, **options)

    monkeypatch.setattr(Session, "send", noted)
    both, number = ["sdss_dr17", "sdss_dr16"], guarded.closed_id
    table = Table({"context": ["sdss_dr17"], "id": [number]})
    once: dict[str, Any] = {"token": guarded.ada, "timeout": 70}
    (parts,) = guarded.client(guarded.ada).query(
        constraint=f"specobjid = {number}", primary=False, fields="tuple", context="sdss_dr17"
    )
    asked.clear()
    for call in (
        lambda client: client.query(constraint="z > 0 limit 1", context=both, **once),
        lambda client: client.query(constraint="limit 1", context=both, fields="tuple", **once),
        lambda client: client.query(constraint="limit 1", context=both, fields="ra,z", **once),
        lambda client: client.query(
            constraint="limit 1", context="sdss_dr17", fields="ra,dec", primary=False, **once
        ),
        lambda client: client.getSpec([("sdss_dr17", parts)], **once),
        lambda client: client.getSpec(table, **once),
        lambda client: client.getSpec(f"sdss_dr17:{number}", **once),
        lambda client: client.getSpec(str(parts), context="sdss_dr17", **once),
        lambda client: client.preview(f"sdss_dr17:{number}", fmt="raw", **once),
        lambda client: client.stack([("sdss_dr17", parts)], **once),
    ):
        # A client that has asked for nothing knows no forms.
        assert call(guarded.client()) is not None
    assert asked == {(guarded.ada, True)}
    with pytest.raises(UnknownContext):
        guarded.client().query(constraint="limit 1", context=both, fields="ra,dec")
    words = ("--where", "z > 0 limit 1", "--context", ",".join(both), "--fields", "ra,dec")
    url = ("--url", guarded.running.url, "--token", guarded.ada)
    assert "sdss_dr17," in command("query", *words, *url)


def test_the_token_may_come_as_a_bearer(guarded: Guarded) -> None:
    path = "validate?what=context&value=sdss_dr17"
    assert guarded.ask("GET", path).status == 404
    assert guarded.ask("GET", path, Authorization=f"Bearer {guarded.ada}").data == b"OK"
    both = {"X_DL_AuthToken": OLD_ANONYMOUS, "Authorization": f"Bearer {guarded.ada}"}
    assert guarded.ask("GET", path, **both).data == b"OK"
    assert guarded.ask("GET", path, Authorization="Basic YTpi").status == 404


@pytest.mark.parametrize("token", ["garbled", "specserver.0123456789." + "x" * 43, "specserver.."])
def test_a_token_that_is_none_is_told_so(guarded: Guarded, token: str) -> None:
    answer = guarded.ask("GET", "contexts", X_DL_AuthToken=token)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "not_authenticated"
    with pytest.raises(NotAuthenticated):
        guarded.client(token).query(constraint="plate > 0")


def test_a_running_service_follows_at_once(guarded: Guarded) -> None:
    book, now = TokenBook(open_root(guarded.running.data)), datetime.now(UTC)
    for _ in range(5):  # whichever of the processes answers
        token = book.create(
            "eve", contexts=["sdss_dr17"], expires=now + timedelta(hours=1), now=now
        )
        assert "sdss_dr17" in guarded.client(token).list_contexts()
        book.revoke(token)
        with pytest.raises(NotAuthenticated, match="revoked"):
            guarded.client(token).list_contexts()
    past = book.create("eve", expires=now - timedelta(seconds=1), now=now - timedelta(days=1))
    with pytest.raises(NotAuthenticated, match="expired at"):
        guarded.client(past).list_contexts()
    set_private(open_root(guarded.running.data), "sdss_dr17", private=False)
    try:
        assert "sdss_dr17" in guarded.client().list_contexts()
    finally:
        set_private(open_root(guarded.running.data), "sdss_dr17", private=True)
    assert "sdss_dr17" not in guarded.client().list_contexts()


def test_a_running_service_stays_closed_when_the_mark_is_lost(guarded: Guarded) -> None:
    (guarded.running.data / "sdss_dr17" / "access.json").unlink()
    try:
        for _ in range(5):  # whichever of the processes answers
            assert "sdss_dr17" not in guarded.client().list_contexts()
            with pytest.raises(NotFound):
                guarded.client().getSpec(guarded.closed_id)
    finally:
        set_private(open_root(guarded.running.data), "sdss_dr17", private=True)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["shutdown", "debug"])
def test_any_visitor_could_call_shutdown(guarded: Guarded, path: str, method: str) -> None:
    """INTERFACE.md §4: of the predecessor; here only an administrator can."""
    for headers in ({}, {"X_DL_AuthToken": OLD_ANONYMOUS}, {"Authorization": "Bearer x"}):
        answer = guarded.ask(method, path, **headers)
        assert answer.status == 401
        assert answer.json()["code"] == "not_authenticated"
    for token in (guarded.ada, guarded.bob):
        answer = guarded.ask(method, path, X_DL_AuthToken=token)
        assert answer.status == 403
        assert answer.json()["code"] == NotAllowed.code
        assert "administrator" in answer.json()["message"]
    time.sleep(0.3)
    assert guarded.running.process.poll() is None
    assert not (guarded.running.data / "debug").exists()


def test_the_description_says_where_a_token_is_needed(guarded: Guarded) -> None:
    described = json.loads(guarded.ask("GET", "openapi.json").data)
    schemes = described["components"]["securitySchemes"]
    assert schemes["X-DL-AuthToken"]["in"] == "header"
    assert schemes["Bearer"]["scheme"] == "bearer"
    either = [{"X-DL-AuthToken": []}, {"Bearer": []}]
    assert described["paths"]["/spec/shutdown"]["get"]["security"] == either
    assert described["paths"]["/spec/vos/{name}"]["put"]["security"] == either
    assert described["paths"]["/spec/query"]["get"]["security"] == [*either, {}]


# --- What administrators do -----------------------------------------------------------------------


@pytest.fixture
def own_data(mock_data: Path, tmp_path: Path) -> tuple[Path, str]:
    """A data folder that nobody else uses, with the token of its administrator."""
    data = tmp_path / "data"
    shutil.copytree(mock_data / "sdss_dr17", data / "sdss_dr17")
    return data, TokenBook(open_root(data)).create("grace", is_admin=True, now=datetime.now(UTC))


@pytest.mark.proof
@pytest.mark.parametrize(("workers", "method"), [(1, "GET"), (2, "POST")])
def test_an_administrator_stops_the_whole_service(
    own_data: tuple[Path, str], workers: int, method: str
) -> None:
    data, token = own_data
    with serve(data, data, workers=workers) as running:
        headers = {"X-DL-AuthToken": token}
        answer = urllib3.request(method, f"{running.url}/shutdown", headers=headers)
        assert answer.status == 200
        assert answer.data.startswith(b"OK")
        assert running.process.wait(20) == 0
        assert not SpecClient(svc_url=running.url).isAlive()


@pytest.mark.proof
def test_an_administrator_debugs_all_processes(own_data: tuple[Path, str], tmp_path: Path) -> None:
    data, token = own_data
    # pytest truncates captured output as it reads it, while both processes still write: use a file.
    log = tmp_path / "log"

    def told() -> list[str]:
        return [line for line in log.read_text().splitlines() if "?'mark=" in line]

    with serve(data, data, workers=2, spawned=False, log=log) as running:

        def toggle() -> object:
            headers = {"Authorization": f"Bearer {token}"}
            return urllib3.request("GET", f"{running.url}/debug", headers=headers).json()

        def visit(mark: object) -> None:
            with urllib3.PoolManager() as pool:
                pool.request("GET", f"{running.url}/contexts?mark={mark}%0Aforged")

        assert toggle() == {"debug": True}
        sent, processes = 0, set[str]()
        deadline = time.monotonic() + 60
        with ThreadPoolExecutor(8) as pool:
            while len(processes) < 2 and time.monotonic() < deadline:
                list(pool.map(visit, range(16)))
                sent += 16
                processes = {line.split()[2] for line in told()}
        assert toggle() == {"debug": False}
        visit("silent")
    assert len(told()) == sent
    assert len(processes) == 2
    assert all("'/spec/contexts'" in line and "by 'anonymous': 200" in line for line in told())
    said = log.read_text()
    assert "'/spec/debug' ?'' by 'grace': 200" in said
    assert "silent" not in said
    assert token not in said


# --- The client and the command line --------------------------------------------------------------


def test_where_the_client_takes_its_token_from(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SpecClient()
    monkeypatch.delenv("SPECSERVER_TOKEN", raising=False)
    assert client.get_token() == ""
    monkeypatch.setenv("SPECSERVER_TOKEN", "specserver.a.b")
    assert client.get_token() == "specserver.a.b"
    client.set_token("specserver.c.d")
    assert client.get_token() == "specserver.c.d"
    client.set_token("")
    assert client.get_token() == ""
    specClient.set_token("specserver.e.f")
    try:
        assert specClient.getClient().get_token() == specClient.get_token() == "specserver.e.f"
    finally:
        specClient.set_token(None)


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_redirect_elsewhere_does_not_carry_the_token_away() -> None:
    seen: list[str | None] = []

    class Thief(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("X-DL-AuthToken"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    with listening(Thief) as thief:

        class Sender(Thief):
            def do_GET(self) -> None:
                seen.append(self.headers.get("X-DL-AuthToken"))
                self.send_response(302)
                self.send_header("Location", f"{thief.replace('127.0.0.1', 'localhost')}/x")
                self.end_headers()

        with listening(Sender) as sender:
            client = SpecClient(svc_url=f"{sender}/spec")
            client.set_token("specserver.a.b")
            assert client.list_contexts(fmt="json") == {}
    assert seen == ["specserver.a.b", None]


def run(*words: str) -> str:
    """Run a command in this process; return what it printed."""
    done = CliRunner().invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_operator_at_the_command_line(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path)]
    made = run("token", "create", "--user", "ada", "--context", "sdss_dr17", *data).strip()
    other = run(
        "token", "create", "--user", "grace", "--admin", "--expires", "never", *data
    ).strip()
    book, now = TokenBook(open_root(tmp_path)), datetime.now(UTC)
    assert book.caller(made, now) == Caller("ada", False, frozenset({"sdss_dr17"}))
    assert book.caller(other, now).is_admin
    expires = book.records()[0].expires
    assert expires is not None
    assert 364 <= (expires - now).days <= 366
    listed = run("token", "list", *data)
    assert made.split(".")[1] in listed
    assert made.split(".")[2] not in listed
    run("token", "revoke", made.split(".")[1], *data)
    assert [one.user for one in TokenBook(open_root(tmp_path)).records()] == ["grace"]
    run("context", "private", "sdss_dr17", *data)
    assert is_private(open_root(tmp_path), "sdss_dr17")
    run("context", "public", "sdss_dr17", *data)
    assert not is_private(open_root(tmp_path), "sdss_dr17")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["token", "create", "--user", "../ada"], "--user ../ada is not possible"),
        (["token", "create", "--user", "ada", "--context", "sdss_dr99"], "context 'sdss_dr99'"),
        (["token", "create", "--user", "ada", "--expires", "yesterday"], "--expires yesterday is"),
        (["token", "revoke", "0123456789"], "ID 0123456789 is not possible"),
        (["context", "private", "../etc"], "unknown context '../etc'"),
    ],
)
def test_what_the_operator_cannot_do(words: list[str], told: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*words, "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert told in done.stderr
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "tokens.lock"])
