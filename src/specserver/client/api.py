"""The client: it finds spectra and fetches them.

`SpecClient` has a session. `getSpec` and what belongs to it are here; its other methods are
functions of the modules that they are imported from, which take the client as first argument.
"""

import os
from dataclasses import replace
from typing import Any, Literal

from typing_extensions import override

from ..errors import BadParameter
from ..tracebacks import short_methods
from .composite import stack
from .inputs.context_ids import Named, read_ids
from .match import match, write_table
from .plots.drawing import plot, prospect
from .plots.pictures import plotGrid, preview, stackedImage
from .queries import query
from .request import Cutout, RequestOptions, ResultOptions, Values, read_wanted
from .service import (
    catalogs,
    get_context,
    get_profile,
    get_svc_url,
    get_token,
    isAlive,
    list_contexts,
    list_profiles,
    set_context,
    set_profile,
    set_svc_url,
    set_token,
)
from .session import Session
from .spectra import fetch_files, fetch_spectra, finished, in_list, in_order
from .storage import Storage, open_file, open_target
from .writing import ending_of, is_array_file, write_spectra


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

    Examples
    --------
    >>> from specserver.client.api import SpecClient
    >>> client = SpecClient("sdss_dr17")
    >>> len(client.query(constraint="class = 'QSO' limit 3"))
    3
    """

    isAlive = isAlive
    set_svc_url = set_svc_url
    get_svc_url = get_svc_url
    set_token = set_token
    get_token = get_token
    set_context = set_context
    get_context = get_context
    list_contexts = list_contexts
    set_profile = set_profile
    get_profile = get_profile
    list_profiles = list_profiles
    catalogs = catalogs
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
            rest travels. For one spectrum also the name of a file with such an ending; for
            aligned spectra in ``numpy`` also one file ``.npy`` of all, an array as returned.
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

        Examples
        --------
        >>> quasars = spec.query(constraint="class = 'QSO' and z > 2 order by z limit 20")
        >>> array = spec.getSpec(quasars[0])
        >>> array.dtype.names[:3], array.about.flux_unit
        (('flux', 'loglam', 'ivar'), '1e-17 erg / (s cm2 Angstrom)')
        >>> spec.getSpec(quasars, align=True, values="flux,ivar").shape
        (20, 4656)
        >>> spec.getSpec(quasars[0], fmt="Table", cutout=(3700, 4200))["flux"].unit
        Unit("1e-17 erg / (Angstrom s cm2)")
        >>> spec.getSpec(quasars, fmt="FITS", out="quasars")
        'OK'
        """
        wanted = read_wanted(fmt, values, cutout, align, medium, assume_medium)
        if fits not in {"original", "rebuilt"}:
            raise BadParameter("fits", fits, "original or rebuilt")
        options = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
        named = read_ids(self.session, id_list, id_col, options)
        whole = is_array_file(out, wanted, single=named.single)
        write = open_file(self.session, out, token) if out and whole else None
        if out is not None and str(out) and not write:
            ending = ending_of(wanted.fmt)
            put = open_target(self.session, out, token, ending, single=named.single)
            write_spectra(self.session, named, wanted, put, options, fits)
            return "OK"
        if not named.ids and not wanted.align:
            return in_list([], wanted)
        if wanted.fmt == "fits":
            files = [data for _, data in fetch_files(self.session, named, options, fits)]
            return files[0] if named.single and len(files) == 1 else files
        # One spectrum needs no common lattice; it comes as one 1-D object, aligned or not.
        alone = named.single and wanted.fmt != "collection" and not wanted.resample
        wanted = replace(wanted, align=wanted.align and not alone)
        parts = fetch_spectra(self.session, named, wanted, options)
        made = finished(parts, wanted, single=named.single)
        if write is None:
            return made
        from .results.table_file import npy_bytes

        write(npy_bytes(made))
        return "OK"

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

        Examples
        --------
        >>> client = spec.getClient()
        >>> client.read_named(["4565636362342690816", 4565636362342690816]).ids
        [4565636362342690816, 4565636362342690816]
        """
        options = RequestOptions(context, missing=missing, token=token)
        return read_ids(self.session, given, None, options)

    def fetch_named(
        self, named: Named, wanted: ResultOptions, options: RequestOptions
    ) -> list[tuple[str, int, Any]]:
        """Fetch spectra of any contexts: context, identifier and record of each.

        For programs. Aligned spectra are rows of one array.

        Examples
        --------
        >>> from specserver.client.request import RequestOptions, read_wanted
        >>> client = spec.getClient()
        >>> named = client.read_named(client.query(constraint="limit 2"))
        >>> wanted = read_wanted("numpy", "flux", None, False)
        >>> [context for context, _, _ in client.fetch_named(named, wanted, RequestOptions())]
        ['sdss_dr17', 'sdss_dr17']
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

        It is one dict as long as the context is the same: what a caller changes in it stays there,
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
