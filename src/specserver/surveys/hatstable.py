"""What the columns of a HATS catalogue mean: kept in the declaration of a context."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Final, Self

import pyarrow as pa

from ..errors import BadFile, BadParameter
from ..model.medium import MEDIUM_COLUMN
from ..model.nested import DESCRIPTION, NestedSpectra
from ..model.survey import Best, Column, Fact, Release, Survey
from .declaration import CORE, Declaration

_PART_FILES: Final = 50
"""Partitions that one process reads between two commits."""
_ID, _NAME, _RA, _DEC = (column.name for column in CORE[:4])
_PART: Final = "part"
_BEST: Final = "is_best"
DECLARED: Final = (_ID, _NAME)
"""Columns that name a spectrum of a survey that a data folder declared."""


@dataclass(frozen=True, slots=True)
class HatsTable:
    """How a catalogue has its spectra, and what its columns are called here."""

    spectra: NestedSpectra
    """The record as it is stored, and columns by their names here."""
    vectors: dict[str, str]
    """Vector → the column of lists of the file; ``struct.list`` where it is in a struct."""
    columns: dict[str, str]
    """Catalogue column → column of the file."""
    dtypes: dict[str, str]
    """Catalogue column → NumPy dtype text; ``U`` for text."""
    units: dict[str, str]
    """Catalogue column → unit, where there is one."""
    meanings: dict[str, str]
    identifier: str
    """Column of the file with the identifiers; empty: they are made of the places of the rows."""
    is_exact: bool
    """The spectra are as a survey publishes them: each bit stays as it is."""
    wave_unit: str = ""
    """Unit of the wavelengths in the file; ``log`` before it for logarithms."""
    power: int = 0
    """Power of flux of the uncertainties of the file; 0: there are none."""
    ivar_unit: str = ""
    """Unit of the uncertainties as the file states it."""

    def to_json(self) -> str:
        """Return the table as text, for the declaration."""
        values = asdict(self)
        values["spectra"] = json.loads(self.spectra.to_json())
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the table that `to_json` wrote; errors are those of `NestedSpectra.from_dict`."""
        values = json.loads(text)
        values["spectra"] = NestedSpectra.from_dict(values["spectra"])
        return cls(**values)

    @property
    def catalogue(self) -> tuple[Column, ...]:
        """The columns of the catalogue: those of the file, and those that every row has."""
        known = {column.name: column for column in CORE}
        own = {
            name: Column(name, dtype, self.units.get(name, ""), self.meanings.get(name, ""))
            for name, dtype in self.dtypes.items()
        }
        needed = [_ID, _NAME, _RA, _DEC, self.spectra.z_column, self.spectra.class_column]
        needed += [_PART, MEDIUM_COLUMN, *([] if self.has_primary else [_BEST])]
        return tuple(
            own.get(name) or known[name] for name in dict.fromkeys((*needed, *self.dtypes))
        )

    @property
    def has_primary(self) -> bool:
        """Whether a column of the file marks the best spectrum of each object."""
        return self.spectra.primary[0] in self.columns


def description_of(schema: pa.Schema) -> NestedSpectra | None:
    """Return the description that an export wrote into a file; None: it has none.

    Raises
    ------
    BadFile
        It cannot be read.
    """
    text = (schema.metadata or {}).get(DESCRIPTION)
    if text is None:
        return None
    try:
        return NestedSpectra.from_dict(json.loads(text))
    except (ValueError, TypeError, LookupError, BadParameter) as error:
        raise BadFile(f"what it says of its spectra cannot be read: {error}") from error


def named_here(spectra: NestedSpectra, columns: Mapping[str, str]) -> NestedSpectra:
    """Return the description of an export with the names that its columns have here.

    Parameters
    ----------
    columns : names here, and their names in the file
    """
    names = {own: name for name, own in columns.items()}
    named = tuple(names.get(name, name) for name in spectra.name_columns)
    best, value = spectra.primary
    return replace(
        spectra,
        name_columns=(_NAME,) if spectra.name_columns == DECLARED else named,
        z_column=names.get(spectra.z_column, "z"),
        class_column=names.get(spectra.class_column, "class"),
        primary=(names.get(best, _BEST), value),
    )


@lru_cache(maxsize=64)
def table_of(declared: Declaration) -> HatsTable:
    """Return what a declaration says of the columns of a HATS catalogue."""
    return HatsTable.from_json(declared.nested)


def hats_survey(declared: Declaration, reader: object) -> Survey:
    """Return the survey of a context that has the spectra of a HATS catalogue.

    Parameters
    ----------
    reader : reads its partitions
    """
    table = table_of(declared)
    spectra, columns = table.spectra, table.catalogue
    return Survey(
        name=declared.context,
        title=declared.title,
        grid=spectra.grid,
        window=spectra.window,
        record=spectra.record,
        id_column=columns[0],
        id_parts=(_ID, _NAME),
        has_reduction=False,
        columns=columns,
        aliases={} if spectra.z_column == "redshift" else {"redshift": spectra.z_column},
        primary=spectra.primary if table.has_primary else (_BEST, 1),
        best=None if table.has_primary else Best(_ID, ((_PART, 1),)),
        z_column=spectra.z_column,
        class_column=spectra.class_column,
        name_form="{name}",
        facts=(
            Fact("class", spectra.class_column),
            Fact("z", spectra.z_column, ".5f"),
        ),
        flux_scale=spectra.flux_unit,
        mask_vector=spectra.mask_vector,
        bad_bits=spectra.bad_bits,
        frame=spectra.frame,
        releases=(Release(declared.context, declared.title, (declared.context,)),),
        reader=reader,  # type: ignore[arg-type]  # it imports this module
        tables={"objects": "the best spectrum of each object", "spectra": "all spectra"},
        many_per_file=True,
        part_files=_PART_FILES,
        medium=None,
    )
