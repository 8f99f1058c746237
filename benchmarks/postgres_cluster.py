"""A PostgreSQL cluster of its own: made in a folder, run until it is stopped.

It listens on a Unix socket alone. Under root it runs as the user ``postgres``, for PostgreSQL
refuses to run as root.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, Final, Self
from urllib.parse import quote

import psycopg

USER: Final = "postgres"
_START_S: Final = 60.0
# The cluster ends when its standard input does: whoever held it is gone, however that came about.
_UNTIL_EOF: Final = '"$@" & echo $!; cat > /dev/null; kill -INT $!; wait $!'
_INSTALLED: Final = Path("/usr/lib/postgresql")


class NoPostgres(Exception):
    """PostgreSQL is not installed, or does not start."""


def programs(*, q3c: bool = False) -> Path:
    """Return the folder of the newest server, with the extension q3c if that is asked for."""
    for folder in sorted(_INSTALLED.glob("*/bin"), reverse=True):
        if (folder / "initdb").exists() and (not q3c or has_q3c(folder)):
            return folder
    name = "PostgreSQL + q3c" if q3c else "PostgreSQL"
    raise NoPostgres(f"{name} missing (apt-get install postgresql-15-q3c)")


def has_q3c(folder: Path) -> bool:
    """Return whether the extension q3c is installed for a server."""
    share = Path("/usr/share/postgresql") / folder.parent.name
    return (share / "extension" / "q3c.control").exists()


class Cluster:
    """A cluster in a folder, which is new or has one already; stopped when a ``with`` ends.

    Parameters
    ----------
    folder : need not exist
    settings : ``name=value`` each, besides where it listens
    """

    def __init__(self, programs: Path, folder: Path, settings: Sequence[str] = ()) -> None:
        self._programs = programs
        self._folder = folder
        self._settings = ("listen_addresses=", *settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets = TemporaryDirectory(prefix="specserver-pg-")
        self.pid = 0
        """Of the server."""

    def __enter__(self) -> Self:
        if self._process is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._sockets.cleanup()

    @property
    def url(self) -> str:
        """URL of its one database."""
        return f"postgresql://{USER}@/{USER}?host={quote(self._sockets.name)}"

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def initialise(self) -> None:
        """Make a new cluster."""
        self._folder.mkdir(exist_ok=True)
        _own(self._folder)
        command = [str(self._programs / "initdb"), "-D", str(self._folder), "-A", "trust"]
        command += ["-U", USER, "-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd="/", check=False, **_as_user()
        )
        if done.returncode:
            raise NoPostgres(f"initdb failed: {done.stderr.strip().splitlines()[-1]}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        _own(Path(self._sockets.name))
        command = [str(self._programs / "postgres"), "-D", str(self._folder)]
        command += ["-k", self._sockets.name]
        command += [word for setting in self._settings for word in ("-c", setting)]
        self._process = subprocess.Popen(
            ["sh", "-c", _UNTIL_EOF, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **_as_user(),
        )
        assert self._process.stdout
        self.pid = int(self._process.stdout.readline())
        deadline = monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or monotonic() > deadline:
                    raise NoPostgres(f"PostgreSQL did not start: {error}") from error
                sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop it the fast way, which ends queries and leaves it whole."""
        if self._process is None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._process.wait(_START_S)
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash of the machine does."""
        os.kill(self.pid, signal.SIGQUIT)
        self.stop()


def _as_user() -> dict[str, Any]:
    """Return what makes a child process run as a user whom PostgreSQL accepts: never root."""
    return {"user": USER, "group": USER} if os.geteuid() == 0 else {}


def _own(folder: Path) -> None:
    """Give a folder to that user."""
    if os.geteuid() == 0:
        shutil.chown(folder, USER, USER)
    folder.chmod(0o700)
