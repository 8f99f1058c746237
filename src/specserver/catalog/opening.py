"""Catalogues opened from their indexes: one that is out of date or damaged is made again first.

Where the data folder cannot be written to, as that of a replica, one that is out of date is served
as it is, with a warning.
"""

import logging

from ..data.context import ContextFolder, TableFiles
from ..errors import CatalogError, DamagedFile, ServiceError
from ..model.survey import Survey
from .base import Catalogue
from .catalogue import MappedCatalogue
from .index.build import refresh_index
from .index.generations import IndexInfo, current_generation
from .tables.links import Held
from .tables.vac import current_vac, vac_columns, vac_survey

_LOG = logging.getLogger(__name__)


def open_catalogue(context: ContextFolder, survey: Survey, bad: str = "") -> Catalogue:
    """Return the catalogue of a context, from the newest generation of its index.

    Parameters
    ----------
    bad : `Catalogue.version` of one that is known to be damaged

    Raises
    ------
    DamagedFile
        The index is damaged and cannot be made again.
    """
    info = _newest(context, survey, bad)
    try:
        return open_generation(context, survey, info)
    except DamagedFile as error:
        again = _renew(context, survey, info.name, error)
        _LOG.warning("%s: its index was damaged and is made again", context.name)
        return open_generation(context, survey, again)


def open_generation(context: ContextFolder, survey: Survey, info: IndexInfo) -> Catalogue:
    """Return the catalogue of a context from one generation of its index; none is made.

    Raises
    ------
    DamagedFile
        A file of it is not as it was written.
    """
    return MappedCatalogue(survey, context.index.generation(info.name), info)


def _newest(context: ContextFolder, survey: Survey, bad: str) -> IndexInfo:
    """Return a generation that covers all segments, or else, with a warning, what there is."""
    fault: DamagedFile | None = None
    try:
        info = current_generation(context.index)
    except DamagedFile as error:
        info, fault = None, error
    if info is not None and info.name == bad:
        info = None
    # One of an older version has no digests: it is made again where that is possible.
    if info and info.digests and info.segments == tuple(context.segments()):
        return info
    try:
        return _renew(context, survey, bad, fault)
    except ServiceError as error:
        if info is None:
            raise
        _LOG.warning("%s: its index cannot be renewed here: %s", context.name, error.message)
        return info


def _renew(
    context: ContextFolder, survey: Survey, bad: str, fault: DamagedFile | None
) -> IndexInfo:
    """Make a generation that covers all segments; when that fails, tell why it is needed."""
    try:
        info = refresh_index(context, survey, bad=bad)
    except CatalogError as error:
        if fault is not None:
            raise fault from error
        raise
    if info is None:
        raise CatalogError(f"context {context.name} has no index and none can be made")
    return info


def open_table(files: TableFiles, base: Survey, held: Held, info: IndexInfo) -> Catalogue:
    """Return the catalogue of a value-added table, from a generation of its index.

    Parameters
    ----------
    base : the survey of the context
    info : the generation; another is made when it is damaged
    """

    def opened(info: IndexInfo) -> Catalogue:
        survey = vac_survey(base, vac_columns(files), info.columns)
        return MappedCatalogue(survey, files.index.generation(info.name), info)

    try:
        return opened(info)
    except DamagedFile as error:
        try:
            again = current_vac(files, held, bad=info.name)
        except CatalogError:
            raise error from None
        _LOG.warning("%s: its index was damaged and is made again", files)
        return opened(again)
