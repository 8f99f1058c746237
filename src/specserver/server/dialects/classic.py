"""The documented endpoints, in the form that the predecessor's client uses.

``getSpec`` answers ``.npy`` files of structured arrays, format 1.0 without pickles: one spectrum as
a 1-D array, aligned spectra (also one) as one 2-D array ``(nspec, npix)``, and several unaligned
ones as one file after the other, to be read by repeated ``numpy.load`` from the stream. With
``format=FITS`` it answers the original file of one spectrum byte for byte, and a ZIP archive of
those of several; ``fits=rebuilt`` makes files from the store instead. ``w0`` and ``w1`` set the
span of aligned spectra, unless ``cutout`` does.

``None`` and the empty text stand for an absent parameter: the old client writes its defaults so.
"""

from collections.abc import Mapping
from dataclasses import asdict
from math import inf
from typing import Annotated, Any, Final
from urllib.parse import quote

import pyarrow as pa
from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from ... import __version__
from ...errors import BadParameter, TooMuch
from ...formats.files import FileArchive
from ...formats.npy import ArraySequence, BlockedArray
from ...formats.registry import media_type_of, write
from ...formats.text import Listing
from ...model.grid import Grid, PixelRange
from ...service import ContextInfo, QueryRequest, Selection, SpectroscopicService
from ...service.query import TUPLE
from ...service.service import PROFILES
from ...service.spectra import wave_span
from ...wire.media_types import CSV, FITS, FORM, GZIP, JSON, OCTETS, TEXT, ZIP
from ..dependencies import ServerSettings, Service
from ..openapi import ContextQuery, ListingFormat, ProfileQuery, answers, body_of, negotiated
from ..parameters import (
    ABSENT,
    QueryParameters,
    SpectraForm,
    form_reader,
    read_names,
    read_wavelengths,
)
from ..runtime.error_responses import USUAL_ERRORS, error_responses, message_for_visitors
from ..runtime.responses import LimitedRoute, Responder, RouteResponder, query_cost

ORDER: Final = 1
router = APIRouter(tags=["classic"], route_class=LimitedRoute)

_HELLO: Final = answers("A text that begins with `Hello World`.", TEXT)
_LISTED: Final = negotiated("A listing.", Listing, TEXT) | error_responses(400, 401, 404, 422)
_WINDOW_PIX: Final = 20_000  # four times the widest survey: a batch of such rows is 160 MB
_ARRAY_FORMATS: Final = ("numpy", "pandas", "table", "spectrum")  # the client converts the rest


@router.get("", summary="Greet", response_class=PlainTextResponse, responses=_HELLO)
@router.get("/", summary="Greet", response_class=PlainTextResponse, responses=_HELLO)
@router.get("/ping", summary="Greet", response_class=PlainTextResponse, responses=_HELLO)
async def ping() -> PlainTextResponse:
    """Say hello: the service is there."""
    return PlainTextResponse(f"Hello World, specserver {__version__} is here\n")


@router.get(
    "/available",
    summary="State what is served",
    response_class=Response,
    responses=negotiated("Spectra, and the contexts that hold them.", Listing, TEXT)
    | error_responses(400, 401, 422),
)
def available(service: Service, fmt: ListingFormat = "text") -> Response:
    """Return whether spectra are served, their number, the contexts and the damaged files.

    Contexts that cannot be opened are listed as unavailable, with the reason.
    """
    infos, errors = service.available()
    held = {info.name: info.nspec for info in infos if info.name == info.resolved}
    refused = [
        {"context": name, "reason": message_for_visitors(error)}
        for name, error in errors.items()
        if name != "default"
    ]
    # The reason is in the log only: it may name folders of this machine.
    faults = [
        {"context": damage.context, "file": damage.file} for damage in service.archive.damaged()
    ]
    details = {
        "available": True,
        "nspec": sum(held.values()),
        "contexts": list(held),
        "unavailable": refused,
        "damaged": faults,
    }
    columns = ["available", "nspec", "contexts"]
    row = ["true", sum(held.values()), " ".join(held)]
    if refused:
        columns.append("unavailable")
        row.append(" ".join(fault["context"] for fault in refused))
    if faults:
        columns.append("damaged")
        row.append(" ".join(fault["file"] for fault in faults))
    return _listing(fmt, Listing(details, columns, [row]))


@router.get("/contexts", summary="List contexts", response_class=Response, responses=_LISTED)
def contexts(
    service: Service,
    context: Annotated[
        str, Query(description="One context, all of it; empty: all.", examples=["default"])
    ] = "",
    fmt: ListingFormat = "text",
) -> Response:
    """List the contexts, which are releases; or describe one in full, as a JSON object."""
    if context in ABSENT:
        infos = service.contexts()
        details: Mapping[str, Any] = {info.name: _describe_context(service, info) for info in infos}
    else:
        infos = [service.archive.info(context)]
        details = _describe_context(service, infos[0])
        # The old client asks for a context as text, and parses what comes as JSON.
        fmt = "json" if fmt == "text" else fmt
    rows = [[info.name, info.survey, info.nspec, info.title] for info in infos]
    return _listing(fmt, Listing(details, ("context", "survey", "nspec", "title"), rows))


@router.get("/profiles", summary="List profiles", response_class=Response, responses=_LISTED)
def profiles(
    service: Service,
    profile: Annotated[
        str, Query(description="One profile; empty: all.", examples=["default"])
    ] = "",
    fmt: ListingFormat = "text",
) -> Response:
    """List the service profiles; or describe one in full, as a JSON object."""
    service.check_profile(_or_default(profile))
    is_named = profile not in ABSENT
    names = [profile] if is_named else list(PROFILES)
    described = {name: {"name": name, **PROFILES[name]} for name in names}
    details = described[profile] if is_named else described
    fmt = "json" if is_named and fmt == "text" else fmt
    rows = [[name, PROFILES[name]["description"]] for name in names]
    return _listing(fmt, Listing(details, ("profile", "description"), rows))


@router.get("/catalogs", summary="List catalogues", response_class=Response, responses=_LISTED)
def catalogs(
    service: Service,
    context: ContextQuery = "default",
    profile: ProfileQuery = "default",
    fmt: ListingFormat = "text",
) -> Response:
    """List the catalogues of a context, which `/query` takes."""
    service.check_profile(_or_default(profile))
    infos = service.archive.catalogs(_or_default(context))
    details = {info.name: asdict(info) for info in infos}
    rows = [[info.name, info.nrows, len(info.columns), info.summary] for info in infos]
    return _listing(fmt, Listing(details, ("catalog", "nrows", "ncolumns", "title"), rows))


@router.get(
    "/validate",
    summary="Check a name",
    response_class=PlainTextResponse,
    responses=answers("`OK`: there is one of that name.", TEXT)
    | error_responses(400, 401, 404, 422),
)
def validate(
    service: Service,
    what: Annotated[
        str,
        Query(
            description="Which kind of name.",
            examples=["context"],
            json_schema_extra={"enum": ["context", "profile"]},
        ),
    ],
    value: Annotated[str, Query(description="The name.", examples=["default"])],
) -> PlainTextResponse:
    """Check that a context or a profile exists."""
    if what == "context":
        service.archive.info(value)
    elif what == "profile":
        service.check_profile(value)
    else:
        raise BadParameter("what", what, "context or profile")
    # Not even a line end: the old client compares the body with 'OK'.
    return PlainTextResponse("OK")


@router.get(
    "/query",
    summary="Query a catalogue",
    response_class=StreamingResponse,
    responses=answers("A header line, then the rows.", CSV) | USUAL_ERRORS,
)
def query(
    responder: RouteResponder,
    service: Service,
    settings: ServerSettings,
    asked: Annotated[QueryParameters, Query()],
) -> Response:
    """Answer with columns of the objects that meet a condition, or of identifiers."""
    service.check_profile(_or_default(asked.profile))
    info = service.archive.info(_or_default(asked.context))
    if asked.id in ABSENT:
        request = QueryRequest(
            context=info.name,
            constraint=asked.cond.strip(),
            fields=read_names(asked.fields),
            catalog=_catalog(info, asked.catalog),
            primary=asked.primary,
            timeout_s=min(asked.timeout or settings.query_timeout_s, settings.query_timeout_s),
        )
        return responder.send(
            pa.Table,
            lambda: service.query(request, max_rows=settings.max_rows),
            CSV,
            cost=query_cost(request),
        )
    if asked.cond.strip() not in ABSENT:
        raise BadParameter("cond", asked.cond, "leave it empty when id is given")
    selection = service.resolve(asked.id, info.name)
    return responder.send(
        pa.Table, lambda: _look_up(service, selection, info, asked), CSV, cost=selection.nspec
    )


@router.post(
    "/listSpan",
    summary="Return the span of spectra",
    response_class=Response,
    responses=answers("Vacuum Å.", JSON, example={"w0": 3806.2, "w1": 9201.5}) | USUAL_ERRORS,
    openapi_extra=body_of(SpectraForm, FORM),
)
def list_span(
    service: Service, form: Annotated[SpectraForm, Depends(form_reader(SpectraForm, FORM))]
) -> JSONResponse:
    """Return the wavelengths of the first and the last pixel of a list of spectra."""
    service.check_profile(_or_default(form.profile))
    w0, w1 = wave_span(service.resolve(form.id_list, _or_default(form.context)))
    return JSONResponse({"w0": w0, "w1": w1})


@router.post(
    "/getSpec",
    summary="Fetch spectra",
    response_class=Response,
    responses=answers(
        "One or more NumPy files (octet-stream); with `format=FITS` a FITS file, as it is or"
        " compressed, and for several spectra a ZIP archive.",
        *(OCTETS, FITS, GZIP, ZIP),
    )
    | error_responses(400, 401, 404, 409, 410, 413, 422, 503),
    openapi_extra=body_of(SpectraForm, FORM),
)
def get_spec(
    responder: RouteResponder,
    service: Service,
    form: Annotated[SpectraForm, Depends(form_reader(SpectraForm, FORM))],
) -> Response:
    """Fetch spectra as NumPy arrays, or as FITS files."""
    service.check_profile(_or_default(form.profile))
    medium, limits_aa = read_wavelengths(form)
    names = read_names(form.values)
    as_file = form.format.strip().lower() == "fits"
    if as_file and (form.align or limits_aa is not None):
        raise BadParameter("format", form.format, "a FITS file comes whole: no align, no cutout")
    if not as_file:
        _check_format(form.format)
    vectors = None if not names or "all" in names else names
    selection = service.resolve(form.id_list, _or_default(form.context))
    if as_file:
        return _answer_files(responder, service, selection, form.fits)
    if not form.align:
        records = service.read(selection, vectors, limits_aa, medium)
        return responder.send(
            ArraySequence, lambda: ArraySequence(records), OCTETS, nspec=selection.nspec
        )
    wanted = _window(form, selection.grid) if limits_aa is None else None
    window, dtype, blocks = service.read_aligned(selection, vectors, limits_aa, wanted)
    array = BlockedArray(dtype, (selection.nspec, window.count), blocks)
    return responder.send(
        BlockedArray,
        lambda: array,
        OCTETS,
        nspec=selection.nspec,
        headers={"Content-Length": str(array.nbytes)},
    )


def _answer_files(
    responder: Responder, service: SpectroscopicService, selection: Selection, kind: str
) -> Response:
    """Return the FITS files of spectra, ``original`` or ``rebuilt``.

    A reader cannot separate concatenated FITS files, so several come as an archive.
    """
    if kind not in {"original", "rebuilt"}:
        raise BadParameter("fits", kind, "original or rebuilt")
    rebuilt = kind == "rebuilt"
    if selection.nspec != 1:
        headers = {"Content-Disposition": 'attachment; filename="spectra.zip"'}
        return responder.send(
            FileArchive,
            lambda: FileArchive(service.files(selection, rebuilt=rebuilt)),
            ZIP,
            nspec=selection.nspec,
            headers=headers,
        )
    file = next(service.files(selection, rebuilt=rebuilt))
    name = file.name.replace('"', "")
    # A header has no letters but those of Latin 1.
    shown = f'="{name}"' if name.isascii() else f"*=UTF-8''{quote(name)}"
    headers = {"Content-Disposition": f"attachment; filename{shown}"}
    media_type = GZIP if name.lower().endswith(".gz") else FITS
    return responder.answer(lambda: iter([file.data]), media_type, nspec=1, headers=headers)


def _or_default(name: str) -> str:
    return "default" if name in ABSENT else name


def _describe_context(service: SpectroscopicService, info: ContextInfo) -> dict[str, Any]:
    """Return a context as plain values."""
    # The old client reads id_main, catalog, redshift, and whether rest_frame is the text 'false';
    # its notebooks print type, and catalogs with their titles.
    is_private, titles = service.archive.describe(info)
    return {
        "name": info.name,
        "resolved": info.resolved,
        "description": info.title,
        "type": "private" if is_private else "public",
        "survey": info.survey,
        "nspec": info.nspec,
        "files": info.nfiles,
        **info.id_form.to_json(),
        "redshift": info.z_column,
        "catalog": info.catalog,
        "catalogs": titles,
        "reductions": list(info.reductions),
        "frame": info.frame,
        "rest_frame": "false",
        "lattice": info.grid.to_dict(),
    }


def _listing(fmt: str, listing: Listing) -> Response:
    """Answer a listing in the form asked for."""
    kind = media_type_of(Listing, fmt)
    return Response(b"".join(write(Listing, listing, kind)), media_type=kind)


def _catalog(info: ContextInfo, catalog: str) -> str | None:
    """Return the catalogue asked for, or None for the context's own."""
    if catalog in ABSENT:
        return None
    # The old client sends the usual catalogue of the context that it was set to, also when the
    # call names another context. That would answer from the wrong release.
    schema, _, table = catalog.rpartition(".")
    foreign = info.name != "default" and schema not in ("", info.name)
    return None if foreign and table == info.catalog.rpartition(".")[2] else catalog


def _look_up(
    service: SpectroscopicService,
    selection: Selection,
    info: ContextInfo,
    asked: QueryParameters,
) -> pa.Table:
    """Return columns of the spectra that ``id`` names, best of their object or not."""
    fields = read_names(asked.fields) or (info.id_column,)
    parts = info.id_form.parts
    columns = [column for name in fields for column in (parts if name == TUPLE else (name,))]
    return service.columns(selection, columns)


def _check_format(fmt: str) -> None:
    """Raise when an array is not what the client asked for."""
    if fmt not in ABSENT and not fmt.lower().startswith(_ARRAY_FORMATS):
        allowed = "numpy, pandas, tables, Spectrum1D, their collections, FITS"
        raise BadParameter("format", fmt, allowed)


def _window(form: SpectraForm, grid: Grid) -> PixelRange | None:
    """Return the pixels between ``w0`` and ``w1``, or None when they are not given."""
    if not (form.w0 > 0 and form.w1 > 0):
        return None
    if not form.w0 <= form.w1 < inf:
        raise BadParameter("w0, w1", f"{form.w0}, {form.w1}", "vacuum Å, the smaller first")
    window = PixelRange(round(grid.position(form.w0)), round(grid.position(form.w1)) + 1)
    if window.count > _WINDOW_PIX:
        raise TooMuch("pixels a spectrum", window.count, _WINDOW_PIX)
    return window
