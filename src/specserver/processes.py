"""Processes that must not outlive what started them."""

import atexit
import os
import signal
import threading
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """End this process when the Python process that spawned it has ended, however it ended.

    Does nothing in a process that Python did not spawn. Without it, a killed parent leaves its
    workers waiting for ever.
    """
    parent = parent_process()
    if parent is None:
        return

    awake, asleep = Pipe(duplex=False)

    def watch() -> None:
        if parent.sentinel in wait([parent.sentinel, awake]):
            os._exit(1)

    thread = threading.Thread(target=watch, daemon=True, name="end-with-parent")
    thread.start()

    # A thread that still waits when the interpreter goes keeps extension modules alive, and they
    # complain of it on the terminal.
    @atexit.register
    def leave() -> None:
        asleep.close()
        thread.join(timeout=1.0)


def end_with_stdin() -> None:
    """Send this process SIGTERM when its standard input ends: whoever held it is gone."""

    def watch() -> None:
        # Not sys.stdin: a thread that holds its lock stops the interpreter from ending cleanly.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end-with-stdin").start()
