"""Visual inspection of spectra: the values that a user gives, and the columns of their files.

Qualities, issues and the names of columns are those of ``desihub/prospect``.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class InspectionColumn:
    """A column of a file of inspected spectra."""

    name: str
    datatype: str
    """As ECSV names it: ``string``, ``float64`` or ``int8``."""
    description: str
    pattern: str = r"[\s\S]*"
    """Of the texts that are values, besides an empty one; Python and the page's script match it."""


_NUMBER: Final = r"[+-]?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?|nan|NaN"
_NO_DECIMALS: Final = r"(?![0-9]+(\.[0-9]*([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)$)[\s\S]*"
QUALITIES: Final = (
    "0: no signal",
    "1: signal, but no feature is identified",
    "2: one strong feature, which may be another line",
    "3: one secure feature, or many weak ones: probable",
    "4: two secure features or more: certain",
)
ISSUES: Final = {"R": "redshift", "C": "class", "S": "spectrum"}
CLASSES: Final = ("GALAXY", "QSO", "STAR")
INSPECTION_COLUMNS: Final = (
    InspectionColumn(
        "id", "string", "identifier of the spectrum, an integer or text", _NO_DECIMALS
    ),
    InspectionColumn("context", "string", "data release of the spectrum"),
    InspectionColumn("class", "string", "class that the survey states"),
    InspectionColumn("z", "float64", "redshift that the survey states", _NUMBER),
    InspectionColumn(
        *("VI_quality", "int8", "0 to 4: how sure class and redshift are; -1: not said"),
        pattern=r"(-1|[0-4])(\.0*)?",
    ),
    InspectionColumn(
        *("VI_issue", "string", "R: wrong redshift, C: wrong class, S: bad spectrum"),
        pattern=f"[{''.join(ISSUES)}]*",
    ),
    InspectionColumn("VI_z", "float64", "corrected redshift", _NUMBER),
    InspectionColumn(
        *("VI_spectype", "string", f"corrected class: {', '.join(CLASSES)}"),
        pattern="|".join(CLASSES),
    ),
    InspectionColumn("VI_comment", "string", "comment"),
    InspectionColumn("VI_scanner", "string", "who inspected the spectrum"),
)
"""Columns of a file of inspected spectra, in their order."""
ALIASES: Final = {"TARGETID": "id", "Redrock_spectype": "class", "Redrock_z": "z"}
"""Names of columns that are read too, and what they are called here."""
