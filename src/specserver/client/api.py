"""What a user holds: a client that finds spectra and fetches them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from ..errors import BadParameter
from .composite import Composites
from .inputs.sky_region import name_arguments, read_place
from .match import Matching
from .multi_context import finished, within
from .pictures import Pictures
from .queries import Asking, joint_columns, joint_result, one_result, read_contexts
from .request import Cutout, RequestOptions, Values, read_wanted, split_names
from .results.query_results import TUPLE, tuple_columns

if TYPE_CHECKING:
    from .results.columns import Columns

_TEXTS: Final = ("", ".txt", ".csv")
"""Endings of files that have one identifier a line, or CSV."""


class SpecClient(Composites, Matching, Asking, Pictures):
    """Finds spectra of a spectroscopic data service and fetches them."""

    def query(
        self,
        *args: Any,
        ra: Any = None,
        dec: Any = None,
        size: Any = None,
        coord: Any = None,
        pos: Any = None,
        region: Any = None,
        constraint: str | None = None,
        out: str | os.PathLike[str] | None = None,
        context: str | Sequence[str] | None = None,
        profile: str | None = None,
        fields: Values = None,
        primary: bool | None = None,
        catalog: str | None = None,
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> Any:
        """Find spectra by position, by condition, or by both.

        ``query(ra, dec, size)``, ``query(coord, size)``, ``query(region)`` and
        ``query(constraint=…)``; after the position may follow constraint, out, context, profile.

        Parameters
        ----------
        ra, dec, size
            Centre and radius of a cone, degrees.
        coord, pos
            A SkyCoord in any frame, or a pair ra, dec.
        region
            Vertices ``[(ra, dec), …]`` or ``[ra, dec, ra, dec, …]``, degrees; great-circle edges.
        constraint
            A SQL condition; may end in ``ORDER BY`` and ``LIMIT``, or consist of these.
        out
            A file to write, or ``vos://name``. What it ends in says its kind: ``.fits``,
            ``.parquet``, ``.vot``, ``.ecsv`` a table; ``.csv``, ``.txt`` or nothing one identifier
            a line (``context:id`` of several contexts), or a CSV for several fields.
        context
            A data release, or several: ``'a,b'`` or a list. Each is asked by itself, so that a
            ``LIMIT`` is one of each; names of columns may be those of any survey.
        fields
            Columns wanted; ``tuple`` stands for plate, mjd, fiberid, run2d. Default: identifiers.
        primary
            The best spectrum of each object (True), or all (False). When it is not given it is
            True, and a warning says how many others were left out, where that is cheap to count.
        catalog
            Another catalogue of the context.
        timeout
            Seconds after which the service gives up.

        Returns
        -------
        array, list of tuples, Table or ``'OK'``
            Identifiers (uint64) or the one column asked for; tuples; several columns as a
            Table, the identifier first and, where spectra can share one, what tells them apart
            last, so that `getSpec` takes just these; ``'OK'`` when a file was written. Of several
            contexts pairs ``(context, id)``, which `getSpec` takes, or ``(context, tuple)``; with
            fields a Table that has context and id before them. With ``primary=False`` or a
            catalogue, where the number is not all, pairs hold the tuple, and the Table what tells
            its spectra apart.
        """
        keywords = {"ra": ra, "dec": dec, "size": size, "coord": coord, "pos": pos}
        keywords |= {"region": region, "constraint": constraint, "out": out}
        named = name_arguments(args, keywords | {"context": context, "profile": profile})
        place = read_place(named)
        condition = str(named.get("constraint", ""))
        if place.cone is None and place.polygon is None and not condition.strip():
            raise BadParameter("constraint", condition, "give a position, a region or a constraint")
        names = split_names(fields)
        contexts = read_contexts(named.get("context"))
        where = self._where(None if contexts else named.get("context"), named.get("profile"))
        body = where | {
            "cone": place.cone,
            "polygon": place.polygon,
            "constraint": condition,
            "catalog": catalog or None,
            "primary": primary is None or bool(primary),
            "timeout_s": timeout,
        }
        if primary is None and not catalog:
            body["count_others"] = True
        path = _query_out(named.get("out"))
        call = RequestOptions(None, None, "error", timeout, token, debug, verbose)
        result: Callable[[TextIO | None], Any]
        columns: Callable[[], Columns]
        if contexts is None:
            rows = self._rows(body, names, call)
            result = partial(one_result, rows, names)
            columns = partial(tuple_columns if names == [TUPLE] else _as_they_are, rows)
        else:
            answers = self._rows_of_each(contexts, body, names, call)
            apart = self._told_apart(contexts, body)
            result = partial(joint_result, answers, names, apart)
            columns = partial(joint_columns, answers, names, apart)
        if path is None:
            return result(None)
        if Path(path).suffix.lower() not in _TEXTS:
            return self._keep_table(columns(), path, token)
        if isinstance(path, Path):
            with path.open("w", encoding="utf-8", newline="") as file:
                return result(file)
        text = StringIO()
        result(text)
        return self.vos.put(path, text.getvalue().encode(), token=token)

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
            flux, ivar and masks (rules: `specserver.client.results.resample`). False keeps each
            on its own wavelengths, as None does without ``cutout``.
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
            What the wavelengths are in of spectra of which it is not known, ``vacuum`` or ``air``.
            Without it these are brought neither into a medium nor together with others.
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
            a SpectrumList also for one. Of no identifiers an empty one: a list, a SpectrumList,
            and with ``align`` an array of shape (0, 0) with the record of the context.
            ``'OK'`` when files were written.
        """
        wanted = read_wanted(fmt, values, cutout, align, medium, assume_medium)
        if missing not in {"error", "skip"}:
            raise BadParameter("missing", missing, "error or skip")
        if fits not in {"original", "rebuilt"}:
            raise BadParameter("fits", fits, "original or rebuilt")
        call = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
        named = self._named(id_list, id_col, call)
        several, ids, single = len(named.several) > 1, named.ids, named.single
        call = within(named, call)
        if out is not None and str(out):
            from .results.save import open_target

            target = open_target(out, partial(self._space, token=token), single=single)
            if several:
                return self._write_across(named, wanted, target, call, fits)
            return self._write(ids, wanted, target, call, fits)
        if several:
            return self._get_across(named, wanted, call, fits)
        if not ids:
            return self._get_none(wanted, call)
        if wanted.fmt == "fits":
            files = [file.data for file in self._files(ids, call, fits)]
            return files[0] if single and len(files) == 1 else files
        # One spectrum needs no common lattice; it comes as one 1-D object, aligned or not.
        alone = single and wanted.fmt != "collection" and not wanted.resample
        wanted = replace(wanted, align=wanted.align and not alone)
        spectra = self._fetch(ids, wanted, call)
        return finished(spectra, wanted, single=single and len(spectra.ids) == 1)

    def prospect(
        self,
        data: Any,
        context: str | None = None,
        profile: str | None = None,
        out: str | os.PathLike[str] | None = None,
        *,
        z: float | list[float] | None = None,
        title: str | None = None,
        width: int | None = None,
        height: int | None = None,
        dark: bool = False,
        overplot: bool = False,
        show: bool = True,
        assume_medium: Literal["vacuum", "air"] | None = None,
        id_col: str | None = None,
        missing: Literal["error", "skip"] = "error",
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> Any:
        """Look at spectra interactively: zoom, smooth, and try redshifts.

        Parameters
        ----------
        data
            Identifiers in any form and of any contexts, or spectra: structured arrays,
            DataFrames, Tables, Spectrum objects, or a list of these. A page holds up to 2,000,
            each on its own wavelengths.
        out
            File to write, ``page.html`` or ``vos://page.html``: needs no network to be opened.
        z
            Redshift where lines are marked first, or one each; None takes those known.
        title
            A line of text above all.
        width, height
            Pixels; None fills the window.
        dark
            Begin on black.
        overplot
            Show up to eight spectra over one another, behind the one that is chosen.
        show
            Without ``out``: open it, in the notebook or in a browser; False returns the page.
        assume_medium
            What the wavelengths are in of spectra of which it is not known. Those in air are drawn
            in vacuum; what is not known is drawn as it is, and over no others.
        id_col, missing, timeout
            As in `getSpec`.

        Returns
        -------
        None, ``'OK'`` or ViewerPage
            ``'OK'`` when a file was written; the page when it is neither written nor shown.
        """
        from ..render.viewer.document import Look
        from .plots.page import make_page, require_count, with_redshifts
        from .plots.spectra import in_vacuum

        call = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
        spectra = self._look(data, id_col, call, require_count)
        spectra = in_vacuum(spectra, assume_medium, together=overplot)
        if z is not None:
            spectra = with_redshifts(spectra, z)
        page = make_page(spectra, Look(title or "", width, height, dark, overplot))
        if out is not None and str(out):
            page.save(out, partial(self._space, token=token))
            return "OK"
        if show:
            page.show()
            return None
        return page


def _as_they_are(columns: "Columns") -> "Columns":
    return columns


def _query_out(out: str | os.PathLike[str] | None) -> Path | str | None:
    """Return the file to write, a name in virtual storage as text, or None for none."""
    if out is None or out == "":
        return None
    from .results.table_file import TABLES, checked_out

    return checked_out(out, (".txt", *TABLES), plain=True)
