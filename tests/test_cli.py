"""The command line, as a person and as a script use it."""

import csv
import os
import pty
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from commands import command as command_here
from forked import Forked, run_forked
from serving import Served, free_port

COMMANDS = [
    ["ingest"],
    ["serve"],
    ["demo"],
    ["query"],
    ["get"],
    ["plot"],
    ["preview"],
    ["grid"],
    ["prospect"],
    ["stack"],
    ["match"],
    ["simulate", "sdss"],
    ["contexts"],
    ["catalogs"],
    ["info"],
    ["verify"],
]


def run(*arguments: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own and check its exit code."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SPECSERVER_")}
    done = run_forked(arguments, {**clean, "COLUMNS": "200", **environment})
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def on_terminal(*arguments: str) -> str:
    """Return all that a run of Python prints on a terminal."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ):  # fmt: skip
        os.close(slave)
        said = b""
        # Linux ends the reading of a terminal that nobody has open with an error.
        with suppress(OSError):
            while part := os.read(master, 65536):
                said += part
    os.close(master)
    return said.decode()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(command: list[str]) -> None:
    text = command_here(*command, "--help")
    assert "Example: specserver " + " ".join(command[:1]) in text
    assert "Usage:" in text


_BORDERS = set("│┃╭╮╰╯─━\x1b")


def test_help_and_usage_errors_are_plain_in_a_pipe() -> None:
    for words, code in ((["--help"], 0), (["get", "--help"], 0), (["get", "--nosuch"], 2),
                        (["stack", "5"], 2), (["vos"], 2)):  # fmt: skip
        done = run(*words, code=code)
        assert not set(done.stdout + done.stderr) & _BORDERS
        assert "Usage: " in done.stdout + done.stderr
        assert bool(done.stderr) == (code == 2)
    assert "\n    specserver serve &\n" in run("--help").stdout
    for group in ((), ("vos",), ("catalog",), ("simulate",)):
        assert "..." not in command_here(*group, "--help").partition("Commands:")[2]


def test_help_and_usage_errors_have_boxes_on_a_terminal() -> None:
    for words in (["--help"], ["get", "--nosuch"]):
        said = on_terminal("-m", "specserver", *words)
        assert set("╭╯") <= set(said)
        assert "\x1b[" in said


def test_the_command_alone_teaches() -> None:
    text = command_here(code=2)
    assert all(command[0] in text for command in COMMANDS)
    assert run("--version").stdout.startswith("specserver ")


@pytest.fixture(scope="module")
def data(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder made by the command itself."""
    folder = tmp_path_factory.mktemp("cli") / "data"
    done = run("ingest", "sdss_dr17", mock_survey, "--data", folder, "--workers", 2)
    assert "150 spectra" in done.stdout
    assert "warning:" in done.stderr
    return folder


def test_ingest_again_stores_nothing(
    data: Path, mock_survey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECSERVER_DATA", str(data))
    assert "0 spectra" in command_here("ingest", "sdss_dr17", mock_survey, "--workers", 1)


def test_strict_fails_on_files_that_cannot_be_used(mock_survey: Path, tmp_path: Path) -> None:
    options = ("--data", tmp_path, "--workers", 1, "--strict")
    assert "is not of sdss_dr17" in command_here(
        "ingest", "sdss_dr17", mock_survey, *options, code=1
    )


def test_ingest_of_nothing_and_into_nowhere(tmp_path: Path) -> None:
    assert "no such file" in command_here("ingest", "sdss_dr17", tmp_path / "x", code=1)
    said = command_here("ingest", "dr99", tmp_path, code=2)
    for shown in ("known here: ", "sdss_dr17", "--reader specutils", "--flux NAME and --wave NAME"):
        assert shown in said


@pytest.mark.proof
def test_info_contexts_catalogs_verify(data: Path) -> None:
    assert "150" in run("info", "--data", data).stdout
    listed = command_here("contexts", "--data", data)
    assert "sdss_dr17" in listed
    assert "\tfiles\t" in listed
    # There is no tree of files. A script finds the same columns always, a reader what there is.
    shown = on_terminal("-m", "specserver", "contexts", "--data", str(data))
    assert "title" in shown
    assert "files" not in shown
    assert '"files": 0' in command_here("contexts", "--data", data, "--json")
    text = command_here("catalogs", "--data", data)
    assert "sdss_dr17.specobjall" in text
    assert "best-fit redshift" in text
    assert "no fault" in command_here("verify", "--data", data)
    assert "--url" not in command_here("verify", "--help")


def test_verify_tells_damage(mock_survey: Path, tmp_path: Path) -> None:
    some = sorted(mock_survey.rglob("spec-*.fits"))[:3]
    command_here("ingest", "sdss_dr17", *some, "--data", tmp_path, "--workers", 1)
    shard = next(tmp_path.rglob("float32/c/0/0/0"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 255
    shard.write_bytes(content)
    assert "float32" in run("verify", "--data", tmp_path, code=1).stdout


def test_query_prints_ids_or_a_table(served: Served, tmp_path: Path) -> None:
    lines = run("query", "--where", "plate > 0", "--all", "--url", served.url).stdout.split()
    assert sorted(map(int, lines)) == sorted(served.ids.tolist())
    fields = "ra,dec,z"
    text = run("query", "--where", "z > 0.1 order by z", "--fields", fields, "--url", served.url)
    rows = list(csv.DictReader(text.stdout.splitlines()))
    assert list(rows[0]) == ["specobjid", "ra", "dec", "z"]
    z = [float(row["z"]) for row in rows]
    assert z == sorted(z)
    one = rows[0]
    near = run("query", "--cone", one["ra"], one["dec"], "0.001", "--url", served.url)
    assert one["specobjid"] in near.stdout.split()
    ra, dec = float(one["ra"]), float(one["dec"])
    box = f"{ra - 1},{dec - 1},{ra + 1},{dec - 1},{ra + 1},{dec + 1},{ra - 1},{dec + 1}"
    inside = run("query", f"--region={box}", "--url", served.url, "--all")
    assert one["specobjid"] in inside.stdout.split()
    out = tmp_path / "ids.txt"
    run("query", "--where", "plate > 0", "--all", "--out", out, SPECSERVER_URL=served.url)
    assert sorted(map(int, out.read_text().split())) == sorted(served.ids.tolist())
    tuples = run("query", "--where", "plate > 0 limit 2", "--fields", "tuple", "--url", served.url)
    assert len(tuples.stdout.splitlines()[0].split(",")) == 4


def test_get_writes_files(served: Served, tmp_path: Path) -> None:
    number = int(served.ids[0])
    command_here("get", number, "--out", tmp_path, "--url", served.url)
    (path,) = tmp_path.glob("*.npy")
    assert np.load(path).dtype.names[0] == "flux"
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(map(str, served.ids[:7].tolist())))
    out = tmp_path / "cut"
    cut = ("--cutout", "6500-7200", "--values", "flux", "--align")
    command_here("get", "--ids", ids, *cut, "--out", out, "--url", served.url)
    shapes = {np.load(path).shape for path in out.glob("*.npy")}
    assert len(shapes) == 1
    assert len(list(out.glob("*.npy"))) == 7
    command_here("get", number, "--out", tmp_path / "text", "--fmt", "csv", "--url", served.url)
    (text,) = (tmp_path / "text").glob("*.csv")
    assert text.read_text().startswith("flux,loglam,ivar")
    assert str(number) in command_here("get", number, "--url", served.url)


def test_wrong_calls_say_what_is_right(served: Served) -> None:
    url = served.url
    assert "--cone" in command_here("query", "--all", "--url", url, code=2)
    assert "drop" in command_here("query", "--where", "z > 1; drop table x", "--url", url, code=2)
    assert "not found" not in command_here("get", "123", "--url", url, code=2)
    assert "no spectrum for 123" in command_here("get", "123", "--url", url, code=2)
    nobody = "http://127.0.0.1:9/spec"
    assert "specserver serve" in command_here("query", "--where", "z>1", "--url", nobody, code=1)
    assert "identifier" in command_here("get", "abc", "--url", url, code=2)
    number = int(served.ids[0])
    for more in ((), ("--out", "-")):
        said = command_here("get", number, "--fmt", "nosuch", *more, "--url", url, code=2)
        assert "--fmt nosuch is not possible: numpy" in said
    for words, read in (
        (("87.7", "83.1", "--where", "z > 1"), "'--where' stands for SIZE"),
        (("87.7", "--fields", "z"), "'--fields' stands for DEC"),
        (("J012", "1", "2"), "'J012' stands for RA"),
    ):
        said = command_here("query", "--cone", *words, "--url", url, code=2)
        assert "--cone" in said
        assert read in said
    for words, read in (
        (("plot", number, "--z", "abc"), "'--z': 'abc' is not possible"),
        (("grid", number, "--nx", "0"), "'--nx': '0' is not possible"),
        (("plot", *served.ids[:9]), "; see grid and prospect"),
    ):
        assert read in command_here(*words, "--url", url, code=2)
    for position, reason in (
        ((0, 95, 1), "dec is 95.0°"),
        ((0, 5, -1), "radius"),
        ((0, 5, 999), ""),
    ):
        said = command_here("query", "--cone", *position, "--url", url, code=2)
        assert f"not a region of the sky: the cone's {reason}" in said


@pytest.mark.proof
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("query --where 'z > 0' >&-", 0, ""),
        ("query --where 'z > 0' 2>&- | head -1", 0, ""),
        ("get - <&-", 2, "standard input is empty"),
        ("nosuch <&- >&- 2>&-", 2, ""),
        ("query --where 'z > 0' --out /proc/x.csv", 1, "specserver: /proc/x.csv: No such file"),
        ("plot {number} --out /proc/x.png", 1, "specserver: /proc/x.png: No such file"),
        ("ingest sdss_dr17 {here} --data /proc/x", 1, "specserver: /proc/x: No such file"),
    ],
)
def test_streams_that_are_closed_and_folders_that_take_no_file(
    served: Served, tmp_path: Path, line: str, code: int, said: str
) -> None:
    words = line.format(number=served.ids[0], here=tmp_path)
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m specserver {words}"],
        env={**os.environ, "SPECSERVER_URL": served.url}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n") < 3) == (code, True), done.stderr
    assert said in done.stderr


def test_a_query_is_limited_in_the_shell(served: Served) -> None:
    url = ("--url", served.url)
    every = command_here("query", "--where", "z > 0 order by z", "--all", *url).split()
    assert len(every) > 5
    for words in (("--where", "z > 0 order by z"), ("--where", "z > 0 order by z;")):
        said = command_here("query", *words, "--limit", 5, "--all", *url)
        assert said.split() == every[:5]
    assert len(command_here("query", "--limit", 3, *url).split()) == 3
    assert "one LIMIT" in command_here(
        "query", "--where", "z > 0 limit 9", "--limit", 3, *url, code=2
    )


@pytest.mark.proof
def test_the_demonstration_runs_to_its_end(mock_survey: Path, tmp_path: Path) -> None:
    done = run("demo", "--once", "--spectra", mock_survey, "--port", free_port(),
               "--folder", tmp_path)  # fmt: skip
    assert "getSpec" in done.stdout
    picture = (tmp_path / "spectrum.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    assert "leaked" not in done.stderr
    # The examples are lines of Python: a warning of theirs names parameters, not options.
    assert "--all" not in done.stdout + done.stderr
    # Mock spectra are in a data folder of their own.
    assert (tmp_path / "own-data" / "sdss_dr17").is_dir()
    assert not (tmp_path / "data").exists()


@pytest.mark.proof
def test_the_demonstration_ends_with_its_service(mock_survey: Path, tmp_path: Path) -> None:
    words = ("demo", "--spectra", mock_survey, "--port", free_port(), "--folder", tmp_path)
    with (tmp_path / "told").open("w+b") as told:
        running = Forked(words, stdout=told, stderr=told, main="commands:main_with_one_core")
        try:
            while b"Ctrl-C ends it" not in (said := (tmp_path / "told").read_bytes()):
                assert running.poll() is None, said
                time.sleep(0.05)
            (service,) = [child for child in psutil.Process(running.pid).children()
                          if "serve" in child.cmdline()]  # fmt: skip
            service.terminate()
            assert running.wait(20) == 1
        finally:
            running.kill()
    assert "the service has ended" in (tmp_path / "told").read_text()
