"""What an ingest did, as the commands that ingest print it."""

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from .console import ERROR, readable_bytes, tell
from .output import print_facts, print_json

if TYPE_CHECKING:
    from ..ingest import IngestSummary

_REFUSED_SHOWN: Final = 10
_LAYOUTS_SHOWN: Final = 20


def print_summary(summary: "IngestSummary", *, as_json: bool = False) -> None:
    """Print what an ingest did; notes and warnings on standard error."""
    if as_json:
        print_json([_record(summary)])
    else:
        print_facts(_facts(summary), f"ingest into {summary.context}")
    _print_layouts(summary.layouts)
    _print_refused(summary.refused)
    for note in summary.conflicts[:_REFUSED_SHOWN]:
        other = "as it was" if note.other == note.path else f"with {note.other}"
        tell("conflict", f"{note.path} {other}: {note.reason} ({_some(note.ids)})")
    for note in summary.differing[:_REFUSED_SHOWN]:
        tell("row differs", f"{note.path}: {note.reason} ({_some(note.ids)})")
    if summary.report is not None:
        tell("each file", str(summary.report))
    elif summary.nrefused or summary.nconflicts or summary.ndiffering:
        ERROR.print("--report FILE lists each file with its reason")
    for reduction, count in sorted(summary.other_reductions.items()):
        tell(
            "warning",
            f"reduction {reduction} is not of {summary.context}: {count:,} stored all the same"
            " (--strict refuses them)",
        )
    for text in summary.not_applied:
        tell("warning", text)
    for kind, count in sorted(summary.remarks.items()):
        tell(
            "warning",
            f"{kind}: {count:,} spectra, stored all the same (--report FILE lists them)",
        )
    if summary.pointings:
        tell(
            "warning",
            f"{summary.pointings:,} spectra are stored at the pointing of the telescope or in a"
            " system of positions that is not known: their files do not state the object's"
            " position (--catalog can)",
        )


def _facts(summary: "IngestSummary") -> dict[str, str]:
    """Return what an ingest did in words."""
    rate = summary.stored / summary.seconds if summary.seconds else 0.0
    facts = {
        "files": f"{summary.files:,}",
        "read": f"{summary.read:,}",
        "stored": f"{summary.stored:,} spectra in {summary.segments} segments",
        "already there": f"{summary.already:,}",
        "replaced": f"{summary.replaced:,}",
        "row differs": f"{summary.ndiffering:,}",
        "in conflict": f"{summary.nconflicts:,}",
        "refused": f"{summary.nrefused:,}",
        "in": readable_bytes(summary.nbytes_in),
        "out": readable_bytes(summary.nbytes_out),
        "time": f"{summary.seconds:.1f} s, {rate:.0f} spectra/s",
    }
    if summary.removed:
        facts["cleaned up"] = f"{summary.removed} segments of an interrupted run"
    return facts


def _record(summary: "IngestSummary") -> dict[str, Any]:
    """Return what an ingest did as a record."""
    return {
        "context": summary.context,
        "files": summary.files,
        "read": summary.read,
        "stored": summary.stored,
        "segments": summary.segments,
        "already_there": summary.already,
        "replaced": summary.replaced,
        "row_differs": summary.ndiffering,
        "in_conflict": summary.nconflicts,
        "refused": summary.nrefused,
        "bytes_in": summary.nbytes_in,
        "bytes_out": summary.nbytes_out,
        "seconds": round(summary.seconds, 3),
        "report": str(summary.report) if summary.report else None,
    }


def _some(ids: tuple[str, ...]) -> str:
    """Return the number of identifiers and the first few of them, as text."""
    return f"{len(ids):,}: " + ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")


def _print_refused(refused: list[tuple[str, str]]) -> None:
    """Print the reasons for which files were refused, with some of the files."""
    from ..surveys.declaration import IT_HOLDS

    reasons = Counter(reason.partition(IT_HOLDS)[0] for _, reason in refused)
    for shared, count in reasons.most_common(_REFUSED_SHOWN):
        example, reason = next(note for note in refused if note[1].partition(IT_HOLDS)[0] == shared)
        more = f" and {count - 1:,} more" if count > 1 else ""
        tell("refused", f"{example}{more}: {reason}")
    if len(reasons) > _REFUSED_SHOWN:
        ERROR.print(f"… and {len(reasons) - _REFUSED_SHOWN:,} more reasons")


def _print_layouts(layouts: Counter[str]) -> None:
    """Print how files were read, a line for each kind."""
    for layout, count in layouts.most_common(_LAYOUTS_SHOWN):
        tell("found", f"{count:,} spectra: {layout}")
    if len(layouts) > _LAYOUTS_SHOWN:
        ERROR.print(f"… and {len(layouts) - _LAYOUTS_SHOWN:,} more kinds of files")
