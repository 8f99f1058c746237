"""The guide and the README, run as a stranger would: every line, every number."""

import doctest
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serving import Served, serve
from specserver import specClient
from specserver.auth import TokenBook
from specserver.cli.demo import add_second
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import all_errors
from specserver.ingest import run_ingest
from specserver.settings import Settings
from specserver.simulate import simulate_sdss

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.parent.name != "reference"]
OWN_FILES = ROOT / "docs" / "how-to" / "generic.md"
EXAMPLES = [page for page in PAGES if "```pycon" in page.read_text("utf-8") and page != OWN_FILES]
COMMANDS = [page for page in PAGES if "```sh\n" in page.read_text("utf-8") and page != OWN_FILES]
NAMED = [ROOT / "docs" / "how-to" / name for name in ("across-surveys.md", "desi.md", "fetch.md")]


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The surveys that `make demo` makes (2,000 spectra, seed 1, and a second one), served."""
    folder = tmp_path_factory.mktemp("demo")
    simulate_sdss(folder / "mock", 2000, workers=1)
    run_ingest(open_root(folder / "data"), "sdss_dr17", [folder / "mock"], workers=1)
    add_second(open_root(folder / "data"), folder / "second")
    with serve(folder / "data", folder / "mock", workers=2) as running:
        yield running


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_give_what_they_show(
    page: Path, demonstration: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECSERVER_URL", demonstration.url)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The pages show what is printed; what this warning says stands beside the first query.
        warnings.filterwarnings("ignore", "[0-9,]+ more .* primary spectr", UserWarning)
        failed, tried = doctest.testfile(
            str(page),
            module_relative=False,
            optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.REPORT_NDIFF,
            encoding="utf-8",
        )
    assert tried > 0
    assert failed == 0


def documented() -> dict[str, Any]:
    """Return the public functions of the module, of a client and of virtual storage, by name."""
    given = {name: getattr(specClient, name) for name in specClient.__all__ if name != "vos"}
    for cls in (SpecClient, type(specClient.vos)):
        methods = {f"{cls.__name__}.{name}": thing for name, thing in vars(cls).items()}
        given |= {cls.__name__: cls, **{n: m for n, m in methods.items() if "._" not in n}}
    named = {name: thing for name, thing in given.items() if callable(thing)}
    return {"specClient": specClient, **named}


def test_every_public_function_has_an_example_that_gives_what_it_shows(
    demonstration: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = TokenBook(open_root(demonstration.data)).create("ada", now=datetime.now(UTC))
    monkeypatch.setenv("SPECSERVER_URL", demonstration.url)
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


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_run_as_they_stand(page: Path, demonstration: Served, tmp_path: Path) -> None:
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "SPECSERVER_URL": demonstration.url, "PATH": binaries}
    for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        done = subprocess.run(
            ["bash", "-e", "-c", block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_on_own_files_runs_from_top_to_bottom(
    demonstration: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands ingest files that its examples write, and the next examples fetch them."""
    monkeypatch.setenv("SPECSERVER_URL", demonstration.url)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    Path("demo/data").symlink_to(demonstration.data)
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    text = OWN_FILES.read_text("utf-8")
    for language, block in re.findall(
        r"^```(pycon|sh)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    ):
        if language == "sh":
            done = subprocess.run(
                ["bash", "-e", "-c", block], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            continue
        example = doctest.DocTestParser().get_doctest(block, names, OWN_FILES.name, None, 0)
        example.globs = names
        assert runner.run(example, clear_globs=False).failed == 0
    assert not (demonstration.data / "my_survey").exists()


@pytest.mark.parametrize("page", NAMED, ids=lambda page: page.name)
def test_identifiers_of_pages_name_spectra_of_the_demonstration(
    page: Path, demonstration: Served
) -> None:
    numbers = [int(text) for text in re.findall(r"\b\d{17,20}\b", page.read_text("utf-8"))]
    client = SpecClient(svc_url=demonstration.url)
    for number in sorted(set(numbers)):
        context = "desi_dr1" if number < 1 << 56 else "sdss_dr17"
        assert len(client.getSpec(number, context=context)) > 3000, number


def test_the_guide_is_built_without_a_warning() -> None:
    command = [sys.executable, "scripts/build-docs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = ROOT / "site"
    client = (site / "reference" / "client" / "index.html").read_text("utf-8")
    assert "getSpec" in client
    settings = (site / "reference" / "settings" / "index.html").read_text("utf-8")
    for name in Settings.model_fields:
        assert f"SPECSERVER_{name.upper()}" in settings
    errors = (site / "reference" / "errors" / "index.html").read_text("utf-8")
    for error in all_errors():
        assert error.code in errors
    cli = (site / "reference" / "cli" / "index.html").read_text("utf-8")
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
            assert there.is_file() or there.parent.name == "reference", (page, target)


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
