"""The declaration of a data folder's own survey, before its files are ingested."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ..catalog.tables.tablefile import read_table
from ..data.context import ContextFolder
from ..data.root import DataRoot
from ..errors import BadFile, BadParameter, IngestError, UnknownContext
from ..model.medium import AIR, VACUUM
from ..ops.wholefits import require_whole
from ..surveys import find_release, own_command
from ..surveys.anyfile import read_file
from ..surveys.declaration import HATS, Declaration
from ..surveys.generic import check_context_name, read_declaration, write_declaration
from ..surveys.statedunit import units_of_flux
from ..surveys.targets import FILE, OBJECT, normal_table
from ..surveys.unread import asked_for
from .declare_hats import hats_declaration, partitions
from .option_effects import OptionEffects, SurveyOptions, option_effects
from .plan import require_there, spectrum_files
from .report import Became, Note, Tally, open_report, refusal

_TRIED: Final = 20
"""Files tried until one is readable."""
_STEP_AA: Final = 1.0
Files: TypeAlias = Callable[[], Iterator[Path]]
"""Lists the files from the first one on."""


def declare(
    data: DataRoot,
    context: str,
    paths: Iterable[Path],
    options: SurveyOptions,
    report: Path | None = None,
) -> OptionEffects:
    """Declare a survey of one's own files or HATS catalogues, or change what was declared.

    The first readable file states the unit of flux and whether there are uncertainties; where there
    is none, a report is written. The result states which options also apply to stored files.

    Raises
    ------
    BadParameter
        The context belongs to an installed survey, an option cannot be met, or no file has a valid
        unit of flux.
    IngestError
        A path does not exist, no file can be read, or another ingest into the context is at
        work and the options would change the declaration.
    """
    _require_free(context)
    paths = list(paths)
    require_there(paths)
    files: Files = partial(spectrum_files, paths, options.catalog)
    if options.is_hats:
        files = partial(partitions, paths)
    if options.medium not in {"", AIR, VACUUM}:
        raise BadParameter("medium", options.medium, "air or vacuum")
    folder = data.context(context)
    with folder.writing() as lease:
        while True:
            before = read_declaration(data, context), bool(folder.segments())
            declared, effects = _declared(folder, before, files, options, report)
            with folder.leases.others(lease) as others:
                if (read_declaration(data, context), bool(folder.segments())) != before:
                    continue  # another command has declared it, or stored its first spectra
                if declared != before[0]:
                    if others:
                        raise IngestError(
                            f"an ingest into {context} is at work, and these options would change"
                            " what it goes by; wait for its end"
                        )
                    write_declaration(data, declared)
                    for old in folder.target_tables():
                        if old.name != declared.table:
                            old.delete()
                return effects


def _declared(
    folder: ContextFolder,
    before: tuple[Declaration | None, bool],
    files: Files,
    options: SurveyOptions,
    report: Path | None,
) -> tuple[Declaration, OptionEffects]:
    """Return the declaration that options make of the one before, and their effects.

    Parameters
    ----------
    before : the declaration, if there is one, and whether spectra are stored
    """
    present, fixed = before
    if options.is_hats:
        declared = hats_declaration(folder.name, present if fixed else None, files(), options)
        return declared, OptionEffects(declared=declared)
    if present is not None and present.reader == HATS:
        allowed = f"{folder.name} has spectra of HATS catalogues: say --reader hats"
        raise BadParameter("reader", options.reader, allowed)
    if present is None:
        declared = _first(folder.name, files, options, report)
    else:
        declared = _changed(present, options, fixed=fixed)
    if options.catalog is not None:
        declared = _with_table(folder, declared, options, present if fixed else None)
    effects = OptionEffects()
    if present is not None and fixed:
        effects = option_effects(
            present.defaults,
            declared.defaults,
            options,
            table=options.catalog is not None,
            rows_changed=_rows_changed(folder, present, declared),
        )
    first = next(files(), None)
    if first is not None and (own := own_command(first)):
        effects = replace(effects, own=own, example=first.name)
    return declared, replace(effects, declared=declared)


def _require_free(context: str) -> None:
    """Refuse the name of an installed survey's release."""
    check_context_name(context)
    try:
        survey, _ = find_release(context)
    except UnknownContext:
        return
    raise BadParameter(
        "context",
        context,
        f"it is a release of {survey.title}, which has a reader of its own: leave --reader out, or"
        " choose another name",
    )


def _first(context: str, files: Files, options: SurveyOptions, report: Path | None) -> Declaration:
    """Return a declaration of what the first readable file and the operator state."""
    reasons: list[str] = []
    no_unit: BadParameter | None = None
    for path in islice(files(), _TRIED):
        try:
            require_whole(path)
            spectra = read_file(path, options)
            first = spectra[0]
            given = options.flux_unit
            unit, example = (first.unit, path) if given is None else (given, None)
            flux_unit, ivar_unit = units_of_flux(unit, example)
        except (BadFile, OSError) as error:
            reasons.append(refusal(path, error))
            continue
        except BadParameter as error:
            if options.flux_unit is not None:
                raise
            reasons.append(str(error))
            no_unit = no_unit or error
            continue
        return Declaration(
            context=context,
            title=options.title or context,
            flux_unit=flux_unit,
            ivar_unit=ivar_unit,
            stated_unit=first.unit,
            has_ivar=first.ivar is not None,
            step_aa=float(options.step_aa or _STEP_AA),
            loader=options.loader,
            many_per_file=len(spectra) > 1,
            medium=options.medium,
            wave_unit=options.wave_unit,
            given_unit=None if options.flux_unit is None else flux_unit,
            vectors=options.vectors,
            reader=options.reader,
        )
    _report_refused(files, reasons, report)
    if no_unit is not None:
        raise no_unit
    pairs = list(zip(files(), reasons, strict=False))
    listed = "".join(f"\n  {path}: {why}" for path, why in pairs[:5])
    how = "" if options.vectors is None else f" with {asked_for(options.vectors)}"
    none = " there is none whose name ends as those of spectra do (.fits, .csv, …)"
    raise IngestError(f"no file can be read{how}:{listed or none}")


def _report_refused(files: Files, reasons: Sequence[str], report: Path | None) -> None:
    """Write a report: the first files were refused, the others were not read."""
    untried = f"not read: none of the {len(reasons)} files before it can be read"
    with open_report(report, Tally()) as told:
        for path, why in zip_longest(files(), reasons, fillvalue=""):
            became: Became = "refused" if why else "passed over"
            told.add([Note(str(path), became, why or untried)])


def _changed(present: Declaration, options: SurveyOptions, *, fixed: bool) -> Declaration:
    """Return a declaration changed by options; ``fixed`` if spectra are stored already."""
    units, given = (present.flux_unit, present.ivar_unit), present.given_unit
    if options.flux_unit is not None:
        asked = units_of_flux(options.flux_unit)
        # Stored files stated their unit: the option is for files that state none.
        units = units if fixed and present.stated_unit else asked
        given = asked[0]
    changed = replace(
        present,
        title=options.title or present.title,
        loader=options.loader or present.loader,
        step_aa=present.step_aa if options.step_aa is None else float(options.step_aa),
        flux_unit=units[0],
        ivar_unit=units[1],
        medium=options.medium or present.medium,
        wave_unit=options.wave_unit or present.wave_unit,
        given_unit=given,
        vectors=options.vectors or present.vectors,
        reader=options.reader if options.vectors else present.reader,
    )
    for option, now, before in (
        # An option that was left open may be given now: it applies to files that are still unread.
        ("medium", changed.medium, present.medium or changed.medium),
        ("wave-unit", changed.wave_unit, present.wave_unit or changed.wave_unit),
        ("step", changed.step_aa, present.step_aa),
        ("flux-unit", changed.flux_unit, present.flux_unit),
        ("flux-unit", given, given if present.given_unit is None else present.given_unit),
    ):
        if fixed and now != before:
            raise BadParameter(
                option,
                now,
                f"spectra of {present.context} are stored with {before!r}; ingest into another"
                " context, or delete this one's folder first",
            )
    return changed


def _with_table(
    folder: ContextFolder, declared: Declaration, options: SurveyOptions, stored: Declaration | None
) -> Declaration:
    """Keep a copy of the table of targets and return the declaration that names it.

    Spectra may be ``stored`` under an earlier declaration.
    """
    assert options.catalog is not None
    read = read_table(options.catalog)
    old, named = None, None
    if stored is not None and stored.table:
        old = pq.read_table(folder.entry(stored.table).local_path())
        named = OBJECT in old.column_names
    given = normal_table(read.table, options.columns, read.left_out, read.frame, named=named)
    if stored is not None and not stored.table:
        raise BadParameter(
            "catalog",
            str(options.catalog),
            f"spectra of {stored.context} are stored without a table, under identifiers made of"
            " the names of their files; ingest into another context, or delete this one's folder"
            " first",
        )
    if stored is not None and not stored.has_units:
        raise BadParameter(
            "catalog",
            str(options.catalog),
            f"an older version made {stored.context}, with a table that has a column flux_unit;"
            " ingest into another context",
        )
    if old is not None:
        _require_same_ids(old, given.table)
    buffer = pa.BufferOutputStream()
    pq.write_table(given.table, buffer, compression="zstd")
    content = buffer.getvalue().to_pybytes()
    table = folder.target_table(content)
    table.replace(content)
    return replace(declared, table=table.name, columns=given.columns)


def _require_same_ids(old: pa.Table, new: pa.Table) -> None:
    """Refuse a table that changes the identifiers of stored spectra."""
    before, after = _ids_by_name(old), _ids_by_name(new)
    moved = [name for name, number in before.items() if after.get(name, number) != number]
    if moved:
        raise BadParameter(
            "catalog",
            f"{new.num_rows:,} rows",
            f"it gives {moved[0]!r} another identifier than the table before; where there are no"
            " whole numbers for identifiers, rows are numbered: add new ones at the end",
        )


def _rows_changed(folder: ContextFolder, before: Declaration, now: Declaration) -> bool:
    """Return whether rows of an earlier table of targets have other values in the new one."""
    if not before.table or before.table == now.table:
        return False
    old, new = (
        pq.read_table(folder.entry(declared.table).local_path()) for declared in (before, now)
    )
    if old.column_names != new.column_names:
        return True
    rows = {row["id"]: repr(row) for row in new.to_pylist()}
    return any(rows.get(row["id"]) != repr(row) for row in old.to_pylist())


def _ids_by_name(table: pa.Table) -> dict[str, int]:
    """Return the identifier of each name or file of a kept table."""
    names, files, ids = (table.column(column).to_pylist() for column in ("name", FILE, "id"))
    pairs = zip(names, files, ids, strict=True)
    return {name or file: number for name, file, number in pairs if name or file}
