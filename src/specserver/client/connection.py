"""Which service, context and profile a client works with."""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import BadParameter, SpecServerError, UnknownContext, UnknownProfile
from ..model.ids import USUAL_FORM, IdForm
from .storage import Spaces

if TYPE_CHECKING:
    from .session import Session

DEFAULT_URL: Final = "http://127.0.0.1:6998/spec"
URL_VARIABLE: Final = "SPECSERVER_URL"
TOKEN_VARIABLE: Final = "SPECSERVER_TOKEN"  # noqa: S105  # the name of a variable

_GREETING: Final = "hello world"
_FORMATS: Final = ("text", "json", "csv")


class Connection:
    """A service, with the context and the profile to ask it for.

    Making one contacts nothing: an unknown context shows at the first request.

    Parameters
    ----------
    context
        Data release to work with; ``default`` is the newest of the service.
    profile
        Service profile.
    svc_url
        Root of the service; None follows ``SPECSERVER_URL``, else the local default.
    """

    def __init__(
        self, context: str = "default", profile: str = "default", svc_url: str | None = None
    ) -> None:
        self._context = context
        self._profile = profile
        self._svc_url = svc_url
        self._token: str | None = None
        self._session: Session | None = None
        self._id_forms: dict[tuple[str, str], IdForm] = {}
        self._told_of_others: set[str] = set()
        """Contexts of which it was said that some spectra are left out as not primary."""
        self._told_of_repeated: set[str] = set()
        """Contexts of which it was said that an answer repeats identifiers."""

    def isAlive(self, svc_url: str | None = None, timeout: float = 2) -> bool:
        """Return whether a service answers at the URL within ``timeout`` seconds."""
        url = self.get_svc_url() if svc_url is None else svc_url.rstrip("/")
        try:
            text = self._http().get_text(url, timeout_s=timeout, retry=False)
        except SpecServerError:
            return False
        return text.lstrip().lower().startswith(_GREETING)

    def set_svc_url(self, svc_url: str | None) -> None:
        """Set the root of the service, such as ``http://host:6998/spec``; None: the default."""
        self._svc_url = svc_url

    @property
    def chosen_svc_url(self) -> str | None:
        """The root that was set, or None."""
        return self._svc_url

    def get_svc_url(self) -> str:
        """Return the root of the service."""
        return (self._svc_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")

    def set_token(self, token: str | None) -> None:
        """Set the token of later calls; None follows ``SPECSERVER_TOKEN``, '' sends none."""
        self._token = token

    @property
    def chosen_token(self) -> str | None:
        """The token that was set, or None."""
        return self._token

    def get_token(self) -> str:
        """Return the token of calls that name none; empty for a visitor."""
        return os.environ.get(TOKEN_VARIABLE, "") if self._token is None else self._token

    @property
    def vos(self) -> Spaces:
        """Virtual storage: the caller's own files on the server."""
        return Spaces(self._http, self._url)

    def set_context(self, context: str) -> None:
        """Set the context of later calls.

        Raises
        ------
        UnknownContext
            The service has no such context; the message lists those it has.
        """
        if not self._is_valid("context", context):
            raise UnknownContext(context, list(self.list_contexts(fmt="json")))
        self._context = context

    def get_context(self) -> str:
        """Return the context of calls that name none."""
        return self._context

    def list_contexts(self, context: str | None = None, fmt: str = "text") -> Any:
        """Return the contexts of the service, or what it says of one of them.

        Parameters
        ----------
        context
            Name of one context; None lists all.
        fmt
            ``text`` or ``csv`` return text; ``json`` returns Python objects.
        """
        return self._listing("contexts", {"context": context or ""}, fmt)

    def set_profile(self, profile: str) -> None:
        """Set the profile of later calls.

        Raises
        ------
        UnknownProfile
            The service has no such profile; the message lists those it has.
        """
        if not self._is_valid("profile", profile):
            raise UnknownProfile(profile, list(self.list_profiles(fmt="json")))
        self._profile = profile

    def get_profile(self) -> str:
        """Return the profile of calls that name none."""
        return self._profile

    def list_profiles(self, profile: str | None = None, fmt: str = "text") -> Any:
        """Return the profiles of the service, or what it says of one; ``fmt`` as elsewhere."""
        return self._listing("profiles", {"profile": profile or ""}, fmt)

    def catalogs(
        self, context: str | None = "default", profile: str | None = "default", fmt: str = "text"
    ) -> Any:
        """Return the catalogues of a context; ``fmt`` as in `list_contexts`."""
        return self._listing("catalogs", self._where(context, profile), fmt)

    def _http(self) -> "Session":
        """Return the connections to the service, made at the first request."""
        if self._session is None:
            # urllib3 sets warning filters when it is imported, so importing us must not import it.
            from .session import Session

            self._session = Session(self.get_token)
        return self._session

    def _url(self, path: str) -> str:
        """Return the URL of an endpoint."""
        return f"{self.get_svc_url()}/{path}"

    def _where(self, context: str | None, profile: str | None) -> dict[str, str]:
        """Return context and profile of a call."""
        return {"context": context or self._context, "profile": profile or self._profile}

    def _id_form(self, context: str) -> IdForm:
        """Return what identifiers of a context look like; asked for once."""
        key = (self.get_svc_url(), context)
        if key not in self._id_forms:
            self._id_forms[key] = form_told(self.list_contexts(context, fmt="json"))
        return self._id_forms[key]

    def _id_column(self, context: str) -> str:
        """Return the name of a context's identifier."""
        return self._id_form(context).column

    def _is_valid(self, what: str, value: str) -> bool:
        """Ask the service whether it has a context or profile; its refusal comes as an error."""
        text = self._http().get_text(self._url("validate"), {"what": what, "value": value})
        return text.strip() == "OK"

    def _listing(self, path: str, fields: dict[str, str], fmt: str) -> Any:
        """Return one of the lists of the service."""
        form = fmt.lower()
        if form not in _FORMATS:
            raise BadParameter("fmt", fmt, ", ".join(_FORMATS))
        asked = {name: value for name, value in fields.items() if value} | {"format": form}
        text = self._http().get_text(self._url(path), asked)
        return json.loads(text) if form == "json" else text


def form_told(told: Mapping[str, Any]) -> IdForm:
    """Return the form of a context's identifiers from the description that the service gives."""
    return IdForm(
        str(told["id_main"]),
        tuple(told.get("id_parts") or USUAL_FORM.parts),
        int(told.get("id_texts", 1)),
        bool(told.get("id_reduction", True)),
        bool(told.get("id_open", False)),
        tuple(told.get("id_told_by") or ()),
    )
