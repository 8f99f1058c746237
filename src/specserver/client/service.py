"""Settings of a client (URL, token, context, profile), and the lists of its service."""

from typing import Any, Final

from ..errors import SpecServerError, UnknownContext, UnknownProfile
from ..model.ids import INNER_KEYS
from .session import HasSession, Session

_GREETING: Final = "hello world"


def isAlive(client: HasSession, svc_url: str | None = None, timeout: float = 2) -> bool:
    """Return whether a service answers at the URL within ``timeout`` seconds.

    Examples
    --------
    >>> spec.isAlive()
    True
    """
    url = client.session.root if svc_url is None else svc_url.rstrip("/")
    try:
        text = client.session.get_text(url, timeout_s=timeout, retry=False)
    except SpecServerError:
        return False
    return text.lstrip().lower().startswith(_GREETING)


def set_svc_url(client: HasSession, svc_url: str | None) -> None:
    """Set the root of the service, such as ``http://host:6998/spec``; None: the default.

    Examples
    --------
    >>> client = spec.getClient()
    >>> client.set_svc_url("http://host:6998/spec")
    >>> client.get_svc_url()
    'http://host:6998/spec'
    """
    client.session.chosen_url = svc_url


def get_svc_url(client: HasSession) -> str:
    """Return the root of the service.

    Examples
    --------
    >>> spec.get_svc_url()
    'http://.../spec'
    """
    return client.session.root


def set_token(client: HasSession, token: str | None) -> None:
    """Set the token of later calls; None follows ``SPECSERVER_TOKEN``, '' sends none.

    Examples
    --------
    >>> client = spec.getClient()
    >>> client.set_token("specserver.k3x.secret")
    >>> client
    <SpecClient of http://.../spec, as token specserver.k3x.…, context default>
    """
    client.session.chosen_token = token


def get_token(client: HasSession) -> str:
    """Return the token of calls that name none; empty for a visitor.

    Examples
    --------
    >>> client = spec.getClient()
    >>> client.set_token("specserver.k3x.secret")
    >>> client.get_token()
    'specserver.k3x.secret'
    """
    return client.session.token


def set_context(client: HasSession, context: str) -> str:
    """Set the context of later calls; return ``'OK'``.

    Raises
    ------
    UnknownContext
        The service has no such context; the message lists those it has.

    Examples
    --------
    >>> client = spec.getClient()
    >>> client.set_context("desi_dr1")
    'OK'
    """
    _require(client.session, "context", context, UnknownContext)
    client.session.context = context
    return "OK"


def get_context(client: HasSession) -> str:
    """Return the context of calls that name none.

    Examples
    --------
    >>> spec.get_context()
    'default'
    """
    return client.session.context


def list_contexts(client: HasSession, context: str | None = None, fmt: str = "text") -> Any:
    """Return the contexts of the service, or the description of one, a dict.

    ``id_main`` is the column of the identifiers, ``id_parts`` are the parts of their tuples.

    Parameters
    ----------
    context
        Name of one context; None lists all.
    fmt
        ``text`` or ``csv`` return text, which a notebook shows as a table; ``json`` returns
        a dict of the descriptions by name.

    Examples
    --------
    >>> list(spec.list_contexts(fmt="json"))
    ['default', 'desi_dr1', 'desi_dr1_exposures', 'sdss_dr17']
    """
    told = client.session.listing("contexts", {"context": context or ""}, fmt)
    if isinstance(told, dict):
        for described in [told] if context else told.values():
            for name in INNER_KEYS & described.keys():
                del described[name]
    return told


def set_profile(client: HasSession, profile: str) -> str:
    """Set the profile of later calls; return ``'OK'``.

    Raises
    ------
    UnknownProfile
        The service has no such profile; the message lists those it has.

    Examples
    --------
    >>> spec.getClient().set_profile("default")
    'OK'
    """
    _require(client.session, "profile", profile, UnknownProfile)
    client.session.profile = profile
    return "OK"


def get_profile(client: HasSession) -> str:
    """Return the profile of calls that name none.

    Examples
    --------
    >>> spec.get_profile()
    'default'
    """
    return client.session.profile


def list_profiles(client: HasSession, profile: str | None = None, fmt: str = "text") -> Any:
    """Return the profiles of the service, or one; ``fmt`` as in `list_contexts`.

    Examples
    --------
    >>> list(spec.list_profiles(fmt="json"))
    ['default']
    """
    return client.session.listing("profiles", {"profile": profile or ""}, fmt)


def catalogs(
    client: HasSession,
    context: str | None = "default",
    profile: str | None = "default",
    fmt: str = "text",
) -> Any:
    """Return the catalogues of a context; ``fmt`` as in `list_contexts`.

    Text has the number of columns of each; ``json`` the columns themselves, a list of dicts
    with name, dtype, unit and meaning: ``Table(catalogs(fmt='json')[name]['columns'])``.

    Examples
    --------
    >>> list(spec.catalogs(fmt="json"))
    ['sdss_dr17.specobj', 'sdss_dr17.specobjall']
    """
    return client.session.listing("catalogs", client.session.where(context, profile), fmt)


def _require(
    session: Session, what: str, name: str, error: type[UnknownContext] | type[UnknownProfile]
) -> None:
    """Refuse a context or profile that the service does not have."""
    asked = {"what": what, "value": name}
    if session.get_text(session.url("validate"), fields=asked).strip() != "OK":
        raise error(name, list(session.listing(f"{what}s", {})))
