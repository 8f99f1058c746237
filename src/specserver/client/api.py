"""What a user holds: a client that finds spectra and fetches them."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from ..errors import BadParameter
from ..model.spacename import split_file_name
from .answers import TUPLE, split_names, to_result, write_result, write_rows
from .identifiers import read_identifiers
from .pictures import Pictures
from .position import name_arguments, read_place
from .request import Cutout, Values, Wanted, read_wanted
from .spaces import in_space
from .transfer import Call, say, shortened

if TYPE_CHECKING:
    from .columns import Columns
    from .decode import Spectra


class SpecClient(Pictures):
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
        context: str | None = None,
        profile: str | None = None,
        fields: Values = None,
        primary: bool = True,
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
            A file to write, or ``vos://name``: one identifier a line, or a CSV for several fields.
        fields
            Columns wanted; ``tuple`` stands for plate, mjd, fiberid, run2d. Default: identifiers.
        primary
            The best spectrum of each object, or all.
        catalog
            Another catalogue of the context.
        timeout
            Seconds after which the service gives up.

        Returns
        -------
        array, list of tuples, Table or ``'OK'``
            Identifiers (uint64) or the one column asked for; tuples; several columns as a
            Table, the identifier first; ``'OK'`` when a file was written.
        """
        keywords = {"ra": ra, "dec": dec, "size": size, "coord": coord, "pos": pos}
        keywords |= {"region": region, "constraint": constraint, "out": out}
        named = name_arguments(args, keywords | {"context": context, "profile": profile})
        place = read_place(named)
        condition = str(named.get("constraint", ""))
        if place.cone is None and place.polygon is None and not condition.strip():
            raise BadParameter("constraint", condition, "give a position, a region or a constraint")
        names = split_names(fields)
        where = self._where(named.get("context"), named.get("profile"))
        body = where | {
            "cone": place.cone,
            "polygon": place.polygon,
            "constraint": condition,
            "fields": self._fields_to_ask(names, where["context"]),
            "catalog": catalog or None,
            "primary": bool(primary),
            "timeout_s": timeout,
        }
        path = _checked_out(named.get("out"))
        columns = self._fetch_columns(body, timeout, token, debug=debug, verbose=verbose)
        if path is None:
            return to_result(columns, names)
        if isinstance(path, Path):
            write_result(columns, names, path)
            return "OK"
        text = StringIO()
        write_rows(columns, names, text)
        return self.vos.put(path, text.getvalue().encode(), token=token)

    def getSpec(
        self,
        id_list: Any,
        fmt: str = "numpy",
        out: str | os.PathLike[str] | None = None,
        align: bool | str = False,
        cutout: Cutout = None,
        context: str | None = None,
        profile: str | None = None,
        *,
        values: Values = None,
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
            flux, ivar and masks (rules: `specserver.client.resample`).
        cutout
            Vacuum Å, ``'6500-7200'`` or a pair; implies ``align``.
        values
            Vectors wanted, ``'flux,ivar'`` or a list; only these travel.
        id_col
            The column of a table that holds the identifiers.
        missing
            ``skip`` returns what was found and warns of the rest.
        fits
            With ``fmt='FITS'``: the ``original`` release file byte for byte, or a file ``rebuilt``
            from the store, which says so in its header.
        timeout
            Seconds of silence after which to give up.

        Returns
        -------
        list, array, Spectrum, or one object
            One object for one identifier, else in the order of the identifiers; a collection and
            a SpectrumList also for one. ``'OK'`` when files were written.
        """
        wanted = read_wanted(fmt, values, cutout, align)
        if missing not in {"error", "skip"}:
            raise BadParameter("missing", missing, "error or skip")
        if fits not in {"original", "rebuilt"}:
            raise BadParameter("fits", fits, "original or rebuilt")
        ids, single = read_identifiers(id_list, id_col, read_vos=self.vos.reader(token))
        call = Call(context, profile, missing, timeout, token, debug, verbose)
        if out is not None and str(out):
            from .save import open_target

            target = open_target(out, partial(self._space, token=token), single=single)
            return self._write(ids, wanted, target, call, fits)
        if not ids:
            return []
        if wanted.fmt == "fits":
            files = [file.data for file in self._files(ids, call, fits)]
            return files[0] if single and len(files) == 1 else files
        # One spectrum needs no common lattice; it comes as one 1-D object, aligned or not.
        alone = single and wanted.fmt != "collection" and not wanted.resample
        wanted = replace(wanted, align=wanted.align and not alone)
        spectra = self._fetch(ids, wanted, call)
        return _finish(spectra, wanted, single=single and len(spectra.ids) == 1)

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
        show: bool = True,
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
            Identifiers in any form, or spectra: structured arrays, DataFrames, Tables, Spectrum
            objects, or a list of these. A page holds up to 2,000.
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
        show
            Without ``out``: open it, in the notebook or in a browser; False returns the page.
        id_col, missing, timeout
            As in `getSpec`.

        Returns
        -------
        None, ``'OK'`` or ViewerPage
            ``'OK'`` when a file was written; the page when it is neither written nor shown.
        """
        from ..render.viewer import Look
        from . import viewed, viewer

        spectra = viewed.read_spectra(data)
        if spectra is None:
            ids, _ = read_identifiers(data, id_col, read_vos=self.vos.reader(token))
            viewer.require_count(len(ids))
            call = Call(context, profile, missing, timeout, token, debug, verbose)
            spectra = viewed.fetch_spectra(
                lambda vectors, columns: self._fetch(ids, viewed.wanted(vectors), call, *columns)
            )
        if z is not None:
            spectra = viewer.with_redshifts(spectra, z)
        page = viewer.make_page(spectra, Look(title or "", width, height, dark))
        if out is not None and str(out):
            page.save(out, partial(self._space, token=token))
            return "OK"
        if show:
            page.show()
            return None
        return page

    def _fields_to_ask(self, names: list[str], context: str) -> list[str]:
        """Return the columns to ask for: of several, the identifier is the first.

        A tuple alone is computed from the identifier; among others it stands for its parts.
        """
        if names == [TUPLE]:
            return []
        if len(names) < 2:
            return names
        id_column = self._id_column(context)
        return [id_column, *(name for name in names if name.lower() != id_column)]

    def _fetch_columns(
        self,
        body: Mapping[str, Any],
        timeout_s: float | None,
        token: str | None,
        *,
        debug: bool,
        verbose: bool,
    ) -> "Columns":
        """Ask for catalogue columns."""
        from .columns import read_columns
        from .session import query_timeout_s

        url, began = self._url("bulk/query"), perf_counter()
        if debug:
            say(f"POST {url} {shortened(body)}")
        with self._http().post(
            url, body, token=token, timeout_s=query_timeout_s(timeout_s)
        ) as answer:
            columns = read_columns(answer)
        if verbose:
            nrow = len(next(iter(columns.values.values()), ()))
            say(f"{nrow:,} rows in {perf_counter() - began:.2f} s")
        return columns


def _finish(spectra: "Spectra", wanted: Wanted, *, single: bool) -> Any:
    """Return the spectra in the form wanted."""
    if wanted.fmt == "numpy":
        return spectra.data[0] if single else spectra.data
    from .convert import convert, convert_one

    if single and wanted.fmt not in {"list", "collection"}:
        return convert_one(spectra, 0, spectra.data[0], wanted.fmt)
    return convert(spectra, wanted.fmt)


def _checked_out(out: str | os.PathLike[str] | None) -> Path | str | None:
    """Return the file to write, a name in virtual storage as text, or None for none."""
    if out is None or out == "":
        return None
    if in_space(out):
        split_file_name(str(out).strip())
        return str(out).strip()
    path = Path(out).expanduser()
    if not path.parent.is_dir():
        raise BadParameter("out", str(out), f"there is no folder {path.parent}")
    return path
