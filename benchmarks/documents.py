"""The page of the documentation that shows a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .cases import Case
from .report import markdown

PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
_BEGIN: Final = "<!-- results: written by `python -m benchmarks --write-docs`, not by hand -->"
_END: Final = "<!-- end of the results -->"


def write_docs(result: Mapping[str, Any], cases: Mapping[str, Case], page: Path = PAGE) -> None:
    """Put a run and what limits its cases between the two marks of a page."""
    text = page.read_text("utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    limits = [
        f"* **{record['title']}** (against {record['compared_with']}):"
        f" {cases[record['name']].limits}."
        for record in result["cases"]
        if record["name"] in cases
    ]
    shown = "\n".join([markdown(result), "", "## What limits each case", "", *limits])
    page.write_text(f"{before}{_BEGIN}\n\n{shown}\n\n{_END}{after}", "utf-8")
