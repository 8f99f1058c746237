"""What a Dask worker of the tests loads first: it dies, or waits, where files tell it to.

``<spectrum>.kill`` beside a spectrum ends the process that reads it.
In the folder ``control`` beside the data folder, the first worker that is about to finish a segment
takes ``wait``, makes ``waiting-<process>`` of it, waits for ``go-on-<process>``, and makes
``done-<process>`` when the segment is finished.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from specserver.ingest import worker

_HOOKED = "hooked_by_tests"
# Dask loads a file more than once.
_read, _finish_segment = vars(worker).setdefault(_HOOKED, (worker._read, worker.finish_segment))


def read(survey: Any, path: Path, result: Any) -> Any:
    if path.with_name(f"{path.name}.kill").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return _read(survey, path, result)


def finish_segment(segment: Any, info: Any) -> Any:
    control, own = segment.local_path().parents[2] / "control", os.getpid()
    try:
        (control / "wait").rename(control / f"waiting-{own}")
    except FileNotFoundError:
        return _finish_segment(segment, info)
    while not (control / f"go-on-{own}").exists():
        time.sleep(0.01)
    finished = _finish_segment(segment, info)
    (control / f"done-{own}").touch()
    return finished


worker._read, worker.finish_segment = read, finish_segment
