"""A progress bar on stderr, in terminals and notebooks, when a transfer takes long."""

import sys
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE_S: Final = 1.0
_NOTEBOOK_COLUMNS: Final = 100


class Watch:
    """Shows how far a transfer is, in terminals and notebooks only.

    Parameters
    ----------
    what
        Things that are transferred, such as ``spectra``.
    at_once
        Show the bar at once, not after a second.
    """

    def __init__(self, what: str, *, at_once: bool = False) -> None:
        self._what = what
        self._notebook = in_notebook()
        self._watched = self._notebook or sys.stderr.isatty()
        self._begin = perf_counter() + (0.0 if at_once else _PATIENCE_S)
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        if not self._watched or (self._bar is None and perf_counter() < self._begin):
            return
        if self._bar is None:
            self._bar = _make_bar(notebook=self._notebook)
            self._task = self._bar.add_task(self._what, total=total)
            self._bar.start()
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)


def in_notebook() -> bool:
    """Return whether this runs in the kernel of a notebook."""
    # A kernel has loaded IPython already; it is not imported to find out.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _make_bar(*, notebook: bool) -> "Progress":
    """Return the bar; in a notebook as text that rewrites its line, which needs no widgets."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = (
        Console(file=sys.stderr, force_terminal=True, force_jupyter=False, width=_NOTEBOOK_COLUMNS)
        if notebook
        else Console(file=sys.stderr)
    )
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("time left"),
        TimeRemainingColumn(),
        console=console,
    )
