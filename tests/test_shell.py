"""The command line in a shell: pipes, JSON lines, options before the command, ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import command
from conftest import TwoSurveys
from forked import run_shell
from serving import Served
from specserver.client.session import Session

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "shell.md"

SESSION = r"""
set -euo pipefail
specserver query --where "class = 'QSO' and z > 1" > ids.txt
specserver get - --align --values flux,ivar --out qso.npy < ids.txt
specserver query --where "class = 'QSO' and z > 1" --fields ra,dec,z > qso.csv
test "$(head -1 qso.csv)" = specobjid,ra,dec,z
cut -d, -f1 qso.csv | tail -n +2 | diff - ids.txt
specserver match - --json < qso.csv | cut -d'"' -f6 | diff - ids.txt
specserver query --where "z > 0" --json | head -6 |
    specserver grid - --nx 3 --ny 2 --out - > grid.png
cut -d, -f1-3 qso.csv | tr , '\t' | head -4 | specserver get - --out spectra
ls spectra | grep -c '\.npy$' | grep -qx 3
cp "$(head -1 ids.txt | specserver plot - --observed)" plot.png
cp "$(head -3 ids.txt | specserver --context sdss_dr17 preview -)" preview.png
head -3 ids.txt | specserver stack - --out composite.npy > said.txt
head -1 ids.txt | specserver get - --values flux --fmt csv --out - |
    awk 'NR > 1 { s += $1 } END { print s }' > sum.txt
specserver catalogs | cut -f1 | head -2 > catalogs.txt
specserver get 5 2> none.txt || echo $? > none.code
export COMP_WORDS="specserver pro" COMP_CWORD=1
_SPECSERVER_COMPLETE=complete_bash specserver > complete.txt
specserver --show-completion bash | bash -n
"""


@pytest.mark.proof
def test_twenty_lines_of_shell(served: Served, tmp_path: Path) -> None:
    environment = {**os.environ, "SPECSERVER_URL": served.url}
    environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    done = run_shell(SESSION, environment, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # Nothing but sums of what came and a warning of ours: none of another package, no bar.
    others = re.compile(r"specserver: .* in [0-9.]+ s|asking the .*|warning: .* primary spectra.*")
    assert [line for line in done.stderr.splitlines() if not others.fullmatch(line)] == []
    text = {path.name: path.read_text() for path in tmp_path.glob("*.t*t")}
    text |= {path.name: path.read_text().strip() for path in tmp_path.glob("*.code")}
    ids = text["ids.txt"].split()
    assert np.load(tmp_path / "qso.npy").shape[0] == len(ids) > 4
    for name in ("grid.png", "plot.png", "preview.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / f"plot-{ids[0]}.png").exists()
    assert "of 3 spectra" in text["said.txt"]
    flux = np.load(tmp_path / "qso.npy")["flux"][0]
    assert float(text["sum.txt"]) == pytest.approx(flux.sum(dtype=float), rel=1e-4)
    assert text["catalogs.txt"].split() == ["catalog", "sdss_dr17.specobj"]
    assert text["none.code"] == "2"
    assert text["none.txt"].splitlines() == [
        "specserver: no spectrum for 5 in sdss_dr17; check identifier and context"
    ]
    assert text["complete.txt"].split() == ["prospect"]


def records(*words: object) -> list[dict[str, Any]]:
    """Return what a command prints as JSON lines."""
    lines = command(*words, "--json").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def documented(name: str) -> list[str]:
    """Return the keys that the page promises for a command, those of values of keys left out."""
    table = PAGE.read_text("utf-8").partition("with `--json` |")[2]
    row = re.search(rf"^\|[^|\n]* `{name}[^|\n]*\| ([^|:;]*)", table, re.MULTILINE)
    assert row is not None, name
    return re.findall(r"`(\w+)`", row[1])


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put text on standard input."""
    return lambda text: monkeypatch.setattr(sys, "stdin", StringIO(text))


@pytest.mark.proof
def test_json_has_the_documented_keys(
    served: Served, mock_survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECSERVER_URL", served.url)
    monkeypatch.setenv("SPECSERVER_DATA", str(tmp_path / "data"))
    number = int(served.ids[0])
    file = next(mock_survey.rglob("spec-*.fits"))
    (tmp_path / "t.csv").write_text("specobjid,mass\n5,1.0\n")
    for name, words in {
        "ingest": ("ingest", "sdss_dr17", file, "--workers", 1),
        "simulate sdss": ("simulate", "sdss", tmp_path / "mock", "--nspec", 1),
        "catalog list": ("catalog", "add", "sdss_dr17", "masses", "t.csv"),
        "tree list": ("tree", "list"),
        "token create": ("token", "create", "--user", "ada"),
        "token list": ("token", "list"),
        "verify": ("verify",),
        "query": ("query", "--where", "limit 1"),
        "get": ("get", number),
        "stack": ("stack", number, "--out", "a.ecsv"),
        "preview": ("preview", number),
        "prospect": ("prospect", number),
        "contexts": ("contexts",),
        "catalogs": ("catalogs",),
    }.items():
        found = records(*words)
        assert found or name == "tree list", name
        left_out = {"left_out", "notes"} if "add" in words else set()
        for record in found:
            assert [key for key in record if key not in left_out] == documented(name)
    assert str(number) in (tmp_path / f"prospect-{number}.html").read_text("utf-8")
    (held,) = records("info", "--data", tmp_path / "data")
    assert list(held) == documented("info` of a data folder")
    assert held["tables"][0]["catalog"] == "sdss_dr17.masses"


@pytest.mark.parametrize(
    ("words", "outs"),
    [
        (("stack",), ("x.xyz", "x", "nosuch/x.png", ".", "vos://x.csv")),
        (("plot",), ("x.xyz", "nosuch/x.png")),
        (("preview",), ("x.pdf", "nosuch/x.png", ".")),
        (("grid",), ("x.jpg", "nosuch/x.png", ".")),
        (("prospect",), ("x.png", "nosuch/x.html", ".")),
        (("get", "--fmt", "csv"), ("x.npy",)),
        (("get", "--align"), ("nosuch/x.npy",)),
        (("query", "--where", "z > 0"), ("x.xyz", "nosuch/x.csv", ".")),
        (("match", "t.csv"), ("x.xyz", "nosuch/x.csv", ".")),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_first(
    words: tuple[str, ...],
    outs: tuple[str, ...],
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECSERVER_URL", served.url)
    ids = command("query", "--where", "limit 2").split()
    Path("t.csv").write_text("ra,dec\n10,10\n")
    asked = []
    ask = Session.ask
    monkeypatch.setattr(
        Session, "ask", lambda self, path, *rest: (asked.append(path), ask(self, path, *rest))[1]
    )
    given = [] if words[0] in {"query", "match"} else ids
    for out in outs:
        told = command(*words, *given, "--out", out, code=2)
        assert f"--out {out} is not possible" in told or f"--out {tmp_path / out}" in told, told
        assert not {"bulk/spectra", "bulk/stack", "bulk/query", "bulk/match", *words} & set(asked)
        assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_standard_output_takes_one_spectrum(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECSERVER_URL", served.url)
    ids = command("query", "--where", "limit 2").split()
    told = command("get", *ids, "--fmt", "csv", "--out", "-", code=2)
    assert told.endswith(
        "--out - is not possible: one spectrum, or aligned ones as npy, on standard output; name a"
        " folder\n"
    )
    assert "fmt" in command("get", ids[0], "--fmt", "nosuch", code=2)


def test_json_of_rows_is_exact_and_its_identifiers_are_text(
    two_surveys: TwoSurveys, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECSERVER_URL", two_surveys.served.url)
    where = ("--where", "z > 0.1 limit 2", "--context", "sdss_dr17,desi_edr")
    (row, *_) = rows = records("query", *where, "--fields", "z")
    assert isinstance(row["id"], str)
    sought = ("query", "--where", f"specobjid = {row['id']}", "--fields", "z,plate,class")
    (alone,) = records(*sought)
    assert isinstance(alone["plate"], int)
    assert list(map(str, alone.values())) == command(*sought).splitlines()[1].split(",")
    # JSON lines, with and without columns, name the same spectra as what is printed otherwise.
    ids = [(row["context"], row["id"]) for row in rows]
    for more in ((), ("--fields", "z")):
        given(command("query", *where, *more, "--json"))
        assert [(said["context"], said["id"]) for said in records("get", "-")] == ids
    given(command("query", "--where", "z > 0.1 limit 2", "--fields", "tuple", "--json"))
    assert [said["id"] for said in records("get", "-")] == [number for _, number in ids[:2]]


def test_match_reads_positions_of_every_kind(
    served: Served, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECSERVER_URL", served.url)
    table = command("query", "--where", "limit 2", "--fields", "ra,dec")
    ids = [line.split(",")[0] for line in table.splitlines()[1:]]
    bare = [line.split(",")[1:] for line in table.splitlines()[1:]]
    for text in (
        table,
        table.replace(",", "\t"),
        "\n".join(" ".join(cells) for cells in bare),
        "\n".join(",".join(cells) for cells in bare),
        command("query", "--where", "limit 2", "--fields", "ra,dec", "--json"),
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: ra, datatype: float64}\n"
        "# - {name: dec, datatype: float64}\nra dec\n" + "\n".join(map(" ".join, bare)),
    ):
        given(text)
        assert [row["specobjid"] for row in records("match", "-")] == ids
    given("10 20\n" + " ".join(bare[0]))
    matched = command("match", "-", "--json")
    assert json.loads(matched.splitlines()[0])["specobjid"] is None
    given(matched)
    assert [row["id"] for row in records("get", "-", "--skip-missing")] == ids[:1]
    for wrong in ("", "a b\n1 2 3 4\n"):
        given(wrong)
        assert "specserver: " in command("match", "-", code=2)


def test_lists_are_tab_separated_in_a_pipe(served: Served) -> None:
    for words, names in (
        (("contexts", "--data", served.data), "context\tsurvey\tspectra\tfiles\ttitle"),
        (("contexts", "--url", served.url), "context\tsurvey\tspectra\tfiles\ttitle"),
        (("info", "--data", served.data), "context\tsegments\tspectra\tbytes\tbytes_per_spectrum"),
        (("token", "list", "--data", served.data), "id\tuser\tadmin"),
        (("get", served.ids[0], "--url", served.url), "context\tid\tpixels\tfields"),
    ):
        said = command(*words)
        assert names in said
        assert not set(said) & set("│┃╭─━\x1b")


def test_options_before_the_command_hold_for_it(
    two_surveys: TwoSurveys, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = two_surveys.served.url
    monkeypatch.setenv("SPECSERVER_URL", "http://127.0.0.1:9/spec")
    before = ("--url", url, "--context", "desi_edr")
    assert f"at {url} (--url)" in command(*before, "contexts")
    sent = ("query", "--where", "limit 1", "--json")
    assert json.loads(command(*before, *sent))["context"] == "desi_edr"
    assert json.loads(command(*before, *sent, "--context", "sdss_dr17"))["context"] == "sdss_dr17"
    monkeypatch.setenv("SPECSERVER_CONTEXT", "desi_edr")
    assert json.loads(command(*before[:2], *sent))["context"] == "desi_edr"
    monkeypatch.setenv("SPECSERVER_TOKEN", "wrong")
    assert "token" in command("--url", url, *sent, code=2)
    assert "token" in command("--url", url, "--token", "other", "vos", "ls", code=2)


def test_a_query_of_another_catalogue(served: Served) -> None:
    asked = ("query", "--where", "limit 200", "--url", served.url)
    assert len(command(*asked, "--catalog", "sdss_dr17.specobjall").split()) == len(served.ids)
    assert "unknown catalogue" in command(*asked, "--catalog", "sdss_dr17.none", code=2)


def test_spectra_that_are_not_named(given: Any, served: Served, tmp_path: Path) -> None:
    url = ("--url", served.url)
    given("")
    assert "standard input is empty" in command("get", "-", *url, code=2)
    assert "at least one spectrum" in command("preview", "--dark", *url, code=2)
    # One column has its own name, and is no identifier.
    assert set(records("query", "--limit", 2, "--fields", "z", *url)[0]) == {"z"}
    for more in ((), ("--json",)):
        given(command("query", "--limit", 2, "--fields", "z", *more, *url))
        assert "has no column of identifiers" in command("get", "-", *url, code=2)
    given('{"id": ')
    assert "an object a line" in command("get", "-", *url, code=2)
    listed = tmp_path / "ids.txt"
    listed.write_text(str(served.ids[0]))
    both = records("get", served.ids[1], "--ids", listed, *url)
    assert [row["id"] for row in both] == [str(served.ids[1]), str(served.ids[0])]


def test_ctrl_c_within_an_import_takes_effect_after_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins, os, signal, sys\n"
        "real = builtins.__import__\n"
        "def interrupted(name, *rest, **more):\n"
        "    if name == 'rich.markup':\n"
        "        builtins.__import__ = real\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        print('went on', flush=True)\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = interrupted\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    reading, writing = os.pipe()
    ended = subprocess.run(
        [sys.executable, "-m", "specserver", "get", "-"],
        stdin=reading, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    os.close(reading)
    os.close(writing)
    assert (ended.stderr, ended.stdout) == ("specserver: stopped\n", "went on\n")
    assert ended.returncode == 130


def test_a_command_that_is_interrupted_ends_with_130_and_one_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "specserver", "get", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # It waits for identifiers as soon as its modules are imported.
        waits = f"/proc/{process.pid}/wchan"
        deadline = time.monotonic() + 30
        while "pipe" not in Path(waits).read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == "specserver: stopped\n"
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
