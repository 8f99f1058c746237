"""Importing the client is cheap, silent and without side effects."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import command
from specserver.cli.console import ERROR
from test_client_decode import MANY, encode

HEAVY = (
    "IPython",
    "astropy",
    "bokeh",
    "dask",
    "distributed",
    "fastapi",
    "matplotlib",
    "numcodecs",
    "pandas",
    "pyarrow",
    "rich",
    "specutils",
    "typer",
    "urllib3",
    "xarray",
)

PROBE = """
import sys, warnings
import numpy
before = list(warnings.filters)
events = []
sys.addaudithook(lambda name, args: events.append(name) if name.startswith("socket.") else None)
from specserver import specClient
assert warnings.filters == before, "a warning filter was set"
assert not events, events
assert specClient.get_svc_url() == "http://127.0.0.1:6998/spec"
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def probe(code: str) -> str:
    """Run code in a fresh interpreter without a service set; return what it printed."""
    plain = {name: value for name, value in os.environ.items() if "SPECSERVER" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=plain
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_client_loads_nothing_heavy_and_does_nothing():
    loaded = probe(PROBE).split()
    assert "numpy" in loaded
    assert [name for name in HEAVY if name in loaded] == []
    assert "specserver.server" not in loaded


def test_importing_the_model_loads_numpy_alone():
    loaded = probe("import sys, specserver.model.grid; print(*sys.modules)").split()
    assert [name for name in HEAVY if name in loaded] == []


def test_fetching_arrays_does_not_load_pandas(tmp_path):
    """pyarrow's own conversions load it, which takes longer than most answers."""
    stream = tmp_path / "stream.arrow"
    stream.write_bytes(encode(MANY))
    code = f"""
import sys
from specserver.client.results.columns import read_columns
from specserver.client.results.decode import decode_parts
assert len(decode_parts(open({str(stream)!r}, "rb"))[0].data) == {len(MANY)}
assert len(read_columns(open({str(stream)!r}, "rb")).values["id"]) == {len(MANY)}
print(*sys.modules)
"""
    assert "pandas" not in probe(code).split()


SERVER_ONLY = ("duckdb", "fastapi", "uvicorn", "tensorstore", "sqlglot", "hpgeom")
NOTEBOOK_ONLY = ("specutils", "matplotlib", "bokeh", "PIL", "scipy")
HIDE = """
import sys
for name in {names}:
    sys.modules[name] = None
"""
WITHOUT = f"""
{HIDE.format(names=SERVER_ONLY + NOTEBOOK_ONLY)}
from specserver.cli import main
sys.argv = ["specserver", *sys.argv[1:]]
main()
"""


@pytest.mark.proof
@pytest.mark.parametrize(
    "words",
    [
        ["serve"],
        ["ingest", "sdss_dr17", "."],
        ["verify"],
        ["info", "--data", "."],
        ["contexts", "--data", "."],
        ["catalogs", "--data", "."],
        ["catalog", "list"],
        ["catalog", "add", "sdss_dr17", "x", "y.fits"],
        ["tree", "list"],
        ["tree", "add", "sdss_dr17", "."],
        ["demo"],
    ],
    ids=" ".join,
)
def test_a_client_install_says_what_a_server_command_needs(words: list[str]) -> None:
    """A base install has no server packages: the message has the command that brings them."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "pip install '.[server]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.proof
def test_a_table_is_removed_without_what_reads_and_draws(tmp_path: Path) -> None:
    """It took seconds to import what reads tables, parses conditions and draws pictures."""
    (tmp_path / "sdss_dr17").mkdir()
    told = probe(f"""
import sys
from specserver.cli import main
sys.argv = ["specserver", "catalog", "remove", "sdss_dr17", "x", "--data", {str(tmp_path)!r}]
try:
    main()
except SystemExit as ended:
    assert ended.code == 2, ended.code
print(*sys.modules)
""")
    assert {"astropy", "matplotlib", "pandas", "specutils", "sqlglot"} & set(told.split()) == set()


def test_what_takes_time_is_said_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sdss_dr17").mkdir()
    given = ("sdss_dr17", "x", tmp_path / "t.csv", "--data", tmp_path)
    assert "reading" not in command("catalog", "add", *given, code=2)
    monkeypatch.setattr(ERROR, "_force_terminal", True)
    assert f"reading {tmp_path / 't.csv'} …" in command("catalog", "add", *given, code=2)
    assert "importing specutils, for" in command("ingest", "--list-readers")


@pytest.mark.proof
def test_a_client_install_has_the_clients_commands() -> None:
    for words in (["query", "--help"], ["get", "--help"], ["vos", "--help"]):
        command = [sys.executable, "-c", WITHOUT, *words]
        subprocess.run(command, capture_output=True, check=True)


def without_notebook(code: str) -> str:
    """Run code where the packages of the extra ``notebook`` are missing."""
    return probe(HIDE.format(names=SERVER_ONLY + NOTEBOOK_ONLY) + code)


@pytest.mark.parametrize(
    ("call", "package"),
    [
        ("spec.getSpec([1], fmt='Spectrum1D')", "specutils"),
        ("spec.getSpec([1], fmt='SpectrumList')", "specutils"),
        ("spec.to_Spectrum1D(ARRAY)", "specutils"),
        ("spec.plot(1)", "matplotlib"),
        ("spec.prospect([1])", "bokeh"),
    ],
)
def test_a_result_that_needs_more_says_the_command(call: str, package: str) -> None:
    """Before it asks the service for anything; code that expects an ImportError gets one."""
    told = without_notebook(f"""
import numpy
from specserver import specClient as spec
ARRAY = numpy.zeros(3, [("flux", "f4"), ("loglam", "f4")])
try:
    {call}
except ImportError as error:
    print(error.code, error)
""")
    assert told.startswith("missing_package")
    assert f"needs {package}, which is not installed: pip install '.[notebook]'" in told


@pytest.mark.proof
def test_a_base_install_reads_spectra_and_tables(tmp_path):
    """Arrays, DataFrames and Tables come without the packages of the extra ``notebook``."""
    stream = tmp_path / "stream.arrow"
    stream.write_bytes(encode(MANY))
    told = without_notebook(f"""
from specserver.client.results.convert import convert
from specserver.client.results.decode import decode_parts
for fmt in ("pandas", "table"):
    (spectra,) = decode_parts(open({str(stream)!r}, "rb"))
    print(len(convert(spectra, fmt)))
""")
    assert told.split() == [str(len(MANY))] * 2
