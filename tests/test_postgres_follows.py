"""The tables of a database while what they follow, or the database itself, changes."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psycopg
import pytest
from benchmarks.postgres_cluster import Cluster

from commands import command
from specserver.catalog.base import Catalogue
from specserver.catalog.deadline import Deadline
from specserver.catalog.following import Following
from specserver.catalog.postgres import database as database_module
from specserver.catalog.postgres import seen, sync
from specserver.catalog.postgres.catalogue import PostgresCatalogue
from specserver.catalog.postgres.database import Database
from specserver.catalog.postgres.following import PostgresFollower
from specserver.catalog.postgres.rows import PostgresRows
from specserver.catalog.postgres.sync import Change
from specserver.catalog.sql.expressions import Condition
from specserver.data.root import open_root
from specserver.errors import BadParameter, CatalogError, QueryTimeout, Replaced, TooMuch
from specserver.model.region import Cone, cone, polygon
from specserver.service.archive import Archive
from specserver.service.following import FollowedCatalogues
from specserver.service.open_contexts import OpenContexts
from specserver.service.query import QueryRequest, run_query
from specserver.simulate import simulate_desi
from specserver.surveys.desi import DESI
from test_postgres import assert_same_rows, brighten, ids_of, until

CONTEXT = "desi_edr"
_SCHEMAS = count()
EVERYWHERE = ((0.0, -89.9), (90.0, -89.9), (180.0, -89.9), (270.0, -89.9))


class Held(NamedTuple):
    """A data folder of a few spectra, and the files that they are from."""

    data: Path
    files: Path

    def ingest(self, *words: object) -> None:
        command("ingest", CONTEXT, self.files, "--data", self.data, "--workers", 1, *words)

    def replace(self, *words: object) -> None:
        """Give all spectra other values, and ingest them again."""
        for coadd in self.files.rglob("coadd-*.fits"):
            brighten(coadd)
        self.ingest("--replace", *words)


class Schema(NamedTuple):
    """A schema of its own."""

    url: str
    name: str

    @contextmanager
    def open(self) -> Iterator[PostgresFollower]:
        with closing(PostgresFollower(self.url)) as found:
            yield found

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements where {} is the schema; return what the last one answers."""
        with psycopg.connect(self.url.partition("&schema")[0], autocommit=True) as connection:
            done = [connection.execute(one.replace("{}", self.name)) for one in statements]
            return done[-1].fetchall() if done[-1].description else []

    def sync(self, held: Held, how: Following = Following.ASKED) -> Change | None:
        with self.open() as database:
            return database.sync(open_root(held.data).context(CONTEXT), DESI, None, how)


@pytest.fixture
def schema(postgres: Cluster) -> Schema:
    name = f"follows_{next(_SCHEMAS)}"
    return Schema(f"{postgres.url}&schema={name}", name)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Held:
    return made(tmp_path_factory.mktemp("follows"), 5)


@pytest.fixture
def held(template: Held, tmp_path: Path) -> Held:
    return copied(template, tmp_path / "own")


def made(folder: Path, seed: int) -> Held:
    """Return a new data folder."""
    simulate_desi(folder / "files", 8, seed=seed, per_file=4)
    held = Held(folder / "data", folder / "files")
    held.ingest()
    return held


def copied(held: Held, folder: Path) -> Held:
    shutil.copytree(held.files.parent, folder)
    return Held(folder / "data", folder / "files")


# -- changes between the queries of one question --------------------------------------------------


@pytest.mark.proof
@pytest.mark.parametrize("by", ["in_region", "all_with_ids"])
@pytest.mark.parametrize("primary", [True, False])
def test_spectra_that_are_replaced_between_two_queries_are_in_the_answer(
    held: Held, schema: Schema, monkeypatch: pytest.MonkeyPatch, by: str, primary: bool
) -> None:
    schema.sync(held)
    original, done = getattr(PostgresRows, by), []

    def look(self: PostgresRows, *given: Any) -> Any:
        rows = original(self, *given)
        if not done:
            done.append(True)
            held.replace("--catalog", schema.url)
        return rows

    with schema.open() as database:
        opened = database.open(CONTEXT, DESI)
        found = opened.query(["targetid"], Condition(), None, primary=primary)
        ids = found.column(0).to_numpy()
        ra, dec = opened.positions(opened.with_ids(ids))
        monkeypatch.setattr(PostgresRows, by, look)
        archive = Archive(OpenContexts(open_root(held.data), database))
        edges = [(ra.min() - 1, dec.min() - 1), (ra.max() + 1, dec.min() - 1),
                 (ra.max() + 1, dec.max() + 1), (ra.min() - 1, dec.max() + 1)]  # fmt: skip
        asked = {
            # With a condition, the query of the rows does not fetch the columns.
            "in_region": {"region": polygon(edges), "constraint": "z > -100"},
            "all_with_ids": {"constraint": f"targetid in ({', '.join(map(str, ids))})"},
        }[by]
        found = run_query(archive, QueryRequest(CONTEXT, primary=primary, **asked))  # type: ignore[arg-type]
    assert done
    assert np.array_equal(np.sort(found.column(0).to_numpy()), np.sort(ids))


@pytest.mark.proof
def test_rows_that_were_found_before_a_change_are_refused(held: Held, schema: Schema) -> None:
    schema.sync(held)
    with schema.open() as database:
        opened = database.open(CONTEXT, DESI)
        rows = opened.all_with_ids(ids_of(opened))
        assert len(opened.query(["z"], Condition(), rows[::2], primary=False)) == len(rows[::2])
        held.replace("--catalog", schema.url)
        for some in (rows, rows[::2], rows[rows > 0]):
            with pytest.raises(Replaced):
                opened.query(["z"], Condition(), some, primary=True)
        # The names of the new segments are known at once.
        place = opened.place(opened.with_ids(ids_of(opened)))
        assert {opened.segments[number] for number in place.segment} <= set(
            open_root(held.data).context(CONTEXT).segments()
        )


def test_a_search_that_fails_does_not_change_what_an_earlier_one_found(
    held: Held, schema: Schema
) -> None:
    schema.sync(held)
    with schema.open() as database:
        opened = database.open(CONTEXT, DESI)
        ra, dec = (float(one[0]) for one in opened.positions(opened.with_ids(ids_of(opened))))
        square = [(ra - 1, dec - 1), (ra + 1, dec - 1), (ra + 1, dec + 1), (ra - 1, dec + 1)]
        rows = opened.in_region(polygon(square))
        assert len(rows)
        far = [(ra + 90 + x, y) for x, y in ((0, 0), (1, 0), (1, 1))]
        with pytest.raises(QueryTimeout):
            opened.in_region(polygon(far), Deadline.after(1e-9))
        assert len(opened.query(["z"], Condition(), rows, primary=False)) == len(rows)


def test_the_query_that_finds_few_rows_fetches_their_columns(
    held: Held, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.sync(held)
    asked, ask = [], Database._ask

    def counted(self: Database, read: Any, query: str, *given: Any, **words: Any) -> Any:
        asked.append(query)
        return ask(self, read, query, *given, **words)

    monkeypatch.setattr(Database, "_ask", counted)
    with schema.open() as database:
        archive = Archive(OpenContexts(open_root(held.data), database))

        def found(queries: int, region: Cone, **words: Any) -> Any:
            request = QueryRequest(CONTEXT, region, fields=("z", "targetid"), **words)
            run_query(archive, request)
            asked.clear()
            table = run_query(archive, request)
            assert len(asked) == queries, asked
            return table

        for primary in (True, False):
            for constraint in ("", "limit 3"):
                words: dict[str, Any] = {"primary": primary, "constraint": constraint}
                one = found(1, cone(0.0, -90.0, 1.0), **words)
                assert len(one) == 0
                one = found(1, cone(0.0, -90.0, 180.0), **words)
                assert len(one) == (3 if constraint else 7 if primary else 8)
                with monkeypatch.context() as patched:
                    patched.setattr(seen, "_CELLS", 1)
                    assert found(2, cone(0.0, -90.0, 180.0), **words).equals(one)
        found(2, cone(0.0, -90.0, 180.0), constraint="z > -100")
        found(2, cone(0.0, -90.0, 180.0), constraint="order by z")
        with pytest.raises(TooMuch, match="max_rows"):
            run_query(archive, QueryRequest(CONTEXT, cone(0.0, -90.0, 180.0)), max_rows=6)
        assert len(run_query(archive, QueryRequest(CONTEXT, cone(0, -90, 180)), max_rows=7)) == 7


@pytest.mark.proof
def test_large_answers_come_in_blocks(
    held: Held, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.sync(held)
    with schema.open() as database:
        opened = database.open(CONTEXT, DESI)
        ids = ids_of(opened)
        everywhere = cone(0.0, -90.0, 180.0)

        def answers() -> list[Any]:
            rows = opened.in_region(everywhere)
            return [
                rows.tolist(),
                opened.query(["targetid", "z", "ra"], Condition(), rows, primary=True),
                opened.query(["targetid", "program"], Condition(limit=5), None, primary=False),
                opened.columns_of(["z", "spectype"], opened.with_ids(ids)),
            ]

        expected = answers()
        assert len(expected[0]) == len(ids) == 8
        blocks, fetched = [], database_module._fetched

        def count_of(cursor: Any, block: int, deadline: Deadline) -> Any:
            for table in fetched(cursor, block, deadline):
                blocks.append((block, len(table)))
                yield table

        monkeypatch.setattr(database_module, "_fetched", count_of)
        # The last block is empty, or it is not.
        for size in (1, 2, 3, 9):
            monkeypatch.setattr(seen, "_CELLS", 1)
            monkeypatch.setattr(seen, "_FEWEST", size)
            blocks.clear()
            assert answers() == expected
            assert {block for block, _ in blocks} == {0, size}
            assert max(nrows for block, nrows in blocks if block) == min(size, 9)
            assert_same_rows(schema.url, held.data, DESI, CONTEXT)
        with pytest.raises(QueryTimeout):
            opened.in_region(everywhere, Deadline.after(1e-9))
        assert answers() == expected


# -- other folders, and older states of the same --------------------------------------------------


@pytest.mark.proof
def test_two_data_folders_do_not_overwrite_each_other(
    held: Held, schema: Schema, tmp_path: Path
) -> None:
    other = made(tmp_path / "other", 6)
    schema.sync(held)
    assert_same_rows(schema.url, held.data, DESI, CONTEXT)
    words = ("catalog", "sync", "--data", other.data, "--catalog", schema.url)
    assert "--replace" in command(*words, code=1)
    with schema.open() as database:
        # Nor does a service of the other folder answer from it.
        followed, folder = FollowedCatalogues(database), open_root(other.data).context(CONTEXT)
        with pytest.raises(CatalogError, match="another data folder"):
            followed.catalog(folder, DESI)
    assert_same_rows(schema.url, held.data, DESI, CONTEXT)
    # A copy goes on, also one whose index was made anew.
    copy = copied(held, tmp_path / "copy")
    shutil.rmtree(copy.data / CONTEXT / "index")
    command("maintain", CONTEXT, "--data", copy.data, "--catalog", schema.url)
    assert_same_rows(schema.url, copy.data, DESI, CONTEXT)
    command(*words, "--replace")
    assert_same_rows(schema.url, other.data, DESI, CONTEXT)


@pytest.mark.proof
def test_a_table_goes_back_only_to_a_folder_that_was_restored(
    held: Held, schema: Schema, tmp_path: Path
) -> None:
    backup = copied(held, tmp_path / "backup")
    for _ in range(2):
        held.replace()
    schema.sync(held)
    # A server that does not see the newest manifest yet changes nothing.
    assert schema.sync(backup, Following.BY_ITSELF) is None
    assert_same_rows(schema.url, held.data, DESI, CONTEXT)
    schema.run("UPDATE {}.context SET synced_at = synced_at - interval '1 hour'")
    assert schema.sync(backup, Following.BY_ITSELF) is not None
    assert_same_rows(schema.url, backup.data, DESI, CONTEXT)
    schema.sync(held)
    command("catalog", "sync", "--data", backup.data, "--catalog", schema.url)
    assert_same_rows(schema.url, backup.data, DESI, CONTEXT)


# -- what an owner of the database does -----------------------------------------------------------


@pytest.mark.proof
def test_a_table_that_was_dropped_is_made_again(held: Held, schema: Schema) -> None:
    for drop in (
        ["DROP TABLE {}.desi_edr"],
        ["DELETE FROM {}.context"],
        ["DROP TABLE {}.desi_edr", "DELETE FROM {}.context"],
        ["DROP SCHEMA {} CASCADE"],
    ):
        schema.sync(held)
        schema.run(*drop)
        change = schema.sync(held)
        assert change is not None
        assert change.anew
        assert_same_rows(schema.url, held.data, DESI, CONTEXT)


@pytest.mark.proof
def test_a_service_notices_that_the_database_was_restored(held: Held, schema: Schema) -> None:
    schema.sync(held)
    held.replace("--catalog", schema.url)
    folder = open_root(held.data).context(CONTEXT)
    with schema.open() as database:
        followed = FollowedCatalogues(database)
        first = followed.catalog(folder, DESI)
        assert followed.catalog(folder, DESI) is first
        ids = ids_of(first)
        expected = names_of(first, ids)
        # Segments get other numbers.
        schema.run(
            "UPDATE {}.segment SET number = 7 - number",
            "UPDATE {}.desi_edr SET _segment = 7 - _segment",
            "INSERT INTO {}.segment SELECT c.name, n, 'none' || n, false"
            " FROM {}.context c, generate_series(0, 5) n",
            "UPDATE {}.context SET serial = serial + 1",
        )
        assert names_of(first, ids) == expected
        assert not followed.is_current(folder, first)
        second = followed.catalog(folder, DESI)
        assert second is not first
        assert names_of(second, ids) == expected
        # Rows have other numbers, and are looked up again.
        assert isinstance(second, PostgresCatalogue)
        kept, changed = second.carried(np.arange(5), first)
        assert kept.tolist() == [-1] * 5
        assert set(ids.tolist()) <= set(changed.tolist())


def names_of(catalogue: Catalogue, ids: Any) -> list[tuple[str, int]]:
    """Return the segment of each identifier, and its row there."""
    place = catalogue.place(catalogue.with_ids(ids))
    names = [catalogue.segments[number] for number in place.segment]
    return list(zip(names, place.row.tolist(), strict=True))


@pytest.mark.proof
def test_rows_are_looked_up_again_after_a_table_was_made_anew(
    held: Held, schema: Schema, tmp_path: Path
) -> None:
    schema.sync(held)
    with schema.open() as database:
        before = database.open(CONTEXT, DESI)
        ids = ids_of(before)
        rows = before.with_ids(ids)
        # None of these identifiers is in the new table.
        schema.run("UPDATE {}.field SET form = 'int8' WHERE name = 'spectype' OR name = 'program'")
        schema.sync(made(tmp_path / "other", 6), Following.REPLACING)
        after = database.open(CONTEXT, DESI)
        kept, changed = after.carried(rows, before)
        lost = ~np.isin(ids, changed)
        assert np.count_nonzero(lost)
        assert kept[lost].tolist() == [-1] * np.count_nonzero(lost)


# -- columns --------------------------------------------------------------------------------------


@pytest.mark.proof
def test_a_column_that_comes_back(held: Held, schema: Schema) -> None:
    schema.sync(held)
    # It was in no part for a while.
    schema.run("DELETE FROM {}.field WHERE name = 'z'", "UPDATE {}.context SET rows = 'other'")
    schema.sync(held)
    assert_same_rows(schema.url, held.data, DESI, CONTEXT)
    schema.run("ALTER TABLE {}.desi_edr DROP COLUMN z", "UPDATE {}.context SET rows = 'other'")
    schema.sync(held)
    assert_same_rows(schema.url, held.data, DESI, CONTEXT)


def test_rows_that_are_there_get_values_in_new_columns(held: Held, schema: Schema) -> None:
    schema.sync(held)
    schema.run(
        "DELETE FROM {}.field WHERE name = 'z'",
        "ALTER TABLE {}.desi_edr DROP COLUMN z",
        "UPDATE {}.part SET name = 'part-of-before'",
        "UPDATE {}.context SET rows = 'other'",
    )
    schema.sync(held)
    assert_same_rows(schema.url, held.data, DESI, CONTEXT)


def test_readers_go_on_while_a_column_is_added(held: Held, schema: Schema) -> None:
    schema.sync(held)
    schema.run(
        "DELETE FROM {}.field WHERE name = 'z'",
        "ALTER TABLE {}.desi_edr DROP COLUMN z",
        "UPDATE {}.context SET rows = 'other'",
    )
    with (
        psycopg.connect(schema.url.partition("&schema")[0]) as blocking,
        ThreadPoolExecutor(1) as pool,
    ):
        # Its last step waits for this.
        blocking.execute(f"LOCK TABLE {schema.name}.context IN SHARE ROW EXCLUSIVE MODE".encode())
        syncing = pool.submit(schema.sync, held)
        has_column = "SELECT count(*) FROM {}.field WHERE name = 'z'"
        until(lambda: schema.run(has_column), lambda found: found == [(1,)])
        reading = "SET statement_timeout = '5s'", "SELECT count(*) FROM {}.desi_edr"
        assert schema.run(*reading)[0][0] > 0
        assert not syncing.done()
        blocking.rollback()
        change = syncing.result()
    assert change is not None
    assert not change.anew


def test_a_column_is_described_though_the_rest_is_not_done(
    held: Held, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.sync(held)
    remarks = "SELECT col_description('{}.desi_edr'::regclass, attnum) FROM pg_attribute"
    remarks += " WHERE attrelid = '{}.desi_edr'::regclass AND attname = 'z'"
    described = schema.run(remarks)
    schema.run(
        "DELETE FROM {}.field WHERE name = 'z'",
        "ALTER TABLE {}.desi_edr DROP COLUMN z",
        "UPDATE {}.context SET rows = 'other'",
    )

    def end(*_: object, anew: bool) -> None:
        assert not anew
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(sync._Sync, "_record", end)
        with pytest.raises(KeyboardInterrupt):
            schema.sync(held)
    schema.sync(held)
    assert schema.run(remarks) == described


def test_new_queries_go_on_while_an_old_one_keeps_a_table(held: Held, schema: Schema) -> None:
    schema.sync(held)
    schema.run("UPDATE {}.field SET form = 'int8' WHERE name = 'z'",
               "UPDATE {}.context SET rows = 'other'")  # fmt: skip
    with (
        psycopg.connect(schema.url.partition("&schema")[0]) as slow,
        ThreadPoolExecutor(1) as pool,
    ):
        slow.execute(f"SELECT FROM {schema.name}.desi_edr".encode())
        syncing = pool.submit(schema.sync, held)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%LOCK TABLE%{}%'"
            " AND pid <> pg_backend_pid()"
        )
        until(lambda: schema.run(waiting), lambda found: found[0][0] > 0)
        for _ in range(20):
            begun = time.monotonic()
            reading = "SET statement_timeout = '5s'", "SELECT count(*) FROM {}.desi_edr"
            assert schema.run(*reading)[0][0] > 0
            assert time.monotonic() - begun < 3
        assert not syncing.done()
        slow.rollback()
        change = syncing.result()
    assert change is not None
    assert change.anew
    assert_same_rows(schema.url, held.data, DESI, CONTEXT)


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Spec", "my-spec", "a%b", "a:b", "1a", "pg_own", "a" * 64, 'a"b'])
def test_names_of_schemas_that_would_need_quotes_are_refused(name: str) -> None:
    with pytest.raises(BadParameter, match="lower-case"):
        Database(f"postgresql://u@127.0.0.1:1/none?schema={name.replace('%', '%25')}")


@pytest.mark.parametrize("name", ["spec", "_a1", "user", "a" * 63])
def test_names_of_schemas(name: str) -> None:
    assert Database(f"postgresql://u@127.0.0.1:1/none?schema={name}").schema == name


@pytest.mark.proof
def test_contexts_with_names_of_other_tables_and_indexes(held: Held, schema: Schema) -> None:
    names = ("a", "a_id", "a_number", "context", "context_rows", "gone_serial", "context_pkey")
    with schema.open() as database:
        for name in names:
            shutil.copytree(held.data / CONTEXT, held.data / name)
            database.sync(open_root(held.data).context(name), DESI)
    indexes = [len(indexes_of(schema, relation)) for relation in ("a", "a_id", "context.rows")]
    assert indexes[0] > 3
    assert len(set(indexes)) == 1
    for name in names:
        assert_same_rows(schema.url, held.data, DESI, name)


def indexes_of(schema: Schema, relation: str) -> set[str]:
    query = (
        f"SELECT indexname FROM pg_indexes WHERE schemaname = '{{}}' AND tablename = '{relation}'"
    )
    return {name for (name,) in schema.run(query)}


@pytest.mark.proof
def test_a_database_of_the_version_before_goes_on(held: Held, schema: Schema) -> None:
    shutil.copytree(held.data / CONTEXT, held.data / "part")
    with schema.open() as database:
        for name in (CONTEXT, "part"):
            database.sync(open_root(held.data).context(name), DESI)
    for new, old in ((CONTEXT, CONTEXT), ("part.rows", "part_rows")):
        for name in indexes_of(schema, new):
            schema.run(f'ALTER INDEX {{}}."{name}" RENAME TO {old}_{name.removeprefix(new)[1:]}')
    schema.run(
        f"CREATE INDEX {CONTEXT}_mine ON {{}}.{CONTEXT} (z)",
        'ALTER TABLE {}."part.rows" RENAME TO part_rows',
        "UPDATE {}.context SET relation = 'part_rows' WHERE name = 'part'",
        "UPDATE {}.schema_version SET version_num = '0001'",
    )
    # It is read as it is, and brought up to date by the next change.
    for name in (CONTEXT, "part"):
        assert_same_rows(schema.url, held.data, DESI, name)
    held.replace("--catalog", schema.url)
    for name in (CONTEXT, "part"):
        assert_same_rows(schema.url, held.data, DESI, name)
    assert {f"{CONTEXT}.id", f"{CONTEXT}.hpx", f"{CONTEXT}_mine"} < indexes_of(schema, CONTEXT)
    assert f"{CONTEXT}_id" not in indexes_of(schema, CONTEXT)
    assert "part.rows.id" in indexes_of(schema, "part.rows")


# -- roles and errors -----------------------------------------------------------------------------


@contextmanager
def role(schema: Schema, *settings: str) -> Iterator[str]:
    """Yield the URL of another user, who may connect alone."""
    name = f"role_{schema.name}"
    schema.run(f"CREATE ROLE {name} LOGIN", *(f"ALTER ROLE {name} SET {one}" for one in settings))
    try:
        yield schema.url.replace("postgres@", f"{name}@")
    finally:
        schema.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_limits_of_a_role_do_not_end_a_synchronisation(held: Held, schema: Schema) -> None:
    limits = ("statement_timeout = 400", "idle_in_transaction_session_timeout = 1",
              "lock_timeout = 1")  # fmt: skip
    with (
        role(schema, *limits) as url,
        closing(PostgresFollower(url)) as database,
        psycopg.connect(schema.url.partition("&schema")[0]) as blocking,
        ThreadPoolExecutor(1) as pool,
    ):
        schema.run(f"CREATE SCHEMA {{}} AUTHORIZATION role_{schema.name}",
                   f"GRANT CREATE ON DATABASE postgres TO role_{schema.name}")  # fmt: skip
        key = f"{schema.name} {CONTEXT}"
        blocking.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (key,))
        syncing = pool.submit(database.sync, open_root(held.data).context(CONTEXT), DESI)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        until(lambda: schema.run(waiting), lambda found: found == [(1,)] or syncing.done())
        time.sleep(0.6)
        blocking.rollback()
        assert syncing.result() is not None


def test_a_user_who_may_make_nothing_hears_why(held: Held, schema: Schema) -> None:
    with role(schema) as url:
        printed = command("catalog", "sync", "--data", held.data, "--catalog", url, code=1)
        assert "permission denied" in printed
        assert "Traceback" not in printed
        with closing(PostgresFollower(url)) as database:
            folder = open_root(held.data).context(CONTEXT)
            followed = FollowedCatalogues(database)
            thread = followed.follow(folder, DESI)
            assert thread is not None
            thread.join()
            with pytest.raises(CatalogError, match="permission denied"):
                followed.catalog(folder, DESI)


def test_callers_hear_of_errors_that_nobody_knows(
    held: Held, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("never seen before")

    monkeypatch.setattr(PostgresFollower, "sync", fail)
    with schema.open() as database:
        folder = open_root(held.data).context(CONTEXT)
        followed = FollowedCatalogues(database)
        thread = followed.follow(folder, DESI)
        assert isinstance(thread, threading.Thread)
        thread.join()
        # Not at once again.
        assert followed.follow(folder, DESI) is None
        with pytest.raises(CatalogError, match="never seen before"):
            followed.catalog(folder, DESI)
