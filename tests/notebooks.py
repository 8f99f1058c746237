"""The notebooks of the guide, run cell by cell without Jupyter, and shown as pages."""

import ast
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from pages import ROOT, in_place
from serving import Served

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> Iterator[tuple[str, str]]:
    """Return an iterator over type and text of the cells of a notebook."""
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        yield cell["cell_type"], "".join(cell["source"])


def run_notebook(notebook: Path, folder: Path, running: Served) -> None:
    """Run a notebook in a folder; write there a page of it, with the pictures of its cells.

    The first cell that fails raises its error.
    """
    mpl.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    page: list[str] = []
    with in_place(folder, running), warnings.catch_warnings():
        warnings.simplefilter("default")
        for number, (kind, text) in enumerate(cells(notebook)):
            if kind == "markdown":
                page.append(text)
                continue
            page.append(f"```python\n{text}\n```")
            printed, value = _run(text, names)
            page += _shown(printed, value, notebook.stem, number)
    about = f"[This notebook]({notebook.name}) was run with the demonstration, `make demo`."
    page.insert(1, about)
    (folder / f"{notebook.stem}.md").write_text("\n\n".join(page) + "\n", "utf-8")


def _run(text: str, names: dict[str, Any]) -> tuple[str, Any]:
    """Run a cell; return what it prints, and the value of its last line if that is shown."""
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    value = None
    with redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return printed.getvalue(), None if text.rstrip().endswith(";") else value


def _shown(printed: str, value: Any, name: str, number: int) -> list[str]:
    """Return the output of a cell as parts of a page; write its pictures into this folder."""
    text, picture = printed.rstrip(), b""
    figures = [plt.figure(each) for each in plt.get_fignums()]
    if hasattr(value, "_repr_png_"):
        picture = value._repr_png_()
    elif hasattr(value, "savefig"):
        figures = [value]
    elif value is not None:
        shown = str(value) if hasattr(value, "colnames") else repr(value)
        text = f"{text}\n{shown}".lstrip("\n").rstrip()
    if figures and not picture:
        buffer = io.BytesIO()
        figures[-1].savefig(buffer, format="png", dpi=100)
        picture = buffer.getvalue()
    plt.close("all")
    parts = [f"```text\n{text}\n```"] if text else []
    if picture:
        Path(f"{number}.png").write_bytes(picture)
        parts.append(f"![Output of the cell above](../pictures/{name}/{number}.png)")
    return parts
