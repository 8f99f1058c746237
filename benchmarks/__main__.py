"""Run the benchmarks: ``python -m benchmarks``; ``make bench`` and ``make bench-quick`` do."""

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from .bench import Bench
from .cache import open_cache
from .cases import Case, all_cases
from .data import FULL, QUICK, Scale
from .documents import write_docs
from .measure import NotRun, Trial, read_gauge, take_turns
from .report import Row, collect, save, show

DATA_VARIABLE: Final = "SPECSERVER_BENCH_DATA"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say; return the exit status."""
    # What was started is stopped in an orderly way, whoever ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    asked = _arguments(arguments)
    cases = all_cases()
    if asked.list:
        sys.stdout.writelines(f"{name:24} {case.title}\n" for name, case in cases.items())
        return 0
    if asked.write_docs:
        write_docs(json.loads(asked.write_docs.read_text("utf-8")), cases)
        return 0
    names = asked.only.split(",") if asked.only else list(cases)
    if unknown := [name for name in names if name not in cases]:
        sys.stderr.write(f"no such case: {', '.join(unknown)}; --list names them\n")
        return 2
    scale = QUICK if asked.quick else FULL
    chosen = [cases[name] for name in names]
    result = run(asked.data.absolute(), scale, chosen, asked.rounds or scale.rounds)
    show(result)
    if not asked.only:
        sys.stdout.write(f"kept as {save(result).relative_to(Path(__file__).parents[1])}\n")
    return int(any(record["note"].startswith("failed") for record in result["cases"]))


def run(folder: Path, scale: Scale, cases: Sequence[Case], rounds: int) -> dict[str, Any]:
    """Run cases with the data of a folder; return the result as it is kept."""
    with open_cache(folder) as cache, ExitStack() as stack:
        bench = Bench(cache, scale, stack)
        rows = [_run_case(bench, case, rounds) for case in cases]
        return collect(rows, scale, bench.packages)


def _run_case(bench: Bench, case: Case, rounds: int) -> Row:
    """Run one case, and end what it alone had started."""
    began = perf_counter()
    try:
        prepared = case.prepare(bench)
        if isinstance(prepared, Trial):
            row = Row(case, take_turns(prepared, rounds))
        else:
            row = Row(case, read_gauge(prepared, rounds))
    except NotRun as reason:
        row = Row(case, None, f"not run: {reason}")
    except Exception as error:  # noqa: BLE001  # the other cases are worth their time all the same
        traceback.print_exc()
        row = Row(case, None, f"failed: {type(error).__name__}: {error}")
    finally:
        bench.case_stack.close()
    sys.stderr.write(f"{case.name}: {perf_counter() - began:.1f} s\n")
    return row


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments, parsed."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    usual = Path(os.environ.get(DATA_VARIABLE) or Path(__file__).parent / "data-cache")
    parser.add_argument("--quick", action="store_true", help="less data and fewer rounds")
    parser.add_argument("--only", metavar="CASE,…", help="these cases; nothing is kept")
    parser.add_argument("--rounds", type=int, metavar="N", help="measurements of each kind")
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument(
        "--data", type=Path, default=usual, help=f"folder of the data; also {DATA_VARIABLE}"
    )
    parser.add_argument(
        "--write-docs", type=Path, metavar="RESULT", help="put a kept run into the documentation"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
