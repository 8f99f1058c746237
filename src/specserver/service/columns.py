"""Catalogue columns of spectra, gathered from the sources that hold them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import BadParameter
from ..wire.columns import REDSHIFT
from .selection import Selection, by_source
from .source import SpectrumSource


def read_columns(
    selection: Selection, columns: Sequence[str], take: npt.NDArray[np.int64]
) -> pa.Table:
    """Return catalogue columns of some spectra of a selection, named as asked for, each once.

    Parameters
    ----------
    take : 1D[n] int, which of the selection

    Raises
    ------
    UnknownField
        A column that a catalogue does not have.
    """

    def named(source: SpectrumSource) -> dict[str, str]:
        catalog = source.catalog
        return {
            one: catalog.spelling(source.survey.z_column if one == REDSHIFT else one)
            for one in columns
        }

    return gather_columns(selection, take, named)


def recorded(
    selection: Selection, columns: Sequence[str], take: npt.NDArray[np.int64] | None = None
) -> pa.Table:
    """Return columns of some spectra or all, hidden ones too, in their order.

    Those that an older version did not write are null, or left out where no spectrum has them.

    Parameters
    ----------
    take : 1D[n] int, which of the selection; None: all
    """

    def held(source: SpectrumSource) -> dict[str, str]:
        return {name: name for name in columns if source.catalog.holds(name)}

    return gather_columns(selection, np.arange(selection.nspec) if take is None else take, held)


def gather_columns(
    selection: Selection,
    take: npt.NDArray[np.int64],
    named: Callable[[SpectrumSource], Mapping[str, str]],
) -> pa.Table:
    """Return catalogue columns of some spectra, 1D[n] int, null where a catalogue has none.

    Parameters
    ----------
    named : name in the answer → column of a source's catalogue
    """
    parts, order = [], []
    # Without a spectrum the first catalogue still says of which types its columns are.
    nothing = np.empty(0, np.int64)
    for source, where, rows in list(by_source(selection, take)) or [
        (selection.sources[0], nothing, nothing)
    ]:
        fields = named(source)
        found = source.catalog.columns_of(list(dict.fromkeys(fields.values())), rows)
        parts.append(pa.table([found.column(one) for one in fields.values()], names=list(fields)))
        order.append(where)
    try:
        table = pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowTypeError as error:
        allowed = "of several contexts, columns that have one type in all of them"
        raise BadParameter("columns", str(error), allowed) from error
    return table.take(pa.array(np.argsort(np.concatenate(order))))
