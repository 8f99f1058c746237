"""Values of the catalogue to show beside the picture of a spectrum."""

import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..model.survey import Fact, Survey
from .selection import Selection, by_source
from .source import SpectrumSource


def facts_of(selection: Selection, take: npt.NDArray[np.int64]) -> pa.Array:
    """Return facts of some spectra of a selection, 1D[n] string (`wire.columns.FACTS`)."""
    found = np.empty(len(take), object)
    for source, where, rows in by_source(selection, take):
        found[where] = _texts(source, rows)
    return pa.array(found, pa.string())


def _texts(source: SpectrumSource, rows: npt.NDArray[np.int64]) -> list[str]:
    """Return the facts of rows of one catalogue, each as JSON."""
    facts = [one for one in _facts(source.survey) if source.catalog.holds(one.column)]
    table = source.catalog.columns_of(list(dict.fromkeys(one.column for one in facts)), rows)
    values = [table.column(one.column).to_pylist() for one in facts]
    return [
        json.dumps(
            [
                (fact.label, text)
                for fact, value in zip(facts, row, strict=True)
                if (text := fact.text(value))
            ],
            ensure_ascii=False,
        )
        for row in (zip(*values, strict=True) if facts else [()] * len(rows))
    ]


def _facts(survey: Survey) -> tuple[Fact, ...]:
    """Return the facts that a survey declares, by default the redshift."""
    return survey.facts or (Fact("z", survey.z_column, ".5f"),)
