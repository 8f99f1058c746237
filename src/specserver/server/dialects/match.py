"""The crossmatch endpoint: a table of positions in, the objects near them out."""

from typing import Annotated, Any, Final, Literal

import pyarrow as pa
from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ...formats.positions import Positions
from ...formats.registry import negotiate, read, readable_types
from ...service.match import MatchRequest
from ...wire.media_types import ARROW, CSV
from ..dependencies import ServerSettings, Service
from ..openapi import ContextField, ProfileField, negotiated
from ..parameters import RequestBody, read_body, read_names
from ..runtime.error_responses import USUAL_ERRORS
from ..runtime.responses import LimitedRoute, RouteResponder

ORDER: Final = 2
router = APIRouter(prefix="/bulk", tags=["bulk"], route_class=LimitedRoute)

_ARCSEC_DEG: Final = 1.0 / 3600.0
_TOLD: Final = (
    "`row` (of the body, from 0), the identifier, `separation` in arcsec, then `fields`; in the"
    " form that `Accept` names, else in that of the body."
)
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "A table with columns `ra` and `dec`, ICRS degrees; others are passed over."
        " Where a position is null or NaN, nothing is near it.",
        "content": {
            CSV: {"schema": {"type": "string"}, "example": "ra,dec\n180.0,0.5\n359.9,-89.0\n"},
        }
        | {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in readable_types(Positions)
            if media_type != CSV
        },
    }
}


class MatchParameters(BaseModel):
    """Parameters of a match."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    radius: float = Field(_ARCSEC_DEG, examples=[0.0002777777777777778])
    """Degrees, more than 0 and up to 1."""
    which: Literal["nearest", "all"] = Field("nearest", examples=["nearest"])
    """`nearest`: a row for each position, empty where nothing is near; `all`: a row for each
    pair."""
    fields: str = Field("", examples=["ra,dec,z"])
    """Columns of the catalogue, with commas."""
    catalog: str | None = None
    """A catalogue of the context; absent: the one that `primary` selects. A value-added table is
    joined with the context's own: `specobj.z` is the column `z` of that."""
    primary: bool = Field(True, examples=[True])
    """Only the best spectrum of each object, else all."""
    context: ContextField = "default"
    profile: ProfileField = "default"
    timeout_s: float | None = Field(None, gt=0, examples=[60.0])
    """Give up after so many seconds."""


@router.post(
    "/match",
    summary="Match positions with a catalogue",
    responses=negotiated(_TOLD, pa.Table, ARROW) | USUAL_ERRORS,
    response_class=StreamingResponse,
    openapi_extra=_BODY,
)
def bulk_match(
    responder: RouteResponder,
    body: Annotated[RequestBody, Depends(read_body)],
    service: Service,
    settings: ServerSettings,
    asked: Annotated[MatchParameters, Query()],
) -> Response:
    """Find the objects of a catalogue near each of up to a million positions."""
    service.check_profile(asked.profile)
    positions = read(Positions, body.content, body.content_type, settings.max_positions)
    wanted = MatchRequest(
        ra_deg=positions.ra_deg,
        dec_deg=positions.dec_deg,
        radius_deg=asked.radius,
        which=asked.which,
        fields=read_names(asked.fields),
        context=asked.context,
        catalog=asked.catalog,
        primary=asked.primary,
        timeout_s=min(asked.timeout_s or settings.query_timeout_s, settings.query_timeout_s),
    )
    # A position costs about what a small cone does.
    return responder.send(
        pa.Table,
        lambda: service.match(wanted, max_rows=settings.max_rows),
        responder.accepted(pa.Table, negotiate(pa.Table, body.content_type, ARROW)),
        cost=len(positions.ra_deg),
    )
