"""Catalogues opened from their indexes: one that is out of date or damaged is made again first.

Where the data folder cannot be written to, as that of a replica, one that is out of date is served
as it is, with a warning.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from ..data.context import ContextFolder, TableFiles
from ..errors import CatalogError, DamagedFile
from ..model.survey import Survey
from .base import Catalogue
from .catalogue import MappedCatalogue
from .index.build import refresh_index
from .index.generations import IndexInfo, newest_generation
from .tables.links import HeldSpectra
from .tables.vac import current_vac, vac_columns, vac_survey

_LOG = logging.getLogger(__name__)
Newest: TypeAlias = Callable[[str], IndexInfo]
"""Returns a generation, another than the one of a name that is damaged."""


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

    def newest(bad: str) -> IndexInfo:
        refresh = partial(refresh_index, context, survey, bad=bad)
        return newest_generation(context.index, context.name, context.segments, refresh, bad)

    return _opened(context.name, newest(bad), partial(open_generation, context, survey), newest)


def open_generation(context: ContextFolder, survey: Survey, info: IndexInfo) -> Catalogue:
    """Return the catalogue of a context from one generation of its index; none is made.

    Raises
    ------
    DamagedFile
        A file of it is not as it was written.
    """
    return MappedCatalogue(survey, context.index.generation(info.name), info)


def open_table(files: TableFiles, base: Survey, held: HeldSpectra, info: IndexInfo) -> Catalogue:
    """Return the catalogue of a value-added table, from a generation of its index.

    Parameters
    ----------
    base : the survey of the context
    info : the generation; another is made when it is damaged

    Raises
    ------
    DamagedFile
        The index is damaged and cannot be made again.
    """

    def opened(info: IndexInfo) -> Catalogue:
        survey = vac_survey(base, vac_columns(files), info.columns)
        return MappedCatalogue(survey, files.index.generation(info.name), info)

    return _opened(str(files), info, opened, lambda bad: current_vac(files, held, bad=bad))


def _opened(
    name: str, info: IndexInfo, opened: Callable[[IndexInfo], Catalogue], newest: Newest
) -> Catalogue:
    """Return the catalogue of a generation, or of the newest one if that is damaged."""
    try:
        return opened(info)
    except DamagedFile as error:
        try:
            again = newest(info.name)
        except CatalogError:
            raise error from None
        _LOG.warning("%s: its index was damaged and is made again", name)
        return opened(again)
