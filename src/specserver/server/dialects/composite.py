"""The endpoint of composite spectra: identifiers in, one spectrum out."""

import csv
import json
from collections.abc import Iterator, Mapping
from io import StringIO
from itertools import islice
from typing import Annotated, Any, Final, Literal

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ...formats.arrow import Outbox, telling
from ...service.composite import Composite, ScratchLimits, Stacking, StackRequest
from ...wire.head import to_metadata
from ...wire.media_types import ARROW, CSV, JSON
from ..dependencies import ServerSettings, Service
from ..openapi import AN_ID, IDS, MISSING, ContextField, ProfileField, answers
from ..runtime.error_responses import error_responses
from ..runtime.responses import LimitedRoute, RouteResponder

ORDER: Final = 3
router = APIRouter(prefix="/bulk", tags=["bulk"], route_class=LimitedRoute)

_BATCHES: Final = 4
"""Batches of spectra in one turn: 512 take about as long as 128 do that are sent whole."""
_COLUMNS: Final = ("wavelength", "flux", "error", "error_bootstrap", "count")
_TOLD: Final = (
    "Columns wavelength (vacuum Å), flux, error, error_bootstrap, count. As Arrow: batches without"
    " rows tell the progress, the last one has all rows."
)
_Pair = tuple[float, float]


class CompositeRequest(BaseModel):
    """Which spectra, and how they are combined."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[str, Field(description=IDS, examples=[AN_ID])]
    context: ContextField = "default"
    profile: ProfileField = "default"
    frame: Annotated[
        Literal["rest", "observed"], Field(description="Whose wavelengths the composite has.")
    ] = "rest"
    method: Annotated[
        Literal["mean", "median", "ivar"],
        Field(description="`ivar`: the mean weighted by inverse variance."),
    ] = "mean"
    norm: Annotated[
        _Pair | None,
        Field(description="Divide each spectrum by its level between these, Å of the frame."),
    ] = None
    sigma_clip: Annotated[
        float | None,
        Field(gt=0, description="Leave out values so many σ off the median.", examples=[3.0]),
    ] = None
    maxiters: Annotated[
        int, Field(ge=1, le=100, description="Times that values are left out, at most.")
    ] = 3
    wave: Annotated[
        _Pair | None, Field(description="Ends of the composite, Å of the frame; null: all.")
    ] = None
    step: Annotated[
        float | None,
        Field(ge=1e-6, le=0.1, description="Step of log10 wavelength; null: the survey's lattice."),
    ] = None
    z: Annotated[
        list[float | None] | None,
        Field(
            fail_fast=True,
            description="A redshift for each spectrum, or one for all; null: the catalogue's.",
        ),
    ] = None
    assume_medium: Annotated[
        Literal["vacuum", "air"] | None,
        Field(description="What wavelengths are in of spectra of which it is not known."),
    ] = None
    missing: Annotated[Literal["error", "skip"], Field(description=MISSING)] = "error"


@router.post(
    "/stack",
    summary="Combine spectra into one",
    responses=answers(_TOLD, ARROW, JSON, CSV) | error_responses(400, 401, 404, 413, 422, 503),
    response_class=StreamingResponse,
)
def bulk_stack(
    responder: RouteResponder,
    request: Request,
    asked: CompositeRequest,
    service: Service,
    settings: ServerSettings,
) -> Response:
    """Combine any number of spectra into one, with its errors."""
    service.check_profile(asked.profile)
    selection = service.resolve(asked.ids, asked.context, missing=asked.missing)
    how = asked.model_dump(exclude={"ids", "context", "profile", "missing"})
    wanted = StackRequest(**how)
    limits = ScratchLimits(settings.stack_disk_bytes, settings.stack_disk_folder)
    kind = _answered_as(request.headers.get("accept", ""))
    about = {
        "version": 1,
        "context": selection.context,
        "survey": selection.survey.name,
        "nspec": selection.nspec,
        "missing": list(selection.missing),
        "damaged": list(selection.damaged),
        **{name: value for name, value in how.items() if name != "z"},
    }

    def make() -> Iterator[bytes]:
        stacking = service.composite(selection, wanted, limits)
        told = about | {"medium": stacking.medium, "weighted": stacking.weighted}
        if kind == ARROW:
            return _arrow_pieces(stacking, told)
        return _text_pieces(stacking, told, kind)

    return responder.answer(make, kind, nspec=selection.nspec)


def _answered_as(accept: str) -> str:
    """Return the media type of the answer: the first of ours that is accepted, else Arrow."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return next((kind for kind in kinds if kind in {ARROW, JSON, CSV}), ARROW)


def _turns(stacking: Stacking) -> Iterator[int]:
    """Yield how many spectra are done, at the end of each turn."""
    steps = iter(stacking)
    while some := list(islice(steps, _BATCHES)):
        yield some[-1]


def _arrow_pieces(stacking: Stacking, about: Mapping[str, Any]) -> Iterator[bytes]:
    """Return an Arrow stream: batches without rows as the work goes on, and then the composite."""
    kinds = [pa.float64()] * 4 + [pa.int64()]
    schema = pa.schema(list(zip(_COLUMNS, kinds, strict=True)), metadata=to_metadata(about))
    return telling(schema, _messages(stacking, schema))


def _messages(stacking: Stacking, schema: pa.Schema) -> Iterator[bytes]:
    """Yield the messages of the stream."""
    outbox = Outbox()
    with pa.ipc.new_stream(pa.PythonFile(outbox, "w"), schema) as writer:
        for done in _turns(stacking):
            writer.write_batch(_batch(schema, None), custom_metadata=to_metadata({"done": done}))
            yield outbox.take()
        result = stacking.result
        writer.write_batch(_batch(schema, result), custom_metadata=to_metadata(_summary(result)))
    yield outbox.take()


def _batch(schema: pa.Schema, result: Composite | None) -> pa.RecordBatch:
    """Return the composite as an Arrow record batch, or one without rows."""
    columns = _columns(result).values() if result is not None else [np.empty(0)] * len(schema)
    arrays = [pa.array(one, field.type) for one, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _columns(result: Composite) -> dict[str, Any]:
    """Return the columns of the answer, 1D[npix] each."""
    made = result.stacked
    values = (result.wave, made.flux, made.error, made.error_bootstrap, made.count)
    return dict(zip(_COLUMNS, values, strict=True))


def _summary(result: Composite) -> dict[str, Any]:
    """Return what is known at the end; 64-bit identifiers as text."""
    skipped = {
        reason: {"count": count, "ids": [str(one) for one in ids]}
        for reason, (count, ids) in result.skipped.items()
    }
    return {"nused": result.nspec, "unit": result.unit, "skipped": skipped}


def _text_pieces(stacking: Stacking, about: Mapping[str, Any], kind: str) -> Iterator[bytes]:
    """Yield nothing as the work goes on, and then the composite as JSON or CSV."""
    for _ in _turns(stacking):
        yield b""
    result = stacking.result
    columns = {name: _plain(values) for name, values in _columns(result).items()}
    if kind == JSON:
        yield json.dumps({"about": {**about, **_summary(result)}, **columns}).encode()
        return
    out = StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(zip(*columns.values(), strict=True))
    yield out.getvalue().encode()


def _plain(values: Any) -> list[float | int | None]:
    """Return values as JSON has them: NaN is none of its numbers."""
    plain: list[float | int | None] = [one if one == one else None for one in values.tolist()]  # noqa: PLR0124  NaN is what differs from itself
    return plain
