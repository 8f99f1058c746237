"""Catalogues opened from their indexes: one that is out of date or damaged is made again first.

Where the data folder cannot be written to, as that of a replica, one that is out of date is served
as it is, with a warning. All functions raise `DamagedFile` where the index is damaged and is not
made again.
"""

import logging
from collections.abc import Callable
from functools import partial

from ..data.context import ContextFolder, TableFiles
from ..errors import CatalogError, DamagedFile
from ..model.survey import Survey
from .base import Catalogue
from .catalogue import MappedCatalogue
from .index.build import newest_index
from .index.generations import IndexInfo
from .tables.joined import joined_survey
from .tables.links import HeldSpectra
from .tables.vac import current_vac, vac_columns, vac_survey

_LOG = logging.getLogger(__name__)


def open_catalogue(context: ContextFolder, survey: Survey, bad: str = "") -> Catalogue:
    """Return the catalogue of a context, from the newest generation of its index.

    Parameters
    ----------
    bad : `Catalogue.version` of one that is known to be damaged
    """
    newest = partial(newest_index, context, survey)
    return _opened(context.name, newest(bad), partial(open_generation, context, survey), newest)


def open_generation(context: ContextFolder, survey: Survey, info: IndexInfo) -> Catalogue:
    """Return the catalogue of a context from one generation of its index; none is made."""
    return MappedCatalogue(survey, context.index.generation(info.name), info)


def open_table(
    files: TableFiles, held: HeldSpectra, info: IndexInfo, spectra: Catalogue | None
) -> Catalogue:
    """Return the catalogue of a value-added table, from a generation of its index.

    Parameters
    ----------
    info : the generation; another is made when it is damaged
    spectra : the catalogue of the context, to which it is joined, if there is one
    """

    def opened(info: IndexInfo) -> Catalogue:
        survey = vac_survey(held.survey, vac_columns(files), info.columns)
        own = [name for name in info.columns if not name.startswith("_")]
        survey = joined_survey(survey, files.name, own, spectra)
        return MappedCatalogue(survey, files.index.generation(info.name), info, spectra)

    return _opened(str(files), info, opened, lambda bad: current_vac(files, held, bad=bad))


def _opened(
    name: str,
    info: IndexInfo,
    opened: Callable[[IndexInfo], Catalogue],
    newest: Callable[[str], IndexInfo],
) -> Catalogue:
    """Return the catalogue of a generation; if that is damaged, of what ``newest(its name)`` is."""
    try:
        return opened(info)
    except DamagedFile as error:
        try:
            again = newest(info.name)
        except CatalogError:
            raise error from None
        _LOG.warning("%s: its index was damaged and is made again", name)
        return opened(again)
