"""The bulk dialect: JSON in, Arrow streams out, as docs/wire.md says."""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ..errors import BadParameter, TooMuch
from ..formats.arrow import MEDIA_TYPE, spectra_batch, spectra_schema, stream_batches, stream_table
from ..model.region import Cone, Polygon, cone, polygon
from ..service import CellBatch, QueryRequest, Selection, SpectroscopicService
from .deps import ServerSettings, Service

router = APIRouter(prefix="/bulk", tags=["bulk"])
_ARROW: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {}}, "description": "An Arrow IPC stream (docs/wire.md)."}
}
Position = tuple[float, float]


class SpectraRequest(BaseModel):
    """Which spectra, and what of them."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[str, Field(description="Identifiers, one a line.", examples=["(266,51602,13)"])]
    context: str = "default"
    profile: str = "default"
    vectors: list[str] | None = None
    cutout: tuple[float, float] | None = None
    align: bool = False
    columns: list[str] = []
    missing: Literal["error", "skip"] = "error"


class CatalogRequest(BaseModel):
    """Which objects, and what of them."""

    model_config = ConfigDict(extra="forbid")

    cone: tuple[float, float, float] | None = None
    polygon: list[Position] | None = None
    constraint: str = ""
    fields: list[str] = []
    catalog: str | None = None
    primary: bool = True
    context: str = "default"
    profile: str = "default"
    timeout_s: Annotated[float | None, Field(gt=0)] = None


@router.post("/spectra", responses=_ARROW, response_class=StreamingResponse)
def bulk_spectra(
    request: SpectraRequest, service: Service, settings: ServerSettings
) -> StreamingResponse:
    """Hand out spectra as the store's own compressed chunks."""
    service.check_profile(request.profile)
    selection = service.resolve(request.ids, request.context, missing=request.missing)
    if selection.nspec > settings.max_ids:
        raise TooMuch("spectra", selection.nspec, settings.max_ids)
    if request.align:
        selection.require_lattice()
    return StreamingResponse(_spectra(service, selection, request), media_type=MEDIA_TYPE)


def _spectra(
    service: SpectroscopicService, selection: Selection, request: SpectraRequest
) -> Iterator[bytes]:
    """Return the stream; what can fail for the caller's sake fails before its first byte."""
    described = service.describe(selection, request.vectors, request.cutout)
    batches = service.cells(selection, request.vectors, request.cutout, request.columns)
    first = next(batches, None)
    cells = list(first.cells) if first else list(described.stored)
    columns = first.columns.schema if first is not None and first.columns is not None else None
    dtype = selection.survey.id_column.dtype
    schema = spectra_schema(described.meta, dtype, cells, columns)
    some = chain([first], batches) if first is not None else iter(())
    return stream_batches(schema, (_batch(schema, one) for one in some))


def _batch(schema: Any, batch: CellBatch) -> Any:
    """Return a batch as an Arrow record batch."""
    arrays = {
        "id": batch.ids,
        "start": batch.start,
        "width": batch.width,
        "first": batch.first,
        "count": batch.count,
        "on_lattice": batch.on_lattice,
    }
    return spectra_batch(schema, arrays, batch.contexts, batch.cells, batch.columns)


@router.post("/query", responses=_ARROW, response_class=StreamingResponse)
def bulk_query(
    request: CatalogRequest, service: Service, settings: ServerSettings
) -> StreamingResponse:
    """Answer a query with catalogue columns."""
    service.check_profile(request.profile)
    table = service.query(
        QueryRequest(
            context=request.context,
            region=_region(request),
            constraint=request.constraint,
            fields=tuple(request.fields),
            catalog=request.catalog,
            primary=request.primary,
            timeout_s=min(request.timeout_s or settings.query_timeout_s, settings.query_timeout_s),
        )
    )
    return StreamingResponse(stream_table(table), media_type=MEDIA_TYPE)


def _region(request: CatalogRequest) -> Cone | Polygon | None:
    """Return the region of a request, or None for the whole sky."""
    if request.cone is not None and request.polygon is not None:
        raise BadParameter("polygon", "…", "give a cone or a polygon, not both")
    if request.cone is not None:
        return cone(*request.cone)
    return polygon(request.polygon) if request.polygon is not None else None
