"""Finds what the columns of a HATS catalogue mean: by its metadata, its properties or their names.

Our own exports describe their spectra, which are read as they were published. In other catalogues
the lists are found by their usual names, or by those that the operator gives. Importing this takes
as long as importing astropy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import BadFile, BadParameter
from ..model.grid import Linear, PixelRange
from ..model.medium import MEDIUM_COLUMN
from ..model.nested import NestedSpectra
from ..model.skyframe import POSITION_COLUMNS
from ..model.survey import Vector
from .declaration import FileDefaults, NamedVectors
from .foundspectrum import INVERSE
from .hatscatalogue import OURS, CatalogueColumns, catalogue_columns, plain_name
from .hatsfolder import properties_of
from .hatstable import DECLARED, HatsTable, description_of, named_here
from .hatstypes import dtype_of, is_list, is_number, list_of, meaning_of, unit_of
from .namedcolumns import FoundColumns, find_columns, is_log_wave
from .statedunit import units_of_flux

_IDS: Final = (
    "id", "object_id", "objid", "obj_id", "specobjid", "targetid", "source_id", "spec_id", "specid",
)  # fmt: skip
_REDSHIFTS: Final = ("z", "redshift", "z_spec", "zspec", "zbest", "z_best")
_CLASSES: Final = ("class", "spectype", "objtype")
_OWN: Final = ("wavelength", "flux", "ivar", "mask")
"""Vectors of a known meaning."""
_ARRAYS: Final = ("id", "first", "count", "spectrum", "pixel")
"""Names of coordinates and dimensions of the arrays in which vectors are given."""
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
    except (pa.ArrowException, OSError) as error:
        raise BadFile(f"cannot be read: {str(error).partition(chr(10))[0]}") from error
    described = description_of(schema) if given.vectors is None else None
    return _others(path, schema, given) if described is None else _ours(schema, described, given)


def _ours(schema: pa.Schema, spectra: NestedSpectra, given: HatsDefaults) -> HatsTable:
    """Return the table of one of our exports."""
    identifier = _chosen(schema, given, "id") or spectra.id_column
    stated = {"ra": "ra", "dec": "dec", "z": spectra.z_column}
    for what, name in stated.items():
        if (_chosen(schema, given, what) or name) != name:
            said = f"{name!r}, as the export says, or none"
            raise BadParameter(f"{what}-column", dict(given.columns)[what], said)
    for name in ("ra", "dec", identifier, spectra.column, *spectra.name_columns):
        _require(schema, name)
    # Of a survey that a data folder declared, columns of these names are those of here.
    used = {"ra": "ra", "dec": "dec"}
    if not spectra.medium and MEDIUM_COLUMN in schema.names:
        used[MEDIUM_COLUMN] = MEDIUM_COLUMN
    columns = catalogue_columns(schema, used, OURS if spectra.name_columns == DECLARED else ())
    return _table(
        replace(named_here(spectra, columns.files), title=given.title or spectra.title),
        {vector.name: f"{spectra.column}.{vector.name}" for vector in spectra.record},
        columns,
        identifier,
        _id_type(schema, identifier),
    )


def stated_flux_unit(path: Path, table: HatsTable) -> str:
    """Return the unit of flux that a partition states; empty: none."""
    field = list_of(pq.read_schema(path), table.vectors["flux"])
    return "" if field is None else unit_of(field)


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
        bad_bits=bad_bits_of(lists[vectors["mask"]].type.value_type) if "mask" in vectors else 1,
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
        called = own.get(name) or plain_name(name.rpartition(".")[2], {*_OWN, *_ARRAYS, *vectors})
        vectors[called] = name
        dtype = dtype_of(part.type.value_type)
        meaning = meaning_of(part) or part.name
        vector = Vector(called, dtype, unit_of(part), meaning)
        record.append(stored_vector(vector, found.power, units))
    if "mask" not in vectors:
        record.append(Vector("mask", "<u4", "", "1: flux or ivar unusable"))
    return vectors, tuple(record), units[0]


def bad_bits_of(kind: pa.DataType) -> int:
    """Return the bits of masks of a type that mark bad pixels: all, as no meanings are known."""
    if pa.types.is_boolean(kind):
        return 1
    return int(np.iinfo(dtype_of(kind)).max) if pa.types.is_unsigned_integer(kind) else -1


def _vectors(schema: pa.Schema, given: HatsDefaults) -> tuple[dict[str, pa.Field], FoundColumns]:
    """Return the lists of numbers that are vectors, by path, and which are wave, flux, ivar."""
    seen: list[str] = []
    for prefix, lists in candidates(schema):
        seen += [prefix + name for name in lists]
        wanted = given.vectors
        if wanted is not None:
            plain = {key: name.removeprefix(prefix) for key, name in wanted.named.items()}
            wanted = NamedVectors(**plain)
        found = find_columns({name: unit_of(part) for name, part in lists.items()}, wanted)
        if found is not None:
            spread = found.uncertainty and prefix + found.uncertainty
            # Who names lists has no option for that of the mask.
            mask = mask_of(lists, prefix)
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


def mask_of(lists: Mapping[str, pa.Field], prefix: str) -> str | None:
    """Return the path of the list of masks among some lists; None: there is none."""
    masks = (
        name
        for name, part in lists.items()
        if name.lower() == "mask" and not pa.types.is_floating(part.type.value_type)
    )
    return next((prefix + name for name in masks), None)


def candidates(schema: pa.Schema) -> Iterator[tuple[str, dict[str, pa.Field]]]:
    """Yield the lists of numbers of each struct, and those of the table, with their prefix."""
    plain: dict[str, pa.Field] = {}
    for field in schema:
        kind = field.type
        if is_list(kind) and pa.types.is_struct(kind.value_type):
            # A list of structs is the same as a struct of lists.
            inner = {
                part.name: pa.field(part.name, pa.list_(part.type), metadata=part.metadata)
                for part in kind.value_type
                if is_number(part.type)
            }
            yield f"{field.name}.", inner
        elif pa.types.is_struct(kind):
            inner = {part.name: part for part in kind if _is_numbers(part.type)}
            yield f"{field.name}.", inner
        elif _is_numbers(kind):
            plain[field.name] = field
    yield "", plain


def _is_numbers(kind: pa.DataType) -> bool:
    """Return whether a type is one of lists of numbers."""
    return is_list(kind) and is_number(kind.value_type)


def stored_vector(vector: Vector, power: int, units: tuple[str, str]) -> Vector:
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
        if dtype_of(kind := schema.field(name).type) in {"", "?"}:
            raise BadFile(f"its column {name} is no position: it is of type {kind}")
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
