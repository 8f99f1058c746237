"""The command ``specserver``, also by ``python -m specserver``."""

import signal
import sys
import threading
from types import FrameType

_AGAIN_S = 0.05


def main() -> None:
    """Run the command; Ctrl-C takes effect where no module is being imported.

    Within an import it would show a traceback of code that is not ours, or a module written in C
    would fail by it or swallow it.
    """
    # A command that a script starts in the background ignores Ctrl-C already.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    try:
        from .cli import main as run  # noqa: PLC0415  # its imports are to be covered

        run()
    except KeyboardInterrupt:
        sys.stderr.write("specserver: stopped\n")
        sys.exit(130)
    finally:
        # All is done: an interrupt would only disturb the end of the interpreter.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; while a module is imported, send the signal again a little later."""
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    if frame is None:
        raise KeyboardInterrupt
    main_thread = threading.main_thread().ident
    threading.Timer(_AGAIN_S, signal.pthread_kill, [main_thread, number]).start()


if __name__ == "__main__":
    main()
