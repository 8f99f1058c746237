"""Processes: they end with their parent, and may open enough files."""

import atexit
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe, parent_process, resource_tracker, set_start_method
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """End this process when the Python process that spawned it ends, for any reason.

    Does nothing in a process that Python did not spawn. Without it, a killed parent leaves its
    workers waiting for ever.
    """
    parent = parent_process()
    if parent is None:
        return
    # This process starts no others. With the start method "fork" the locks of libraries, such as
    # numcodecs, are unnamed semaphores. Python warns of named ones if a signal ends the process.
    set_start_method("fork", force=True)
    awake, asleep = Pipe(duplex=False)

    def watch() -> None:
        if parent.sentinel in wait([parent.sentinel, awake]):
            os._exit(1)

    thread = threading.Thread(target=watch, daemon=True, name="end-with-parent")
    thread.start()

    # A thread that waits while the interpreter ends keeps extension modules alive, which then
    # print warnings.
    @atexit.register
    def leave() -> None:
        asleep.close()
        thread.join(timeout=1.0)


@contextmanager
def leaving_interrupts_to_this_process() -> Iterator[None]:
    """Let processes that are spawned within it ignore Ctrl-C: this process ends them.

    A terminal sends Ctrl-C to all processes of a command, and one that is still importing its
    modules would print a traceback. They inherit what is blocked here; what comes meanwhile is
    handled here at the end.
    """
    # multiprocessing unblocks SIGINT when it starts its resource tracker: that comes first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_stdin() -> None:
    """Send this process SIGTERM when its standard input ends: its parent has ended."""

    def watch() -> None:
        # Not sys.stdin: a thread that holds its lock stops the interpreter from ending cleanly.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end-with-stdin").start()


# More than a process needs here; some programs loop over all possible handle numbers.
_MOST_HANDLES = 65_536


def raise_handle_limit() -> None:
    """Let this process and its children open as many files as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_HANDLES if hard == resource.RLIM_INFINITY else min(hard, _MOST_HANDLES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def handle_limit() -> int:
    """Return the number of files and connections that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_HANDLES if soft == resource.RLIM_INFINITY else min(soft, _MOST_HANDLES)


def is_running(process: int) -> bool:
    """Return whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
