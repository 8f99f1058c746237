"""The guide and the README: every line and every number is what a reader gets."""

import doctest
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from benchmarks.postgres_cluster import Cluster

from fronting import run_cluster
from notebooks import NOTEBOOKS, run_notebook
from pages import ELSEWHERE, NOT_RUN, PAGES, ROOT, RUN, TRIED, blocks, demonstration, run_page
from serving import Served
from specserver import specClient
from specserver.auth import TokenBook
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import all_errors
from specserver.settings import Settings

SLOW = {"docs/how-to/cluster.md", "docs/how-to/hats.md"}
"""Pages that take long, and have no pictures."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The surveys that `make demo` makes, served."""
    with demonstration(tmp_path_factory.mktemp("demo")) as served:
        yield served


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the pages leave what they make, each in a folder of its own."""
    return tmp_path_factory.mktemp("made")


@pytest.mark.proof
@pytest.mark.parametrize("page", TRIED, ids=[str(page.relative_to(ROOT)) for page in TRIED])
def test_a_page_gives_what_it_shows(page: Path, running: Served, made: Path) -> None:
    faults = run_page(page, made / page.stem, running)
    assert faults == [], "\n".join(faults)


@pytest.mark.proof
def test_the_session_of_the_readme_runs_through_nginx(running: Served, tmp_path: Path) -> None:
    with run_cluster(running.data, running.folder, tmp_path / "cluster") as cluster:
        served = replace(running, url=cluster.front.url)
        faults = run_page(ROOT / "README.md", tmp_path / "made", served)
        assert faults == [], "\n".join(faults)
        asked = [log.read_text().count('"path": "/spec/bulk/') for log in cluster.logs]
    assert min(asked) > 5, "both servers answer"


@pytest.mark.proof
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_runs(notebook: Path, running: Served, made: Path) -> None:
    run_notebook(notebook, made / notebook.stem, running)
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)


def documented() -> dict[str, Any]:
    """Return the public functions of the module, of a client and of virtual storage, by name."""
    given = {name: getattr(specClient, name) for name in specClient.__all__ if name != "vos"}
    for cls in (SpecClient, type(specClient.vos)):
        methods = {f"{cls.__name__}.{name}": thing for name, thing in vars(cls).items()}
        given |= {cls.__name__: cls, **{n: m for n, m in methods.items() if "._" not in n}}
    named = {name: thing for name, thing in given.items() if callable(thing)}
    return {"specClient": specClient, **named}


@pytest.mark.proof
def test_every_public_function_has_an_example_that_gives_what_it_shows(
    running: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = TokenBook(open_root(running.data)).create("ada", now=datetime.now(UTC))
    monkeypatch.setenv("SPECSERVER_URL", running.url)
    monkeypatch.setenv("SPECSERVER_TOKEN", token)
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    read = doctest.DocTestParser().get_doctest
    texts = {inspect.getdoc(thing) or "": name for name, thing in documented().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "[0-9,]+ more .* primary spectr", UserWarning)
        for text, name in texts.items():
            example = read(text, {"spec": specClient}, name, name, 0)
            assert example.examples, name
            assert runner.run(example).failed == 0, name


def test_every_block_says_of_what_language_it_is() -> None:
    for page in PAGES:
        for language, _, text, line in blocks(page):
            assert language in {*RUN, *NOT_RUN}, (page, line, text)
    for page, test in ELSEWHERE.items():
        assert (ROOT / "tests" / test).is_file(), page


def test_blocks_write_over_what_is_there() -> None:
    """A reader runs pages one after the other in one folder, and a page again."""
    writers = re.compile(r"(?<!vos)\.(?:write|writeto|mkdir|to_zarr)\(.*\)")
    for page in PAGES:
        for language, _, text, line in blocks(page):
            calls = writers.findall(text) if language in {"pycon", "python"} else []
            for call in calls:
                assert re.search("overwrite=True|exist_ok=True|mode=", call), (page, line, call)


def test_identifiers_of_pages_name_spectra_of_the_demonstration(running: Served) -> None:
    client = SpecClient(svc_url=running.url)
    for page in PAGES:
        # What examples give is compared with what they show.
        text = re.sub(r"```pycon\n.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for number in {int(found) for found in re.findall(r"\b\d{17,20}\b", text)}:
            context = "desi_dr1" if number < 1 << 56 else "sdss_dr17"
            assert len(client.getSpec(number, context=context)) > 3000, (page, number)


def test_examples_of_the_command_name_spectra_of_the_demonstration(running: Served) -> None:
    client = SpecClient(svc_url=running.url)
    for file in (SOURCE / "cli").glob("*.py"):
        for words in re.findall(r"Example: specserver \w+ '(\(.+?\))'", file.read_text("utf-8")):
            assert len(client.getSpec(words)) > 3000, (file, words)


@pytest.mark.proof
def test_a_build_of_the_guide_that_is_stopped_leaves_no_files(tmp_path: Path) -> None:
    done = subprocess.Popen(
        [sys.executable, "scripts/build-docs"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/demonstration/mock/*")):
        assert done.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done.terminate()
    assert done.wait(60) != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.proof
def test_the_guide_is_built_without_a_warning(running: Served, made: Path) -> None:
    # The tests above have made the pictures, if all of them ran; slow pages have none.
    for page in TRIED:
        if str(page.relative_to(ROOT)) not in SLOW and not (made / page.stem).exists():
            run_page(page, made / page.stem, running)
    for notebook in NOTEBOOKS:
        if not (made / notebook.stem).exists():
            run_notebook(notebook, made / notebook.stem, running)
    command = [sys.executable, "scripts/build-docs", "--made", str(made)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "site/index.html" in done.stdout.splitlines()[-1]
    site = ROOT / "site"
    client = (site / "reference" / "client.html").read_text("utf-8")
    assert "getSpec" in client
    settings = (site / "reference" / "settings.html").read_text("utf-8")
    for name in Settings.model_fields:
        assert f"SPECSERVER_{name.upper()}" in settings
    errors = (site / "reference" / "errors.html").read_text("utf-8")
    for error in all_errors():
        assert error.code in errors
    cli = (site / "reference" / "cli.html").read_text("utf-8")
    for command_name in ("ingest", "serve", "demo", "query", "get", "simulate", "verify", "token"):
        assert f"specserver {command_name}" in cli


def test_every_public_function_is_in_the_guide() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    missing = [name for name in specClient.__all__ if not re.search(rf"\b{name}\b", text)]
    assert missing == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+\.md)\)", page.read_text("utf-8")):
            there = (page.parent / target).resolve()
            assert there.is_file() or there.parent.name in {"reference", "notebooks"}, (
                page,
                target,
            )


SOURCE = ROOT / "src" / "specserver"


@pytest.mark.parametrize("kind", ["pages", "docstrings"])
def test_modules_that_are_named_exist(kind: str) -> None:
    tops = "|".join(path.stem for path in SOURCE.iterdir() if not path.name.startswith("_"))
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    for page in pages if kind == "pages" else sorted(SOURCE.rglob("*.py")):
        text = page.read_text("utf-8")
        for name in re.findall(rf"`((?:{tops})(?:\.(?!py`)\w+)+)`", text):
            pkgutil.resolve_name(f"specserver.{name}")
        for name in re.findall(rf"`((?:{tops})(?:/\w+)+/?(?:\.py)?)`", text):
            path = SOURCE / name.rstrip("/")
            assert path.exists() or path.with_suffix(".py").is_file(), (page, name)


# -- PostgreSQL -----------------------------------------------------------------------------------

POSTGRES = ROOT / "docs" / "how-to" / "postgres.md"
RELATIONS = ("context", "segment", "part", "field", "gone")


@pytest.fixture(scope="module")
def own_database(postgres: Cluster) -> Iterator[str]:
    """The URL of a database with a table of its owner."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE page")
    url = postgres.url.replace("/postgres?", "/page?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA vac")
        connection.execute(
            "CREATE TABLE vac.masses (specobjid bigint PRIMARY KEY, ra float8, dec float8,"
            " mass real)"
        )
    yield url
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE page WITH (FORCE)")


def described_columns(url: str, relation: str, only: str = "") -> list[str]:
    """Return the lines of a table of the page: the columns of a table of the database."""
    query = """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'specserver'::regnamespace AND c.relname = %s
            AND a.attnum > 0 AND NOT a.attisdropped AND a.attname LIKE %s ORDER BY a.attnum"""
    with psycopg.connect(url) as connection:
        found = connection.execute(query, (relation, f"{only}%")).fetchall()
    return [f"| `{name}` | {form} | {meaning} |" for name, form, meaning in found]


@pytest.mark.proof
def test_the_page_on_postgresql_runs_and_its_tables_are_those_of_a_database(
    running: Served, own_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = POSTGRES.read_text("utf-8")
    monkeypatch.setenv("SPECSERVER_CATALOG", own_database)
    monkeypatch.setenv("OWN_DATABASE", own_database)
    assert run_page(POSTGRES, tmp_path / "page", running) == []
    told = text.splitlines()
    for relation in RELATIONS:
        lines = described_columns(own_database, relation)
        assert len(lines) > 2
        assert [line for line in lines if line not in told] == [], relation
    rows = described_columns(own_database, "sdss_dr17", r"\_")
    assert [line for line in rows if line not in told] == []
    with psycopg.connect(own_database) as connection:
        indexes = connection.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = 'specserver'"
            " AND tablename = 'sdss_dr17'"
        ).fetchall()
        query = """
            SELECT count(*) FROM pg_attribute
            WHERE attrelid = ANY(%s::regclass[]) AND attnum > 0 AND NOT attisdropped
                AND coalesce(col_description(attrelid, attnum), '') = ''"""
        tables = [f"specserver.{name}" for name in (*RELATIONS, "sdss_dr17")]
        # Every column says what it is.
        assert connection.execute(query, (tables,)).fetchone() == (0,)
    assert {name for (name,) in indexes} == {
        line.split("`")[1] for line in told if line.startswith("| `sdss_dr17.")
    }
