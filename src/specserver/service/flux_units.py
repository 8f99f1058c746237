"""The unit of flux of each spectrum, where the spectra of a survey differ in it."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..model.survey import UNIT_COLUMN, Survey
from .selection import Selection, by_source


def by_unit(selection: Selection) -> Selection:
    """Return a selection that has each context once for every unit of flux of its spectra.

    So spectra of one context in several units are treated as those of several surveys are: each
    with its own unit, and never in one array.
    """
    if not any(survey.in_unit for survey in selection.surveys):
        return selection
    contexts: list[str] = []
    surveys: list[Survey] = []
    index = np.zeros_like(selection.context_index)
    for number, (context, survey) in enumerate(
        zip(selection.contexts, selection.surveys, strict=True)
    ):
        members = np.flatnonzero(selection.context_index == number)
        units = _units(selection, survey, members)
        for unit in dict.fromkeys(units.tolist()) or [survey.flux_scale]:
            index[members[units == unit]] = len(contexts)
            contexts.append(context)
            in_unit = None if unit == survey.flux_scale else survey.in_unit
            surveys.append(in_unit(unit) if in_unit else survey)
    return replace(selection, contexts=tuple(contexts), surveys=tuple(surveys), context_index=index)


def _units(
    selection: Selection, survey: Survey, members: npt.NDArray[np.int64]
) -> npt.NDArray[np.object_]:
    """Return the unit of flux of some spectra of a survey, 1D[n]."""
    units = np.full(len(members), survey.flux_scale, object)
    for source, where, rows in by_source(selection, members):
        if survey.in_unit and UNIT_COLUMN in source.catalog.columns:
            stated = source.catalog.columns_of([UNIT_COLUMN], rows).column(0).to_pylist()
            # A row of an older version states none; an empty text is a unit: a pure number.
            units[where] = [survey.flux_scale if unit is None else unit for unit in stated]
    return units
