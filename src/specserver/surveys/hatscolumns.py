"""Finds what the columns of a HATS catalogue mean: by its metadata, its properties or their names.

Our own exports describe their spectra, which are read as they were published. In other catalogues
the lists are found by their usual names, or by those that the operator gives. Importing this takes
as long as importing astropy.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import BadFile, BadParameter
from ..model.grid import Linear, PixelRange
from ..model.medium import MEDIUM_COLUMN
from ..model.nested import DESCRIPTION, NestedSpectra
from ..model.skyframe import POSITION_COLUMNS
from ..model.survey import Vector
from .declaration import FileDefaults, NamedVectors
from .foundspectrum import INVERSE
from .hatscatalogue import (
    OURS,
    CatalogueColumns,
    catalogue_columns,
    dtype_of,
    meaning_of,
    plain_name,
    unit_of,
)
from .hatsfolder import properties_of
from .hatstable import HatsTable
from .namedcolumns import FoundColumns, find_columns, is_log_wave
from .statedunit import units_of_flux

_IDS: Final = (
    "id", "object_id", "objid", "obj_id", "specobjid", "targetid", "source_id", "spec_id", "specid",
)  # fmt: skip
_REDSHIFTS: Final = ("z", "redshift", "z_spec", "zspec", "zbest", "z_best")
_CLASSES: Final = ("class", "spectype", "objtype")
_OWN: Final = ("wavelength", "flux", "ivar", "mask")
"""Vectors of a known meaning."""
_LOG: Final = "log"
"""Is before the unit of wavelengths that are logarithms: `HatsTable.wave_unit`."""


@dataclass(frozen=True, slots=True)
class HatsDefaults(FileDefaults):
    """What the operator states about a catalogue, where it does not state it itself."""

    title: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    """Columns for id, ra, dec and z, if their names are unusual: meaning and name."""
    step_aa: float = 1.0


def find_table(path: Path, given: HatsDefaults) -> HatsTable:
    """Return what the columns of a partition mean.

    Raises
    ------
    BadFile
        It is no Parquet file, or has no spectra.
    BadParameter
        A column that the operator names does not exist, or the unit of flux is not known.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadFile(f"cannot be read: {str(error).partition(chr(10))[0]}") from error
    described = (schema.metadata or {}).get(DESCRIPTION)
    if described is not None and given.vectors is None:
        return _ours(schema, _description(described), given)
    return _others(path, schema, given)


def _description(text: bytes) -> NestedSpectra:
    """Return the description that an export wrote."""
    try:
        return NestedSpectra.from_dict(json.loads(text))
    except (ValueError, TypeError, LookupError, BadParameter) as error:
        raise BadFile(f"what it says of its spectra cannot be read: {error}") from error


def _ours(schema: pa.Schema, spectra: NestedSpectra, given: HatsDefaults) -> HatsTable:
    """Return the table of one of our exports."""
    identifier = _chosen(schema, given, "id") or spectra.id_column
    for name in ("ra", "dec", identifier, spectra.column, *spectra.name_columns):
        _require(schema, name)
    # Of a survey that a data folder declared, columns of these names are those of here.
    is_declared = spectra.name_columns == ("id", "name")
    used = {"ra": "ra", "dec": "dec"}
    if not spectra.medium and MEDIUM_COLUMN in schema.names:
        used[MEDIUM_COLUMN] = MEDIUM_COLUMN
    columns = catalogue_columns(schema, used, OURS if is_declared else ())
    named = [columns.name_of(name, name) for name in spectra.name_columns]
    best, value = spectra.primary
    return _table(
        replace(
            spectra,
            title=given.title or spectra.title,
            name_columns=("name",) if is_declared else tuple(named),
            z_column=columns.name_of(spectra.z_column, "z"),
            class_column=columns.name_of(spectra.class_column, "class"),
            primary=(columns.name_of(best, "is_best"), value),
        ),
        {vector.name: f"{spectra.column}.{vector.name}" for vector in spectra.record},
        columns,
        identifier,
        _id_type(schema, identifier),
    )


def _table(
    spectra: NestedSpectra,
    vectors: dict[str, str],
    columns: CatalogueColumns,
    identifier: str,
    id_type: str,
) -> HatsTable:
    """Return the table of spectra that are stored as they are in the file."""
    return HatsTable(
        spectra=spectra,
        vectors=vectors,
        columns=columns.files,
        dtypes={**columns.dtypes, "id": id_type},
        units=columns.units,
        meanings=columns.meanings,
        identifier=identifier,
        is_exact=True,
    )


def _others(path: Path, schema: pa.Schema, given: HatsDefaults) -> HatsTable:
    """Return the table of another catalogue."""
    lists, found = _vectors(schema, given)
    stated, wave_stated = unit_of(lists[found.flux]), unit_of(lists[found.wave])
    vectors, record, flux_unit = _record(path, lists, found, given, stated)
    ra, dec = _position(path, schema, given)
    columns = catalogue_columns(schema, {"ra": ra, "dec": dec})
    z = _chosen(schema, given, "z") or _usual(schema, _REDSHIFTS)
    identifier = _chosen(schema, given, "id") or _usual(schema, _IDS)
    spectra = NestedSpectra(
        column=found.flux.rpartition(".")[0],
        title=given.title or properties_of(path).get("obs_collection", ""),
        grid=Linear(start=0.0, step=given.step_aa),
        window=PixelRange(0, 0),
        record=record,
        id_column="id",
        name_columns=(),
        z_column=columns.name_of(z, "z"),
        class_column=columns.name_of(_usual(schema, _CLASSES), "class"),
        primary=("is_best", 1),
        flux_unit=flux_unit,
        mask_vector="mask",
        bad_bits=_bad_bits(lists[vectors["mask"]]) if "mask" in vectors else 1,
        frame="as the catalogue gives it; wavelengths in the medium that each row names",
        medium=given.medium,
    )
    id_type = _id_type(schema, identifier) if identifier else "<i8"
    wave_unit = wave_stated or given.wave_unit
    is_log = is_log_wave(found.wave.rpartition(".")[2])
    return replace(
        _table(spectra, vectors, columns, identifier, id_type),
        is_exact=False,
        wave_unit=_LOG * is_log + wave_unit,
        power=found.power,
        ivar_unit=unit_of(lists[found.uncertainty]) if found.uncertainty else "",
    )


def _record(
    path: Path,
    lists: dict[str, pa.Field],
    found: FoundColumns,
    given: HatsDefaults,
    stated: str,
) -> tuple[dict[str, str], tuple[Vector, ...], str]:
    """Return vector → list of the file, the record as it is stored, and the unit of flux."""
    if not stated and given.flux_unit is None:
        raise BadParameter(
            "flux-unit",
            None,
            f"{found.flux} states no unit: say --flux-unit '1e-17 erg / (s cm2 Angstrom)', or ''"
            " for a pure number",
        )
    units = (
        units_of_flux(stated, path) if given.flux_unit is None else units_of_flux(given.flux_unit)
    )
    own = {found.wave: "wavelength", found.flux: "flux"}
    own |= {name: "ivar" for name in (found.uncertainty,) if name}
    own |= {name: "mask" for name in (found.mask,) if name}
    vectors: dict[str, str] = {}
    record = []
    for name, part in lists.items():
        called = own.get(name) or plain_name(name.rpartition(".")[2], {*_OWN, *vectors})
        vectors[called] = name
        dtype = dtype_of(part.type.value_type)
        meaning = meaning_of(part) or part.name
        vector = Vector(called, dtype, unit_of(part), meaning)
        record.append(_stored(vector, found.power, units))
    if "mask" not in vectors:
        record.append(Vector("mask", "<u4", "", "1: flux or ivar unusable"))
    return vectors, tuple(record), units[0]


def _bad_bits(part: pa.Field) -> int:
    """Return the bits of a list of masks that mark bad pixels: all, as no meanings are known."""
    kind = part.type.value_type
    if pa.types.is_boolean(kind):
        return 1
    return int(np.iinfo(dtype_of(kind)).max) if pa.types.is_unsigned_integer(kind) else -1


def _vectors(schema: pa.Schema, given: HatsDefaults) -> tuple[dict[str, pa.Field], FoundColumns]:
    """Return the lists of numbers that are vectors, by path, and which are wave, flux, ivar."""
    seen: list[str] = []
    for prefix, lists in _candidates(schema):
        seen += [prefix + name for name in lists]
        wanted = given.vectors
        if wanted is not None:
            plain = {key: name.removeprefix(prefix) for key, name in wanted.named.items()}
            wanted = NamedVectors(**plain)
        found = find_columns({name: unit_of(part) for name, part in lists.items()}, wanted)
        if found is not None:
            spread = found.uncertainty and prefix + found.uncertainty
            # Who names lists has no option for that of the mask.
            masks = (
                name
                for name, part in lists.items()
                if name.lower() == "mask" and not pa.types.is_floating(part.type.value_type)
            )
            mask = next((prefix + name for name in masks), None)
            paths = FoundColumns(
                prefix + found.wave, prefix + found.flux, spread, found.power, mask
            )
            return {prefix + name: part for name, part in lists.items()}, paths
    has = f"; it has the lists {', '.join(seen)}" if seen else "; it has no columns of lists"
    asked = "" if given.vectors is None else " of these names"
    raise BadFile(
        f"it has no lists of wavelengths and flux{asked}: say --wave and --flux, as in"
        f" --flux spectrum.flux{has}"
    )


def _candidates(schema: pa.Schema) -> Iterator[tuple[str, dict[str, pa.Field]]]:
    """Yield the lists of numbers of each struct, and those of the table, with their prefix."""
    plain: dict[str, pa.Field] = {}
    for field in schema:
        kind = field.type
        if _is_list(kind) and pa.types.is_struct(kind.value_type):
            # A list of structs is the same as a struct of lists.
            inner = {
                part.name: pa.field(part.name, pa.list_(part.type), metadata=part.metadata)
                for part in kind.value_type
                if _is_number(part.type)
            }
            yield f"{field.name}.", inner
        elif pa.types.is_struct(kind):
            inner = {part.name: part for part in kind if _is_numbers(part.type)}
            yield f"{field.name}.", inner
        elif _is_numbers(kind):
            plain[field.name] = field
    yield "", plain


def _is_list(kind: pa.DataType) -> bool:
    """Return whether a type is one of lists."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_numbers(kind: pa.DataType) -> bool:
    """Return whether a type is one of lists of numbers."""
    return _is_list(kind) and _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    """Return whether a type is one of numbers or flags."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _stored(vector: Vector, power: int, units: tuple[str, str]) -> Vector:
    """Return a vector in the unit and the type in which it is stored.

    Parameters
    ----------
    power : of the uncertainties of the file
    units : of flux and ivar
    """
    if vector.name == "wavelength":
        return Vector(vector.name, "<f8", "Angstrom", "wavelength, in the medium of the spectrum")
    if vector.name == "flux":
        return replace(vector, unit=units[0])
    if vector.name == "ivar":
        dtype = vector.dtype if power == INVERSE else "<f8"
        return Vector(vector.name, dtype, units[1], "inverse variance")
    if vector.name == "mask" and vector.dtype == "?":
        return replace(vector, dtype="<u4", meaning="1: masked, or flux or ivar unusable")
    # Flags are stored as numbers.
    return replace(vector, dtype="u1") if vector.dtype == "?" else vector


def _position(path: Path, schema: pa.Schema, given: HatsDefaults) -> tuple[str, str]:
    """Return the columns of right ascension and declination."""
    stated = properties_of(path)
    found = []
    for what in ("ra", "dec"):
        name = _chosen(schema, given, what) or stated.get(f"hats_col_{what}", "")
        found.append(name or stated.get(f"{what}_column", ""))
    if not all(found):
        lowered = {name.lower(): name for name in schema.names}
        pairs = [pair for pair in POSITION_COLUMNS if lowered.keys() >= set(pair)]
        if not pairs:
            raise BadFile("no columns of positions: say --ra-column and --dec-column")
        found = [lowered[name] for name in pairs[0]]
    for name in found:
        _require(schema, name)
    return found[0], found[1]


def _id_type(schema: pa.Schema, name: str) -> str:
    """Return the type of identifiers; those of text become signed numbers."""
    kind = schema.field(name).type
    if pa.types.is_integer(kind):
        return "<u8" if pa.types.is_uint64(kind) else "<i8"
    if dtype_of(kind) == "U":
        return "<i8"
    raise BadParameter("id-column", name, f"whole numbers or text, not {kind}")


def _chosen(schema: pa.Schema, given: HatsDefaults, what: str) -> str:
    """Return the column that the operator names for a meaning; empty: none."""
    name = dict(given.columns).get(what, "")
    if not name:
        return ""
    lowered = {known.lower(): str(known) for known in reversed(schema.names)}
    if name.lower() not in lowered:
        raise BadParameter(f"{what}-column", name, f"one of {', '.join(schema.names)}")
    return name if name in schema.names else lowered[name.lower()]


def _usual(schema: pa.Schema, names: tuple[str, ...]) -> str:
    """Return the first column of a usual name that holds single values; empty: there is none."""
    lowered = {str(f.name).lower(): str(f.name) for f in reversed(list(schema)) if dtype_of(f.type)}
    return next((lowered[name] for name in names if name in lowered), "")


def _require(schema: pa.Schema, name: str) -> None:
    """Refuse a file without a column."""
    if name not in schema.names:
        raise BadFile(f"it has no column {name}; it has {', '.join(schema.names[:20])}")
