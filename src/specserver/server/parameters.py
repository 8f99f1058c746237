"""Parameters of the documented endpoints, and the parser of forms and JSON bodies."""

import json
import re
from collections.abc import Callable
from typing import Annotated, Final, NamedTuple, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import BadParameter
from ..model.lines import air_to_vacuum
from ..model.medium import AIR
from ..ops.media import read_medium
from ..wire.media_types import JSON
from .openapi import IDS, ContextField, IdsField, MissingField, ProfileField
from .runtime.bodies import read_fields

Asked = TypeVar("Asked", bound=BaseModel)
ABSENT: Final = ("", "None")
"""Values that the old client sends for a parameter that is not given."""
# Possessive quantifiers: one pass, however long a text that does not match is.
_NUMBER: Final = r"([0-9]++\.?+[0-9]*+(?:[eE]\+?+[0-9]++)?+)"
_CUTOUT: Final = re.compile(
    rf"\s*+[\[(]?+\s*+{_NUMBER}\s*+[-,]\s*+{_NUMBER}\s*+[\])]?+\s*+\Z", re.ASCII
)


class QueryParameters(BaseModel):
    """Parameters of ``GET /query``; others are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str = Field("", description=f"{IDS} Then their columns, in order, and `cond` is empty.")
    fields: str = Field("", examples=["ra,dec,z"])
    """Columns, with commas; empty: the identifier; `tuple`: its parts."""
    catalog: str = Field("", examples=["specobj"])
    """`<context>.<name>` or a name; empty: the context's own."""
    cond: str = Field("", examples=["z > 0.1 AND class = 'GALAXY' LIMIT 5"])
    """A SQL condition, which may begin with a call of `q3c_radial_query` or `q3c_poly_query` and
    end with `ORDER BY` and `LIMIT`."""
    context: ContextField = "default"
    profile: ProfileField = "default"
    primary: bool = Field(True, examples=[True])
    """Only the best spectrum of each object (`specobj`), else all."""
    timeout: float | None = Field(None, gt=0, examples=[60.0])
    """Give up after so many seconds."""


class SelectionRequest(BaseModel):
    """Selection of spectra in a request of the bulk dialect."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    ids: IdsField
    context: ContextField = "default"
    profile: ProfileField = "default"
    missing: MissingField = "error"


class SpectraForm(BaseModel):
    """The form of ``/getSpec`` and ``/listSpan``; other fields are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id_list: IdsField
    values: str = Field("all", examples=["flux,ivar"])
    """Vectors, with commas, or `all`."""
    cutout: str = Field("", examples=["6500-7200"])
    """Two vacuum wavelengths, Å."""
    format: str = Field("numpy", examples=["numpy"])
    """`numpy` (also what clients make of it: pandas, tables, Spectrum1D) or `FITS`."""
    align: bool = Field(False, examples=[True])
    """One 2-D array on the common lattice."""
    fits: str = Field("original", examples=["original"])
    """With `format=FITS`: the `original` file, or one `rebuilt` from the store."""
    medium: str = Field("", examples=[""])
    """Medium of wavelengths in unaligned arrays: `vacuum` or `air`; empty: as published."""
    w0: float = 0.0
    """First vacuum wavelength of aligned spectra, Å."""
    w1: float = 0.0
    """Last vacuum wavelength of aligned spectra, Å."""
    context: ContextField = "default"
    profile: ProfileField = "default"


class RequestBody(NamedTuple):
    """The body of a request."""

    content_type: str
    """Value of the header."""
    content: bytes


async def read_body(request: Request) -> RequestBody:
    """Return the body of a request."""
    return RequestBody(request.headers.get("content-type", ""), await request.body())


def form_reader(model: type[Asked], *media_types: str) -> Callable[..., Asked]:
    """Return a dependency that reads the fields of a request from its body.

    Parameters
    ----------
    media_types
        `FORM`, a URL-encoded form, in which a field sent several times is a list with commas; and
        `JSON`, an object, where the endpoint takes both.
    """

    def read(body: Annotated[RequestBody, Depends(read_body)]) -> Asked:
        media_type = body.content_type.partition(";")[0].strip().lower()
        is_json = media_type == JSON and JSON in media_types
        try:
            fields = json.loads(body.content) if is_json else read_fields(body.content)
            if not isinstance(fields, dict):
                raise ValueError("it is no object")  # noqa: TRY004,TRY301  told as all others
            return model.model_validate(fields)
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_context=False)) from error
        except (ValueError, RecursionError) as error:
            allowed = f"a URL-encoded form, or a JSON object ({error})"
            raise BadParameter("body", body.content[:40], allowed) from error

    return read


def read_names(listed: str) -> tuple[str, ...]:
    """Return names from a list with commas, as written by hand or printed by Python."""
    names = (name.strip(" '\"") for name in listed.strip(" []()").split(","))
    return tuple(name for name in names if name not in ABSENT)


def read_cutout(cutout: str) -> tuple[float, float] | None:
    """Parse a cutout such as ``6500-7200`` or ``(6500, 7200)``, vacuum Å."""
    if cutout in ABSENT:
        return None
    match = _CUTOUT.match(cutout)
    if match is None:
        allowed = "give two vacuum wavelengths in Å, the smaller first, as in '6500-7200'"
        raise BadParameter("cutout", cutout, allowed)
    return float(match[1]), float(match[2])


def read_wavelengths(form: SpectraForm) -> tuple[str | None, tuple[float, float] | None]:
    """Return the medium wanted, None for that of the survey, and the cutout in vacuum Å.

    Limits are in the medium wanted: vacuum, unless it is air.
    """
    medium = read_medium("medium", "" if form.medium in ABSENT else form.medium)
    limits_aa = read_cutout(form.cutout)
    if medium is not None and (form.align or form.format.strip().lower() == "fits"):
        allowed = "unaligned arrays; FITS files and aligned spectra come as they are"
        raise BadParameter("medium", form.medium, allowed)
    if medium == AIR and limits_aa is not None:
        low, high = (float(air_to_vacuum(end)) for end in limits_aa)
        limits_aa = low, high
    return medium, limits_aa
