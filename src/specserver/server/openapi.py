"""OpenAPI descriptions of parameters, bodies and answers that dialects share.

Nothing here reads a request.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from fastapi import Query
from pydantic import BaseModel, Field

from ..formats.registry import media_types, names
from ..formats.text import Listing
from ..wire.media_types import JSON

Responses: TypeAlias = dict[int | str, dict[str, Any]]


IDS: Final = (
    "Identifiers: numbers or tuples such as (1963,54331,19), one a line or with commas; `context:`"
    " before one says its context."
)
AN_ID: Final = "(266,51602,14)"
CONTEXT: Final = "The release to search; `default` is the newest."
PROFILE: Final = "The service profile."
MISSING: Final = (
    "Treatment of an identifier that is not found: `error`, a 404 that names it, or `skip`;"
    " and of a damaged spectrum, a 500 that names it."
)

IdsField = Annotated[str, Field(description=IDS, examples=[AN_ID])]
MissingField = Annotated[Literal["error", "skip"], Field(description=MISSING)]
MediumField = Annotated[
    Literal["vacuum", "air"] | None,
    Field(description="Medium assumed for spectra whose medium is not known."),
]
ContextField = Annotated[str, Field(description=CONTEXT, examples=["default"])]
ProfileField = Annotated[str, Field(description=PROFILE, examples=["default"])]
ContextQuery = Annotated[str, Query(description=CONTEXT, examples=["default"])]
ProfileQuery = Annotated[str, Query(description=PROFILE, examples=["default"])]
ListingFormat = Annotated[
    str,
    Query(
        alias="format",
        description="The form of the answer.",
        examples=["json"],
        # Another value is answered with 400 and a message of the service, so the type is `str`.
        json_schema_extra={"enum": names(Listing)},
    ),
]


def answers(description: str, *kinds: str, status: int = 200, example: Any = None) -> Responses:
    """Return the description of the answer to a valid request, in one of some media types.

    ``example`` is one of the JSON among them.
    """
    return {status: {"description": description, "content": {k: _of(k, example) for k in kinds}}}


def negotiated(description: str, structure: type, default: str) -> Responses:
    """Return the description of a structure as answer, in any of its media types."""
    return answers(description, *media_types(structure, default))


def _of(kind: str, example: Any) -> dict[str, Any]:
    """Return the description of one media type."""
    if kind == JSON:
        return {"schema": {"type": "object"}} | ({} if example is None else {"example": example})
    if kind.startswith("text/"):
        return {"schema": {"type": "string"}}
    return {"schema": {"type": "string", "format": "binary"}}


def body_of(model: type[BaseModel], *kinds: str) -> dict[str, Any]:
    """Return the description of a body that a dialect reads by itself."""
    content = {kind: {"schema": model.model_json_schema()} for kind in kinds}
    return {"requestBody": {"required": True, "content": content}}
