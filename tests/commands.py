"""The command line within the test's own process: some hundred times quicker to start."""

import os
import resource
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest

from specserver.cli.console import ERROR, OUT
from specserver.cli.main import main


def command(*arguments: object, code: int | None = 0) -> str:
    """Run the command and return all that it printed, having checked its exit code; None: any."""
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, "argv", ["specserver", *map(str, arguments)])
        patch.setattr(OUT, "width", 300)
        patch.setattr(ERROR, "width", 300)
        # What the command sets for its own process must not reach other tests.
        before = dict(os.environ)
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            os.environ.clear()
            os.environ.update(before)
    assert code in {ended.value.code or 0, None}, printed.getvalue()
    return printed.getvalue()


def main_on_a_full_disk() -> None:
    """Run the command in a process of its own, whose files may not be longer than 10 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    main()


def main_with_one_core() -> None:
    """Run the command in a process of its own that starts no others to share the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 1)
        main()
