"""One database answers the conditions of all catalogues of a data folder, within one bound."""

import gc
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from specserver.catalog.catalogue import MappedCatalogue
from specserver.catalog.duckdb import database
from specserver.catalog.duckdb.database import Attached
from specserver.catalog.index.build import newest_index
from specserver.catalog.index.generations import current_generation
from specserver.data.root import open_root
from specserver.errors import CatalogError, DamagedFile, TooMuch
from specserver.ingest import run_ingest
from specserver.service import QueryRequest, SpectroscopicService
from specserver.service.tables import attach_table

FIRST, SECOND = "sdss_dr17", "sdss_dr16"
ASKED = QueryRequest(constraint="z > -1 or z < 0", primary=False)


@pytest.fixture(autouse=True)
def _bounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_bounds", {})
        yield


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


def open_files(data: Path, name: str = "") -> list[str]:
    """Return the paths of the files of a data folder that this process has open."""
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(handle.readlink()))
    return sorted(one for one in found if str(data) in one and name in one)


def open_databases(data: Path) -> list[str]:
    return open_files(data, "catalog.duckdb")


def another_generation(data: Path) -> None:
    """Bring another generation of the first context's index into use."""
    folder = data / FIRST / "index"
    info = current_generation(open_root(data).context(FIRST).index)
    assert info is not None
    others = [path.name for path in folder.glob("gen-*") if path.name != info.name]
    if others:
        open_root(data).context(FIRST).index.current.replace(others[0].encode())
    else:
        survey = SpectroscopicService(open_root(data)).archive.survey(FIRST)
        newest_index(open_root(data).context(FIRST), survey, bad=info.name)
    assert current_generation(open_root(data).context(FIRST).index) != info


def settings_of(catalog: MappedCatalogue, *names: str) -> list[object]:
    with catalog._objects._cursor() as cursor:
        asked = ", ".join(f"current_setting('{name}')" for name in names)
        return list(cursor.sql(f"SELECT {asked}").fetchall()[0])


def test_contexts_and_tables_share_one_database_and_its_bounds(data: Path) -> None:
    database.bound_databases(300 * 2**20, 1)
    service = SpectroscopicService(open_root(data))
    nrows = [
        service.query(QueryRequest(constraint="z > -1", catalog=name, primary=False)).num_rows
        for name in (f"{FIRST}.specobjall", f"{SECOND}.specobjall")
    ]
    scores = QueryRequest(constraint="score > 1", catalog=f"{FIRST}.scores", primary=False)
    assert service.query(scores).num_rows > 0
    assert nrows[0] == nrows[1] > 0
    catalogs = [
        service.archive.open_release(FIRST).catalog,
        service.archive.open_release(SECOND).catalog,
        service.archive.table(FIRST, "scores", primary=False).catalog,
    ]
    assert len({id(one._objects._database._database) for one in catalogs}) == 1
    assert len(open_databases(data)) == 3
    for catalog in catalogs:
        assert settings_of(catalog, "memory_limit", "threads") == ["300.0 MiB", 1]
    # Another service in the same process shares it too.
    again = SpectroscopicService(open_root(data)).archive.open_release(FIRST).catalog
    assert again._objects._database._database is catalogs[0]._objects._database._database
    assert len(open_databases(data)) == 3


def test_a_condition_that_needs_more_memory_says_so_shortly(data: Path) -> None:
    database.bound_databases(64 * 2**20, 1)
    catalog = SpectroscopicService(open_root(data)).archive.open_release(FIRST).catalog
    told = r"^too many bytes of memory for a condition.*67,108,864.*database_memory_bytes\): ask in"
    with pytest.raises(TooMuch, match=told), catalog._objects._cursor() as cursor:
        cursor.execute("SELECT list(repeat('x', 100) || range) FROM range(5_000_000)").fetchall()
    assert catalog.count(primary=False) > 0


def test_no_statement_reaches_a_file_outside(data: Path) -> None:
    catalog = SpectroscopicService(open_root(data)).archive.open_release(FIRST).catalog
    secret = data.parent / "secret.csv"
    secret.write_text("a\n1\n", "utf-8")
    for statement in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM read_text('{secret}')",
        f"COPY (SELECT 1) TO '{data.parent.parent / 'out.csv'}'",
        f"ATTACH '{data.parent / 'other.duckdb'}'",
        "SET enable_external_access = true",
        "SET memory_limit = '9GB'",
        "INSTALL httpfs",
        f"DELETE FROM {catalog._objects._database.objects}",
    ):
        with pytest.raises(CatalogError), catalog._objects._cursor() as cursor:
            cursor.execute(statement.replace("it's", "it''s").replace("'data'", "''data''"))


def test_a_context_that_is_a_link_has_a_database_of_its_own(data: Path, tmp_path: Path) -> None:
    (data / SECOND).rename(tmp_path / "elsewhere")
    (data / SECOND).symlink_to(tmp_path / "elsewhere")
    service = SpectroscopicService(open_root(data))
    tables = [
        service.query(QueryRequest(constraint="z > -1", catalog=f"{name}.specobj"))
        for name in (FIRST, SECOND)
    ]
    assert tables[0].equals(tables[1])


def test_generations_come_and_go_without_files_left_open(data: Path) -> None:
    service = SpectroscopicService(open_root(data))
    wanted = service.query(ASKED)
    before = len(open_files(data))
    for number in range(20):
        another_generation(data)
        assert service.query(ASKED).equals(wanted)
        if number % 5:
            continue
        gc.collect()
        (file,) = open_databases(data)
        assert "deleted" not in file
    assert len(open_files(data)) <= before


def test_questions_go_on_while_generations_are_replaced(data: Path) -> None:
    service = SpectroscopicService(open_root(data))
    wanted = service.query(ASKED)
    done = threading.Event()

    def ask(service: SpectroscopicService) -> int:
        nasked = 0
        while not done.is_set() or nasked < 5:
            assert service.query(ASKED).equals(wanted)
            nasked += 1
        return nasked

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, service) for _ in range(4)]
        for _ in range(20):
            another_generation(data)
            service.query(ASKED)
        done.set()
        assert all(one.result() >= 5 for one in asking)
    del service, asking, pool
    gc.collect()
    assert not open_databases(data)


def test_what_is_being_read_outlives_the_end_of_its_catalogue(data: Path) -> None:
    catalog = SpectroscopicService(open_root(data)).archive.open_release(FIRST).catalog
    cursor = catalog._objects._database.cursor()
    reading = cursor.execute(
        f"SELECT a._index FROM {catalog._objects._database.objects} a, range(200000)"
    )
    assert reading.fetchone() is not None
    catalog.close()
    catalog.close()
    assert len(reading.fetchall()) == 200_000 * catalog.count(primary=False) - 1
    cursor.close()
    del reading, cursor, catalog
    gc.collect()
    assert not open_databases(data)


def test_a_damaged_file_harms_no_other(data: Path) -> None:
    service = SpectroscopicService(open_root(data))
    holding = service.archive.open_release(FIRST)
    info = holding.catalog.info
    file = data / FIRST / "index" / info.name / "catalog.duckdb"
    del service, holding
    gc.collect()
    whole = file.read_bytes()
    file.write_bytes(b"no database" * 1000)
    other = SpectroscopicService(open_root(data)).archive.open_release(SECOND)
    wanted = QueryRequest(constraint="z > -1", catalog=f"{SECOND}.specobj")
    generation = open_root(data).context(FIRST).index.generation(info.name)
    with pytest.raises(DamagedFile, match=r"gen-\w+/catalog\.duckdb"):
        MappedCatalogue(other.survey, generation, info)
    asked = SpectroscopicService(open_root(data)).query
    assert asked(wanted).num_rows > 0
    file.write_bytes(whole)
    assert MappedCatalogue(other.survey, generation, info).info == info
    assert asked(wanted).num_rows > 0


@pytest.mark.parametrize("end", [duckdb.FatalException, duckdb.InternalException])
def test_a_database_that_came_to_its_end_is_replaced(data: Path, end: type[duckdb.Error]) -> None:
    """DuckDB answers nothing any more after an error within itself."""
    service = SpectroscopicService(open_root(data))
    wanted = service.query(ASKED)
    catalog = service.archive.open_release(FIRST).catalog
    first = catalog._objects._database._database
    with pytest.raises(CatalogError, match="refused"), catalog._objects._cursor():
        raise end("an error within the database")
    assert service.query(ASKED).equals(wanted)
    assert catalog._objects._database._database is not first
    second = QueryRequest(constraint="z > -1", catalog=f"{SECOND}.specobj")
    assert service.query(second).num_rows > 0
    assert service.archive.open_release(SECOND).catalog._objects._database._database is not first
    del first
    gc.collect()
    assert len(open_databases(data)) == 2


def test_files_left_while_the_lock_is_held_are_detached_by_who_holds_it(data: Path) -> None:
    info = current_generation(open_root(data).context(FIRST).index)
    assert info is not None
    index = open_root(data).context(FIRST).index
    one = Attached(index.generation(info.name).database)
    database = one._database
    with database._lock:
        del one
        assert len(open_databases(data)) == 1
    other = open_root(data).context(SECOND).index.generation(_name(data, SECOND))
    another = Attached(other.database)
    assert [FIRST in path for path in open_databases(data)] == [False]
    another.close()
    assert not open_databases(data)


def _name(data: Path, context: str) -> str:
    info = current_generation(open_root(data).context(context).index)
    assert info is not None
    return info.name
