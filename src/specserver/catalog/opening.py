"""Catalogues opened from their indexes: one that is out of date or damaged is made again first.

Where the data folder cannot be written to, as that of a replica, one that is out of date is served
as it is, with a warning.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import CatalogError, DamagedFile, ServiceError
from ..model.survey import Survey
from .base import Catalogue
from .catalogue import MappedCatalogue
from .index.build import current_index, refresh_index
from .index.generations import IndexInfo
from .tables.links import Held
from .tables.vac import current_vac, index_of, vac_columns, vac_survey

_LOG = logging.getLogger(__name__)


def open_catalogue(
    data: Path, context: str, survey: Survey, segments: Callable[[], Sequence[str]], bad: str = ""
) -> Catalogue:
    """Return the catalogue of a context, from the newest generation of its index.

    Parameters
    ----------
    segments : returns the names of the committed segments
    bad : `Catalogue.version` of one that is known to be damaged

    Raises
    ------
    DamagedFile
        The index is damaged and cannot be made again.
    """
    info = _newest(data, context, survey, segments, bad)
    try:
        return MappedCatalogue(data, survey, context, info)
    except DamagedFile as error:
        again = _renew(data, context, survey, segments, info.name, error)
        _LOG.warning("%s: its index was damaged and is made again", context)
        return MappedCatalogue(data, survey, context, again)


def open_generation(data: Path, context: str, survey: Survey, info: IndexInfo) -> Catalogue:
    """Return the catalogue of a context from one generation of its index; none is made.

    Raises
    ------
    DamagedFile
        A file of it is not as it was written.
    """
    return MappedCatalogue(data, survey, context, info)


def _newest(
    data: Path, context: str, survey: Survey, segments: Callable[[], Sequence[str]], bad: str
) -> IndexInfo:
    """Return a generation that covers all segments, or else, with a warning, what there is."""
    fault: DamagedFile | None = None
    try:
        info = current_index(data, context)
    except DamagedFile as error:
        info, fault = None, error
    if info is not None and info.name == bad:
        info = None
    # One of an older version has no digests: it is made again where that is possible.
    if info and info.digests and info.segments == tuple(segments()):
        return info
    try:
        return _renew(data, context, survey, segments, bad, fault)
    except ServiceError as error:
        if info is None:
            raise
        _LOG.warning("%s: its index cannot be renewed here: %s", context, error.message)
        return info


def _renew(
    data: Path,
    context: str,
    survey: Survey,
    segments: Callable[[], Sequence[str]],
    bad: str,
    fault: DamagedFile | None,
) -> IndexInfo:
    """Make a generation that covers all segments; when that fails, tell why it is needed."""
    try:
        info = refresh_index(data, survey, context, segments, bad=bad)
    except CatalogError as error:
        if fault is not None:
            raise fault from error
        raise
    if info is None:
        raise CatalogError(f"context {context} has no index and none can be made")
    return info


def open_table(
    data: Path, context: str, table: str, base: Survey, held: Held, info: IndexInfo
) -> Catalogue:
    """Return the catalogue of a value-added table, from a generation of its index.

    Parameters
    ----------
    base : the survey of the context
    info : the generation; another is made when it is damaged
    """

    def opened(info: IndexInfo) -> Catalogue:
        survey = vac_survey(base, vac_columns(data, context, table), info.columns)
        return MappedCatalogue(data, survey, context, info, index_of(data, context, table))

    try:
        return opened(info)
    except DamagedFile as error:
        try:
            again = current_vac(data, context, table, held, bad=info.name)
        except CatalogError:
            raise error from None
        _LOG.warning("%s.%s: its index was damaged and is made again", context, table)
        return opened(again)
