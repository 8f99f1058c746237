"""A catalogue in PostgreSQL behind a real service: it follows the data folder, and comes back."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
import urllib3
from astropy.io import fits
from benchmarks.postgres_cluster import USER, Cluster

from commands import command
from forked import Forked
from serving import Served, serve
from specserver.catalog.deadline import Deadline
from specserver.catalog.followed import open_database
from specserver.catalog.opening import open_catalogue
from specserver.catalog.postgres.following import PostgresFollower
from specserver.catalog.sql.expressions import Condition
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import QueryTimeout
from specserver.model.region import cone
from specserver.model.survey import Survey
from specserver.simulate import simulate_desi
from specserver.surveys.desi import DESI
from specserver.surveys.sdss import SDSS

CONTEXT = "sdss_dr17"
_SCHEMAS = count()


@pytest.fixture
def url(postgres: Cluster) -> str:
    """The URL of a schema of its own."""
    return f"{postgres.url}&schema=service_{next(_SCHEMAS)}"


@pytest.fixture(scope="module")
def files(mock_survey: Path) -> list[Path]:
    """The files of the mock survey."""
    return sorted(path for path in mock_survey.rglob("*") if path.is_file())


def in_database(url: str) -> PostgresFollower:
    found = open_database(url)
    assert isinstance(found, PostgresFollower)
    return found


def assert_same_rows(url: str, data: Path, survey: Survey = SDSS, context: str = CONTEXT) -> int:
    """Compare the database with the index in the data folder; return the number of rows."""
    database = in_database(url)
    theirs = database.open(context, survey)
    ours = open_catalogue(open_root(data).context(context), survey)
    assert theirs.columns == ours.columns
    names = sorted({*ours.columns, "_row", "_source", "_digest"})
    for primary in (True, False):
        tables = [one.query(names, Condition(), None, primary=primary) for one in (theirs, ours)]
        assert tables[0].schema == tables[1].schema
        for name in names:
            found, expected = (table.column(name).combine_chunks() for table in tables)
            assert found.null_count == expected.null_count, name
            if pa.types.is_floating(found.type):
                pair = (found.to_numpy(False), expected.to_numpy(False))
                np.testing.assert_array_equal(*pair, err_msg=name)
            else:
                assert found.equals(expected), name
        assert theirs.count(primary=primary) == ours.count(primary=primary) == len(tables[0])
    database.close()
    return len(tables[0])


def ask(running: Served, constraint: str = "z > 0.1 order by z limit 5") -> Any:
    body = {"context": CONTEXT, "constraint": constraint, "fields": ["specobjid", "z"]}
    return urllib3.request(
        "POST", f"{running.url}/bulk/query", json=body, retries=False, timeout=60.0
    )


# -- answers --------------------------------------------------------------------------------------


@pytest.mark.proof
def test_a_service_answers_from_the_database_as_from_the_folder(
    served: Served, url: str, tmp_path: Path
) -> None:
    command("catalog", "sync", "--data", served.data, "--catalog", url)
    log = tmp_path / "log"
    with serve(served.data, served.folder, options=("--catalog", url), log=log) as running:
        theirs, ours = SpecClient(), SpecClient()
        theirs.set_svc_url(running.url)
        ours.set_svc_url(served.url)
        ra, dec = (
            np.array(ours.query(fields=[name], context=CONTEXT, primary=False))
            for name in ("ra", "dec")
        )
        names = ["specobjid", "ra", "dec", "z", "class", "plate"]
        for asked in (
            {"constraint": "class = 'QSO' and z > 0.1 order by z desc limit 20"},
            {"constraint": "plate > 300 or subclass is null"},
            {"ra": float(ra[0]), "dec": float(dec[0]), "size": 5.0},
            {"constraint": f"specobjid in ({', '.join(map(str, served.ids[:40].tolist()))})"},
        ):
            found = [
                client.query(fields=names, context=CONTEXT, primary=False, fmt="pandas", **asked)
                for client in (ours, theirs)
            ]
            assert found[0].equals(found[1])
            assert len(found[0])
        ids = served.ids[:30].tolist()
        for one, other in zip(
            *(client.getSpec(ids, context=CONTEXT, fmt="numpy") for client in (ours, theirs)),
            strict=True,
        ):
            assert one.tobytes() == other.tobytes()
        for which in ("nearest", "all"):
            asked = (np.column_stack([ra, dec])[:40], 0.1, which, ["specobjid", "z"])
            matches = [
                client.match(*asked, context=CONTEXT, primary=False) for client in (ours, theirs)
            ]
            assert str(matches[0]) == str(matches[1])
            assert len(matches[0]) >= 40
        maps = Path(f"/proc/{running.process.pid}/maps").read_text()
        assert f"{served.data}/{CONTEXT}/index/" not in maps
    assert "error" not in log.read_text().lower()


@pytest.mark.proof
def test_ingest_and_maintain_bring_the_database_along(
    files: list[Path], url: str, tmp_path: Path
) -> None:
    data, nrows = tmp_path / "data", 0
    for some in (files[:40], files[40:70], files):
        command("ingest", CONTEXT, *some, "--data", data, "--catalog", url, "--workers", 1)
        more = assert_same_rows(url, data)
        assert more > nrows
        nrows = more
    printed = command("maintain", "--data", data, "--catalog", url, "--grace", 0)
    assert "fault" not in printed
    assert assert_same_rows(url, data) == nrows
    printed = command("catalog", "sync", "--data", data, "--catalog", url, "--json")
    assert json.loads(printed)["version"] is None


@pytest.mark.proof
def test_replaced_spectra_and_other_best_ones(url: str, tmp_path: Path) -> None:
    """Marks of parts say that rows are dead, and that others are the best of their objects."""
    folder, data = tmp_path / "desi", tmp_path / "data"
    simulate_desi(folder, 24, seed=5, per_file=6)
    survey, context = DESI, "desi_edr"
    words = ("--data", data, "--catalog", url, "--workers", 1)
    first = sorted(folder.rglob("coadd-*.fits"))
    command("ingest", context, *first, *words)
    before = assert_same_rows(url, data, survey, context)
    database = in_database(url)
    opened = database.open(context, survey)
    rows = opened.with_ids(np.unique(opened.place(opened.all_with_ids(ids_of(opened))).ids))
    for coadd in first:
        write_second(coadd)
    command("ingest", context, folder, *words)
    assert assert_same_rows(url, data, survey, context) > before
    # Rows keep their numbers, and all identifiers whose rows have changed are told.
    newer = database.open(context, survey)
    kept, changed = newer.carried(rows, opened)
    ids = opened.place(rows).ids
    now = newer.with_ids(ids)
    assert np.array_equal(kept, rows)
    assert np.count_nonzero(now != rows) > 0
    assert set(ids[now != rows].tolist()) <= set(changed.tolist())
    database.close()
    for coadd in first[:2]:
        brighten(coadd)
    command("ingest", context, *first[:2], "--replace", *words)
    assert_same_rows(url, data, survey, context)
    command("maintain", context, "--grace", 0, "--data", data, "--catalog", url)
    assert_same_rows(url, data, survey, context)
    shutil.rmtree(data / context / "index")
    command("maintain", context, "--data", data, "--catalog", url)
    assert_same_rows(url, data, survey, context)


def ids_of(catalogue: Any) -> Any:
    """Return the identifiers of all rows."""
    name = catalogue.survey.id_column.name
    return catalogue.query([name], Condition(), None, primary=False).column(0).to_numpy()


def write_second(coadd: Path) -> None:
    """Write the coadd of a file's targets in another programme; of half it is the best spectrum."""
    for path in (coadd, coadd.with_name(coadd.name.replace("coadd", "redrock"))):
        with fits.open(path, memmap=False) as units:
            old = units[0].header["PROGRAM"]
            units[0].header["PROGRAM"] = "other"
            for unit in units[1:]:
                if getattr(unit, "columns", None) and "TSNR2_LRG" in unit.columns.names:
                    unit.data["TSNR2_LRG"][::2] *= 1.5
                    unit.data["TSNR2_LRG"][1::2] *= 0.5
            units.writeto(path.with_name(path.name.replace(f"-{old}-", "-other-")))


def brighten(coadd: Path) -> None:
    """Give the spectra of a file other values."""
    with fits.open(coadd, mode="update", memmap=False) as units:
        for unit in units[1:]:
            if unit.name.endswith("_FLUX"):
                unit.data *= np.float32(1.25)


# -- faults ---------------------------------------------------------------------------------------


@pytest.mark.proof
def test_a_database_that_restarts_in_mid_query_is_asked_again(
    postgres: Cluster, served: Served, url: str
) -> None:
    command("catalog", "sync", "--data", served.data, "--catalog", url)
    expected = ask(served).data
    with (
        serve(served.data, served.folder, options=("--catalog", url)) as running,
        ThreadPoolExecutor() as pool,
    ):
        assert ask(running).data == expected
        with closing(psycopg.connect(postgres.url)) as blocking:
            schema = url.rpartition("=")[2]
            blocking.execute(f"LOCK TABLE {schema}.{CONTEXT} IN ACCESS EXCLUSIVE MODE")
            waiting = pool.submit(ask, running)
            await_query(postgres, CONTEXT)
            # Its lock is not to end before the query that waits for it.
            os.kill(blocking.info.backend_pid, signal.SIGSTOP)
            stopping = pool.submit(postgres.stop)
            answer = waiting.result()
            os.kill(blocking.info.backend_pid, signal.SIGCONT)
            stopping.result()
        assert answer.status == 503
        assert json.loads(answer.data)["code"] == "database_away"
        assert int(answer.headers["Retry-After"]) > 0
        # It is away for all requests, at once, and the service goes on.
        begun = time.monotonic()
        assert {ask(running).status for _ in range(4)} == {503}
        assert time.monotonic() - begun < 10
        assert urllib3.request("GET", f"{running.url}/ping").status == 200
        postgres.start()
        assert ask(running).data == expected
        # A restart between two requests is not noticed.
        for _ in range(2):
            postgres.stop()
            postgres.start()
            assert ask(running).data == expected


def test_a_query_ends_at_its_deadline(postgres: Cluster, served: Served, url: str) -> None:
    command("catalog", "sync", "--data", served.data, "--catalog", url)
    database = in_database(url)
    catalogue = database.open(CONTEXT, SDSS)
    with closing(psycopg.connect(postgres.url)) as blocking:
        blocking.execute(f"LOCK TABLE {url.rpartition('=')[2]}.{CONTEXT} IN ACCESS EXCLUSIVE MODE")
        for ask_it in (
            lambda until: catalogue.query(["z"], Condition(), None, primary=True, deadline=until),
            lambda until: catalogue.in_region(cone(0.0, 0.0, 1.0), until),
        ):
            begun = time.monotonic()
            with pytest.raises(QueryTimeout):
                ask_it(Deadline.after(0.3))
            assert 0.2 < time.monotonic() - begun < 5
    assert len(catalogue.query(["z"], Condition(), None, primary=False)) == len(served.ids)
    database.close()


def await_query(postgres: Cluster, text: str) -> None:
    """Wait until a query with some text is at work, or waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND state = 'active'"
    deadline = time.monotonic() + 30
    with psycopg.connect(postgres.url, autocommit=True) as looking:
        while time.monotonic() < deadline:
            # This query is one of them.
            if looking.execute(query, (f"%{text}%",)).fetchone() != (0,):
                return
            time.sleep(0.02)
    raise AssertionError("no such query is at work")


@pytest.mark.proof
def test_a_service_begins_while_the_database_is_away(
    postgres: Cluster, served: Served, url: str
) -> None:
    postgres.stop()
    try:
        with serve(served.data, served.folder, options=("--catalog", url)) as running:
            assert ask(running).status == 503
            postgres.start()
            # Nobody has written the catalogue there: the service does.
            answer = until(lambda: ask(running), lambda found: found.status == 200)
            assert answer.data == ask(served).data
    finally:
        if not postgres.is_running:
            postgres.start()


def until(look: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """Return what is found when it is enough."""
    deadline = time.monotonic() + 60
    while True:
        found = look()
        if enough(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@pytest.mark.proof
def test_a_service_follows_what_others_commit(
    files: list[Path], url: str, tmp_path: Path, mock_survey: Path
) -> None:
    data = tmp_path / "data"
    command("ingest", CONTEXT, *files[:40], "--data", data, "--workers", 1)
    with (
        serve(data, mock_survey, options=("--catalog", url)) as running,
        serve(data, mock_survey, options=("--catalog", url)) as other,
    ):
        both = (running, other)
        first = [until(lambda one=one: count_of(one), bool) for one in both]
        assert first[0] == first[1]
        # The manifest is newer than the database.
        command("ingest", CONTEXT, *files, "--data", data, "--workers", 1)
        for one in both:
            until(lambda one=one: count_of(one), lambda found: found > first[0])
        assert count_of(running) == count_of(other)
        assert_same_rows(url, data)


@pytest.mark.proof
def test_a_server_whose_user_can_only_read_answers_what_the_database_has(
    postgres: Cluster, files: list[Path], url: str, tmp_path: Path, mock_survey: Path
) -> None:
    data, schema, log = tmp_path / "data", url.rpartition("=")[2], tmp_path / "log"
    command("ingest", CONTEXT, *files[:40], "--data", data, "--catalog", url, "--workers", 1)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
    reading = url.replace("postgres@", "reader@")
    with serve(data, mock_survey, options=("--catalog", reading), log=log) as running:
        first = count_of(running)
        assert first
        command("ingest", CONTEXT, *files, "--data", data, "--workers", 1)
        for _ in range(3):
            assert count_of(running) == first
        assert "permission denied" in until(log.read_text, lambda text: "cannot follow" in text)
        command("catalog", "sync", "--data", data, "--catalog", url)
        until(lambda: count_of(running), lambda found: found > first)
        # A column gets a wider type: the table is made anew, with its rights.
        change = f"UPDATE {schema}.field SET form = 'int16' WHERE name = 'mjd'"
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(change)
            connection.execute(f"UPDATE {schema}.context SET rows = 'other'")
        command("catalog", "sync", "--data", data, "--catalog", url)
        assert until(lambda: count_of(running), bool) > first
    assert "permission denied" in command(
        "catalog", "sync", "--data", served_copy(data, tmp_path), "--catalog", reading, code=1
    )
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY reader")
        connection.execute("DROP ROLE reader")


def served_copy(data: Path, folder: Path) -> Path:
    """Return a copy of a data folder whose index was made anew."""
    shutil.copytree(data, folder / "copy")
    shutil.rmtree(folder / "copy" / CONTEXT / "index")
    return folder / "copy"


def count_of(running: Served) -> int:
    """Return the number of spectra that a service finds; 0: it does not answer yet."""
    answer = ask(running, "plate > 0")
    assert answer.status in {200, 503}
    return pa.ipc.open_stream(answer.data).read_all().num_rows if answer.status == 200 else 0


@pytest.mark.proof
def test_several_that_bring_the_database_along_at_once(served: Served, url: str) -> None:
    databases = [in_database(url) for _ in range(4)]
    folder = open_root(served.data).context(CONTEXT)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda one: one.sync(folder, SDSS), databases))
    assert [change is None for change in done].count(False) == 1
    for one in databases:
        one.close()
    assert_same_rows(url, served.data)


@pytest.mark.proof
def test_one_that_is_killed_leaves_the_database_as_it_was(
    postgres: Cluster, files: list[Path], url: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    command("ingest", CONTEXT, *files[:40], "--data", data, "--catalog", url, "--workers", 1)
    before = assert_same_rows(url, data)
    command("ingest", CONTEXT, *files, "--data", data, "--workers", 1)
    schema = url.rpartition("=")[2]
    with psycopg.connect(postgres.url) as blocking:
        # Its last step waits for this lock.
        blocking.execute(f"LOCK TABLE {schema}.context IN SHARE ROW EXCLUSIVE MODE")
        writer = Forked(("catalog", "sync", "--data", data, "--catalog", url))
        await_query(postgres, "DELETE FROM")
        assert writer.poll() is None
        writer.kill()
        writer.wait()
        database = in_database(url)
        assert database.open(CONTEXT, SDSS).count(primary=False) == before
        database.close()
    command("catalog", "sync", "--data", data, "--catalog", url)
    assert assert_same_rows(url, data) > before


def test_a_database_that_lets_nobody_in_says_why(url: str, served: Served) -> None:
    wrong = {
        url.replace(f"/{USER}?", "/nowhere?"): "createdb",
        url.replace(f"//{USER}@", "//nobody@"): "no such user",
    }
    for other, said in wrong.items():
        printed = command("catalog", "sync", "--data", served.data, "--catalog", other, code=1)
        assert said in printed


@pytest.mark.proof
def test_a_password_is_never_shown(postgres: Cluster, served: Served, tmp_path: Path) -> None:
    secret = "s3cr3t-Pa55"
    for wrong in (
        f"postgresql://u:{secret}@127.0.0.1:1/none",
        f"postgresql://u:{secret}@127.0.0.1:port/none",
        f"postgresql://u:{secret}@[127.0.0.1/none",
        f"mysql://u:{secret}@127.0.0.1/none",
    ):
        for words in (("catalog", "sync"), ("maintain", "--json")):
            printed = command(*words, "--data", served.data, "--catalog", wrong, code=None)
            assert secret not in printed
    log = tmp_path / "log"
    away = f"postgresql://u:{secret}@127.0.0.1:1/none"
    with serve(served.data, served.folder, log=log, settings={"catalog": away}) as running:
        answer = ask(running)
        assert answer.status == 503
        assert secret not in answer.data.decode()
        assert "127.0.0.1" not in answer.data.decode()
    assert secret not in log.read_text()
    assert "is away" in log.read_text()
