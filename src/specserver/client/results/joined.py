"""Decoded answers of several contexts → one, and any part of it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter, MixedLattices
from ...model.grid import PixelRange
from ...model.survey import Vector
from ...wire.batches import Readable, open_answer
from ...wire.head import StreamHead, from_metadata
from .decode import Spectra

Array = npt.NDArray[Any]


def read_head(source: Readable) -> StreamHead:
    """Return what a bulk answer says of its spectra; they are left where they are.

    Raises
    ------
    StoreError
        The answer was cut off or is damaged.
    """
    with open_answer(source) as reader:
        return StreamHead.from_json(from_metadata(reader.schema.metadata))


def common_record(heads: Sequence[StreamHead]) -> tuple[Vector, ...]:
    """Return the first record's axis, and those of its vectors that all have under one name."""
    axis = heads[0].grid.axis
    others = [{one.name: one for one in head.record} for head in heads[1:]]
    found = []
    for one in heads[0].record:
        same = [other[one.name] for other in others if one.name in other]
        if one.name == axis:
            found.append(one)
        elif len(same) == len(others):
            kinds = [np.dtype(each.dtype) for each in (one, *same)]
            found.append(replace(one, dtype=np.result_type(*kinds).str))
    return tuple(found)


def align_parts(parts: Sequence[Spectra]) -> Spectra:
    """Return aligned spectra of several contexts on one lattice as one array, part after part.

    Parameters
    ----------
    parts
        Aligned each, all on the same lattice; the result has the vectors that all have.
    """
    off = [one for part in parts for one in part.ids[~part.on_lattice].tolist()]
    if off:
        raise MixedLattices(off)
    record, grid = common_record([part.head for part in parts]), parts[0].head.grid
    media = {medium for part in parts for medium in part.media}
    if len(media) > 1:
        allowed = "spectra of one medium; align='resample' brings them together"
        raise BadParameter("align", f"spectra in {' and '.join(sorted(media))}", allowed)
    spans = [part.head.span for part in parts if part.head.span.count] or [PixelRange(0, 0)]
    window = PixelRange(min(one.first for one in spans), max(one.stop for one in spans))
    dtype = np.dtype([(vector.name, vector.dtype) for vector in record])
    data = np.zeros((sum(len(part.data) for part in parts), window.count), dtype)
    done = 0
    for part in parts:
        at, npix = part.head.span.first - window.first, part.head.span.count
        block = np.asarray(part.data)
        for vector in record:
            data[vector.name][done : done + len(block), at : at + npix] = block[vector.name]
        done += len(block)
    if grid.axis in (dtype.names or ()):
        data[grid.axis] = grid.axis_values(window.first, window.count)
    return joined(parts, record, window, data)


def joined(
    parts: Sequence[Spectra],
    record: tuple[Vector, ...],
    window: PixelRange,
    data: Array,
    medium: str | None = None,
) -> Spectra:
    """Return aligned spectra of several contexts with what is known of each.

    Parameters
    ----------
    record, window
        Vectors and lattice pixels of ``data``.
    data : 2D[nspec, npix] structured, part after part
    medium
        What all were brought to; None: each is in its own.
    """
    media = [one for part in parts for one in part.media]
    if medium is not None:
        media = [medium] * len(data)
    heads = [part.head for part in parts]
    marks = {(head.mask_vector, head.bad_bits) for head in heads}
    # Bits of different meaning are kept, and say nothing of pixels that are bad.
    mask_vector, bad_bits = marks.pop() if len(marks) == 1 else ("", 0)
    head = replace(
        heads[0],
        context=", ".join(dict.fromkeys(one.context for one in heads)),
        survey=", ".join(dict.fromkeys(one.survey for one in heads)),
        record=record,
        nspec=len(data),
        span=window,
        missing=tuple(one for each in heads for one in each.missing),
        damaged=tuple(one for each in heads for one in each.damaged),
        medium=shared_medium(media),
        mask_vector=mask_vector,
        bad_bits=bad_bits,
    )
    names = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    return Spectra(
        head=head,
        data=data,
        ids=join_ids([part.ids for part in parts]),
        contexts=[context for part in parts for context in part.contexts],
        first=np.concatenate([part.first for part in parts]),
        on_lattice=np.ones(len(data), np.bool_),
        columns={name: join_values([part.columns[name] for part in parts]) for name in names},
        media=media,
    )


def shared_medium(media: Sequence[str]) -> str:
    """Return the medium that all spectra have; empty where they differ, or there are none."""
    return media[0] if len(set(media)) == 1 else ""


def join_values(parts: Sequence[Array]) -> Array:
    """Return values of several catalogues as one array, masked where one of them is."""
    if any(isinstance(one, np.ma.MaskedArray) for one in parts):
        masked: Array = np.ma.concatenate(parts)  # type: ignore[no-untyped-call]
        return masked
    return np.concatenate(parts)


def join_some(parts: Sequence[Array | None], counts: Sequence[int]) -> Array:
    """Return values of those catalogues that have a column; empty text or masked for the others.

    Parameters
    ----------
    counts : rows of each catalogue
    """
    known = [one for one in parts if one is not None]
    dtype = np.result_type(*known)
    if dtype.kind in "US":
        return join_values(
            [
                np.zeros(n, dtype) if one is None else one
                for one, n in zip(parts, counts, strict=True)
            ]
        )
    blank = [np.ma.MaskedArray(np.zeros(n, dtype), mask=True) for n in counts]
    return join_values([b if one is None else one for one, b in zip(parts, blank, strict=True)])


def join_ids(parts: Iterable[Array]) -> Array:
    """Return identifiers of several surveys as one array, every digit kept.

    Signed and unsigned ones have no 64-bit type in common; NumPy would make floats of them.
    """
    some = list(parts)
    if len({one.dtype for one in some}) == 1:
        return np.concatenate(some)
    values = [int(value) for one in some for value in one.tolist()]
    if min(values, default=0) >= 0:
        return np.array(values, np.uint64)
    return np.array(values, np.int64 if max(values) < 2**63 else object)


def take(spectra: Spectra, order: Sequence[int]) -> Spectra:
    """Return some of aligned spectra, in an order."""
    index = np.array(order, np.int64)
    return replace(
        spectra,
        head=replace(spectra.head, nspec=len(index)),
        data=np.asarray(spectra.data)[index],
        ids=spectra.ids[index],
        contexts=[spectra.contexts[one] for one in order],
        first=spectra.first[index],
        on_lattice=spectra.on_lattice[index],
        columns={name: values[index] for name, values in spectra.columns.items()},
        media=[spectra.media[one] for one in order],
    )
