"""The bulk dialect: JSON in, Arrow streams out, as docs/wire.md says."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Final, Literal

import pyarrow as pa
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ...catalog.deadline import Deadline
from ...errors import BadParameter
from ...formats.arrow import SpectrumStream
from ...formats.files import FileStream
from ...model.region import cone, polygon
from ...service import QueryRequest
from ...service.originals import with_originals
from ...service.query import check_corners
from ...service.stream import StreamRequest
from ...wire.head import FilesHead
from ...wire.media_types import ARROW
from ..dependencies import ServerSettings, Service
from ..direct import DirectRoute
from ..openapi import MediumField, ProfileField, negotiated
from ..parameters import SelectionRequest
from ..runtime.error_responses import USUAL_ERRORS, error_responses
from ..runtime.responses import HEAVY, RouteResponder, query_cost

ORDER: Final = 0
router = APIRouter(prefix="/bulk", tags=["bulk"], route_class=DirectRoute)
_STREAM: Final = "An Arrow IPC stream, or a single spectrum in a form of its own (docs/wire.md)."
_TABLE: Final = "A table, by default as an Arrow IPC stream (docs/wire.md)."
_RESAMPLED: Final = 20
"""Spectra that are sent whole in the time in which one is resampled."""
_Names = Annotated[list[str], Field(max_length=1_000, fail_fast=True)]
"""Names of columns, vectors or contexts: a catalogue has some hundred columns."""


class SpectraRequest(SelectionRequest):
    """Request for spectra."""

    vectors: _Names | None = Field(None, examples=[["flux", "ivar"]])
    """Vectors that travel; null: all."""
    cutout: tuple[float, float] | None = Field(None, examples=[[6500.0, 7200.0]])
    """Vacuum Å; null: all pixels."""
    cut_own: bool = True
    """Whether spectra off the lattice are cut as well; if not, they come whole."""
    assume_medium: MediumField = None
    align: bool = False
    """Refuse spectra that share no lattice; the client shifts."""
    resample: bool = False
    """Lay all spectra on the lattice of the first survey, flux conserved; `cutout` is then in
    `medium`."""
    medium: Literal["vacuum", "air"] | None = None
    """Medium of the lattice of resampled spectra; null: vacuum."""
    columns: _Names = Field(default_factory=list, examples=[["z", "@redshift"]])
    """Catalogue columns to send along."""


class FilesRequest(SelectionRequest):
    """Request for FITS files, the original ones or files made from the store."""

    fits: Literal["original", "rebuilt"] = "original"
    """The release file as it is, or one made from the store."""


class CatalogRequest(BaseModel):
    """Query of a catalogue."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    cone: tuple[float, float, float] | None = Field(None, examples=[[180.0, 0.5, 5.0]])
    """Right ascension, declination, radius; ICRS degrees."""
    polygon: list[tuple[float, float]] | None = Field(None, fail_fast=True)
    """Corners, ICRS degrees, joined by great circles; not with `cone`."""
    constraint: str = Field("", examples=["z > 0.1 LIMIT 5"])
    """A SQL condition, which may end with `ORDER BY` and `LIMIT`."""
    fields: _Names = Field([], examples=[["ra", "z"]])
    """Columns; empty: the identifier."""
    catalog: str | None = None
    """A catalogue of the context; null: the one that `primary` selects. A value-added table is
    joined with the context's own: `specobj.z` is the column `z` of that."""
    primary: bool = True
    """Only the best spectrum of each object, else all."""
    count_others: bool = False
    """State in the stream's metadata `others` how many more rows there are that are not primary,
    where that is cheap to count; without `primary`, how many of the rows are not, where spectra
    can share an identifier."""
    context: str | Annotated[_Names, Field(min_length=1)] = Field("default", examples=["default"])
    """The release to search; `default` is the newest. A list: the rows of each in turn, with
    `context` and `id`."""
    profile: ProfileField = "default"
    timeout_s: float | None = Field(None, gt=0)
    """Give up after so many seconds."""


@router.post(
    "/spectra",
    summary="Fetch spectra in bulk",
    responses=negotiated(_STREAM, SpectrumStream, ARROW) | USUAL_ERRORS | error_responses(409),
    response_class=StreamingResponse,
)
def bulk_spectra(responder: RouteResponder, request: SpectraRequest, service: Service) -> Response:
    """Hand out spectra as the store's own compressed chunks."""
    service.check_profile(request.profile)
    selection = service.resolve(
        request.ids, request.context, missing=request.missing, vectors=request.vectors
    )
    selection = replace(selection, assume_medium=request.assume_medium)
    fields = ("vectors", "cutout", "cut_own", "columns", "align", "resample", "medium")
    asked = StreamRequest(**{name: getattr(request, name) for name in fields})
    make = partial(service.stream, selection, asked)
    cost = selection.nspec * (_RESAMPLED if request.resample else 1)
    kind = responder.accepted(SpectrumStream)
    if selection.nspec != 1 or selection.missing or selection.damaged or request.columns:
        kind = ARROW
    return responder.send(SpectrumStream, make, kind, nspec=selection.nspec, cost=cost)


@router.post(
    "/files",
    summary="Fetch FITS files in bulk",
    responses=negotiated(_STREAM, FileStream, ARROW) | USUAL_ERRORS | error_responses(410),
    response_class=StreamingResponse,
)
def bulk_files(responder: RouteResponder, request: FilesRequest, service: Service) -> Response:
    """Hand out the FITS files of spectra, one after the other."""
    service.check_profile(request.profile)
    rebuilt = request.fits == "rebuilt"
    selection = service.resolve(
        request.ids, request.context, missing=request.missing, vectors=None if rebuilt else []
    )
    if request.missing == "skip" and not rebuilt:
        selection = with_originals(selection)
    head = FilesHead(selection.nspec, tuple(selection.missing), tuple(selection.damaged))

    def make() -> FileStream:
        files = service.files(selection, rebuilt=rebuilt)
        return FileStream(head, selection.ids.dtype.str, files)

    return responder.send(FileStream, make, responder.accepted(FileStream), nspec=selection.nspec)


@router.post(
    "/query",
    summary="Query a catalogue in bulk",
    responses=negotiated(_TABLE, pa.Table, ARROW) | USUAL_ERRORS,
    response_class=StreamingResponse,
)
def bulk_query(
    responder: RouteResponder, request: CatalogRequest, service: Service, settings: ServerSettings
) -> Response:
    """Answer a query with catalogue columns."""
    service.check_profile(request.profile)
    if request.cone is not None and request.polygon is not None:
        raise BadParameter("polygon", "…", "give a cone or a polygon, not both")
    check_corners(len(request.polygon or ()), settings.max_polygon_corners)
    several = None if isinstance(request.context, str) else request.context
    asked = QueryRequest(
        context=request.context if isinstance(request.context, str) else request.context[0],
        region=cone(*request.cone) if request.cone is not None else None,
        constraint=request.constraint,
        fields=tuple(request.fields),
        catalog=request.catalog,
        primary=request.primary,
        count_others=request.count_others,
        timeout_s=min(request.timeout_s or settings.query_timeout_s, settings.query_timeout_s),
    )

    def make() -> pa.Table:
        wanted = asked
        if request.polygon is not None:
            check = Deadline.after(asked.timeout_s).check
            wanted = replace(asked, region=polygon(request.polygon, check))
        if several is not None:
            return service.query_contexts(wanted, several, max_rows=settings.max_rows)
        return service.query(wanted, max_rows=settings.max_rows)

    cost = query_cost(asked) if request.polygon is None else HEAVY
    return responder.send(pa.Table, make, responder.accepted(pa.Table), cost=cost)
