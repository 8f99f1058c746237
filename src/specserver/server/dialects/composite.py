"""The endpoint of composite spectra: identifiers in, one spectrum out."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Literal

from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from ...formats.composite import CompositeTable
from ...service.composite import Stacking, StackLimits, StackRequest
from ...wire.composite import COLUMNS, CompositeEnd, CompositeHead
from ...wire.media_types import ARROW
from ..dependencies import ServerSettings, Service
from ..openapi import MediumField, negotiated
from ..parameters import SelectionRequest
from ..runtime.error_responses import USUAL_ERRORS
from ..runtime.responses import HEAVY, LimitedRoute, RouteResponder

ORDER: Final = 3
router = APIRouter(prefix="/bulk", tags=["bulk"], route_class=LimitedRoute)

_BATCHES: Final = 4
"""Batches of spectra in one work slot: 512 take about as long as 128 do that are sent whole."""
_LIGHT_PIXELS: Final = 20_000
"""Pixels of a light composite: it takes milliseconds."""
_TOLD: Final = (
    "Columns wavelength (vacuum Å), flux, error, error_bootstrap, count. As Arrow: batches without"
    " rows state the progress; the last one has all rows."
)
_Pair = tuple[float, float]


class CompositeRequest(SelectionRequest):
    """Request for a composite spectrum."""

    frame: Literal["rest", "observed"] = "rest"
    """Frame of the composite's wavelengths."""
    method: Literal["mean", "median", "ivar"] = "mean"
    """`ivar`: the mean weighted by inverse variance."""
    norm: _Pair | None = None
    """Divide each spectrum by its level between these, Å of the frame."""
    sigma_clip: float | None = Field(None, gt=0, examples=[3.0])
    """Leave out values so many σ off the median."""
    maxiters: int = Field(3, ge=1, le=100)
    """Most rounds of leaving values out."""
    wave: _Pair | None = None
    """Ends of the composite, Å of the frame; null: all."""
    step: float | None = Field(None, ge=1e-6, le=0.1)
    """Step of log10 wavelength; null: the survey's lattice."""
    z: list[float | None] | None = Field(None, fail_fast=True)
    """A redshift for each spectrum, or one for all; null: the catalogue's."""
    assume_medium: MediumField = None


@router.post(
    "/stack",
    summary="Combine spectra into one",
    responses=negotiated(_TOLD, CompositeTable, ARROW) | USUAL_ERRORS,
    response_class=StreamingResponse,
)
def bulk_stack(
    responder: RouteResponder,
    asked: CompositeRequest,
    service: Service,
    settings: ServerSettings,
) -> Response:
    """Combine any number of spectra into one, with its errors."""
    service.check_profile(asked.profile)
    selection = service.resolve(asked.ids, asked.context, missing=asked.missing)
    how = asked.model_dump(exclude={"ids", "context", "profile", "missing"})
    wanted = StackRequest(**how)
    limits = StackLimits(
        settings.max_lattice_pixels, settings.stack_disk_bytes, settings.stack_disk_folder
    )

    def begin() -> Stacking:
        return service.composite(selection, wanted, limits)

    # What few spectra cost is known when they are laid out.
    begun = begin() if selection.nspec <= settings.light_spectra else None

    def make() -> CompositeTable:
        stacking = begun or begin()
        head = CompositeHead(
            context=selection.context_names,
            survey=selection.survey_names,
            nspec=selection.nspec,
            missing=selection.missing,
            damaged=selection.damaged,
            how={name: value for name, value in how.items() if name != "z"},
            medium=stacking.medium,
            weighted=stacking.weighted,
        )
        return composite_table(stacking, head)

    kind = responder.accepted(CompositeTable)
    cost = HEAVY if begun is not None and begun.npix > _LIGHT_PIXELS else None
    return responder.send(CompositeTable, make, kind, nspec=selection.nspec, cost=cost)


def composite_table(stacking: Stacking, head: CompositeHead) -> CompositeTable:
    """Return the composite that a stacking makes, with its description."""

    def finish() -> tuple[dict[str, Any], CompositeEnd]:
        result, made = stacking.result, stacking.result.stacked
        values = (result.wave, made.flux, made.error, made.error_bootstrap, made.count)
        end = CompositeEnd(result.nspec, result.unit, result.skipped)
        return dict(zip(COLUMNS, values, strict=True)), end

    return CompositeTable(head, _steps(stacking), finish)


def _steps(stacking: Stacking) -> Iterator[int]:
    """Yield how many spectra are done, each time that the work may pause."""
    steps = iter(stacking)
    while some := list(islice(steps, _BATCHES)):
        yield some[-1]
