"""The spectroscopic data service, which every dialect of the server and every tool calls."""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..auth import Caller
from ..data.root import DataRoot
from ..errors import BadParameter, ServiceError, UnknownProfile
from ..formats.arrow import SpectrumStream
from ..formats.files import SpectrumFile
from ..model.grid import PixelRange
from ..render.png.stacked_image import ImageLook
from . import pictures
from .alignment import require_alignable
from .archive import Archive, ContextInfo
from .columns import read_columns
from .composite import Stacking, StackLimits, StackRequest
from .joint_query import query_contexts
from .limits import NO_LIMITS, Limits, while_wanted
from .match import MatchRequest, run_match
from .media import changed_axis, changes_to
from .originals import original_files, rebuilt_files
from .query import QueryRequest, run_query
from .records import read_blocks, read_records, record_dtype
from .select import Identifier, select
from .selection import Selection
from .spectra import cut_pixels, cut_span, vectors_of, wanted_vectors
from .stream import StreamRequest, open_stream

_LOG = logging.getLogger(__name__)

PROFILES: Final = {"default": {"description": "the one profile", "type": "public"}}
_WARM_PIXELS: Final = 1_000_000


class SpectroscopicService:
    """The use cases over one data folder, for one caller.

    A server makes one for each request (`seen_by`). Open parts of the data folder are shared.

    Parameters
    ----------
    data
        The data folder, or what a caller may see of it.
    go_on
        Called before each batch is read; raises an error if the caller has disconnected.
    limits
        Bounds of the request.
    """

    def __init__(
        self,
        data: DataRoot | Archive,
        go_on: Callable[[], None] = lambda: None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.archive = data if isinstance(data, Archive) else Archive(data)
        self.go_on = go_on
        self.limits = limits

    def seen_by(
        self,
        caller: Caller,
        go_on: Callable[[], None] | None = None,
        limits: Limits = NO_LIMITS,
    ) -> "SpectroscopicService":
        """Return the service of one request, private contexts of others hidden."""
        return SpectroscopicService(self.archive.seen_by(caller), go_on or self.go_on, limits)

    def warm_up(self) -> None:
        """Do the work that would delay the first request of each kind."""
        for context in self.contexts()[:1]:
            condition = f"{context.id_column} > 0 limit 1"
            ids = self.query(QueryRequest(constraint=condition)).column(0).to_pylist()
            selection = self.resolve(ids, context.name)
            if selection.nspec:
                self.preview(selection, dark=False)
                self.stacked_png(
                    selection, ImageLook(common=True), align=False, max_pixels=_WARM_PIXELS
                )

    def contexts(self) -> list[ContextInfo]:
        """Return all contexts served, ``default`` first; empty when nothing is ingested.

        One that cannot be opened is left out; a request for it raises the reason.
        """
        return self.available()[0]

    def available(self) -> tuple[list[ContextInfo], dict[str, ServiceError]]:
        """Return all contexts served, as `contexts`, and why others cannot be opened."""
        names, refused = self.archive.names(), dict[str, ServiceError]()
        found = []
        for name in ["default", *names] if names else []:
            try:
                found.append(self.archive.info(name))
            except ServiceError as error:
                _LOG.error("%s cannot be opened: %s", name, error.message)
                refused[name] = error
        return found, refused

    def check_profile(self, name: str) -> None:
        """Raise `UnknownProfile` for a name that is none."""
        if name not in PROFILES:
            raise UnknownProfile(name, list(PROFILES))

    def query(self, request: QueryRequest, *, max_rows: int | None = None) -> pa.Table:
        """Return catalogue columns of the objects in a region that meet a condition."""
        corners = self.limits.max_corners
        return run_query(self.archive, request, max_rows=max_rows, max_corners=corners)

    def query_contexts(
        self, request: QueryRequest, contexts: Sequence[str], *, max_rows: int | None = None
    ) -> pa.Table:
        """Return catalogue columns of the objects of several contexts, context after context."""
        corners = self.limits.max_corners
        return query_contexts(
            self.archive, request, contexts, max_rows=max_rows, max_corners=corners
        )

    def match(self, request: MatchRequest, *, max_rows: int | None = None) -> pa.Table:
        """Return the objects of a catalogue near each of many positions, and how far off."""
        return run_match(self.archive, request, max_rows=max_rows, go_on=self.go_on)

    def resolve(
        self,
        ids: str | Sequence[Identifier],
        context: str,
        *,
        missing: str = "error",
        vectors: Sequence[str] | None = None,
    ) -> Selection:
        """Find the spectra that identifiers name: `select.select`.

        Parameters
        ----------
        missing : ``skip`` leaves out spectra that are not found or damaged; else they are an error
        """
        if missing not in {"error", "skip"}:
            raise BadParameter("missing", missing, "'error' or 'skip'")
        return select(
            self.archive,
            ids,
            context,
            skip_missing=missing == "skip",
            vectors=vectors,
            limits=self.limits,
        )

    def read(
        self,
        selection: Selection,
        vectors: Sequence[str] | None = None,
        cutout: tuple[float, float] | None = None,
        medium: str | None = None,
    ) -> Iterator[npt.NDArray[Any]]:
        """Return an iterator over the record of each spectrum, 1D[npix] structured.

        Parameters
        ----------
        medium : medium of the wavelengths; None: as published

        Raises
        ------
        BadParameter
            At once: the medium of a spectrum is to be changed and not known.
        """
        batches = read_records(selection, lambda survey: wanted_vectors(survey, vectors), cutout)
        records = chain.from_iterable(while_wanted(batches, self.go_on))
        if medium is None:
            return records
        changes = changes_to(selection, medium)
        return (
            changed_axis(record, selection.survey_of(index).grid, change)
            for index, (record, change) in enumerate(zip(records, changes, strict=True))
        )

    def read_aligned(
        self,
        selection: Selection,
        vectors: Sequence[str] | None = None,
        cutout: tuple[float, float] | None = None,
        window: PixelRange | None = None,
    ) -> tuple[PixelRange, np.dtype[Any], Iterator[npt.NDArray[Any]]]:
        """Return the common window, the record type, and blocks of spectra, 2D[n, npix] structured.

        The shift is whole pixels of the lattice; outside a spectrum's own pixels all is zero.
        """
        require_alignable(selection)
        wanted = vectors_of(selection, vectors)
        covered = window or cut_span(selection, *cut_pixels(selection, cutout, wanted))
        blocks = read_blocks(selection, wanted, cutout, covered)
        return covered, record_dtype(wanted), while_wanted(blocks, self.go_on)

    def preview(self, selection: Selection, *, dark: bool) -> bytes:
        """Return a PNG of the one spectrum of a selection."""
        return pictures.preview(selection, self.go_on, dark=dark)

    def plot_grid(
        self,
        selection: Selection,
        page: pictures.GridPage,
        *,
        align: bool,
        dark: bool,
        max_pixels: int,
    ) -> bytes:
        """Return a PNG of one page of a list: `pictures.plot_grid`."""
        return pictures.plot_grid(
            selection, page, self.go_on, align=align, dark=dark, max_pixels=max_pixels
        )

    def stacked_png(
        self, selection: Selection, look: ImageLook, *, align: bool, max_pixels: int
    ) -> bytes:
        """Return a PNG with a spectrum in each row: `pictures.stacked_png`."""
        return pictures.stacked_png(selection, look, self.go_on, align=align, max_pixels=max_pixels)

    def stacked_flux(self, selection: Selection, *, align: bool, yflip: bool) -> pictures.FluxRows:
        """Return fluxes as an array, read in blocks: `pictures.stacked_flux`."""
        return pictures.stacked_flux(selection, self.go_on, align=align, yflip=yflip)

    def composite(
        self, selection: Selection, request: StackRequest, limits: StackLimits
    ) -> Stacking:
        """Return a composite in the making; iterated over, it is made while it is wanted."""
        return Stacking(selection, request, limits, self.go_on)

    def stream(self, selection: Selection, request: StreamRequest) -> SpectrumStream:
        """Return spectra as they travel, in batches that are read one by one: `open_stream`."""
        return open_stream(selection, request, self.go_on, self.limits.max_pixels)

    def files(self, selection: Selection, *, rebuilt: bool = False) -> Iterator[SpectrumFile]:
        """Return FITS files one by one: `original_files`, or `rebuilt_files` from the store."""
        files = rebuilt_files(selection) if rebuilt else original_files(selection)
        return while_wanted(files, self.go_on)

    def columns(self, selection: Selection, names: Sequence[str]) -> pa.Table:
        """Return catalogue columns of the spectra, a row a spectrum: `read_columns`."""
        return read_columns(selection, names, np.arange(selection.nspec))
