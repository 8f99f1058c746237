"""The time that a request may take; its work checks it between pieces."""

import time
from dataclasses import dataclass
from math import inf

from ..errors import QueryTimeout


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment by which a request must be answered."""

    given_s: float | None
    """Seconds from the beginning; None: no limit."""
    until: float
    """The moment, on the clock of `time.monotonic`."""

    @staticmethod
    def after(given_s: float | None) -> "Deadline":
        """Return the moment that many seconds from now; None: never."""
        return Deadline(given_s, inf if given_s is None else time.monotonic() + given_s)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, 0 or more; None: no limit."""
        return None if self.given_s is None else max(0.0, self.until - time.monotonic())

    def check(self) -> None:
        """Raise `QueryTimeout` when the moment has passed."""
        if time.monotonic() > self.until:
            raise QueryTimeout(self.given_s or 0.0)


NEVER = Deadline.after(None)
"""A deadline that does not pass."""
