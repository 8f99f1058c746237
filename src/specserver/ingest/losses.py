"""What becomes of files whose worker died: they are read again in fewer and fewer, then alone.

One file that kills what reads it, as by the memory that it needs, must not end the ingest of a
million. Other parts may have been at the same worker, so only a file that is read alone is blamed.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from ..errors import IngestError
from ..model.survey import FileKey
from .report import Note
from .worker import PartResult

_PIECES: Final = 8
"""Pieces of a part that is read again: few deaths lead to the file, and few segments are small."""
_HOPELESS: Final = 16
"""Parts in a row whose workers died, after which the fault is not that of a file."""


class Losses:
    """The parts of an ingest whose workers died."""

    def __init__(self) -> None:
        self._suspects: deque[FileKey] = deque()
        self._in_a_row = 0

    def none(self) -> None:
        """Note that a part was read."""
        self._in_a_row = 0

    def pieces(self, part: Sequence[FileKey]) -> list[tuple[FileKey, ...]]:
        """Return what is to be read again of a part; of one file nothing: it becomes a suspect.

        Raises
        ------
        IngestError
            Workers die whatever they read.
        """
        self._count()
        if len(part) == 1:
            self._suspects.append(part[0])
            return []
        size = -(-len(part) // _PIECES)
        return [tuple(part[at : at + size]) for at in range(0, len(part), size)]

    def suspect(self) -> tuple[FileKey, ...] | None:
        """Take a file that is to be read while nothing else is; None: there is none."""
        return (self._suspects.popleft(),) if self._suspects else None

    def refuse(self, part: Sequence[FileKey], times: int) -> PartResult:
        """Return the result of a file whose worker died so many times although it read no other."""
        self._count()
        why = (
            f"its worker died {times} times while it read this file and no other: see the log of"
            " the workers, and give them more memory if that is the cause"
        )
        return PartResult(notes=[Note(str(file.path), "refused", why) for file in part])

    def _count(self) -> None:
        self._in_a_row += 1
        if self._in_a_row > _HOPELESS:
            raise IngestError(
                "the workers die whatever they read: see their log, and give them more memory if"
                " that is the cause. What is committed is safe; run the same command again"
            )
