"""Dependencies of endpoints: the caller, the service as this caller may see it, the settings."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from anyio import from_thread, to_thread
from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from ..auth import ANONYMOUS, Caller, TokenBook
from ..catalog.deadline import Deadline
from ..errors import NotAllowed, NotAuthenticated
from ..service import SpectroscopicService
from ..service.limits import Limits
from ..settings import Settings
from ..wire.headers import TOKEN
from .runtime.error_responses import error_responses

REFUSALS: Final[dict[int | str, dict[str, Any]]] = error_responses(401, 403)
# Operations that need a token; for all others it is optional.
CLOSED_TAGS: Final = frozenset({"administration", "storage"})
_WHAT = "A token of this service: `specserver.<id>.<secret>`."
KEY = APIKeyHeader(name=TOKEN, scheme_name=TOKEN, description=_WHAT, auto_error=False)
BEARER = HTTPBearer(scheme_name="Bearer", description=_WHAT, auto_error=False)


async def get_caller(
    request: Request,
    key: Annotated[str | None, Security(KEY)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
) -> Caller:
    """Return the caller; raise `NotAuthenticated` for a token that is not known here."""
    caller = ANONYMOUS
    for token in (key, bearer.credentials if bearer is not None else None):
        # Only a token is looked up on disk, which needs a thread.
        if token and caller.is_anonymous:
            tokens: TokenBook = request.app.state.tokens
            caller = await to_thread.run_sync(tokens.caller, token, datetime.now(UTC))
    request.state.caller = caller
    return caller


Asking = Annotated[Caller, Depends(get_caller)]


async def get_user(caller: Asking) -> Caller:
    """Return the caller, who must have a token."""
    if caller.is_anonymous:
        raise NotAuthenticated("virtual storage is a space of your own, so it needs a token")
    return caller


async def get_administrator(caller: Asking, request: Request) -> Caller:
    """Return the caller, who must be an administrator."""
    if caller.is_anonymous:
        raise NotAuthenticated(f"{request.url.path} needs an administrator's token")
    if not caller.is_admin:
        raise NotAllowed(request.url.path)
    return caller


async def get_service(
    request: Request,
    key: Annotated[str | None, Security(KEY)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
) -> SpectroscopicService:
    """Return the service of the running application, as the caller may see it."""
    service: SpectroscopicService = request.app.state.service
    # Called as a function: as a dependency it would cost 10 µs of every request.
    caller = await get_caller(request, key, bearer)
    settings: Settings = request.app.state.settings
    limits = Limits(
        settings.max_ids,
        settings.max_polygon_corners,
        settings.max_lattice_pixels,
        Deadline.after(settings.query_timeout_s),
        getattr(request.state, "is_light", False),
    )
    # Work stops between two batches if the client has gone away.
    return service.seen_by(caller, from_thread.check_cancelled, limits)


async def get_settings(request: Request) -> Settings:
    """Return the settings of the running application."""
    settings: Settings = request.app.state.settings
    return settings


User = Annotated[Caller, Depends(get_user)]
Administrator = Annotated[Caller, Depends(get_administrator)]
Service = Annotated[SpectroscopicService, Depends(get_service)]
ServerSettings = Annotated[Settings, Depends(get_settings)]


def describe_security(schema: dict[str, Any]) -> None:
    """Say in an OpenAPI description where a token is optional."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            security = operation.get("security")
            if security and CLOSED_TAGS.isdisjoint(operation.get("tags", ())):
                if {} not in security:
                    security.append({})
                operation["responses"].setdefault("401", REFUSALS[401])
