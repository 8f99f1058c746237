"""The page of the documentation that shows a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .cases import Case
from .report import markdown

PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
_RESULTS: Final = (
    "<!-- results: written by `python -m benchmarks --write-docs`, not by hand -->",
    "<!-- end of the results -->",
)
_SCALE: Final = (
    "<!-- scale: written by `python -m benchmarks.scale --write-docs`, not by hand -->",
    "<!-- end of the scale -->",
)


def write_docs(result: Mapping[str, Any], cases: Mapping[str, Case], page: Path = PAGE) -> None:
    """Put a run and what limits its cases between the two marks of a page."""
    limits = [
        f"* **{record['title']}** (against {record['compared_with']}):"
        f" {cases[record['name']].limits}."
        for record in result["cases"]
        if record["name"] in cases
    ]
    shown = "\n".join([markdown(result), "", "## What limits each case", "", *limits])
    _put_between(_RESULTS, shown, page)


def write_scale(shown: str, page: Path = PAGE) -> None:
    """Put the tables of how all grows with the data between the two marks of a page."""
    _put_between(_SCALE, shown, page)


def _put_between(marks: tuple[str, str], shown: str, page: Path) -> None:
    """Replace what stands between two marks of a page."""
    begin, end = marks
    before, _, rest = page.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n\n{shown}\n\n{end}{after}", "utf-8")
