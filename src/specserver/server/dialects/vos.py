"""Virtual storage: each user's own files on the server.

All need a token. Bodies travel in pieces both ways; a file comes into sight when it is whole.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, BinaryIO, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from ...data.root import DataRoot
from ...data.user_storage import Space, StorageDraft, StorageLimits, StoredFile
from ...errors import BadParameter
from ...wire.media_types import JSON, OCTETS
from ...wire.storage import SpaceEntry, SpaceListing, SpaceUsage
from ..dependencies import REFUSALS, ServerSettings, User
from ..openapi import answers
from ..runtime.error_responses import error_responses

_PIECE: Final = 2**20
_ENTRY: Final = {"name": "ids.txt", "is_folder": False, "nbytes": 21,
                 "modified": "2025-01-31T12:00:00+00:00"}  # fmt: skip
_LISTED: Final = answers(
    "What the folder holds, and the quota.",
    JSON,
    example={"path": "", "entries": [_ENTRY], "nbytes": 21, "nbytes_limit": 10 * 2**30,
             "nentries": 1, "nentries_limit": 100_000},
)  # fmt: skip
_FILE: Final = answers("The file.", OCTETS) | {
    304: {"description": "The file is still the one of If-None-Match."}
}
_KEPT: Final = answers("Kept.", JSON, status=201, example=_ENTRY | {"sha256": "9f86d081…"})
_BYTES: Final = {"type": "string", "format": "binary"}
_REMOVED: Final = answers("It is gone.", JSON, example={"name": "ids.txt"})

ORDER: Final = 6
router = APIRouter(
    prefix="/vos",
    tags=["storage"],
    responses=REFUSALS | error_responses(400, 422),
)


def get_space(request: Request, user: User, settings: ServerSettings) -> Space:
    """Return the space of the user who asks."""
    limits = StorageLimits(
        settings.vos_quota_bytes, settings.vos_max_entries, settings.vos_max_file_bytes
    )
    data: DataRoot = request.app.state.data
    return data.user_storage(user.user, limits)


UserSpace = Annotated[Space, Depends(get_space)]
Name = Annotated[
    str, Path(description="Such as `ids.txt` or `spectra/a.npy`.", examples=["ids.txt"])
]


@router.get("", summary="List a folder", responses=_LISTED | error_responses(404))
def list_folder(
    space: UserSpace,
    path: Annotated[str, Query(description="A folder; empty: the top.", examples=[""])] = "",
) -> JSONResponse:
    """List a folder, and state how much of the quota is used."""
    entries = tuple(_described(entry) for entry in space.entries(path))
    used, limits = space.usage(), space.limits
    usage = SpaceUsage(used.nbytes, limits.nbytes, used.nentries, limits.nentries)
    return JSONResponse(SpaceListing(path, entries, usage).to_json())


@router.get(
    "/{name:path}",
    summary="Get a file",
    responses=_FILE | error_responses(404),
    response_class=StreamingResponse,
)
def get_file(space: UserSpace, name: Name, request: Request) -> Response:
    """Return the bytes of a file; 304 without them while `If-None-Match` is still its ETag."""
    file, state = space.open(name)
    number, nbytes, modified_ns = state
    tag = f'"{number:x}-{modified_ns:x}-{nbytes:x}"'
    if request.headers.get("If-None-Match") == tag:
        file.close()
        return Response(status_code=304, headers={"ETag": tag})
    shown = quote(name.rpartition("/")[2])
    headers = {
        "Content-Length": str(nbytes),
        "ETag": tag,
        # A file of a user must not be shown as a page of this site.
        "Content-Disposition": f"attachment; filename*=UTF-8''{shown}",
        "Cache-Control": "private, no-cache",
    }
    pieces = _pieces(file, nbytes)
    return StreamingResponse(pieces, media_type=OCTETS, headers=headers)


@router.put(
    "/{name:path}",
    summary="Put a file, or make a folder",
    status_code=201,
    responses=_KEPT | error_responses(404, 411, 413),
    openapi_extra={"requestBody": {"content": {OCTETS: {"schema": _BYTES}}}},
)
async def put_file(space: UserSpace, name: Name, request: Request) -> Response:
    """Keep the body as a file, in place of one of that name; or make a folder, ``name/``."""
    length = request.headers.get("Content-Length", "0" if name.endswith("/") else "")
    if not length.isdecimal():
        body = {"code": "bad_parameter", "message": "state the body's length in Content-Length"}
        return JSONResponse(body, status_code=411)
    if name.endswith("/"):
        if int(length):
            raise BadParameter("name", name, "a name with a slash at its end makes a folder")
        await run_in_threadpool(space.make_folder, name)
        return JSONResponse({"name": name}, status_code=201)
    draft = await run_in_threadpool(space.draft, name, int(length))
    try:
        await _receive(request, draft)
        entry, sha256 = await run_in_threadpool(draft.commit)
    except ClientDisconnect:
        # The client has gone away: nothing is stored, and there is nothing to answer.
        return PlainTextResponse("cut off\n", status_code=400)
    finally:
        await run_in_threadpool(draft.discard)
    return JSONResponse(_described(entry).to_json() | {"sha256": sha256}, status_code=201)


@router.delete(
    "/{name:path}", summary="Remove a file or a folder", responses=_REMOVED | error_responses(404)
)
def remove_entry(
    space: UserSpace,
    name: Name,
    *,
    recursive: Annotated[
        bool, Query(description="Also a folder that holds something.", examples=[False])
    ] = False,
) -> JSONResponse:
    """Remove a file or a folder."""
    space.remove(name, recursive=recursive)
    return JSONResponse({"name": name})


async def _receive(request: Request, draft: StorageDraft) -> None:
    """Write a body to the disk in pieces, beside the event loop."""
    piece = bytearray()
    async for some in request.stream():
        piece += some
        if len(piece) >= _PIECE:
            await run_in_threadpool(draft.write, bytes(piece))
            piece.clear()
    await run_in_threadpool(draft.write, bytes(piece))


def _pieces(file: BinaryIO, nbytes: int) -> Iterator[bytes]:
    with file:
        while nbytes > 0 and (piece := file.read(min(_PIECE, nbytes))):
            nbytes -= len(piece)
            yield piece


def _described(entry: StoredFile) -> SpaceEntry:
    modified = datetime.fromtimestamp(entry.modified, UTC)
    return SpaceEntry(entry.name, entry.is_folder, entry.nbytes, modified)
