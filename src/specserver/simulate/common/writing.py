"""The writing of a mock survey part by part, and the result."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeAlias, TypeVar

from ...errors import BadParameter
from ...processes import leaving_interrupts_to_this_process

Part = TypeVar("Part")
Written: TypeAlias = Iterable[tuple[int, int]]
"""Spectra and bytes, block by block as they are written."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Number of spectra and bytes that a simulation wrote."""

    nspec: int
    """Spectra; a full file beside a lite one is the same spectrum."""
    nbytes: int
    families: Mapping[str, int]
    """Spectra by run2d."""


def check_workers(workers: int, seed: int) -> None:
    """Refuse a number of processes or a seed that is not possible."""
    if workers < 1 or seed < 0:
        raise BadParameter("workers, seed", (workers, seed), "at least 1, and at least 0")


def write_all(
    write: Callable[[Part], Written],
    parts: Sequence[Part],
    workers: int,
    progress: Callable[[int, int], object] | None,
    nspec: int,
) -> int:
    """Write all parts of a survey, of so many spectra, in some processes; return the bytes."""
    nbytes = done = 0
    for count, size in _written(write, parts, workers):
        nbytes += size
        done += count
        if progress:
            progress(done, nspec)
    return nbytes


def _written(
    write: Callable[[Part], Written], parts: Sequence[Part], workers: int
) -> Iterator[tuple[int, int]]:
    """Write all parts; yield spectra and bytes as they are done."""
    if workers == 1 or len(parts) == 1:
        for part in parts:
            yield from write(part)
        return
    # Parts are independent and carry their own seeds, so their order does not matter.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        whole = partial(_whole, write)
        with leaving_interrupts_to_this_process():
            futures = [pool.submit(whole, part) for part in parts]
        for done in as_completed(futures):
            yield done.result()


def _whole(write: Callable[[Any], Written], part: object) -> tuple[int, int]:
    """Write a part; return its spectra and bytes."""
    counts, sizes = zip(*write(part), strict=True)
    return sum(counts), sum(sizes)
