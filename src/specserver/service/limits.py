"""Bounds of one request, checked while its work grows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ..catalog.deadline import NEVER, Deadline
from ..errors import TooMuch

Batch = TypeVar("Batch")


class HeavyWork(Exception):
    """A request that is handled as a light one would do heavy work."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request."""

    max_ids: int | None = None
    """Identifiers that it may name, and spectra that these may mean; None: any number."""
    max_corners: int | None = None
    """Corners of a polygon."""
    max_pixels: int | None = None
    """Pixels of a lattice on which spectra are resampled."""
    deadline: Deadline = NEVER
    """Deadline for finding the spectra."""
    is_light: bool = False
    """It is handled where only work of milliseconds may be done."""

    def check_spectra(self, count: int, *, are_all: bool = True) -> None:
        """Raise `TooMuch` for more spectra than a request may mean.

        Parameters
        ----------
        count
            Spectra found.
        are_all
            False while more may be found.
        """
        if self.max_ids is not None and count > self.max_ids:
            raise TooMuch("spectra", count if are_all else None, self.max_ids, "max_ids")

    def require_heavy(self) -> None:
        """Raise `HeavyWork` where only light work may be done."""
        if self.is_light:
            raise HeavyWork


NO_LIMITS = Limits()


def check_pixels(npix: int, limit: int | None, fix: str) -> None:
    """Raise `TooMuch` for more pixels than a lattice may have on which spectra are laid."""
    if limit is not None and npix > limit:
        what = f"pixels of the lattice on which spectra are laid ({fix} make fewer)"
        raise TooMuch(what, npix, limit, "max_lattice_pixels")


def while_wanted(batches: Iterator[Batch], go_on: Callable[[], None]) -> Iterator[Batch]:
    """Return the same batches; ``go_on`` is called for each and raises if the caller has left."""

    def still(batch: Batch) -> Batch:
        go_on()
        return batch

    # A generator would hold each batch until the next one is asked for.
    return map(still, batches)
