"""Ranges of an object that are fetched from an object store together."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Final, TypeAlias

GAP: Final = 2**16
"""Two ranges are fetched as one if fewer bytes lie between them: one more request takes longer."""
CALL_BYTES: Final = 2**21
"""Most bytes that one call fetches: a slow network, too, sends so many within the time limit."""
Range: TypeAlias = tuple[int, int]
"""Its first byte, and the one behind its last."""


class Fetch:
    """Ranges of whole blocks, ascending and apart, that are fetched in one call."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self.ranges = ranges
        self.begins = [begin for begin, _ in ranges]
        self.nbytes = sum(end - begin for begin, end in ranges)
        self.future: Future[list[memoryview]] = Future()
        self.was_read = False

    def common(self, begin: int, end: int) -> list[tuple[int, Range]]:
        """Return its ranges that have bytes of a range: which, and from where to where."""
        found = []
        for at in range(max(bisect_right(self.begins, begin) - 1, 0), len(self.ranges)):
            first, stop = self.ranges[at]
            if first >= end:
                break
            if stop > begin:
                found.append((at, (max(first, begin), min(stop, end))))
        return found

    def content(self, begin: int, end: int) -> memoryview | None:
        """Wait, and return the bytes of a range; None: no range of its own has all of them."""
        self.was_read = True
        for at, common in self.common(begin, end):
            if common == (begin, end):
                first = self.begins[at]
                return self.future.result()[at][begin - first : end - first]
        return None

    def copy_to(self, room: memoryview, begin: int) -> None:
        """Wait, and copy its bytes of a range, which begins there, to their places."""
        self.was_read = True
        contents = self.future.result()
        for at, (first, stop) in self.common(begin, begin + len(room)):
            offset = self.begins[at]
            room[first - begin : stop - begin] = contents[at][first - offset : stop - offset]

    @property
    def has_failed(self) -> bool:
        """Whether it has ended with an error, or was given up."""
        future = self.future
        return future.done() and (future.cancelled() or future.exception() is not None)


def joined_ranges(ranges: Sequence[Range]) -> list[Range]:
    """Return ranges, ascending, with those joined that lie near each other."""
    joined: list[Range] = []
    for begin, end in sorted(ranges):
        first, stop = joined[-1] if joined else (0, -GAP - 1)
        if begin - stop <= GAP and end - first <= CALL_BYTES:
            joined[-1] = first, max(end, stop)
        else:
            joined.append((begin, end))
    return joined


def calls(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """Yield ranges in groups for one call each."""
    some: list[Range] = []
    nbytes = 0
    for begin, end in ranges:
        if some and nbytes + end - begin > CALL_BYTES:
            yield some
            some, nbytes = [], 0
        some.append((begin, end))
        nbytes += end - begin
    if some:
        yield some
