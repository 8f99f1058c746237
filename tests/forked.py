"""Commands in processes that need not import anything: they are forked from one that has.

A start by ``python -m specserver`` takes 1 to 2 s of a core, nearly all of it for imports, and as
much for each process of a service of several. Tests of the start itself, of processes that die and
of what several count together use that.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryFile, mkdtemp
from typing import IO, Any, NoReturn
from unittest.mock import patch

from prometheus_client import values
from uvicorn import _subprocess

IMPORTED = (
    *("uvicorn.protocols.http.h11_impl", "uvicorn.lifespan.on", "typer.rich_utils"),
    *("pandas", "pyarrow.pandas_compat", "pyarrow.parquet", "sqlglot.dialects.postgres"),
    *("astropy.visualization", "astropy.io.fits", "astropy.table"),
    *("specserver.server.app", "specserver.surveys.sdss", "specserver.surveys.desi"),
    *("specserver.client.api", "specserver.ingest", "specserver.simulate"),
)
"""What is imported once; not the modules of the command itself: they read the environment."""
COMMAND = "specserver.__main__:main"
FORKING = f"{Path(__file__).stem}:main_that_forks"
"""Main function of a service whose processes that answer are forked, too, and not spawned."""
LINK = "FORKED_LINK"
"""Variable with the handle by which a program in a shell reaches the process that forks."""
_PROGRAM = f"""\
#!{sys.executable} -SEs
import json, os, socket, sys
told, tell = os.pipe()
order = {{"words": sys.argv[1:], "main": "{COMMAND}"}}
order |= {{"folder": os.getcwd(), "env": {{**os.environ}}}}
link = socket.socket(fileno=int(os.environ["{LINK}"]))
socket.send_fds(link, [json.dumps(order).encode()], [0, 1, 2, tell])
os.close(tell)
os.read(told, 4)
code = int.from_bytes(os.read(told, 4), signed=True)
os.kill(os.getpid(), -code) if code < 0 else os._exit(code)
"""
_ENVIRONMENT = dict(os.environ)
"""Before any test has changed it: what is forked lasts longer than a test."""


class Forked:
    """A command in a process of its own; it is used as `subprocess.Popen` is."""

    def __init__(
        self,
        words: Sequence[object],
        *,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
        env: Mapping[str, str] = os.environ,
        main: str = COMMAND,
    ) -> None:
        """Start it.

        Parameters
        ----------
        stdin : by default a pipe from the attribute of this name
        main : module and name of a function to call instead of the command
        """
        self.args = [*map(str, words)]
        self.returncode: int | None = None
        reading, writing = os.pipe()
        self.stdin = os.fdopen(writing, "wb")
        self._told, tell = os.pipe()
        files = [file.fileno() if file else 1 + at for at, file in enumerate((stdout, stderr))]
        handles = [stdin.fileno() if stdin else reading, *files, tell]
        order = {"words": self.args, "main": main, "folder": str(Path.cwd()), "env": dict(env)}
        socket.send_fds(_forking(), [json.dumps(order).encode()], handles)
        os.close(reading)
        os.close(tell)
        self.pid = self._read()

    def _read(self) -> int:
        """Return the next number that the keeper tells."""
        told = os.read(self._told, 4)
        assert len(told) == 4, f"{self.args}: its process has not begun"
        return int.from_bytes(told, signed=True)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, or minus the signal that ended it."""
        if self.returncode is None:
            # Not by select(), which takes no file of a number above 1,023.
            told = select.poll()
            told.register(self._told, select.POLLIN)
            if not told.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self.returncode = self._read()
            os.close(self._told)
            self.stdin.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code if it has ended."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def run_forked(
    words: Sequence[object], env: Mapping[str, str], stdin: str = "", main: str = COMMAND
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, of which it has two minutes."""
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as error:
        given.write(stdin.encode())
        given.seek(0)
        process = Forked(words, stdin=given, stdout=out, stderr=error, env=env, main=main)
        try:
            code = process.wait(120)
        finally:
            process.kill()
        said = []
        for file in (out, error):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(process.args, code, *said)


def run_shell(
    script: str, env: Mapping[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script with bash, in which the command is forked wherever its name stands."""
    link = _forking().fileno()
    named = {"PATH": f"{_folder_of_the_command()}{os.pathsep}{env['PATH']}", LINK: str(link)}
    return subprocess.run(
        ["bash", "-e", "-c", script],
        pass_fds=[link], env={**env, **named}, cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


@cache
def _folder_of_the_command() -> Path:
    """Make the folder of a program that orders the command, and ends as it does."""
    folder = Path(mkdtemp(prefix="forked-"))
    atexit.register(rmtree, folder)
    program = folder / "specserver"
    program.write_text(_PROGRAM, "utf-8")
    program.chmod(0o755)
    return folder


def main_that_forks() -> None:
    """Run the command; the processes of a service start at once, with all that is imported."""
    begin = _subprocess.subprocess_started

    def begun(*given: Any, **named: Any) -> None:
        # Whether several processes count together was looked up before there were several.
        values.ValueClass = values.get_value_class()
        begin(*given, **named)

    with (
        patch.object(_subprocess, "spawn", get_context("fork")),
        patch.object(_subprocess, "subprocess_started", begun),
    ):
        import_module("specserver.__main__").main()


@cache
def _forking() -> socket.socket:
    """Start the process that forks, and return the way to it; it ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, __file__, str(its.fileno())],
        pass_fds=[its.fileno()], env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    its.close()

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


def _fork_for_each_order(link: socket.socket) -> None:
    """Import everything, then start a process for each order until nobody can give one."""
    for module in IMPORTED:
        import_module(module)
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # else DuckDB reports at exit what was never freed
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    while True:
        text, handles, _, _ = socket.recv_fds(link, 2**20, 4)
        if not text:
            return
        if not os.fork():
            link.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            *standard, told = handles
            if process := os.fork():
                _keep(process, standard, told)
            os.close(told)
            _run(json.loads(text), standard)
        for handle in handles:
            os.close(handle)


def _keep(process: int, standard: Sequence[int], told: int) -> None:
    """Tell the number of a process and, when it ends, its exit code."""
    for handle in standard:
        os.close(handle)
    os.write(told, process.to_bytes(4, signed=True))
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.write(told, code.to_bytes(4, signed=True))
    os._exit(0)


def _run(order: Mapping[str, object], standard: Sequence[int]) -> NoReturn:
    """Become the command."""
    for number, handle in enumerate(standard):
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(str(order["folder"]))
    os.environ.clear()
    os.environ.update(order["env"])
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["specserver", *order["words"]]
    module, _, name = str(order["main"]).partition(":")
    try:
        getattr(import_module(module), name)()
        _end(0)
    except SystemExit as ended:
        _end(ended.code)
    except BaseException:  # noqa: BLE001  # told as the interpreter would
        traceback.print_exc()
        _end(1)


def _end(code: object) -> NoReturn:
    """End as the interpreter does, but keep the modules: to take them down takes a second."""
    if not isinstance(code, int | None):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    _fork_for_each_order(socket.socket(fileno=int(sys.argv[1])))
