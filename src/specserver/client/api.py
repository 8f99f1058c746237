"""What a user holds: a client that finds spectra and fetches them."""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import BadParameter
from ..model.idtext import IdPattern, format_id
from .answers import TUPLE, split_names, to_result, write_result
from .connection import Connection
from .identifiers import read_identifiers
from .position import name_arguments, read_place
from .request import Cutout, Values, Wanted, read_wanted

if TYPE_CHECKING:
    from .columns import Columns
    from .decode import Spectra

_VOS: Final = "vos://"


class SpecClient(Connection):
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
            A file to write, one identifier a line, or a CSV for several fields.
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
        path = _local_path(named.get("out"))
        columns = self._fetch_columns(body, timeout, token, debug=debug, verbose=verbose)
        if path is None:
            return to_result(columns, names)
        write_result(columns, names, path)
        return "OK"

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
            ``numpy``, ``pandas``, ``Table`` or ``Spectrum1D``, in any case.
        align
            Lay all spectra on their common wavelength lattice: one 2-D array or Spectrum.
        cutout
            Vacuum Å, ``'6500-7200'`` or a pair; implies ``align``.
        values
            Vectors wanted, ``'flux,ivar'`` or a list; only these travel.
        id_col
            The column of a table that holds the identifiers.
        missing
            ``skip`` returns what was found and warns of the rest.
        timeout
            Seconds of silence after which to give up.

        Returns
        -------
        list, array, Spectrum, or one object
            One object for one identifier, else in the order of the identifiers.
        """
        wanted = read_wanted(fmt, values, cutout, align)
        if missing not in {"error", "skip"}:
            raise BadParameter("missing", missing, "error or skip")
        if out:
            raise NotImplementedError("out= of getSpec is not there yet")
        ids, single = read_identifiers(id_list, id_col)
        if not ids:
            return []
        # One spectrum needs no common lattice; it comes as one 1-D object, aligned or not.
        wanted = replace(wanted, align=wanted.align and not single)
        spectra = self.fetch(
            ids,
            wanted,
            context=context,
            profile=profile,
            missing=missing,
            timeout=timeout,
            token=token,
            debug=debug,
            verbose=verbose,
        )
        return _finish(spectra, wanted, single=single and len(spectra.ids) == 1)

    def fetch(
        self,
        ids: Sequence[int | IdPattern],
        wanted: Wanted,
        *,
        context: str | None = None,
        profile: str | None = None,
        missing: Literal["error", "skip"] = "error",
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> "Spectra":
        """Fetch spectra with all that is known of them: identifiers, releases, columns.

        What `getSpec` is made of, for programs; parameters as there.
        """
        body = self._where(context, profile) | {
            "ids": "\n".join(format_id(one) for one in ids),
            "vectors": wanted.vectors,
            "cutout": wanted.cutout_aa,
            "align": wanted.align,
            "columns": ["@redshift"] if wanted.fmt == "spectrum" else [],
            "missing": missing,
        }
        spectra = self._fetch_spectra(body, wanted, timeout, token, debug=debug, verbose=verbose)
        if spectra.head.missing:
            _warn_missing(spectra.head.missing, len(ids))
        return spectra

    # What the next version brings; the names are there so that it says so.

    def plot(self, spec: Any) -> None:
        """Plot one spectrum."""
        raise NotImplementedError("plot is not there yet")

    def prospect(self, data: Any) -> None:
        """Look at spectra interactively."""
        raise NotImplementedError("prospect is not there yet")

    def preview(self, spec: Any) -> bytes:
        """Return a preview image of one spectrum."""
        raise NotImplementedError("preview is not there yet")

    def plotGrid(self, id_list: Any, nx: int, ny: int, page: int = 0) -> bytes:
        """Return a grid of preview images as one."""
        raise NotImplementedError("plotGrid is not there yet")

    def getGridPlot(self, id_list: Any, nx: int, ny: int, page: int = 0) -> bytes:
        """Return a grid of preview images as one; another name of `plotGrid`."""
        raise NotImplementedError("getGridPlot is not there yet")

    def stackedImage(self, id_list: Any, fmt: str = "png") -> Any:
        """Return an image with a spectrum in each row."""
        raise NotImplementedError("stackedImage is not there yet")

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
            _say(f"POST {url} {body}")
        with self._http().post(
            url, body, token=token, timeout_s=query_timeout_s(timeout_s)
        ) as answer:
            columns = read_columns(answer)
        if verbose:
            nrow = len(next(iter(columns.values.values()), ()))
            _say(f"{nrow:,} rows in {perf_counter() - began:.2f} s")
        return columns

    def _fetch_spectra(
        self,
        body: Mapping[str, Any],
        wanted: Wanted,
        timeout_s: float | None,
        token: str | None,
        *,
        debug: bool,
        verbose: bool,
    ) -> "Spectra":
        """Ask for spectra and decode them while they arrive."""
        from .decode import decode_spectra

        url, began = self._url("bulk/spectra"), perf_counter()
        if debug:
            _say(f"POST {url} {body}")
        with self._http().post(url, body, token=token, timeout_s=timeout_s) as answer:
            spectra = decode_spectra(answer, values=wanted.values, align=body["align"])
        if verbose:
            nbytes = sum(one.nbytes for one in spectra.data)
            seconds = perf_counter() - began
            _say(f"{len(spectra.ids):,} spectra, {nbytes / 1e6:.1f} MB in {seconds:.2f} s")
        return spectra


def _finish(spectra: "Spectra", wanted: Wanted, *, single: bool) -> Any:
    """Return the spectra in the form wanted."""
    if wanted.fmt == "numpy":
        return spectra.data[0] if single else spectra.data
    from .convert import convert

    made = convert(spectra, wanted.fmt)
    return made[0] if single else made


def _local_path(out: str | os.PathLike[str] | None) -> Path | None:
    """Return the file to write, or None for none."""
    if out is None or out == "":
        return None
    if str(out).startswith(_VOS):
        raise NotImplementedError("vos:// names are not there yet")
    path = Path(out).expanduser()
    if not path.parent.is_dir():
        raise BadParameter("out", str(out), f"there is no folder {path.parent}")
    return path


def _warn_missing(missing: tuple[str, ...], asked: int) -> None:
    """Warn of identifiers that were left out."""
    some = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
    warnings.warn(
        f"{len(missing):,} of {asked:,} identifiers were not found and are left out: {some}",
        UserWarning,
        stacklevel=3,
    )


def _say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"specserver: {text}\n")
