"""A stream of a composite spectrum: its head, its columns, the progress and the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import pyarrow as pa

from .head import VERSION

COLUMNS: Final[Mapping[str, pa.DataType]] = {
    "wavelength": pa.float64(),
    "flux": pa.float64(),
    "error": pa.float64(),
    "error_bootstrap": pa.float64(),
    "count": pa.int64(),
}
DONE: Final = "done"
"""Key in the metadata of a batch without rows: the number of spectra that are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeHead:
    """Metadata of a composite spectrum that is known before it is made."""

    context: str = ""
    survey: str = ""
    nspec: int
    """Spectra to be combined."""
    missing: tuple[str, ...] = ()
    """Identifiers left out: nothing was found for them, or nothing that can be read."""
    damaged: tuple[str, ...] = ()
    """Identifiers of spectra that are left out because they are damaged."""
    how: Mapping[str, Any]
    """How the spectra are combined: fields of the request, but the identifiers and redshifts."""
    medium: str
    """Medium of the wavelengths: ``vacuum``, or ``unknown``."""
    weighted: bool = True
    """False where the spectra state no uncertainties."""

    def to_json(self) -> dict[str, Any]:
        """Return the head as a JSON object."""
        return {
            "version": VERSION,
            "context": self.context,
            "survey": self.survey,
            "nspec": self.nspec,
            "missing": list(self.missing),
            "damaged": list(self.damaged),
            **self.how,
            "medium": self.medium,
            "weighted": self.weighted,
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read the head from a JSON object; raise `TypeError` for another."""
        own = {name: said[name] for name in cls.__slots__ if name in said and name != "how"}
        own |= {name: tuple(own.get(name, ())) for name in ("missing", "damaged")}
        how = {name: value for name, value in said.items() if name not in {*own, "version"}}
        return cls(**own, how=how)


@dataclass(frozen=True, slots=True)
class CompositeEnd:
    """Metadata of the batch that has the rows of a composite spectrum."""

    nused: int
    """Spectra that count in some pixel."""
    unit: str
    """Unit of flux and errors; empty for normalised spectra."""
    skipped: Mapping[str, tuple[int, Sequence[str]]]
    """By reason, how many spectra are left out, and the identifiers of the first of them."""

    def to_json(self) -> dict[str, Any]:
        """Return the end as a JSON object."""
        skipped = {
            reason: {"count": count, "ids": ids} for reason, (count, ids) in self.skipped.items()
        }
        return {"nused": self.nused, "unit": self.unit, "skipped": skipped}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Read the end from a JSON object; raise `KeyError` for another."""
        skipped = {
            reason: (some["count"], tuple(some["ids"])) for reason, some in said["skipped"].items()
        }
        return cls(said["nused"], said["unit"], skipped)
