"""Fetching spectra: against local files, a static body and a ping."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from specserver.client.api import SpecClient
from specserver.client.session import ResponseBody, Session
from specserver.service import SpectroscopicService
from specserver.surveys.sdss import SDSS

from .bench import Bench, Ids
from .cases import case
from .data import CONTEXT
from .formats import forget
from .measure import Trial, Unequal
from .service import serve_body

_SINGLES: Final = 100
_CUTOUT_AA: Final = (6500.0, 7200.0)
_STEP: Final = 1e-4


@case(
    "getspec_whole",
    "getSpec of {many:,} random spectra, all vectors, numpy",
    reference="np.load of the same {many:,} files",
    target=0.8,
    limits="memory: the result is written once, from frames that one core decompresses while the"
    " other core reads and sends them",
)
def getspec_whole(bench: Bench) -> Trial:
    def check(ids: Ids) -> None:
        require_equal(bench.client.getSpec(ids), bench.load(ids))

    return Trial(lambda: bench.draw(bench.scale.many), bench.client.getSpec, bench.load, check)


@case(
    "getspec_static",
    "getSpec of {many:,} random spectra, all vectors, numpy",
    reference="one static body of the same wire bytes",
    target=3.0,
    limits="what a socket of the loopback and Python's HTTP server carry, and then decompression",
)
def getspec_static(bench: Bench) -> Trial:
    ids = bench.draw(bench.scale.many)
    body, sizes = _wire(bench, ids)
    folder = bench.case_stack.enter_context(TemporaryDirectory(prefix="specserver-bench-"))
    file = Path(folder) / "body"
    file.write_bytes(body)
    static = bench.case_stack.enter_context(serve_body(file))

    def fetch(_: Ids) -> int:
        with bench.session.send("POST", static.url, {}) as answer:
            return sum(len(answer.read(size)) for size in sizes)

    def check(_: Ids) -> None:
        if fetch(ids) != len(body):
            raise Unequal("the static body came cut off")

    note = f"{len(body) / 1e6:.0f} MB on the wire"
    return Trial(lambda: ids, bench.client.getSpec, fetch, check, note=note)


@case(
    "getspec_aligned",
    "the same, aligned",
    reference="np.load + placing on a common grid, vectorised",
    target=0.45,
    limits="memory: as unaligned, with zeros beside each spectrum",
)
def getspec_aligned(bench: Bench) -> Trial:
    def ours(ids: Ids) -> Any:
        return bench.client.getSpec(ids, align=True)

    def check(ids: Ids) -> None:
        require_equal(ours(ids), _placed(bench, ids))

    return Trial(lambda: bench.draw(bench.scale.many), ours, lambda ids: _placed(bench, ids), check)


@case(
    "getspec_flux",
    "getSpec of {many:,} random spectra, flux only",
    reference="np.load of the same {many:,} files",
    target=0.2,
    limits="the work for each spectrum that does not depend on its size: finding, naming, calls",
)
def getspec_flux(bench: Bench) -> Trial:
    def ours(ids: Ids) -> Any:
        return bench.client.getSpec(ids, values="flux")

    def check(ids: Ids) -> None:
        require_equal([one["flux"] for one in ours(ids)], [one["flux"] for one in bench.load(ids)])

    return Trial(lambda: bench.draw(bench.scale.many), ours, bench.load, check)


@case(
    "getspec_cutout",
    "cutout 6500–7200 Å, flux, aligned, {many:,}",
    reference="np.load + placing on a common grid, vectorised",
    target=0.1,
    limits="decompression on the server, of whole chunks of which a twelfth is wanted",
)
def getspec_cutout(bench: Bench) -> Trial:
    def ours(ids: Ids) -> Any:
        return bench.client.getSpec(ids, values="flux,loglam", align=True, cutout=_CUTOUT_AA)

    def check(ids: Ids) -> None:
        whole, cut = _placed(bench, ids), ours(ids)
        at = np.flatnonzero(np.isin(whole["loglam"][0], cut["loglam"][0]))
        require_equal(cut["flux"], whole["flux"][:, at])

    def flux(ids: Ids) -> Any:
        return bench.client.getSpec(ids, values="flux", align=True, cutout=_CUTOUT_AA)

    return Trial(lambda: bench.draw(bench.scale.many), flux, lambda ids: _placed(bench, ids), check)


@case(
    "getspec_one",
    "one spectrum, warm",
    reference="/ping",
    target=3.0,
    limits="the round trip, and the framework's way to a handler in a thread",
)
def getspec_one(bench: Bench) -> Trial:
    def ours(ids: Ids) -> None:
        for one in ids.tolist():
            bench.client.getSpec(one)

    def ping(ids: Ids) -> None:
        url = f"{bench.server.url}/ping"
        for _ in range(len(ids)):
            bench.session.get_text(url)

    def draw() -> Ids:
        # Warm: each was fetched before.
        ids = bench.draw(_SINGLES)
        ours(ids)
        return ids

    return Trial(draw, ours, ping, ours_per=_SINGLES, reference_per=_SINGLES)


@case(
    "spectrum1d",
    "Spectrum1D list of {listed}",
    reference="specutils.Spectrum.read of {listed} local FITS files",
    target=0.15,
    limits="the constructor of specutils' Spectrum: units, uncertainty and axis of each",
)
def spectrum1d(bench: Bench) -> Trial:
    from specutils import Spectrum  # noqa: PLC0415  # slow to import

    def ours(ids: Ids) -> Any:
        return bench.client.getSpec(ids, fmt="Spectrum1D")

    def read(ids: Ids) -> list[Any]:
        paths = bench.library.of(ids, bench.library.fits)
        with warnings.catch_warnings():
            # Printing what astropy thinks of the units would be timed, too.
            warnings.simplefilter("ignore")
            return [Spectrum.read(path, format="SDSS-III/IV spec") for path in paths]

    def check(ids: Ids) -> None:
        pairs = zip(ours(ids), read(ids), strict=True)
        fluxes = [(one.flux.value, other.flux.value) for one, other in pairs]
        require_equal([one for one, _ in fluxes], [other for _, other in fluxes])

    return Trial(lambda: bench.draw(bench.scale.listed), ours, read, check)


@case(
    "cold_formats",
    "{many:,} random spectra of {nspec:,} whose files are not in memory, in process",
    reference="the same in format 1 of the store",
    target=0.5,
    limits="the disk: a read for each spectrum and type of its values, not for each vector",
)
def cold_formats(bench: Bench) -> Trial:
    return cold_trial(bench.service, bench.format_1, lambda: bench.draw(bench.scale.many))


def cold_trial(
    service: SpectroscopicService, other: SpectroscopicService, draw: Callable[[], Ids]
) -> Trial:
    """Return the trial of one store against another with the same spectra, both cold.

    The order of the two changes nothing: each has files of its own, which are dropped before.
    """
    folders = [one.archive.data.local_path() for one in (service, other)]
    files = [path for folder in folders for path in folder.rglob("*.zarr/**/*") if path.is_file()]

    def read(which: SpectroscopicService, ids: Ids) -> Any:
        return list(which.read(which.resolve([int(one) for one in ids], CONTEXT)))

    def drawn() -> Ids:
        ids = draw()
        forget(files)
        return ids

    def check(ids: Ids) -> None:
        require_equal(read(service, ids), read(other, ids))

    return Trial(drawn, partial(read, service), partial(read, other), check)


def require_equal(ours: Any, theirs: Any) -> None:
    """Raise `Unequal` unless two lists of arrays hold the same values, bit for bit."""
    if len(ours) != len(theirs):
        raise Unequal(f"{len(ours)} against {len(theirs)}")
    for one, other in zip(ours, theirs, strict=True):
        if one.dtype != other.dtype and one.dtype != other.dtype.newbyteorder("="):
            raise Unequal(f"{one.dtype} against {other.dtype}")
        if np.asarray(one).tobytes() != np.asarray(other, one.dtype).tobytes():
            raise Unequal("the values differ")


def _placed(bench: Bench, ids: Ids) -> npt.NDArray[Any]:
    """Return spectra of local files on their common grid: loaded, then placed by slices."""
    spectra = bench.load(ids)
    first = np.array([round(float(one["loglam"][0]) / _STEP) for one in spectra])
    stop = first + np.array([len(one) for one in spectra])
    low, high = int(first.min()), int(stop.max())
    placed = np.zeros((len(spectra), high - low), spectra[0].dtype)
    for row, one, start in zip(placed, spectra, (first - low).tolist(), strict=True):
        row[start : start + len(one)] = one
    placed["loglam"] = SDSS.grid.axis_values(low, high - low)
    return placed


class _Recorder(Session):
    """A session that keeps the bytes of the answers that it lends."""

    def __init__(self, url: str) -> None:
        super().__init__(CONTEXT, svc_url=url)
        self.kept: list[bytes] = []
        self.sizes: list[int] = []

    @contextmanager
    def ask(  # type: ignore[explicit-override]  # typing has it from Python 3.12 on
        self, *args: Any, **keywords: Any
    ) -> Iterator[Any]:
        """Post, and lend a body that is kept as it is read."""
        with super().ask(*args, **keywords) as body:
            yield _Kept(body, self)


class _Kept:
    """The body of an answer, kept as it is read."""

    closed = False

    def __init__(self, body: ResponseBody, recorder: _Recorder) -> None:
        self._body = body
        self._recorder = recorder

    def read(self, size: int) -> Any:
        """Return so many bytes, fewer at the end."""
        piece = self._body.read(size)
        self._recorder.kept.append(bytes(piece))
        self._recorder.sizes.append(size)
        return piece


def _wire(bench: Bench, ids: Ids) -> tuple[bytes, list[int]]:
    """Return the answer to the client's own request, and the sizes of the reads that took it."""
    client, recorder = SpecClient(), _Recorder(bench.server.url)
    client.session = recorder
    client.getSpec(ids)
    return b"".join(recorder.kept), recorder.sizes
