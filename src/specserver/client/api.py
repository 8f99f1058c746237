"""The client: it finds spectra and fetches them.

`SpecClient` has a session. Its methods for spectra and for the service are here; the others are
functions of the modules that they are imported from, which take the client as first argument.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from typing_extensions import override

from ..errors import BadParameter, SpecServerError, UnknownContext, UnknownProfile
from ..tracebacks import short_methods
from .composite import stack
from .inputs.context_ids import Named, read_ids
from .match import match, write_table
from .plots.drawing import plot, prospect
from .plots.pictures import plotGrid, preview, stackedImage
from .queries import query
from .request import Cutout, RequestOptions, ResultOptions, Values, read_wanted
from .session import Session
from .spectra import fetch_files, fetch_spectra, in_order
from .storage import Storage, open_target
from .writing import ending_of, write_spectra

if TYPE_CHECKING:
    from .results.decode import Spectra

_GREETING: Final = "hello world"


@short_methods
class SpecClient:
    """Finds spectra of a spectroscopic data service and fetches them.

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

    query = query
    match = match
    write_table = write_table
    stack = stack
    plot = plot
    prospect = prospect
    preview = preview
    plotGrid = plotGrid
    getGridPlot = plotGrid
    stackedImage = stackedImage

    def __init__(
        self, context: str = "default", profile: str = "default", svc_url: str | None = None
    ) -> None:
        self.session = Session(context, profile, svc_url)
        self._contexts: dict[tuple[str, str], dict[str, Any]] = {}

    @override
    def __repr__(self) -> str:
        return f"<SpecClient of {self.session}, context {self.session.context}>"

    def getSpec(
        self,
        id_list: Any,
        fmt: str = "numpy",
        out: str | os.PathLike[str] | None = None,
        align: bool | str | None = None,
        cutout: Cutout = None,
        context: str | None = None,
        profile: str | None = None,
        *,
        values: Values = None,
        medium: Literal["vacuum", "air"] | None = None,
        assume_medium: Literal["vacuum", "air"] | None = None,
        id_col: str | None = None,
        missing: Literal["error", "skip"] = "error",
        fits: Literal["original", "rebuilt"] = "original",
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> Any:
        """Fetch spectra.

        Parameters
        ----------
        id_list
            Identifiers in any form: numbers, text, tuples with wildcards, arrays, tables, files.
        fmt
            ``numpy``, ``pandas``, ``Table``, ``Spectrum1D``, ``SpectrumCollection`` (always
            aligned), ``SpectrumList`` or ``FITS`` (bytes of the original file), in any case.
        out
            A folder, made when it is not there, or ``vos://dir/``: each spectrum becomes a file
            named as on the server (``.npy``, ``.csv``, ``.ecsv``, ``.fits``), written while the
            rest travels. For one spectrum also the name of a file with such an ending.
        align
            Lay all spectra on their common wavelength lattice: one 2-D array or Spectrum.
            ``resample`` does so also for spectra that lie off it, conserving flux; the result has
            flux, ivar and masks (rules: `specserver.ops.resampling`). False keeps each on its
            own wavelengths, as None does without ``cutout``.
        cutout
            Vacuum Å, ``'6500-7200'`` or a pair; implies ``align``, unless that is False. With
            ``medium='air'`` Å in air. Resampled spectra have the pixels of the whole, bit for bit.
        values
            Vectors wanted, ``'flux,ivar'`` or a list; only these travel.
        medium
            Give wavelengths in ``vacuum`` or in ``air`` (Ciddor 1996), whatever they are published
            in. By default they are as published, in the medium that ``meta['medium']`` names, and
            in vacuum with ``align='resample'``. Flux density per Å is never changed.
        assume_medium
            Medium of spectra whose medium is not known, ``vacuum`` or ``air``. Without it these are
            neither converted into a medium nor aligned with others.
        id_col
            The column of a table that holds the identifiers.
        missing
            ``skip`` returns what was found and can be read, and warns of the rest.
        fits
            With ``fmt='FITS'``: the ``original`` release file byte for byte, or a file ``rebuilt``
            from the store, which says so in its header.
        timeout
            Seconds of silence after which to give up.

        Returns
        -------
        list, array, Spectrum, or one object
            One object for one identifier, else in the order of the identifiers; a collection and
            a SpectrumList also for one. A list of arrays that are not aligned has a ``shape``, and
            ``numpy.array`` takes it, whatever their lengths.
            An empty list of identifiers gives an empty list or
            SpectrumList, and with ``align`` an array of shape (0, 0) with the context's record.
            ``'OK'`` when files were written.
        """
        wanted = read_wanted(fmt, values, cutout, align, medium, assume_medium)
        if fits not in {"original", "rebuilt"}:
            raise BadParameter("fits", fits, "original or rebuilt")
        options = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
        named = read_ids(self.session, id_list, id_col, options)
        if out is not None and str(out):
            ending = ending_of(wanted.fmt)
            put = open_target(self.session, out, token, ending, single=named.single)
            write_spectra(self.session, named, wanted, put, options, fits)
            return "OK"
        if not named.ids and not wanted.align:
            return _in_list([], wanted)
        if wanted.fmt == "fits":
            files = [data for _, data in fetch_files(self.session, named, options, fits)]
            return files[0] if named.single and len(files) == 1 else files
        # One spectrum needs no common lattice; it comes as one 1-D object, aligned or not.
        alone = named.single and wanted.fmt != "collection" and not wanted.resample
        wanted = replace(wanted, align=wanted.align and not alone)
        parts = fetch_spectra(self.session, named, wanted, options)
        return _finished(parts, wanted, single=named.single)

    def read_named(
        self,
        given: Any,
        context: str | None = None,
        *,
        missing: Literal["error", "skip"] = "error",
        token: str | None = None,
    ) -> Named:
        """Return the identifiers that a caller gives, and the context of each.

        `getSpec` takes the result.
        """
        options = RequestOptions(context, missing=missing, token=token)
        return read_ids(self.session, given, None, options)

    def fetch_named(
        self, named: Named, wanted: ResultOptions, options: RequestOptions
    ) -> list[tuple[str, int, Any]]:
        """Fetch spectra of any contexts: context, identifier and record of each.

        For programs. Aligned spectra are rows of one array.
        """
        from .results.carried import carried

        parts = fetch_spectra(self.session, named, wanted, options)
        return in_order(
            parts,
            [
                list(zip(part.contexts, part.ids.tolist(), carried(part), strict=True))
                for part in parts
            ],
        )

    @property
    def context(self) -> dict[str, Any]:
        """The description of the client's context, as `list_contexts` returns it.

        The same dict as long as the context is the same: what a caller changes in it stays there,
        and changes no request.
        """
        key = (self.session.root, self.session.context)
        if key not in self._contexts:
            self._contexts = {key: self.list_contexts(self.session.context)}
        return self._contexts[key]

    @property
    def vos(self) -> Storage:
        """Virtual storage: the caller's own files on the server."""
        return Storage(self.session)

    def isAlive(self, svc_url: str | None = None, timeout: float = 2) -> bool:
        """Return whether a service answers at the URL within ``timeout`` seconds."""
        url = self.session.root if svc_url is None else svc_url.rstrip("/")
        try:
            text = self.session.get_text(url, timeout_s=timeout, retry=False)
        except SpecServerError:
            return False
        return text.lstrip().lower().startswith(_GREETING)

    def set_svc_url(self, svc_url: str | None) -> None:
        """Set the root of the service, such as ``http://host:6998/spec``; None: the default."""
        self.session.chosen_url = svc_url

    def get_svc_url(self) -> str:
        """Return the root of the service."""
        return self.session.root

    def set_token(self, token: str | None) -> None:
        """Set the token of later calls; None follows ``SPECSERVER_TOKEN``, '' sends none."""
        self.session.chosen_token = token

    def get_token(self) -> str:
        """Return the token of calls that name none; empty for a visitor."""
        return self.session.token

    def set_context(self, context: str) -> str:
        """Set the context of later calls; return ``'OK'``.

        Raises
        ------
        UnknownContext
            The service has no such context; the message lists those it has.
        """
        self._require("context", context, UnknownContext)
        self.session.context = context
        return "OK"

    def get_context(self) -> str:
        """Return the context of calls that name none."""
        return self.session.context

    def list_contexts(self, context: str | None = None, fmt: str = "text") -> Any:
        """Return the contexts of the service, or the description of one, a dict.

        Parameters
        ----------
        context
            Name of one context; None lists all.
        fmt
            ``text`` or ``csv`` return text, which a notebook shows as a table; ``json`` returns
            a dict of the descriptions by name.
        """
        return self.session.listing("contexts", {"context": context or ""}, fmt)

    def set_profile(self, profile: str) -> str:
        """Set the profile of later calls; return ``'OK'``.

        Raises
        ------
        UnknownProfile
            The service has no such profile; the message lists those it has.
        """
        self._require("profile", profile, UnknownProfile)
        self.session.profile = profile
        return "OK"

    def get_profile(self) -> str:
        """Return the profile of calls that name none."""
        return self.session.profile

    def list_profiles(self, profile: str | None = None, fmt: str = "text") -> Any:
        """Return the profiles of the service, or one; ``fmt`` as in `list_contexts`."""
        return self.session.listing("profiles", {"profile": profile or ""}, fmt)

    def catalogs(
        self, context: str | None = "default", profile: str | None = "default", fmt: str = "text"
    ) -> Any:
        """Return the catalogues of a context; ``fmt`` as in `list_contexts`.

        Text has the number of columns of each; ``json`` the columns themselves, a list of dicts
        with name, dtype, unit and meaning: ``Table(catalogs(fmt='json')[name]['columns'])``.
        """
        return self.session.listing("catalogs", self.session.where(context, profile), fmt)

    def _require(
        self, what: str, name: str, error: type[UnknownContext] | type[UnknownProfile]
    ) -> None:
        """Refuse a context or profile that the service does not have."""
        asked = {"what": what, "value": name}
        if self.session.get_text(self.session.url("validate"), fields=asked).strip() != "OK":
            raise error(name, list(self.session.listing(f"{what}s", {})))


def _finished(parts: "Sequence[Spectra]", wanted: ResultOptions, *, single: bool) -> Any:
    """Return spectra in the form wanted and in the order of the identifiers."""
    if len(parts) > 1:
        return _in_list(in_order(parts, [_made(part, wanted) for part in parts]), wanted)
    if single and len(parts[0].ids) == 1:
        if wanted.fmt == "numpy":
            return _made(parts[0], wanted)[0]
        if wanted.fmt not in {"list", "collection"}:
            from .results.convert import convert_one

            return convert_one(parts[0], 0, parts[0].data[0], wanted.fmt)
    return _made(parts[0], wanted)


def _made(spectra: "Spectra", wanted: ResultOptions) -> Any:
    """Return the spectra of one part in the form wanted."""
    if wanted.fmt == "numpy":
        from .results.carried import carried

        return carried(spectra)
    from .results.convert import convert

    return convert(spectra, wanted.fmt)


def _in_list(made: list[Any], wanted: ResultOptions) -> Any:
    """Return objects as the list of them that is wanted."""
    if wanted.fmt == "numpy":
        from .results.carried import SpectrumArrays

        return SpectrumArrays(made)
    if wanted.fmt != "list":
        return made
    from specutils import SpectrumList

    return SpectrumList(made)
