"""Composites of millions of spectra: Dask sums up parts of them where it computes, and joins them.

The arithmetic is that of the service (`service.composite`).
"""

import warnings
from dataclasses import dataclass
from operator import index
from typing import Any, Final, cast
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xarray as xr
from dask.delayed import Delayed, delayed

from ..data.root import DataRoot
from ..errors import BadParameter, NotFound, SpecServerWarning
from ..model.medium import UNKNOWN, Medium
from ..model.survey import UNIT_COLUMN
from ..ops.composite import StackRequest
from ..ops.media import assumed, common_medium
from ..service.composite.parts import (
    PartSums,
    StackPart,
    divide,
    finish,
    join_sums,
    require_sums,
    sum_up,
)
from ..service.composite.stacking import FURTHEST, NO_REDSHIFT, nothing_left, target_grid
from ..service.media import media_in, medium_fields
from ..service.open_contexts import OpenRelease
from .datasets import PLACE, in_one_unit

_FAN_IN: Final = 16
"""Sums that a task joins: 300 kB each."""


def rows_of(source: OpenRelease, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the catalogue rows of identifiers, 1D[n] int; raise `NotFound` for those without."""
    dtype = np.dtype(source.survey.id_column.dtype)
    # As objects: NumPy makes floats of a list of integers of which some exceed 2^63.
    given = np.asarray(ids, object)
    try:
        wanted = np.array([index(value) for value in np.atleast_1d(given).tolist()], dtype)
    except (TypeError, OverflowError) as error:
        raise BadParameter("ids", ids, "a list of whole numbers") from error
    rows = source.catalog.with_ids(wanted)
    if len(lost := wanted[rows < 0]):
        raise NotFound(lost.tolist(), [source.release.context], "check identifier and context")
    return rows


@dataclass(frozen=True, slots=True)
class Chosen:
    """The spectra of a composite in the order of the store; parallel arrays."""

    ids: npt.NDArray[Any]
    """1D[nspec]"""
    segment: npt.NDArray[np.int32]
    """1D[nspec], number of the segment."""
    row: npt.NDArray[np.int32]
    """1D[nspec], row in the segment."""
    medium: npt.NDArray[np.object_]
    """1D[nspec], of the wavelengths."""
    z: npt.NDArray[np.float64] | None
    """1D[nspec]; None: they stay in the observed frame."""
    unit: str
    """Unit of flux of the composite."""

    @staticmethod
    def fields(source: OpenRelease) -> list[str]:
        """Return the columns of the catalogue that are needed."""
        survey, known = source.survey, source.catalog.columns
        names = [survey.id_column.name, source.catalog.spelling(survey.z_column), *PLACE]
        names += medium_fields(known) if survey.medium is None else []
        names += [UNIT_COLUMN] if survey.in_unit and UNIT_COLUMN in known else []
        return list(dict.fromkeys(names))

    @classmethod
    def of(
        cls,
        source: OpenRelease,
        table: pa.Table,
        asked: StackRequest,
        z: npt.ArrayLike | None,
        *,
        are_named: bool,
        condition: str = "",
    ) -> "Chosen":
        """Return the spectra of rows of the catalogue.

        Parameters
        ----------
        z
            Redshift of all or of each, 1D[nspec]; None: the catalogue's.
        are_named
            Whether the rows are in the caller's order.
        condition
            What the caller asked the rows to meet.

        Raises
        ------
        NotFound
            There is none.
        BadParameter
            Redshifts, units or media do not go together.
        """
        survey = source.survey
        if not table.num_rows:
            raise _nothing_found(source, condition, are_named=are_named)
        unit = "" if asked.norm is not None else in_one_unit(survey, table).flux_scale
        stated = media_in(table) if survey.medium is None else [survey.medium] * table.num_rows
        media = assumed(stated, asked.assume_medium)
        ids = table.column(survey.id_column.name).to_numpy()
        common_medium(media, None, ids.tolist() if UNKNOWN in media else media)
        redshift = None
        if asked.frame == "rest":
            column = table.column(source.catalog.spelling(survey.z_column))
            own = column.cast("float64").fill_null(np.nan).to_numpy()
            redshift = own if z is None else _given(z, len(own), are_named=are_named)
        segment, row = (table.column(name).to_numpy() for name in PLACE)
        order = np.lexsort((row, segment))
        return cls(
            ids[order],
            segment[order],
            row[order].astype(np.int32),
            np.array(media, object)[order],
            None if redshift is None else redshift[order],
            unit,
        )

    def where(self, kept: npt.NDArray[np.bool_]) -> "Chosen":
        """Return some of them, 1D[nspec] bool."""
        z = None if self.z is None else self.z[kept]
        medium, unit = self.medium[kept], self.unit
        return Chosen(self.ids[kept], self.segment[kept], self.row[kept], medium, z, unit)


def _nothing_found(
    source: OpenRelease, condition: str, *, are_named: bool
) -> BadParameter | NotFound:
    """Return the error that there is no spectrum to combine."""
    if are_named:
        return BadParameter("ids", "an empty list", "at least one identifier")
    context = source.release.context
    return NotFound([condition or "these conditions"], [context], "none meets the conditions")


def _given(z: npt.ArrayLike, nspec: int, *, are_named: bool) -> npt.NDArray[np.float64]:
    """Return redshifts that a caller gives, 1D[nspec]."""
    values = np.atleast_1d(np.ma.filled(np.ma.asarray(z, np.float64), np.nan))
    if values.shape != (1,) and (values.shape != (nspec,) or not are_named):
        allowed = "one redshift; with ids also one for each of them"
        raise BadParameter("z", f"{values.shape} redshifts", allowed)
    if len(absurd := values[values > FURTHEST]):
        raise BadParameter("z", f"{absurd[0]:g}", f"redshifts up to {FURTHEST:,.0f}")
    return np.broadcast_to(values, (nspec,))


def combine(
    data: DataRoot, source: OpenRelease, chosen: Chosen, asked: StackRequest, chunk: int
) -> xr.Dataset:
    """Return the composite of some spectra, computed by Dask.

    Raises
    ------
    BadParameter
        No spectrum is left, or it asks for what sums cannot give.
    """
    require_sums(asked)
    if chunk < 1:
        raise BadParameter("chunk", chunk, "a number of spectra, at least 1")
    known = np.ones(len(chosen.ids), np.bool_)
    if chosen.z is not None:
        known = (chosen.z > -1) & (chosen.z <= FURTHEST)
    used = chosen if known.all() else chosen.where(known)
    left_out = {NO_REDSHIFT: chosen.ids[~known]} if not known.all() else {}
    if not len(used.ids):
        raise nothing_left(asked, len(chosen.ids), {NO_REDSHIFT: len(chosen.ids)})
    parts, order = make_parts(data, source, used, asked, chunk)
    with warnings.catch_warnings():
        # Twelve bytes a spectrum are what there is to send.
        warnings.filterwarnings("ignore", "Sending large graph")
        made: PartSums = joined(parts).compute()  # type: ignore[no-untyped-call]  # Dask states no types
    grid = target_grid(source.survey.grid, asked)
    wave, stacked = finish(made, grid, asked, len(chosen.ids))
    left_out |= {reason: used.ids[order[which]] for reason, which in made.left_out.items()}
    if left_out:
        why = ", ".join(f"{len(some):,} with {reason}" for reason, some in left_out.items())
        text = f"left out of the composite: {why}; see skipped_id of the result"
        warnings.warn(text, SpecServerWarning, stacklevel=4)
    media = used.medium.tolist()
    medium = common_medium(media, None, media)
    units = {"units": chosen.unit}
    about = {"units": "Angstrom", "medium": medium, "long_name": f"wavelength, {asked.frame} frame"}
    reasons = [np.full(len(some), reason) for reason, some in left_out.items()]
    return xr.Dataset(
        {
            "flux": ("wavelength", stacked.flux, units),
            "error": ("wavelength", stacked.error, units),
            "error_bootstrap": ("wavelength", stacked.error_bootstrap, units),
            "count": ("wavelength", stacked.count),
        },
        {
            "wavelength": ("wavelength", wave, about),
            "skipped_id": ("skipped", np.concatenate([chosen.ids[:0], *left_out.values()])),
            "skipped_reason": ("skipped", np.concatenate([np.array([], "U1"), *reasons])),
        },
        {
            "context": source.release.context,
            "nspec": made.nused,
            "frame": asked.frame,
            "method": asked.method,
            "weighted": int(made.weighted),
        },
    )


def make_parts(
    data: DataRoot, source: OpenRelease, chosen: Chosen, asked: StackRequest, chunk: int
) -> tuple[list[StackPart], npt.NDArray[np.int64]]:
    """Return the parts of a composite, and the order in which they have the spectra, 1D[nspec]."""
    parts: list[StackPart] = []
    orders = []
    begin = 0
    for medium in dict.fromkeys(chosen.medium.tolist()):
        mine = np.flatnonzero(chosen.medium == medium)
        part = _part(data, source, chosen, asked, mine, medium, begin)
        parts += divide(part, chunk)
        orders.append(mine)
        begin += len(mine)
    return parts, np.concatenate(orders)


def _part(
    data: DataRoot,
    source: OpenRelease,
    chosen: Chosen,
    asked: StackRequest,
    mine: npt.NDArray[np.int64],
    medium: Medium,
    begin: int,
) -> StackPart:
    """Return spectra of one medium as one part."""
    numbers, counts = np.unique(chosen.segment[mine], return_counts=True)
    names = source.catalog.segments
    return StackPart(
        data=data,
        context=source.release.context,
        medium=medium,
        asked=asked,
        begin=begin,
        folders=tuple(source.folder.segment(names[number]) for number in numbers.tolist()),
        counts=tuple(counts.tolist()),
        rows=chosen.row[mine],
        z=None if chosen.z is None else chosen.z[mine],
    )


def joined(parts: list[StackPart]) -> Delayed:
    """Return the sums of parts, still to be computed: a tree, in their order."""
    add, join = delayed(sum_up), delayed(join_sums)
    sums = [
        add(part, dask_key_name=f"sum_up-{uuid4().hex[:12]}-{number}")
        for number, part in enumerate(parts)
    ]
    while len(sums) > 1:
        sums = [join(sums[at : at + _FAN_IN]) for at in range(0, len(sums), _FAN_IN)]
    (whole,) = sums
    return cast("Delayed", whole)
