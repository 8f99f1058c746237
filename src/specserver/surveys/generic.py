"""A survey that a data folder declares: any files that specutils reads, on any wavelengths.

Every spectrum keeps its own wavelengths and its own unit of flux, which is never converted. Flux
and inverse variance are float64; numbers that it does not hold exactly are refused.
"""

import logging
import re
from dataclasses import asdict, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from ..damage import ABSENT, Identity
from ..data.context import ContextFolder, is_target_table
from ..data.root import DataRoot
from ..digests import hash64, seal
from ..errors import BadParameter, StoreError
from ..model.grid import Linear, PixelRange
from ..model.medium import AIR, MEDIUM_COLUMN, VACUUM
from ..model.survey import Best, Column, Fact, FileKey, RawSpectrum, Release, Survey, Vector
from .declaration import (
    COLUMNS,
    CORE,
    FORMAT,
    HATS,
    SPECUTILS,
    Declaration,
    NamedVectors,
    is_spectrum_name,
    stem_of,
)
from .hatsreader import HatsReader
from .hatstable import hats_survey, table_of

_DAMAGED: Final = "damaged"
_CONTEXT = re.compile(r"[a-z][a-z0-9_]{0,47}")
_RESERVED: Final = frozenset({"default", "spaces", "all"})
_DTYPES: Final = frozenset({"U", "?", *(f"<{kind}{n}" for kind in "iu" for n in (2, 4, 8))}) | {
    "i1", "u1", "<f4", "<f8",
}  # fmt: skip
_LOG = logging.getLogger(__name__)


class AnyFileReader:
    """Reads files with specutils; a table of targets or the headers identify the spectra."""

    def __init__(self, declared: Declaration, folder: ContextFolder) -> None:
        self.declared = declared
        self.folder = folder

    def identify(self, path: Path) -> FileKey | None:
        """Return a key for each name with an ending of a spectrum's file."""
        # Files with one stem hold one spectrum in different formats.
        return FileKey(path, (hash64(stem_of(path)),)) if is_spectrum_name(path) else None

    def is_companion(self, path: Path) -> bool:
        """Return False: each file is read by itself."""
        del path
        return False

    def read(self, path: Path) -> list[RawSpectrum]:
        """Read all spectra of a file; errors: those of `Reader.read`."""
        from .declaredfile import read_declared  # noqa: PLC0415  # slow to import

        return read_declared(self.declared, self.folder, path)


def survey_of(declared: Declaration, folder: ContextFolder) -> Survey:
    """Return the survey that a declaration in a context's folder describes."""
    if declared.reader == HATS:
        return hats_survey(declared, HatsReader(declared))
    unit = declared.flux_unit
    ivar = Vector("ivar", "<f8", declared.ivar_unit, "inverse variance; masked where unusable")
    record = (
        Vector("flux", "<f8", unit, "flux as the file gives it"),
        Vector("wavelength", "<f8", "Angstrom", "wavelength, in the medium of the spectrum"),
        *((ivar,) if declared.has_ivar else ()),
        Vector("mask", "<u4", "", "1: masked by the file, or flux or ivar unusable"),
    )
    release = Release(declared.context, declared.title, (declared.context,))
    survey = Survey(
        name=declared.context,
        title=declared.title,
        grid=Linear(start=0.0, step=declared.step_aa),
        window=PixelRange(0, 0),
        record=record,
        id_column=CORE[0],
        id_parts=("id", "name"),
        has_reduction=False,
        columns=(*declared.core, *declared.columns),
        aliases={"redshift": "z"},
        primary=("is_best", 1),
        best=Best("id", (("part", 1),)),
        z_column="z",
        indexed=(("class", "z"), ("z",)),
        class_column="class",
        name_form="{name}",
        facts=(Fact("class", "class"), Fact("subclass", "subclass"), Fact("z", "z", ".5f")),
        # A table of targets may have this column; it means what it means in SDSS.
        z_warning=("zwarning", 1),
        flux_scale=unit,
        mask_vector="mask",
        bad_bits=1,
        frame="as the files or their table give it; wavelengths in the medium that each row names",
        releases=(release,),
        reader=AnyFileReader(declared, folder),
        tables={"objects": "the first spectrum of each id (is_best = 1)", "spectra": "all spectra"},
        many_per_file=declared.many_per_file,
        medium=None,
    )
    return replace(survey, in_unit=partial(_in_unit, survey)) if declared.has_units else survey


def _in_unit(survey: Survey, unit: str) -> Survey:
    """Return a declared survey with its fluxes in another unit, as astropy reads it."""
    flux, ivar = _units(unit)
    own = {"flux": flux, "ivar": ivar}
    record = [replace(vector, unit=own.get(vector.name, vector.unit)) for vector in survey.record]
    return replace(survey, flux_scale=flux, record=tuple(record))


@lru_cache(maxsize=256)
def _units(text: str) -> tuple[str, str]:
    """Return the units of flux and ivar of the text of a row."""
    from .statedunit import units_of_flux  # noqa: PLC0415  # slow to import

    return units_of_flux(text)


def declared_survey(data: DataRoot, context: str) -> Survey | None:
    """Return the survey that a data folder declares for a context, or None.

    A declaration that is damaged, or of a newer version, raises `StoreError`.
    """
    if not _CONTEXT.fullmatch(context):
        return None
    folder = data.context(context)
    stamp = folder.declaration.stamp()
    return None if stamp == ABSENT else _survey_at(folder, stamp)


def declared_surveys(data: DataRoot) -> list[Survey]:
    """Return the surveys that a data folder declares, in order of their names.

    A damaged one is left out and logged, once for each state of its file.
    """
    found = []
    for folder in data.folders():
        try:
            survey = declared_survey(data, folder.name)
        except StoreError as error:
            _log_once(str(error), folder.declaration.state())
            continue
        if survey is not None:
            found.append(survey)
    return found


def read_declaration(data: DataRoot, context: str) -> Declaration | None:
    """Return a data folder's declaration of a context; None: it declares none."""
    survey = declared_survey(data, context)
    reader = survey.reader if survey else None
    return reader.declared if isinstance(reader, AnyFileReader | HatsReader) else None


def write_declaration(data: DataRoot, declared: Declaration) -> None:
    """Write a declaration; a running service uses it from its next request on."""
    _validate(declared)
    file = data.context(declared.context).declaration
    file.replace(seal(asdict(declared)))
    file.delete_drafts()


def is_context_name(name: str) -> bool:
    """Return whether a declared context can have a name."""
    return bool(_CONTEXT.fullmatch(name)) and name not in _RESERVED


def check_context_name(context: str) -> None:
    """Refuse a name that a declared context cannot have."""
    if not is_context_name(context):
        raise BadParameter(
            "context", context, "small letters, digits and _, a letter first: such as my_survey"
        )


@lru_cache(maxsize=256)
def _survey_at(folder: ContextFolder, stamp: Identity) -> Survey:
    """Return the survey of a declaration as it was at a time."""
    del stamp
    file = folder.declaration
    try:
        declared = _parsed(file.record(_DAMAGED, FORMAT).values, folder)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, BadParameter) as error:
        raise file.damaged(f"{_DAMAGED} ({error})") from error
    return survey_of(declared, folder)


def _parsed(values: dict[str, Any], folder: ContextFolder) -> Declaration:
    """Return the declaration of the values in a file, having checked them."""
    columns = tuple(Column(**column) for column in values.pop("columns", ()))
    if "medium" not in values:
        # Declared before that was a core column, which goes before the table's own of that name.
        columns = tuple(column for column in columns if column.name != MEDIUM_COLUMN)
    vectors = values.pop("vectors", None)
    vectors = None if vectors is None else NamedVectors(**vectors)
    declared = Declaration(**values, columns=columns, vectors=vectors)
    if declared.context != folder.name:
        raise ValueError(f"it declares {declared.context!r}")
    _validate(declared)
    return declared


def _validate(declared: Declaration) -> None:
    """Refuse an invalid declaration."""
    check_context_name(declared.context)
    units = (declared.flux_unit, declared.stated_unit, declared.ivar_unit)
    texts = [declared.title, *units, declared.loader, declared.given_unit or ""]
    vectors = declared.vectors
    if vectors is not None:
        texts += [vectors.flux, vectors.wave, vectors.error, vectors.ivar]
    reader = SPECUTILS if vectors is None else COLUMNS
    if declared.reader == HATS:
        reader = HATS
        table_of(declared)
    if not all(isinstance(text, str) for text in texts) or declared.reader != reader:
        raise ValueError(f"title, units, names and loader are texts, and the reader is {reader}")
    step: object = declared.step_aa
    if not (isinstance(step, float) and 0.0 < step < 1e6):
        raise BadParameter("step", declared.step_aa, "a number of Å above 0")
    flags = (declared.has_ivar, declared.many_per_file)
    if not all(isinstance(flag, bool) for flag in flags) or declared.format != FORMAT:
        raise ValueError(f"has_ivar, many_per_file are true or false, format is {FORMAT}")
    if stated := declared.wave_unit:
        from .statedunit import log_unit, wave_unit  # noqa: PLC0415  # slow to import

        plain = stated if log_unit(stated) is None else log_unit(stated) or "Angstrom"
        if wave_unit(plain) is None:
            allowed = "a unit of wavelengths: Angstrom, nm, um, or log10(Angstrom) of logarithms"
            raise BadParameter("wave-unit", stated, allowed)
    if declared.medium not in {"", AIR, VACUUM}:
        raise BadParameter("medium", declared.medium, "air or vacuum")
    if declared.table and not is_target_table(declared.table):
        raise ValueError(f"{declared.table!r} is no name of a table of targets")
    names = [column.name for column in (*declared.core, *declared.columns)]
    if len(set(names)) < len(names) or any(
        column.dtype not in _DTYPES for column in declared.columns
    ):
        raise ValueError("its columns have the same name twice, or a type that there is not")


@lru_cache(maxsize=256)
def _log_once(message: str, stamp: Identity) -> None:
    """Log a message about a file once for each state of the file."""
    _LOG.warning("%s (changed at %d ns)", message, stamp[2])
