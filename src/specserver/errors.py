"""Every error that specserver raises.

A `CallerError` means that the request is wrong, a `ServiceError` that the service or its data are
not as they should be; all others are below these two. The ``code`` is sent to the client, which
makes an error of that class: names do not change.
"""

import copyreg
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import ClassVar, Final, Self

from typing_extensions import override

from .texts import joined, shown

_TOKEN: Final = "token=, set_token()"  # noqa: S105  # the names of what takes one
SKIP: Final = "missing='skip'"
SKIPPED: Final = f"{SKIP} returns the others"
RESAMPLE: Final = "getSpec with align='resample' (resample of POST /spec/bulk/spectra)"
"""The one request that aligns spectra of several lattices, for messages of errors."""


class SpecServerError(Exception):
    """Base of all errors raised by specserver."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str = "", *settings: str) -> None:
        super().__init__(message)
        self.settings = settings
        """Parameters that the message names, as it writes them: ``align='resample'``."""

    @override
    def __init_subclass__(cls) -> None:
        """Make the code of the name of the class: of `BadFile` it is ``bad_file``."""
        cls.code = re.sub(r"\B(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def message(self) -> str:
        """The message for people."""
        return str(self.args[0]) if self.args else self.code

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the message: it is no argument that the class takes."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]

    @classmethod
    def saying(cls, message: str, *settings: str) -> Self:
        """Return an error of this class with a message that is not made of its arguments."""
        error = cls.__new__(cls)
        SpecServerError.__init__(error, message, *settings)
        return error

    @staticmethod
    def from_wire(code: str, message: str, settings: Iterable[str] = ()) -> "SpecServerError":
        """Rebuild an error from its code and message; an unknown code becomes a ServiceError."""
        return _BY_CODE.get(code, ServiceError).saying(message, *settings)


class SpecServerWarning(UserWarning):
    """A warning of specserver; ``settings`` are those of `SpecServerError`."""

    settings: tuple[str, ...] = ()


class CallerError(SpecServerError):
    """The request is wrong; the message says how to mend it."""


class ServiceError(SpecServerError):
    """The request is right; the service or its data are not."""


@contextmanager
def naming(contexts: Sequence[str]) -> Iterator[None]:
    """Name contexts in every error that names none of them; without contexts, change nothing."""
    try:
        yield
    except UnknownContext:
        raise
    except SpecServerError as error:
        named = (re.search(rf"\b{re.escape(name)}\b", error.message) for name in contexts)
        if not contexts or any(named):
            raise
        raise error.saying(f"{', '.join(contexts)}: {error.message}", *error.settings) from error


class BadParameter(CallerError):
    """A value that the parameter does not accept."""

    def __init__(self, name: str, value: object, allowed: str, *settings: str) -> None:
        given = f"{name}={shown(value)}"
        super().__init__(f"{given} is not possible: {allowed}", given, *settings)


class BadArguments(CallerError, TypeError):
    """Arguments of a call that do not go together."""


class BadIdentifier(CallerError):
    """Text or object that names no spectrum."""

    def __init__(self, given: object, reason: str) -> None:
        super().__init__(f"cannot read {shown(given)} as a spectrum identifier: {reason}")


class NoIdentifier(BadIdentifier):
    """Rows of a list or a table, counted from 0, that have no identifier or no context."""

    def __init__(self, rows: Sequence[int], lacking: str = "identifier") -> None:
        some = ", ".join(map(str, rows[:10])) + (", …" if len(rows) > 10 else "")
        what = f"row {some} has" if len(rows) == 1 else f"rows {some} have"
        allowed = f"leave such rows out, or skip them with {SKIP}"
        CallerError.__init__(self, f"{what} no {lacking}: {allowed}", SKIP)


class BadRegion(CallerError):
    """An invalid cone or polygon."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not a region of the sky: {reason}")


class BadConstraint(CallerError):
    """A SQL condition outside the allowed grammar."""

    def __init__(self, constraint: str, reason: str) -> None:
        given = f"constraint {shown(constraint)}"
        super().__init__(f"{given} refused: {reason}", given)


class UnknownContext(CallerError):
    """No such context here."""

    def __init__(self, context: str, known: Sequence[str], where: str = "known here") -> None:
        super().__init__(f"unknown context {shown(context)}; {where}: {joined(known) or 'none'}")


class UnknownProfile(CallerError):
    """No such profile here."""

    def __init__(self, profile: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown profile {shown(profile)}; known here: {joined(known)}")


class UnknownCatalog(CallerError):
    """No such catalogue in the context."""

    def __init__(self, catalog: str, known: Sequence[str]) -> None:
        listed = joined(known) or "none"
        super().__init__(f"unknown catalogue {shown(catalog)}; known here: {listed}")


class NoCatalog(UnknownCatalog):
    """The context is served from a tree of files and has no catalogue of positions."""

    def __init__(self, context: str, known: Sequence[str]) -> None:
        others = f"name another with catalog= ({joined(known)})" if known else "there is no other"
        CallerError.__init__(
            self,
            f"{context} is served straight from original files and has no catalogue to query:"
            f" {others}; spectra are found by identifier, and the operator may ingest the files"
            " or attach a table with 'specserver catalog add'",
            "catalog=",
        )


class UnknownField(CallerError):
    """No such column or vector."""

    known: Sequence[str] = ()  # the known fields, if this process found the error

    def __init__(self, field: str, known: Sequence[str], near: Sequence[str] = ()) -> None:
        self.known = known
        near = near or get_close_matches(field.lower(), known)
        hint = f" (did you mean {joined(near)}?)" if near else ""
        super().__init__(f"unknown field {shown(field)}{hint}; known here: {joined(known)}")


class NotFound(CallerError):
    """Well-formed identifiers that no searched release holds."""

    def __init__(self, ids: Sequence[object], searched: Sequence[str], *fixes: str) -> None:
        where = f" in {joined(searched)}" if searched else ""
        text = "; ".join([f"no spectrum for {joined(ids, 10)}{where}", *fixes])
        super().__init__(text, *re.findall(r"missing='skip'|context='\w+'", "; ".join(fixes)))


class MixedLattices(CallerError):
    """Spectra that share no wavelength lattice."""

    def __init__(self, which: Sequence[object]) -> None:
        super().__init__(
            f"cannot align {joined(which, 10)}: they share no wavelength lattice; align=False keeps"
            f" each as it is, cut or whole; {RESAMPLE} lays them on one, conserving flux",
            *("align=False", RESAMPLE),
        )


class TooMuch(CallerError):
    """A request beyond a named limit."""

    def __init__(self, what: str, given: int | None, limit: int, setting: str = "") -> None:
        named = f" (the server's setting {setting})" if setting else ""
        many = "too many" if given is None else f"{given:,}"  # None: counting stopped there
        text = f"{many} {what} in one request; the limit is {limit:,}{named}: ask in parts"
        super().__init__(text, *re.findall(r"\b\w+=(?:'\w+')?", what))


class QueryTimeout(TooMuch):
    """A query that took longer than it was given."""

    def __init__(self, timeout_s: float) -> None:
        CallerError.__init__(
            self,
            f"the query took longer than {timeout_s:g} s: ask for a smaller region, or for longer"
            " with timeout= as far as the service allows (its setting query_timeout_s)",
            "timeout=",
        )


class BodyTooSlow(CallerError):
    """A body that stalls or arrives too slowly."""

    def __init__(self, limit_s: float, setting: str) -> None:
        said = f"the rest of the request's body did not come within {limit_s:g} s (the server's"
        super().__init__(f"{said} setting {setting}): send it again, or in parts")


class OldProtocol(CallerError):
    """An answer of unknown length was requested by HTTP/1.0."""

    def __init__(self, version: str) -> None:
        super().__init__(
            f"HTTP/{version} is not possible for an answer whose length is not known: one that"
            " breaks off would look whole; use HTTP/1.1 (behind nginx: proxy_http_version 1.1)"
        )


class NoSuchFile(CallerError):
    """No such name in the caller's virtual storage."""

    def __init__(self, name: str) -> None:
        text = f"there is no {shown(name)} in your space; vos.ls() lists what there is"
        super().__init__(text, "vos.ls()")


class QuotaExceeded(CallerError):
    """No room in the caller's virtual storage."""

    def __init__(self, what: str, given: int, limit: int) -> None:
        text = f"{given:,} {what} are more than the {limit:,} that your space may hold"
        super().__init__(f"{text}; make room with vos.rm(name)", "vos.rm(name)")


class UnknownHost(CallerError):
    """The Host header is not a name of the service."""

    def __init__(self, host: str) -> None:
        how = "its operator names the hosts it answers for with --allowed-host"
        super().__init__(f"this service does not answer for Host: {host[:100]!r}; {how}")


class NotAuthenticated(CallerError):
    """A token is missing, wrong or expired."""

    def __init__(self, reason: str) -> None:
        how = f"send a token with {_TOKEN} or SPECSERVER_TOKEN (header X-DL-AuthToken or"
        how += " Authorization: Bearer), made by the operator with 'specserver token create'"
        super().__init__(f"{reason}; {how}", _TOKEN)


class NotAllowed(CallerError):
    """The token does not cover the request."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} needs an administrator's token (header X-DL-AuthToken)")


class MissingPackage(ServiceError, ImportError):
    """A package that the base install does not bring, and this needs."""


class BadFile(ServiceError):
    """A file that cannot be ingested."""


class IngestError(ServiceError):
    """An ingest, an export or a migration that cannot continue."""


class CatalogError(ServiceError):
    """The catalogue cannot be read."""


class StoreError(ServiceError):
    """The store cannot be read."""

    def __init__(self, where: str, reason: str, *settings: str) -> None:
        super().__init__(f"{where}: {reason}", *settings)


class NewerFormat(StoreError):
    """A newer version of specserver wrote the file in a format that this one does not know."""


class DamagedFile(StoreError):
    """A file whose bytes are not those that were written."""


class DamagedCopy(StoreError):
    """A copy on this node was damaged and is given up: read again what was read of it."""


class DamagedSpectrum(DamagedFile):
    """Spectra that cannot be read because a file is damaged."""

    def __init__(self, context: str, ids: Sequence[int], why: StoreError) -> None:
        lost = f"{joined(ids, 10)} cannot be read ({why.message})"
        super().__init__(context, f"{lost}; {SKIPPED}", SKIP)


class NoOriginal(ServiceError):
    """The release file of a spectrum is gone or has changed."""

    def __init__(self, which: Sequence[object], reason: str) -> None:
        made = "fits='rebuilt'"
        hint = f"{made} makes one from the store"
        super().__init__(f"no original FITS file for {joined(which, 10)}: {reason}; {hint}", made)


class TooOften(ServiceError):
    """A caller exceeds its share at the moment; try again later."""

    retry_after_s = 2  # of one with another message

    def __init__(self, what: str, limit: float, setting: str, retry_after_s: int) -> None:
        text = f"more than {limit:g} {what} by one caller (the server's setting {setting})"
        super().__init__(f"{text}; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Overloaded(ServiceError):
    """The service is too busy at the moment; try again later."""

    retry_after_s = 2  # of one with another message

    def __init__(self, retry_after_s: int, why: str = "the service is busy") -> None:
        super().__init__(f"{why}; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Unavailable(Overloaded):
    """The storage or the database of the service does not answer at the moment."""

    def __init__(self, what: str, reason: str, retry_after_s: int = 5) -> None:
        super().__init__(retry_after_s, f"{what} does not answer ({reason})")
        self.reason = reason


class Replaced(Overloaded):
    """Spectra were replaced while a request read them; try again at once."""


class DatabaseAway(Overloaded):
    """The database of the catalogue cannot be reached at the moment; try again later."""


class TooSlow(ServiceError):
    """No answer within the service's time limit."""

    def __init__(self, limit_s: float) -> None:
        text = f"the answer did not begin within {limit_s:g} s (the server's setting"
        super().__init__(f"{text} first_byte_timeout_s): ask for less, or tell the operator")


class Unreachable(ServiceError):
    """No service answers at the URL."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"no specserver answers at {url} ({reason}); start one with 'specserver serve',"
            " or point to one with set_svc_url() or SPECSERVER_URL",
            "set_svc_url()",
        )


def all_errors() -> list[type[SpecServerError]]:
    """Return every class of the tree, each before its subclasses."""
    found = [SpecServerError]
    for cls in found:  # it grows
        found += cls.__subclasses__()
    return found


_BY_CODE = {cls.code: cls for cls in all_errors()} | {"invalid_request": BadParameter}
