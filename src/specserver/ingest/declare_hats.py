"""The declaration of a context that has the spectra of a HATS catalogue."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

from ..errors import BadFile, BadParameter, IngestError
from ..surveys.declaration import HATS, Declaration
from ..surveys.hatscolumns import HatsDefaults, find_table, stated_flux_unit
from ..surveys.hatsfolder import is_of_objects, is_partition
from ..surveys.hatstable import HatsTable, table_of
from .option_effects import SurveyOptions
from .plan import find_files

_TRIED: Final = 20
"""Partitions tried until one is readable."""
_STEP_AA: Final = 1.0


def partitions(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of partitions of catalogues of objects, in folders and below them."""
    return (path for path in find_files(paths, is_partition) if is_of_objects(path))


def hats_declaration(
    context: str, present: Declaration | None, files: Iterator[Path], options: SurveyOptions
) -> Declaration:
    """Return the declaration of a context by what the first readable partition has.

    Parameters
    ----------
    present : by which spectra are stored already; None: none are

    Raises
    ------
    BadParameter
        An option cannot be met, or differs from what spectra are stored with.
    IngestError
        There is no partition that can be read.
    """
    others = {
        "catalog": options.catalog,
        "loader": options.loader,
        "file-column": options.columns.get("file"),
    }
    for option, given in others.items():
        if given:
            raise BadParameter(option, given, "not with --reader hats")
    if present is not None:
        _require_same(present, options)
        return replace(present, title=options.title or present.title)
    defaults = HatsDefaults(
        medium=options.medium,
        wave_unit=options.wave_unit,
        flux_unit=options.flux_unit,
        vectors=options.vectors,
        title=options.title,
        columns=tuple(options.columns.items()),
        step_aa=float(options.step_aa or _STEP_AA),
    )
    reasons = []
    for path in islice(files, _TRIED):
        try:
            table = find_table(path, defaults)
        except BadFile as error:
            reasons.append(f"\n  {path}: {error}")
            continue
        spectra = table.spectra
        units = {vector.name: vector.unit for vector in spectra.record}
        return Declaration(
            context=context,
            title=spectra.title or context,
            flux_unit=spectra.flux_unit,
            stated_unit=spectra.flux_unit if table.is_exact else stated_flux_unit(path, table),
            ivar_unit=units.get("ivar", ""),
            has_ivar="ivar" in units,
            step_aa=defaults.step_aa,
            many_per_file=True,
            medium=options.medium,
            wave_unit=options.wave_unit,
            given_unit=options.flux_unit,
            vectors=options.vectors,
            reader=HATS,
            nested=table.to_json(),
        )
    none = " there is none: a partition is .../Norder=K/Dir=D/Npix=N.parquet"
    raise IngestError(f"no partition of a HATS catalogue can be read:{''.join(reasons) or none}")


def _require_same(present: Declaration, options: SurveyOptions) -> None:
    """Refuse options that differ from those by which spectra are stored."""
    for option, now, before in (
        ("reader", HATS, present.reader),
        ("flux", options.vectors or present.vectors, present.vectors),
        ("medium", options.medium or present.medium, present.medium),
        ("wave-unit", options.wave_unit or present.wave_unit, present.wave_unit),
        (
            "flux-unit",
            present.given_unit if options.flux_unit is None else options.flux_unit,
            present.given_unit,
        ),
        ("step", options.step_aa or present.step_aa, present.step_aa),
        *(_columns(present, options) if present.reader == HATS else ()),
    ):
        if now != before:
            raise BadParameter(
                option,
                now,
                f"spectra of {present.context} are stored with {before!r}; ingest into another"
                " context, or delete this one's folder first",
            )


def _columns(present: Declaration, options: SurveyOptions) -> Iterator[tuple[str, str, str]]:
    """Yield options of columns, the column that each asks for, and that of the stored spectra."""
    table = table_of(present)
    used = {what: table.columns.get(what, "") for what in ("ra", "dec")}
    used |= {"id": table.identifier, "z": table.columns.get(table.spectra.z_column, "")}
    for what, name in used.items():
        yield f"{what}-column", _spelt(options.columns.get(what) or name, name, table), name


def _spelt(given: str, before: str, table: HatsTable) -> str:
    """Return the name of a column as the files spell it, if it is that of before in other case."""
    is_another = given in table.columns.values()
    return before if given.lower() == before.lower() and not is_another else given
