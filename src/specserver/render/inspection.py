"""Visual inspection of spectra: what is said of each, and the columns of its files.

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


INSPECTION_COLUMNS: Final = (
    InspectionColumn("id", "string", "identifier of the spectrum"),
    InspectionColumn("context", "string", "data release of the spectrum"),
    InspectionColumn("class", "string", "class that the survey states"),
    InspectionColumn("z", "float64", "redshift that the survey states"),
    InspectionColumn("VI_quality", "int8", "0 to 4: how sure class and redshift are; -1: not said"),
    InspectionColumn("VI_issue", "string", "R: wrong redshift, C: wrong class, S: bad spectrum"),
    InspectionColumn("VI_z", "float64", "corrected redshift"),
    InspectionColumn("VI_spectype", "string", "corrected class"),
    InspectionColumn("VI_comment", "string", "comment"),
    InspectionColumn("VI_scanner", "string", "who inspected the spectrum"),
)
"""Columns of a file of inspected spectra, in their order."""
ALIASES: Final = {"TARGETID": "id", "Redrock_spectype": "class", "Redrock_z": "z"}
"""Names of columns that are read too, and what they are called here."""
QUALITIES: Final = (
    "0: no signal",
    "1: signal, but no feature is identified",
    "2: one strong feature, which may be another line",
    "3: one secure feature, or many weak ones: probable",
    "4: two secure features or more: certain",
)
ISSUES: Final = {"R": "redshift", "C": "class", "S": "spectrum"}
CLASSES: Final = ("GALAXY", "QSO", "STAR")
