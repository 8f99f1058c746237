"""One database answers the conditions of all catalogues of a process, within one bound."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from specserver.catalog.duckdb import database, statements
from specserver.catalog.duckdb.database import Bounds, bound_database, cursor
from specserver.catalog.index.manifest import commit_manifest, new_rows, newest_manifest
from specserver.data.root import open_root
from specserver.errors import CatalogError, TooMuch
from specserver.ingest import run_ingest
from specserver.service import QueryRequest, SpectroscopicService
from specserver.service.tables import attach_table

FIRST, SECOND = "sdss_dr17", "sdss_dr16"
ASKED = QueryRequest(constraint="z > -1 or z < 0", primary=False)


@pytest.fixture(autouse=True)
def _bounds() -> Iterator[None]:
    yield
    bound_database(Bounds())


@pytest.fixture(scope="module")
def made(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two contexts and a table."""
    folder = tmp_path_factory.mktemp("database") / "data"
    some = sorted(mock_survey.rglob("spec-*.fits"))[:12]
    for context in (FIRST, SECOND):
        run_ingest(open_root(folder), context, some, workers=1)
    service = SpectroscopicService(open_root(folder))
    table = folder.parent / "table.csv"
    ids = service.query(QueryRequest()).column("specobjid").to_pylist()
    table.write_text("\n".join(["specobjid,score", *(f"{one},1.5" for one in ids)]), "utf-8")
    attach_table(service.archive, FIRST, "scores", table)
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy in a folder with a difficult name."""
    return Path(shutil.copytree(made, tmp_path / "it's; the 'data'", symlinks=True))


def open_files(data: Path) -> list[str]:
    """Return the paths of the files of a data folder that this process has open."""
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(handle.readlink()))
    return sorted(one for one in found if str(data) in one)


def another_version(data: Path) -> None:
    """Commit another version of the first context's index, of a copy of its part."""
    index = open_root(data).context(FIRST).index
    (entry,) = newest_manifest(index).parts
    part = index.new_part("test")
    shutil.copytree(index.part(entry.name).local_path(), part.local_path())
    parts = (replace(entry, name=part.name),)
    commit_manifest(index, lambda base: replace(base, parts=parts, rows=new_rows()))


def settings_of(*names: str) -> list[object]:
    with cursor() as connection:
        asked = ", ".join(f"current_setting('{name}')" for name in names)
        return list(connection.execute(f"SELECT {asked}").fetchall()[0])


def test_contexts_and_tables_share_one_database_and_its_bounds(data: Path) -> None:
    bound_database(Bounds(300 * 2**20, 1))
    service = SpectroscopicService(open_root(data))
    nrows = [
        service.query(QueryRequest(constraint="z > -1", catalog=name, primary=False)).num_rows
        for name in (f"{FIRST}.specobjall", f"{SECOND}.specobjall")
    ]
    scores = QueryRequest(constraint="score > 1", catalog=f"{FIRST}.scores", primary=False)
    assert service.query(scores).num_rows > 0
    assert nrows[0] == nrows[1] > 0
    assert settings_of("memory_limit", "threads") == ["300.0 MiB", 1]
    first = database._THE.connection
    bound_database(Bounds(300 * 2**20, 1))
    service.query(scores)
    assert database._THE.connection is first
    bound_database(Bounds(200 * 2**20, 2))
    assert settings_of("memory_limit", "threads") == ["200.0 MiB", 2]


def test_a_condition_that_needs_more_memory_says_so_shortly() -> None:
    bound_database(Bounds(64 * 2**20, 1))
    told = r"^too many bytes of memory for a condition.*67,108,864.*database_memory_bytes\): ask in"
    with pytest.raises(TooMuch, match=told), statements.lent_cursor() as connection:
        connection.execute(
            "SELECT list(repeat('x', 100) || range) FROM range(5_000_000)"
        ).fetchall()


def test_no_statement_reaches_a_file_or_a_variable(data: Path) -> None:
    secret = data.parent / "secret.csv"
    secret.write_text("a\n1\n", "utf-8")
    for statement in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM read_text('{secret}')",
        f"COPY (SELECT 1) TO '{data.parent / 'out.csv'}'",
        f"ATTACH '{data.parent / 'other.duckdb'}'",
        "SET enable_external_access = true",
        "SET memory_limit = '9GB'",
        "INSTALL httpfs",
        "SELECT * FROM made",
    ):
        with pytest.raises(CatalogError), statements.lent_cursor() as connection:
            connection.execute(statement.replace("it's", "it''s").replace("'data'", "''data''"))


def test_a_context_may_be_a_link(data: Path, tmp_path: Path) -> None:
    (data / SECOND).rename(tmp_path / "elsewhere")
    (data / SECOND).symlink_to(tmp_path / "elsewhere")
    service = SpectroscopicService(open_root(data))
    tables = [
        service.query(QueryRequest(constraint="z > -1", catalog=f"{name}.specobj"))
        for name in (FIRST, SECOND)
    ]
    assert tables[0].equals(tables[1])


def test_versions_come_and_go_without_files_left_open(data: Path) -> None:
    service = SpectroscopicService(open_root(data))
    wanted = service.query(ASKED)
    before = len(open_files(data))
    for _ in range(20):
        another_version(data)
        assert service.query(ASKED).equals(wanted)
    assert len(open_files(data)) <= before


@pytest.mark.proof
def test_questions_go_on_while_versions_are_replaced(data: Path) -> None:
    service = SpectroscopicService(open_root(data))
    wanted = service.query(ASKED)
    done = threading.Event()

    def ask() -> int:
        nasked = 0
        while not done.is_set() or nasked < 5:
            assert service.query(ASKED).equals(wanted)
            nasked += 1
        return nasked

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for _ in range(20):
            another_version(data)
            service.query(ASKED)
        done.set()
        assert all(one.result() >= 5 for one in asking)


@pytest.mark.parametrize("end", [duckdb.FatalException, duckdb.InternalException])
def test_a_database_that_came_to_its_end_is_replaced(data: Path, end: type[duckdb.Error]) -> None:
    """DuckDB answers nothing any more after an error within itself."""
    service = SpectroscopicService(open_root(data))
    wanted = service.query(ASKED)
    first = database._THE.connection
    with pytest.raises(CatalogError, match="refused"), statements.lent_cursor():
        raise end("an error within the database")
    assert service.query(ASKED).equals(wanted)
    assert database._THE.connection is not first
