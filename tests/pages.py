"""The pages of the guide, run as a stranger would run them: examples, programs, commands.

`tests/test_docs.py` runs them to see that they are right, `scripts/build-docs` to get their
pictures.
"""

import doctest
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt

from commands import command
from forked import run_shell
from serving import Served, serve
from specserver.cli.demo import add_second, simulate_first
from specserver.data.root import open_root
from specserver.ingest import run_ingest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.parent.name not in {"reference", "notebooks"}]
BLOCK = re.compile(r'^```(\w*)(?: title="(.+?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
"""A block of a page: its language, the name of the file that it is, its text."""
NOT_RUN = {"text", "toml", "console"}
"""Languages of blocks that show something, and are no program."""
ELSEWHERE = {
    "access.md": "test_vos.py",
    "add-a-survey.md": "test_surveys.py",
    "object-store.md": "test_object_store.py",
    "postgres.md": "test_docs.py",
}
"""Pages that need tokens, a package that is installed, an object store or a database, and the tests
that run their blocks."""
OUTPUT = "output"
"""Title of a block that shows what the commands before it print."""
_SERVICE = "http://127.0.0.1:6998"
_FEW = 40
_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.REPORT_NDIFF
_ADDED = {"serve": ("--help",)}
"""Options that are added: a service runs already, so that only the options of its line are read."""
_SHELL = f"""
make() {{ command make --dry-run --directory "{ROOT}" "$@" >/dev/null; }}
pip() {{ echo "not run: pip $*"; }}
"""


@contextmanager
def demonstration(folder: Path) -> Iterator[Served]:
    """Serve the two surveys that `make demo` makes."""
    simulate_first(folder / "mock")
    data = open_root(folder / "data")
    first = run_ingest(data, "sdss_dr17", [folder / "mock"], workers=1)
    for summary in (first, *add_second(data, folder / "second")):
        # What the ingest would print in yellow.
        yellow = (summary.other_reductions, summary.remarks, summary.refused, summary.conflicts)
        assert not any((*yellow, summary.differing, summary.pointings, summary.not_applied))
    with serve(folder / "data", folder / "mock", workers=2, spawned=False) as running:
        yield running


def blocks(page: Path) -> list[tuple[str, str, str, int]]:
    """Return language, title, text and first line of the blocks of a page."""
    text = page.read_text("utf-8")
    return [(*found.groups(""), text.count("\n", 0, found.start()) + 1)
            for found in BLOCK.finditer(text)]  # fmt: skip


@contextmanager
def in_place(folder: Path, running: Served) -> Iterator[None]:
    """Work in a folder that is made, with the environment of a reader."""
    folder.mkdir(parents=True, exist_ok=True)
    before = dict(os.environ)
    os.environ.update(_environment(folder, running))
    try:
        with chdir(folder):
            yield
    finally:
        # One process runs all pages: the figures of one are closed before the next.
        plt.close("all")
        os.environ.clear()
        os.environ.update(before)


TRIED = [page for page in PAGES if page.name not in ELSEWHERE and blocks(page)]


def run_page(page: Path, folder: Path, running: Served) -> list[str]:
    """Run a page's blocks, one after the other, in a folder of their own; return what is wrong."""
    names: dict[str, Any] = {"__name__": "__main__"}
    faults = []
    with in_place(folder, running), warnings.catch_warnings():
        warnings.simplefilter("error")
        # Pages show what is printed; what this warning says stands beside the first query.
        warnings.filterwarnings("ignore", "[0-9,]+ more .* primary spectr", UserWarning)
        for language, title, text, line in blocks(page):
            if title == OUTPUT:
                fault = _difference(text, names["printed"])
            elif title:
                Path(title).write_text(text, "utf-8")
                continue
            elif language in NOT_RUN:
                continue
            else:
                fault = RUN[language](text, names) if language in RUN else "of what language?"
            if fault:
                faults.append(f"{page.name}, line {line}: {fault}")
    return faults


def _environment(folder: Path, running: Served) -> dict[str, str]:
    """Return the environment of a page, whose folders /data, /sas and ~ are in its own."""
    few = sorted(running.folder.rglob("spec-0267-*.fits"))[:_FEW]
    second = max((running.folder.parent / "second").rglob("coadd-*.fits"))
    places = {
        "data/sdss/spectra": few,
        "data/desi/healpix": sorted(second.parent.iterdir()),
        "sas/dr16/sdss/spectro/redux/26/spectra/0267": few,
    }
    for name, files in places.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            (folder / name / file.name).hardlink_to(file)
    (folder / "demo").symlink_to(running.folder.parent)
    return {
        "SPECSERVER_URL": running.url,
        "HOME": str(folder),
        "MPLBACKEND": "Agg",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
    }


def _run_examples(text: str, names: dict[str, Any]) -> str:
    """Run examples as the interpreter shows them."""
    examples = doctest.DocTestParser().get_doctest(text, names, "page", None, 0)
    examples.globs = names
    said: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=_FLAGS).run(
        examples, out=said.append, clear_globs=False
    )
    return "".join(said)


def _run_program(text: str, names: dict[str, Any]) -> str:
    """Run a program in this process."""
    try:
        exec(compile(_placed(text), "page", "exec"), names)
    except Exception:  # noqa: BLE001  # any exception is a fault of the page
        return traceback.format_exc()
    return ""


def _difference(shown: str, printed: str) -> str:
    """Return how a text differs from the one that the page shows."""
    checker = doctest.OutputChecker()
    if checker.check_output(shown, printed, _FLAGS):
        return ""
    return checker.output_difference(doctest.Example("", shown), printed, _FLAGS)


def _run_commands(text: str, names: dict[str, Any]) -> str:
    """Run commands: of specserver alone in this process, which is quicker, others with bash."""
    text = _placed(text)
    lines = [_words(line) for line in text.replace("\\\n", " ").splitlines()]
    if all(words[:1] in ([], ["specserver"]) for words in lines):
        try:
            # With one core the command starts no other processes.
            with warnings.catch_warnings(), patch("os.cpu_count", return_value=1):
                warnings.simplefilter("default")
                said = [command(*line[1:], *_ADDED.get(line[1], ())) for line in lines if line]
        except AssertionError as error:
            return str(error)
        names["printed"] = "".join(said)
        return ""
    done = run_shell(_SHELL + text, os.environ)
    names["printed"] = done.stdout
    return done.stdout + done.stderr if done.returncode else ""


def _words(line: str) -> list[str]:
    """Return the words of a line; only "bash" if it has more than words."""
    parser = shlex.shlex(line, posix=True, punctuation_chars="();<>|&$`*")
    parser.whitespace_split = True
    words = list(parser)
    return ["bash"] if any(set(word) <= set("();<>|&$`*") for word in words) else words


def _placed(text: str) -> str:
    """Return a text with its folders and its service replaced by those of this run."""
    base = os.environ["SPECSERVER_URL"].removesuffix("/spec")
    text = re.sub(r"(?<![\w.])/(?=(?:data|sas)/)", f"{Path.cwd()}/", text)
    return text.replace(_SERVICE, base)


RUN = {"pycon": _run_examples, "python": _run_program, "sh": _run_commands}
