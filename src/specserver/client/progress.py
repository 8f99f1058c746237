"""One progress bar, in terminals and notebooks, of work that takes long: a transfer, an ingest.

It vanishes at its end: a file, a pipe and an exported notebook hold nothing of it.
"""

import sys
from collections import deque
from datetime import timedelta
from importlib import import_module
from math import inf
from threading import Lock
from time import perf_counter
from typing import Any, Final, Protocol, Self

_PATIENCE_S: Final = 2.0
_PAUSE_S: Final = 0.1
_RATE_S: Final = 30.0
"""The rate is that of so much time."""
_ENDS: Final = 2
_SHOWN: Final = Lock()
"""Held while a bar is shown: if several threads transfer, only one shows a bar."""


class Watch:
    """Shows how far work is, from its third second on.

    Parameters
    ----------
    what
        Things that are done, such as ``spectra``.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._notebook = in_notebook()
        watched = self._notebook or sys.stderr.isatty()
        begun_s = perf_counter()
        self._states = deque([(begun_s, 0)])
        """Times, and what was done by then."""
        self._next_s = begun_s + _PATIENCE_S if watched else inf
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.remove()
            self._bar = None
            _SHOWN.release()

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        now = perf_counter()
        if now < self._next_s:
            return
        self._next_s = now + _PAUSE_S
        if self._bar is None:
            if not _SHOWN.acquire(blocking=False):
                return
            self._bar = _NotebookBar(self._what) if self._notebook else _TerminalBar(self._what)
        self._states.append((now, done))
        while now - self._states[0][0] > _RATE_S and len(self._states) > _ENDS:
            self._states.popleft()
        begun_s, before = self._states[0]
        self._bar.show(done, total, (done - before) / (now - begun_s))


def in_notebook() -> bool:
    """Return whether this runs in the kernel of a notebook."""
    # A kernel has loaded IPython already; it is not imported to find out.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class _Bar(Protocol):
    def show(self, done: int, total: int, rate: float) -> None:
        """Show a state, the first or a later one, and how much is done in a second."""

    def remove(self) -> None:
        """Leave nothing behind."""


class _TerminalBar:
    """A line on stderr with the rate and the time left."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
        )

        console = Console(file=sys.stderr)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            console=console,
            transient=True,
            disable=console.is_dumb_terminal,
        )
        self._task = self._progress.add_task(what, total=None, pace="")
        self._progress.start()

    def show(self, done: int, total: int, rate: float) -> None:
        left = timedelta(seconds=round((total - done) / rate)) if rate else "-:--:--"
        pace = f"{rate:,.0f}/s  time left {left}"
        self._progress.update(self._task, completed=done, total=total, pace=pace)

    def remove(self) -> None:
        self._progress.stop()


class _NotebookBar:
    """An output that is replaced in place, as HTML and as text; it needs no widgets."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._handle: Any = None

    def show(self, done: int, total: int, rate: float) -> None:
        del rate
        text = f"{done:,} of {total:,} {self._what}"
        bar = f'<progress value="{done}" max="{total}" style="width: 30em"></progress>'
        shown = {"text/plain": text, "text/html": f"{bar} {text}"}
        if self._handle is None:
            self._handle = import_module("IPython.display").DisplayHandle()
            self._handle.display(shown, raw=True)
        else:
            self._handle.update(shown, raw=True)

    def remove(self) -> None:
        self._handle.update({"text/plain": "", "text/html": ""}, raw=True)
