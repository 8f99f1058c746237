"""The demonstration: a mock survey, or real files, through the whole service."""

import importlib
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from ..client.progress import Watch
from ..errors import ServiceError, Unreachable
from .console import OUT, client_of, readable_bytes, require_server, tell
from .serve import listen

if TYPE_CHECKING:
    from ..client.api import SpecClient
    from ..data.root import DataRoot
    from ..ingest import IngestSummary
    from ..simulate import Summary

MOCK_NSPEC: Final = 2000
SECOND_NSPEC: Final = 400
_SHARED: Final = 200
"""Objects of the first survey that the second one has, too."""
_SHARED_WHERE: Final = (
    "class <> 'STAR' and zwarning = 0 and z > 0.01 and wavemin < 3700 and wavemax > 9824"
    f" limit {_SHARED}"
)
"""Objects whose spectra reach over the wavelengths of the second survey."""
_CONTEXT: Final = "sdss_dr17"
SECOND_CONTEXT: Final = "desi_dr1"
_START_S: Final = 60.0
_STOP_S: Final = 10.0


def demo(
    spectra: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Real spec files to use instead of a mock survey."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the service.")] = 6998,
    once: Annotated[bool, typer.Option("--once", help="End when the examples have run.")] = False,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the data and the picture.")
    ] = Path("demo"),
) -> None:
    """Show it all at work: mock survey, ingest, service, and the examples of the README.

    Example: specserver demo --spectra ~/sdss/spectra
    """
    require_server()
    # Checked first, before minutes are spent on the simulation.
    listen("127.0.0.1", port).close()
    from ..data.root import open_root
    from ..ingest import run_ingest
    from .summary import print_summary

    # Apart from real spectra: a mock spectrum may have the identifier of a real one.
    data = folder / ("data" if spectra is None else "own-data")
    if spectra is None:
        spectra = folder / "mock"
        _simulate(spectra)
    _say(f"ingest of {spectra} into {data}, context {_CONTEXT}")
    with Watch("files") as watch:
        summary = run_ingest(open_root(data), _CONTEXT, [spectra], progress=watch)
    print_summary(summary)
    if spectra == folder / "mock":
        _say(f"a second survey, {SECOND_CONTEXT}, which has seen {_SHARED} of the same objects")
        for summary in add_second(open_root(data), folder / "second"):
            print_summary(summary)
    _say(f"specserver serve --data {data} --port {port}")
    with served(data, port) as (url, service):
        _examples(url, folder)
        if not once:
            OUT.print(f"\nThe service goes on at [bold]{url}[/]; Ctrl-C ends it.")
            OUT.print(f"  export SPECSERVER_URL={url}")
            _wait_for_interrupt(service)


def _say(text: str) -> None:
    """Announce a step."""
    OUT.print(f"\n[bold]▶ {escape(text)}[/]")


def _simulate(folder: Path) -> None:
    """Write the mock survey, unless an earlier demonstration did."""
    done = folder / ".complete"
    if done.exists():
        _say(f"mock survey of {MOCK_NSPEC:,} spectra: {folder}, from an earlier run")
        return
    _say(f"mock survey of {MOCK_NSPEC:,} spectra in the real file format: {folder}")
    begun = time.perf_counter()
    with Watch("files") as watch:
        summary = simulate_first(folder, progress=watch, workers=os.cpu_count() or 1)
    done.touch()
    took = time.perf_counter() - begun
    OUT.print(f"{readable_bytes(summary.nbytes)} in {took:.1f} s")


def simulate_first(
    folder: Path, *, progress: Callable[[int, int], object] | None = None, workers: int = 1
) -> "Summary":
    """Write the first mock survey, of the reductions that the release has."""
    from ..simulate import FAMILIES, simulate_sdss
    from ..surveys import find_release

    _, release = find_release(_CONTEXT)
    families = [name for name in release.reductions if name in FAMILIES]
    return simulate_sdss(folder, MOCK_NSPEC, families=families, progress=progress, workers=workers)


def add_second(data: "DataRoot", folder: Path) -> "list[IngestSummary]":
    """Simulate and ingest a second survey, which has looked at some objects of the first.

    The light of such an object is the model of its spectrum in the first survey, so both show the
    same object. The second survey has single exposures, too, in a context of their own.
    """
    from ..ingest import run_ingest
    from ..service import QueryRequest, SpectroscopicService
    from ..simulate import simulate_desi

    done = folder / ".complete"
    if not done.exists():
        service = SpectroscopicService(data)
        fields = ("specobjid", "ra", "dec", "z", "class")
        asked = QueryRequest(_CONTEXT, constraint=_SHARED_WHERE, fields=fields)
        ids, *columns = (column.to_numpy() for column in service.query(asked).columns)
        models = service.read(service.resolve(ids.tolist(), _CONTEXT), ["loglam", "model"])
        light = [(10.0 ** model["loglam"], model["model"]) for model in models]
        simulate_desi(folder, SECOND_NSPEC, exposures=True, positions=columns, light=light)
        done.touch()
    contexts = (SECOND_CONTEXT, f"{SECOND_CONTEXT}_exposures")
    return [run_ingest(data, context, [folder], workers=1) for context in contexts]


@contextmanager
def served(data: Path, port: int) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run a service in a process of its own; it ends with the block, or with this process."""
    command = [sys.executable, "-m", "specserver", "serve", "--data", str(data)]
    command += ["--port", str(port), "--stop-on-eof"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603  # our own program
    url = f"http://127.0.0.1:{port}/spec"
    try:
        _await_service(process, url)
        yield url, process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_service(process: "subprocess.Popen[bytes]", url: str) -> None:
    """Wait until a service answers."""
    client = client_of(url)
    deadline = time.monotonic() + _START_S
    while not client.isAlive(timeout=1):
        if process.poll() is not None:
            raise ServiceError("the service did not start; the lines above say why")
        if time.monotonic() > deadline:
            raise Unreachable(url, f"no answer within {_START_S:.0f} s")
        time.sleep(0.05)


def _show(source: str, call: Callable[[], Any], describe: Callable[[Any], str]) -> Any:
    """Print a line of code, run its function, and print the time and the result."""
    OUT.print(f"[cyan]>>>[/] {escape(source)}")
    begun = time.perf_counter()
    with warnings.catch_warnings():
        # The line is Python: its warnings name parameters, not options of the shell.
        warnings.showwarning = lambda message, *_, **__: tell("warning", str(message))
        value = call()
    took = 1000 * (time.perf_counter() - begun)
    OUT.print(f"    [dim]{took:8.1f} ms[/]   {escape(describe(value))}")
    return value


def _examples(url: str, folder: Path) -> None:
    """Run the examples of the README through the client."""
    spec = client_of(url)
    spec.query(constraint="limit 1")  # a warm-up: the first request opens the catalogue

    _say("the examples of the README")
    every = _show(
        "every = spec.query(constraint='z > -1')",
        lambda: spec.query(constraint="z > -1"),
        lambda ids: f"{len(ids):,} identifiers, {ids.dtype}",
    )
    centre = spec.query(constraint="class = 'QSO' limit 1", fields="ra,dec")
    ra, dec = round(float(centre["ra"][0]), 3), round(float(centre["dec"][0]), 3)
    _show(
        f"spec.query({ra}, {dec}, 1.0, primary=True)",
        lambda: spec.query(ra, dec, 1.0, primary=True),
        lambda ids: f"{len(ids):,} in a cone of 1°",
    )
    _show(
        "spec.query(constraint=\"class = 'QSO' and z between 2 and 2.2\", fields='ra,dec,z')",
        lambda: spec.query(constraint="class = 'QSO' and z between 2 and 2.2", fields="ra,dec,z"),
        lambda table: f"a Table of {len(table):,} quasars: {', '.join(table.colnames)}",
    )
    some = every[:1000]
    _show(
        f"spec.getSpec(every[:1000])  # {len(some):,} spectra, all vectors",
        lambda: spec.getSpec(some),
        lambda got: f"{len(got):,} arrays, {readable_bytes(sum(array.nbytes for array in got))}",
    )
    _show(
        "spec.getSpec(every[:1000], align=True, values='flux,ivar')",
        lambda: spec.getSpec(some, align=True, values="flux,ivar"),
        lambda got: f"one array {got.shape}, {readable_bytes(got.nbytes)}",
    )
    _show(
        "spec.getSpec(every[:1000], cutout='6500-7200', values='flux')",
        lambda: spec.getSpec(some, cutout="6500-7200", values="flux"),
        lambda got: f"one array {got.shape}",
    )
    _show(
        "import specutils  # once in a session",
        lambda: importlib.import_module("specutils"),
        lambda module: f"specutils {module.__version__}",
    )
    _show(
        "spec.getSpec(every[:20], fmt='Spectrum1D')",
        lambda: spec.getSpec(every[:20], fmt="Spectrum1D"),
        lambda got: f"{len(got)} {type(got[0]).__name__}, flux in {got[0].flux.unit}",
    )
    _picture(spec, folder)


def _picture(spec: "SpecClient", folder: Path) -> None:
    """Write a picture of the best quasar or galaxy spectrum there is."""
    condition = "class in ('QSO', 'GALAXY') and zwarning = 0 order by sn_median desc limit 1"
    path = folder / "spectrum.png"
    look: dict[str, Any] = {"rest_frame": False, "grid": False, "figsize": (10.0, 4.5)}
    spec.plot(spec.query(constraint=condition)[0], out=path, values="flux,model,noise", **look)
    _say(f"picture of a spectrum: {path}")


def _wait_for_interrupt(service: "subprocess.Popen[bytes]") -> None:
    """Wait until a person presses Ctrl-C; raise an error if the service ends first."""
    try:
        service.wait()
    except KeyboardInterrupt:
        OUT.print("stopped")
    else:
        raise ServiceError("the service has ended; the lines above say why")
