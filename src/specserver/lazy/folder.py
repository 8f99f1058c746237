"""A data folder opened in process: whole releases as lazy arrays, and composites by Dask.

The process that computes values reads them directly from the segments, without a service. Only
the catalogue is in memory.
"""

import warnings
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Literal

import numpy.typing as npt
import xarray as xr
from typing_extensions import override

from ..catalog.deadline import Deadline
from ..data.root import open_root
from ..errors import BadArguments, BadParameter, SpecServerWarning
from ..model.region import Cone
from ..model.region import cone as cone_of
from ..ops.composite import StackRequest
from ..service.archive import Archive, ContextInfo
from ..service.query import narrow
from ..store.shards import SHARD
from ..tracebacks import short_methods
from .composites import Chosen, combine, rows_of
from .datasets import PLACE, Spectra, chosen_columns, chosen_vectors, in_one_unit, make_dataset


@short_methods
class DataFolder:
    """A data folder that is read in process; `specserver.open` makes it.

    Parameters
    ----------
    data
        Folder that ``specserver ingest`` wrote.
    """

    def __init__(self, data: str | Path) -> None:
        self._path = str(data)
        self._archive = Archive(open_root(data).require())
        self._archive.ensure_indexes()

    @override
    def __repr__(self) -> str:
        held = ", ".join(f"{info.name} ({info.nspec:,} spectra)" for info in self._contexts())
        return f"<DataFolder {self._path}: {held or 'nothing'}>"

    def _repr_html_(self) -> str:
        """Return a table of the releases, for a notebook."""
        rows = "".join(
            f"<tr><td>{escape(info.name)}</td><td>{escape(info.title)}</td>"
            f"<td>{info.nspec:,}</td></tr>"
            for info in self._contexts()
        )
        head = "<tr><th>context</th><th>title</th><th>spectra</th></tr>"
        return f"DataFolder {escape(self._path)}<table>{head}{rows}</table>"

    def _contexts(self) -> list[ContextInfo]:
        return [self._archive.info(name) for name in self.contexts()]

    def contexts(self) -> list[str]:
        """Return the releases, each survey's from newest to oldest."""
        return self._archive.names()

    def to_xarray(
        self,
        context: str = "default",
        vectors: str | Sequence[str] | None = None,
        *,
        columns: str | Sequence[str] | None = None,
        primary: bool = False,
        constraint: str = "",
        cone: tuple[float, float, float] | None = None,
        off_lattice: bool = False,
        chunk: int = SHARD,
    ) -> xr.Dataset:
        """Return the spectra of one release as lazy arrays, with the catalogue as coordinates.

        Parameters
        ----------
        context
            Release; older ones are not searched.
        vectors
            Arrays to have, as ``'flux,ivar'`` or in a list; None: those of the published table.
        columns
            Columns of the catalogue to have, likewise, besides the identifier, ra, dec, redshift
            and class, and the medium and unit of flux where spectra differ in them; None: all.
        primary
            True: only the best spectrum of each object.
        constraint
            SQL condition that spectra meet, as in ``query``.
        cone
            ra, dec and radius, degrees, within which they lie.
        off_lattice
            Return the spectra on axes of their own instead, which are left out otherwise; then
            ``wavelength`` is 2-D, and NaN where a spectrum has no pixel.
        chunk
            Most spectra of a chunk: a chunk of a vector is what a task reads.

        Returns
        -------
        xarray.Dataset
            Dimensions ``spectrum``, in the order of the store, and ``pixel``. Each vector is a
            Dask array of that shape, zero outside a spectrum's own pixels as aligned answers are;
            ``wavelength`` is in Å, and its attribute ``medium`` says in which medium: vacuum in
            the large surveys; for spectra of one's own files or of HATS ``vacuum``, ``air`` or
            ``unknown`` if that is so of all, else the coordinate ``medium`` states that of each.
            A missing text is empty, a missing float NaN, a missing integer the attribute
            ``null_value`` of its column, a missing boolean False, as its attribute ``comment``
            says; a condition such as ``name is not null`` leaves them out.

        Raises
        ------
        UnknownContext, NoCatalog
            There is no such release, or it is served from files and not from the store.
        UnknownField
            There is no such vector or column.
        BadParameter
            The fluxes are in several units; a condition on ``flux_unit`` chooses one. Or a
            parameter has not the form that is stated above.
        """
        if chunk < 1:
            raise BadParameter("chunk", chunk, "a number of spectra, at least 1")
        source = self._archive.open_release(context)
        names = chosen_columns(source, _names(columns, "columns"))
        condition, rows = narrow(source, constraint, _region(cone), Deadline.after(None))
        table = source.catalog.query([*names, *PLACE], condition, rows, primary=primary)
        spectra = Spectra.of(source, table, off_lattice=off_lattice)
        survey = in_one_unit(source.survey, spectra.table)
        wanted = chosen_vectors(survey, _names(vectors, "vectors"), off_lattice=off_lattice)
        if spectra.others and not off_lattice:
            warnings.warn(
                f"{spectra.others} of {table.num_rows} spectra are off the lattice and left out;"
                " to_xarray(…, off_lattice=True) returns them, on axes of their own",
                SpecServerWarning,
                stacklevel=3,  # the caller's line: one frame is that of `short_methods`
            )
        chunks = spectra.chunks(chunk)
        return make_dataset(source, survey, spectra, wanted, chunks, off_lattice=off_lattice)

    def stack(
        self,
        context: str = "default",
        ids: Sequence[int] | npt.ArrayLike | None = None,
        *,
        frame: Literal["rest", "observed"] = "rest",
        method: Literal["mean", "ivar"] = "mean",
        norm: tuple[float, float] | None = None,
        z: npt.ArrayLike | None = None,
        wave: tuple[float, float] | None = None,
        step: float | None = None,
        assume_medium: Literal["vacuum", "air"] | None = None,
        primary: bool = False,
        constraint: str = "",
        cone: tuple[float, float, float] | None = None,
        chunk: int = 10_000,
    ) -> xr.Dataset:
        """Combine any number of spectra of one release into one. Dask's scheduler does the work.

        The arithmetic is that of ``stack`` of the client: see there for ``frame`` to
        ``assume_medium``. Spectra on and off the lattice are combined. Medians and clipping need
        all values at a time, and are left to the service.

        Parameters
        ----------
        context
            Release; older ones are not searched.
        ids
            Identifiers, 1D[nspec] int; None: all spectra that meet the conditions below.
        z
            Redshift of all, or with ``ids`` of each, 1D[nspec]; None: the catalogue's.
        primary, constraint, cone
            As in `to_xarray`, instead of ``ids``.
        chunk
            Most spectra of a task, but for a segment of more.

        Returns
        -------
        xarray.Dataset
            ``flux``, ``error`` (by variance), ``error_bootstrap`` and ``count`` along
            ``wavelength``, vacuum Å of the frame (Å as they are stored if the medium of no spectrum
            is known); NaN where no spectrum counts. The attribute ``nspec`` is the number of
            spectra that count. Those left out are along ``skipped``: ``skipped_id``, and why in
            ``skipped_reason``.

        Raises
        ------
        UnknownContext, NoCatalog
            There is no such release, or it is served from files and not from the store.
        NotFound
            An identifier is not in the release, or no spectrum meets the conditions.
        BadParameter
            There is no identifier, no spectrum is left, their fluxes are in several units and
            ``norm`` is not given, or the medium of some is not known.
        StoreError
            A segment cannot be read.
        """
        asked = StackRequest(frame, method, norm, wave=wave, step=step, assume_medium=assume_medium)
        if ids is not None and (constraint or cone is not None or primary):
            raise BadArguments("give ids, or conditions: constraint, cone, primary")
        source = self._archive.open_release(context)
        fields = Chosen.fields(source)
        if ids is not None:
            table = source.catalog.columns_of(fields, rows_of(source, ids))
        else:
            condition, rows = narrow(source, constraint, _region(cone), Deadline.after(None))
            table = source.catalog.query(fields, condition, rows, primary=primary)
        chosen = Chosen.of(source, table, asked, z, are_named=ids is not None, condition=constraint)
        return combine(self._archive.data, source, chosen, asked, chunk)


def _names(given: str | Sequence[str] | None, parameter: str) -> list[str] | None:
    """Return names that a parameter has as text or in a list; None: it has none."""
    if given is None:
        return None
    if not isinstance(given, Iterable):
        raise BadParameter(parameter, given, "names as 'a,b', or in a list")
    listed = given.split(",") if isinstance(given, str) else map(str, given)
    return [name.strip() for name in listed if name.strip()]


def _region(cone: tuple[float, float, float] | None) -> Cone | None:
    """Return the region of a parameter."""
    if cone is None:
        return None
    try:
        ra_deg, dec_deg, radius_deg = cone
    except (TypeError, ValueError):
        raise BadParameter("cone", cone, "cone=(ra, dec, radius) in degrees") from None
    return cone_of(ra_deg, dec_deg, radius_deg)
