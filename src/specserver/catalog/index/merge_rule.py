"""Which parts of an index are joined next: how many rows each has decides.

A part has a level by its rows: up to 20,000, 160,000, 1,280,000, or more. Eight consecutive parts
of one level are joined, and most often become one of the next level: each row is written again some
three times, and an index of 100 million rows has about 30 parts. A smaller part before a larger one
counts as one of that one's level, since no neighbour of its own size follows it. Small parts that
have up to 20,000 rows together are joined at once: the index of a small folder is one part.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

_FAN: Final = 8
SMALL: Final = 20_000
"""Rows of parts that are joined whenever they have no more together: 0.3 s."""
CHEAP: Final = SMALL * _FAN
"""Rows of a merge that an ingest makes itself: about a second."""
LARGEST: Final = SMALL * _FAN**3
"""Rows of the largest part that a merge makes: the order of its rows takes 0.5 GB of memory."""
_STEPS: Final = tuple(SMALL * _FAN**level for level in range(3))
# So many parts are open at once: each holds two files.
_MOST_PARTS: Final = 64


def due_merge(rows: Sequence[int], dead: Sequence[int], most: int = LARGEST) -> slice | None:
    """Return which consecutive parts are to be joined next, or None.

    A single part is returned if more than half of its rows are dead.

    Parameters
    ----------
    rows : of each part, in order, without the dead ones
    dead : rows of each part that no answer has, since others replaced them
    most : rows of the largest merge
    """
    small = (_window(rows, start, SMALL) for start in range(len(rows)))
    found = next((window for window in small if window.stop - window.start >= 2), None)
    if found is None:
        found = next(_of_one_level(rows, most), None)
    if found is None:
        mostly_dead = (at for at, lost in enumerate(dead) if lost > rows[at] and rows[at] <= most)
        found = next((slice(at, at + 1) for at in mostly_dead), None)
    return found


def _of_one_level(rows: Sequence[int], most: int) -> Iterator[slice]:
    """Yield the parts of one level that are to be joined, those of the lowest level first."""
    levels = [bisect_left(_STEPS, count) for count in rows]
    levels = list(accumulate(reversed(levels), max))[::-1]
    for level in sorted(set(levels)):
        first, stop = levels.index(level), levels.index(level) + levels.count(level)
        for start in range(first, stop - _FAN + 1):
            window = _window(rows[:stop], start, most)
            if window.stop - window.start >= _FAN:
                yield window


def _window(rows: Sequence[int], start: int, most: int) -> slice:
    """Return the parts from one on that have at most so many rows together."""
    totals = accumulate(rows[start : start + _MOST_PARTS])
    return slice(start, start + sum(total <= most for total in totals))
