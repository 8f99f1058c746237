"""What came of a run: a table for the eye, JSON for keeping, Markdown for the documentation."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table

from .cases import Case
from .data import Scale
from .measure import Outcome, Spread

RESULTS: Final = Path(__file__).parent / "results"
_FORMAT: Final = 1
_PACKAGES: Final = (
    "specserver", "numpy", "tensorstore", "numcodecs", "pyarrow", "duckdb", "fastapi", "uvicorn",
    "urllib3", "astropy", "specutils", "matplotlib", "pillow", "psycopg",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A case and what came of it: an outcome, or why there is none."""

    case: Case
    outcome: Outcome | None
    trouble: str = ""
    """``not run: …`` or ``failed: …``."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is no target or no outcome."""
        judged = self._judged
        if judged is None or self.case.target is None:
            return None
        return judged.median <= self.case.target

    @property
    def met_in_process(self) -> bool | None:
        """Whether the target is met without the way over the network; None where not measured."""
        inside = self.outcome.in_process_ratio if self.outcome else None
        if inside is None or self.case.target is None:
            return None
        return inside.median <= self.case.target

    @property
    def _judged(self) -> Spread | None:
        """What the target is held against: the ratio, or the value itself."""
        if self.outcome is None:
            return None
        return self.outcome.ratio or self.outcome.ours


def collect(rows: Sequence[Row], scale: Scale, packages: Mapping[str, str]) -> dict[str, Any]:
    """Return a run as it is kept: commit, machine, versions, and a record for each case.

    Parameters
    ----------
    packages : more versions, such as a database's
    """
    return {
        "format": _FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "scale": asdict(scale),
        "machine": _machine(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            **packages,
        },
        "cases": [_record(row, scale) for row in rows],
    }


def save(result: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write a run into a file of its own, named by date, commit and scale; return its path."""
    date = result["date"][:10]
    commit = (result["commit"] or "nocommit")[:9]
    scale = result["scale"]["name"]
    ending = "" if scale == "full" else f"-{scale}"
    path = folder / f"{date}-{commit}{ending}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def show(result: Mapping[str, Any]) -> None:
    """Print a run as a table."""
    table = Table(title=f"specserver against what there is, {result['scale']['name']} scale")
    table.add_column("case", overflow="fold", ratio=3)
    table.add_column("reference", overflow="fold", ratio=3)
    for name in ("ours", "reference", "ratio", "least … most", "target", "met"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in result["cases"]:
        for cells in _lines(record):
            table.add_row(*cells, style="" if record["met"] is not False else "yellow")
    Console(width=None if os.isatty(1) else 170).print(table)


def markdown(result: Mapping[str, Any]) -> str:
    """Return a run as a table for the documentation."""
    head = ("case", "reference", "ours", "reference", "ratio", "least … most", "target", "met")
    rows = [cells for record in result["cases"] for cells in _lines(record)]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    machine, versions = result["machine"], result["versions"]
    about = (
        f"Measured on {result['date'][:10]} at commit `{result['commit'][:9]}`"
        f"{' with changes' if result['changed'] else ''}. The machine has {machine['cores']} cores"
        f" ({machine['cpu']}), {machine['memory_gb']:.0f} GB of memory and {machine['system']}."
        f" Versions: {', '.join(f'{name} {number}' for name, number in versions.items())}."
    )
    notes = [
        f"* {record['title']}: {record['note']}" for record in result["cases"] if record["note"]
    ]
    return "\n".join([about, "", *lines, "", *notes])


def _record(row: Row, scale: Scale) -> dict[str, Any]:
    """Return a case as it is kept."""
    outcome = row.outcome
    words = asdict(scale)

    def spread(one: Spread | None) -> dict[str, float] | None:
        values = asdict(one) if one else None
        return {name: float(f"{value:.4g}") for name, value in values.items()} if values else None

    return {
        "name": row.case.name,
        "title": row.case.title.format(**words),
        "compared_with": row.case.reference.format(**words),
        "unit": row.case.unit,
        "ours": spread(outcome.ours) if outcome else None,
        "reference": spread(outcome.reference) if outcome else None,
        "ratio": spread(outcome.ratio) if outcome else None,
        "in_process": spread(outcome.in_process) if outcome else None,
        "in_process_ratio": spread(outcome.in_process_ratio) if outcome else None,
        "rounds": outcome.rounds if outcome else 0,
        "target": row.case.target,
        "met": row.met,
        "met_in_process": row.met_in_process,
        "note": outcome.note if outcome else row.trouble,
    }


def _lines(record: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of a case, with a second line for what was measured in process."""
    title, other, unit = record["title"], record["compared_with"], record["unit"]
    if record["ours"] is None:
        trouble, _, _ = record["note"].partition(":")
        return [[title, other, "", "", "", "", _target(record), trouble]]
    reference = _text(record["reference"], unit)
    lines = [
        [
            title, other, _text(record["ours"], unit), reference, *_ratio(record["ratio"]),
            _target(record), _met(record["met"]),
        ]
    ]  # fmt: skip
    if record["in_process"]:
        lines.append(
            [
                "… in process, without HTTP", "", _text(record["in_process"], unit), reference,
                *_ratio(record["in_process_ratio"]), _target(record),
                _met(record["met_in_process"]),
            ]
        )  # fmt: skip
    return lines


def _text(spread: Mapping[str, float] | None, unit: str) -> str:
    """Return the middle of a spread with its unit; of times, one that fits."""
    if spread is None:
        return "—"
    value = spread["median"]
    if unit != "s":
        return f"{value:.3g} {unit}".strip()
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"


def _ratio(spread: Mapping[str, float] | None) -> tuple[str, str]:
    """Return the middle of a ratio, and its ends."""
    if spread is None:
        return "—", ""
    return f"{spread['median']:.2f}", f"{spread['least']:.2f} … {spread['most']:.2f}"


def _target(record: Mapping[str, Any]) -> str:
    """Return the target as text."""
    if record["target"] is None:
        return "—"
    unit = "" if record["ratio"] or record["unit"] == "s" else f" {record['unit']}"
    return f"≤ {record['target']:g}{unit}"


def _met(met: bool | None) -> str:
    """Return whether a target is met, as a word."""
    return "—" if met is None else "yes" if met else "no"


def _machine() -> dict[str, Any]:
    """Return what a reader must know of the machine, and no name of it."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")


def _git(*words: str) -> str:
    """Return what git says of the checkout; empty outside of one."""
    found = subprocess.run(
        ["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip()
