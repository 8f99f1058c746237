"""How spectra lie in one column of a table, as structs of equal-length lists: HATS and Arrow.

Such a table has a row for each spectrum. An export writes this description into the table's
metadata, so that the spectra can be read back as the survey publishes them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from .grid import Grid, PixelRange, grid_from_dict
from .survey import Survey, Vector

DESCRIPTION: Final = b"specserver.spectra"
"""Key of a description in the metadata of an Arrow schema."""
PIXEL_COLUMN: Final = "_healpix_29"
"""Column of HATS: HEALPix order-29 nested pixel of the position. Rows are sorted by it."""
WAVELENGTH: Final = "wavelength"
"""List of the wavelengths in Å, where the published axis is another quantity."""
UNIT: Final = b"unit"
MEANING: Final = b"description"
"""Keys in the metadata of a field: unit as astropy reads it, and meaning."""
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class NestedSpectra:
    """Spectra in a column of structs, and the columns beside it."""

    column: str
    """Column of the structs; each list of a struct is a vector."""
    title: str
    """Title of the survey, or of the catalogue."""
    grid: Grid
    window: PixelRange
    """Lattice pixels that spectra on the lattice cover; empty: none is on a lattice."""
    record: tuple[Vector, ...]
    """The published record in its order, the spectral axis included: the lists by their names."""
    id_column: str
    name_columns: tuple[str, ...]
    """Columns that together name one spectrum."""
    z_column: str
    class_column: str
    primary: tuple[str, int]
    """Column and value of the best spectrum of an object."""
    flux_unit: str
    """Unit of flux as astropy reads it."""
    mask_vector: str
    bad_bits: int
    frame: str
    medium: str
    """Medium of the wavelengths; empty: the column ``medium`` states that of each."""

    @classmethod
    def of_survey(cls, survey: Survey, column: str) -> Self:
        """Return the description of the spectra of a survey that lie in a column."""
        return cls(
            column=column,
            title=survey.title,
            grid=survey.grid,
            window=survey.window,
            record=tuple(plain_vector(vector) for vector in survey.record),
            id_column=survey.id_column.name,
            name_columns=tuple(survey.id_form.parts),
            z_column=survey.z_column,
            class_column=survey.class_column,
            primary=survey.primary,
            flux_unit=survey.flux_scale,
            mask_vector=survey.mask_vector,
            bad_bits=survey.bad_bits,
            frame=survey.frame,
            medium=survey.medium or "",
        )

    def to_json(self) -> str:
        """Return the description as text, for the metadata of a table."""
        values = asdict(self)
        values |= {"format": _FORMAT, "grid": self.grid.to_dict()}
        values["window"] = [self.window.first, self.window.stop]
        values["record"] = [
            {"name": v.name, "dtype": v.dtype, "unit": v.unit, "meaning": v.meaning}
            for v in self.record
        ]
        return json.dumps(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the description that `to_json` wrote, parsed.

        Raises
        ------
        ValueError, TypeError, LookupError, BadParameter
            It is none, or of a newer version.
        """
        given = dict(values)
        if given.pop("format") != _FORMAT:
            raise ValueError("it is of a newer version of specserver")
        first, stop = given["window"]
        column, best = given["primary"]
        given |= {
            "grid": grid_from_dict(given["grid"]),
            "window": PixelRange(int(first), int(stop)),
            "record": tuple(Vector(**vector) for vector in given["record"]),
            "name_columns": tuple(given["name_columns"]),
            "primary": (str(column), int(best)),
            "bad_bits": int(given["bad_bits"]),
        }
        return cls(**given)


def plain_vector(vector: Vector) -> Vector:
    """Return a vector without what is said of its storage."""
    return Vector(vector.name, vector.dtype, vector.unit, vector.meaning)
