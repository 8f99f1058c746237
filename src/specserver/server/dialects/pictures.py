"""The pictures among the documented endpoints: previews, grids of them, stacked images.

Requests are URL-encoded forms, as the old client sends them, or JSON objects of the same names.
``None`` and the empty text stand for an absent field: the old client writes its defaults so.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field, model_validator

from ...errors import BadParameter
from ...formats.npy import BlockedArray
from ...model.id_tuple import shortened
from ...render.png.stacked_image import AXES, ImageLook
from ...service import Selection, SpectroscopicService
from ...service.pictures import GridPage
from ...settings import Settings
from ...wire.headers import DAMAGED, MISSING, PAGE, LeftOut
from ...wire.media_types import FORM, JSON, OCTETS, PNG
from ..dependencies import ServerSettings, Service
from ..openapi import (
    AN_ID,
    IDS,
    ContextField,
    ContextQuery,
    IdsField,
    MissingField,
    ProfileField,
    ProfileQuery,
    answers,
    body_of,
)
from ..parameters import ABSENT, form_reader
from ..runtime.error_responses import USUAL_ERRORS, error_responses
from ..runtime.responses import HEAVY, LimitedRoute, Responder, RouteResponder

ORDER: Final = 4
router = APIRouter(tags=["pictures"], route_class=LimitedRoute)

_TOLD: Final = 5
"""Identifiers that a header names."""
_ABSENT: Final = (*ABSENT, None)
Handler = TypeVar("Handler", bound=Callable[..., Response])

_PICTURE: Final = answers("A PNG picture.", PNG) | USUAL_ERRORS
_GRID: Final = _PICTURE | error_responses(409)
_IMAGE: Final = _GRID | answers(
    "A PNG picture; with `fmt=numpy` an array of fluxes in NumPy's format.", PNG, OCTETS
)
# Beyond any limit on pictures; numbers without one would break the arithmetic of their sizes.
_MOST: Final = 2**31 - 1
Count = Annotated[int, Field(le=_MOST)]
Factor = Annotated[float, Field(le=_MOST)]
Dark = Annotated[bool, Field(description="Light on dark.")]


class PictureRequest(BaseModel):
    """Fields of every request for a picture; others are ignored."""

    context: ContextField = "default"
    profile: ProfileField = "default"
    missing: MissingField = "error"

    @model_validator(mode="before")
    @classmethod
    def _leave_out_absent(cls, fields: Any) -> Any:
        """Give fields their defaults where the old client says that they are absent."""
        return {name: value for name, value in fields.items() if value not in _ABSENT}


class PreviewRequest(PictureRequest):
    """Request for previews."""

    id: IdsField = ""
    id_list: Annotated[str, Field(description="Another name of `id`.")] = ""
    dark: Dark = False

    @model_validator(mode="after")
    def _some(self) -> "PreviewRequest":
        if not (self.id or self.id_list):
            raise ValueError("id or id_list is missing")
        return self


class GridRequest(PictureRequest):
    """Request for a grid of previews."""

    id_list: IdsField
    nx: Annotated[
        Count | None, Field(description="Columns; by default as many as needed.", examples=[1])
    ] = None
    ny: Annotated[
        Count | None, Field(description="Rows; by default as many as needed.", examples=[1])
    ] = None
    # The old client sends its ny under this name, and nx not at all.
    ncols: Annotated[
        Count | None, Field(description="The old client's name of `ny`, the rows.")
    ] = None
    page: Annotated[
        Count, Field(description="Page of a list that is longer than the grid, or the last one.")
    ] = 0
    align: Annotated[bool, Field(description="The same wavelengths in all plots.")] = False
    dark: Dark = False


class ImageRequest(PictureRequest):
    """Request for a stacked image."""

    id_list: IdsField
    fmt: Annotated[str, Field(description="`png`, or `numpy` for an array of fluxes.")] = "png"
    align: Annotated[bool, Field(description="On the common wavelength lattice.")] = False
    yflip: Annotated[bool, Field(description="The first spectrum at the top.")] = False
    xscale: Annotated[
        Factor | None, Field(description="Pixels of the picture for one of a row.")
    ] = None
    yscale: Annotated[Factor | None, Field(description="Pixels of the picture for one row.")] = None
    thickness: Annotated[
        Count | None, Field(description="Rows of pixels for one spectrum.", examples=[1])
    ] = None
    common: Annotated[
        bool, Field(description="One scale of brightness; else each row has its own.")
    ] = False
    axes: Annotated[
        str, Field(description=f"Axes to draw: some of {', '.join(AXES)}, with commas.")
    ] = ""
    inverse: Annotated[bool, Field(description="Bright as dark.")] = False
    cmap: Annotated[str, Field(description="A colour map of matplotlib.")] = "gray"
    width: Annotated[Count, Field(description="Pixels; 0 to compute it.")] = 0
    height: Annotated[Count, Field(description="Pixels; 0 to compute it.")] = 0


def _drawing(
    path: str, summary: str, asked: type[PictureRequest], responses: dict[int | str, dict[str, Any]]
) -> Callable[[Handler], Handler]:
    """Return the decorator of a function that answers requests for a picture by POST."""
    return router.post(
        path,
        summary=summary,
        responses=responses,
        response_class=Response,
        openapi_extra=body_of(asked, FORM, JSON),
    )


@router.get("/preview", summary="Draw a preview", responses=_PICTURE, response_class=Response)
def get_preview(
    responder: RouteResponder,
    service: Service,
    settings: ServerSettings,
    spectrum: Annotated[str, Query(alias="id", description=IDS, examples=[AN_ID])],
    context: ContextQuery = "default",
    profile: ProfileQuery = "default",
    dark: Annotated[bool, Query(description="Light on dark.", examples=[False])] = False,
) -> Response:
    """Draw a preview of one spectrum."""
    asked = PreviewRequest(id=spectrum or "[]", dark=dark, context=context, profile=profile)
    return _preview(responder, service, settings, asked)


@_drawing("/preview", "Draw previews", PreviewRequest, _PICTURE)
def post_preview(
    responder: RouteResponder,
    service: Service,
    settings: ServerSettings,
    asked: Annotated[PreviewRequest, Depends(form_reader(PreviewRequest, FORM, JSON))],
) -> Response:
    """Draw a preview of one spectrum, or of some, one below the other."""
    return _preview(responder, service, settings, asked)


def _preview(
    responder: Responder, service: SpectroscopicService, settings: Settings, asked: PreviewRequest
) -> Response:
    """Answer with one preview, or with a column of them."""
    selection = _select(service, asked, asked.id or asked.id_list)
    if selection.nspec <= 1:
        draw = partial(service.preview, selection, dark=asked.dark)
    else:
        page = GridPage(1, selection.nspec)
        limit = settings.max_image_pixels
        draw = partial(
            service.plot_grid, selection, page, align=False, dark=asked.dark, max_pixels=limit
        )
    headers = _left_out(selection)
    return responder.answer(lambda: iter([draw()]), PNG, nspec=selection.nspec, headers=headers)


@_drawing("/plotGrid", "Draw a grid of previews", GridRequest, _GRID)
@_drawing("/gridPlot", "Draw a grid of previews", GridRequest, _GRID)
def post_grid(
    responder: RouteResponder,
    service: Service,
    settings: ServerSettings,
    asked: Annotated[GridRequest, Depends(form_reader(GridRequest, FORM, JSON))],
) -> Response:
    """Draw one page of previews, from left to right and then downwards."""
    selection = _select(service, asked, asked.id_list)
    page = _page(asked, selection.nspec)
    beyond = {} if page.page == asked.page else {PAGE: str(page.page)}
    draw = partial(
        service.plot_grid,
        selection,
        page,
        align=asked.align,
        dark=asked.dark,
        max_pixels=settings.max_image_pixels,
    )
    shown = min(selection.nspec, page.nx * page.ny)
    headers = beyond | _left_out(selection)
    return responder.answer(lambda: iter([draw()]), PNG, nspec=shown, headers=headers)


def _page(asked: GridRequest, nspec: int) -> GridPage:
    """Return the page asked for, or the last one; rows or columns that are not given hold all."""
    nx, ny = asked.nx, asked.ny if asked.ny is not None else asked.ncols
    for name, value in (("nx", nx), ("ny", ny)):
        if value is not None and value < 1:
            raise BadParameter(name, value, "1 or more plots in each direction")
    if nx is None and ny is None:
        raise BadParameter("nx", None, "give nx, the columns, or ny, the rows, or both")
    columns = nx or max(1, -(-nspec // (ny or 1)))
    rows = ny or max(1, -(-nspec // columns))
    return GridPage(columns, rows, asked.page).within(nspec)


@_drawing("/stackedImage", "Draw spectra as the rows of an image", ImageRequest, _IMAGE)
def post_image(
    responder: RouteResponder,
    service: Service,
    settings: ServerSettings,
    asked: Annotated[ImageRequest, Depends(form_reader(ImageRequest, FORM, JSON))],
) -> Response:
    """Draw an image in which each row is a spectrum, the first at the bottom."""
    form = asked.fmt.strip().lower()
    if form not in {"png", "raw", "numpy"}:
        raise BadParameter("fmt", asked.fmt, "png, raw (the bytes of a PNG) or numpy")
    look = ImageLook(
        asked.yflip, (asked.xscale, asked.yscale), asked.thickness, asked.inverse, asked.cmap,
        asked.width, asked.height, asked.common, tuple(filter(None, asked.axes.split(","))),
    )  # fmt: skip
    selection = _select(service, asked, asked.id_list)
    if form != "numpy":
        limit = settings.max_image_pixels
        draw = partial(service.stacked_png, selection, look, align=asked.align, max_pixels=limit)
        cost = HEAVY if look.is_sized else selection.nspec
        return responder.answer(
            lambda: iter([draw()]), PNG, nspec=selection.nspec, cost=cost,
            headers=_left_out(selection),
        )  # fmt: skip
    if look != ImageLook(yflip=asked.yflip, common=asked.common):
        allowed = "fluxes come as they are: no size, scale, thickness, inverse, cmap or axes"
        raise BadParameter("fmt", asked.fmt, allowed)
    rows = service.stacked_flux(selection, align=asked.align, yflip=asked.yflip)
    array = BlockedArray(rows.dtype, rows.shape, rows.blocks)
    headers = {"Content-Length": str(array.nbytes), **_left_out(selection)}
    return responder.send(
        BlockedArray, lambda: array, OCTETS, nspec=selection.nspec, headers=headers
    )


def _left_out(selection: Selection) -> dict[str, str]:
    """Return the headers that state what a picture does not show: a number, and some of them."""
    gone = [spectrum for spectrum in selection.missing if spectrum not in set(selection.damaged)]
    headers = {}
    for name, ids in ((MISSING, gone), (DAMAGED, selection.damaged)):
        if ids:
            headers[name] = LeftOut(len(ids), tuple(map(shortened, ids[:_TOLD]))).to_header()
    return headers


def _select(service: SpectroscopicService, asked: PictureRequest, ids: str) -> Selection:
    """Return the spectra of a request."""
    service.check_profile(asked.profile)
    return service.resolve(ids, asked.context, missing=asked.missing)
