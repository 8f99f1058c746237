"""Spectra and FITS files: the request, and its answer decoded as it arrives."""

from collections.abc import Iterator, Sequence
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import StoreError
from ..wire.columns import FILE_DATA, FILE_NAME, REDSHIFT
from ..wire.media_types import ARROW, SPECTRUM
from .inputs.context_ids import Named
from .messages import sum_up, warn, warn_left_out
from .progress import Watch
from .request import RequestOptions, ResultOptions
from .session import Session

if TYPE_CHECKING:
    from .results.decode import Spectra

T = TypeVar("T")


def fetch_spectra(
    session: Session, named: Named, wanted: ResultOptions, options: RequestOptions, *columns: str
) -> "list[Spectra]":
    """Fetch spectra into memory.

    Parameters
    ----------
    named
        Identifiers, of one context or of several.
    columns
        Catalogue columns to fetch with them.

    Returns
    -------
    list of Spectra
        One if the spectra are aligned or of one survey; else one for each survey.
    """
    from .results.decode import decode_parts, decode_single
    from .results.media import in_medium

    body = spectra_request(session, named, wanted, options, columns)
    began = perf_counter()
    alone = len(named.ids) == 1 and not body["columns"]
    accepted = (SPECTRUM, ARROW) if alone else (ARROW,)
    with (
        session.ask("bulk/spectra", body, options, *accepted) as answer,
        Watch("spectra") as watch,
    ):
        if alone and answer.headers.get("Content-Type") == SPECTRUM:
            parts = [decode_single(answer.read_all(), values=wanted.values, align=wanted.align)]
        else:
            parts = decode_parts(answer, values=wanted.values, align=wanted.align, tell=watch)
    warn_left_out(parts[0].head.missing, parts[0].head.damaged, len(named.ids))
    warn_empty(empty_cutouts(parts, wanted), sum(len(part.ids) for part in parts), wanted)
    if not wanted.resample:
        # The service has brought resampled spectra into the medium wanted.
        parts = [in_medium(part, wanted) for part in parts]
    if options.verbose:
        nspec = sum(len(part.ids) for part in parts)
        nbytes = sum(spectrum.nbytes for part in parts for spectrum in part.data)
        sum_up(options, f"{nspec:,} spectra, {nbytes / 1e6:.1f} MB", began)
    return parts


def empty_cutouts(parts: "Sequence[Spectra]", wanted: ResultOptions) -> int:
    """Return how many spectra have no pixel in the cutout, if one is wanted."""
    if wanted.cutout_aa is None:
        return 0
    return sum(len(spectrum) == 0 for part in parts for spectrum in part.data)


def warn_empty(count: int, nspec: int, wanted: ResultOptions) -> None:
    """Warn of spectra that have no pixel within the cutout."""
    if count and wanted.cutout_aa is not None:
        low, high = wanted.cutout_aa
        warn(f"{count:,} of {nspec:,} spectra have no pixel in the cutout, {low:g}-{high:g} Å")


def in_order(parts: "Sequence[Spectra]", made: Sequence[Sequence[T]]) -> list[T]:
    """Return what was made of the spectra of each part in the order of the identifiers."""
    if len(parts) == 1:
        return list(made[0])
    places = [place for part in parts for place in part.places.tolist()]
    every = list(chain.from_iterable(made))
    return [every[at] for at in np.argsort(places, kind="stable").tolist()]


def finished(parts: "Sequence[Spectra]", wanted: ResultOptions, *, single: bool) -> Any:
    """Return spectra in the form wanted and in the order of the identifiers."""
    if len(parts) > 1:
        return in_list(in_order(parts, [_made(part, wanted) for part in parts]), wanted)
    if single and len(parts[0].ids) == 1:
        if wanted.fmt == "numpy":
            return _made(parts[0], wanted)[0]
        if wanted.fmt not in {"list", "collection"}:
            from .results.convert import convert_one

            return convert_one(parts[0], 0, parts[0].data[0], wanted.fmt)
    return _made(parts[0], wanted)


def _made(spectra: "Spectra", wanted: ResultOptions) -> Any:
    """Return the spectra of one part in the form wanted."""
    if wanted.fmt == "numpy":
        from .results.carried import carried

        return carried(spectra)
    from .results.convert import convert

    return convert(spectra, wanted.fmt)


def in_list(made: list[Any], wanted: ResultOptions) -> Any:
    """Return objects as the list of them that is wanted."""
    if wanted.fmt == "numpy":
        from .results.carried import SpectrumArrays

        return SpectrumArrays(made)
    if wanted.fmt != "list":
        return made
    from specutils import SpectrumList

    return SpectrumList(made)


def spectra_request(
    session: Session,
    named: Named,
    wanted: ResultOptions,
    options: RequestOptions,
    columns: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the body of a request for spectra (docs/wire.md)."""
    body = ids_request(session, named, options) | {
        "vectors": wanted.vectors,
        "cutout": wanted.vacuum_cutout_aa,
        "align": wanted.align,
        "columns": [*([REDSHIFT] if wanted.fmt != "numpy" else []), *columns],
    }
    if wanted.resample:
        resampled = {"resample": True, "align": False, "medium": wanted.medium}
        body |= resampled | {"cutout": wanted.cutout_aa}
    if wanted.assume_medium is not None:
        body["assume_medium"] = wanted.assume_medium
    return body


def ids_request(
    session: Session, named: Named, options: RequestOptions, name: str = "ids"
) -> dict[str, Any]:
    """Return the part of a request that names its spectra, with identifiers under ``name``."""
    within = named.within(options)
    where = session.where(within.context, within.profile)
    return {**where, name: named.text, "missing": options.missing}


def fetch_files(
    session: Session, named: Named, options: RequestOptions, fits: str
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the FITS file of each spectrum, in the order of the identifiers.

    Parameters
    ----------
    fits
        ``original`` or ``rebuilt``.

    Raises
    ------
    StoreError
        The answer was cut off or is damaged.
    """
    from ..wire.batches import ANSWER, open_answer, read_batches
    from ..wire.head import FilesHead, from_metadata

    body = ids_request(session, named, options) | {"fits": fits}
    began, done, nbytes = perf_counter(), 0, 0
    with (
        session.ask("bulk/files", body, options) as answer,
        Watch("files") as watch,
        open_answer(answer, lambda: f"after {done:,} files") as reader,
    ):
        head = FilesHead.from_json(from_metadata(reader.schema.metadata))
        warn_left_out(head.missing, head.damaged, len(named.ids))
        for batch, _ in read_batches(reader):
            for name, data in zip(batch.column(FILE_NAME), batch.column(FILE_DATA), strict=True):
                content = data.as_buffer().to_pybytes()
                yield name.as_py(), content
                done += 1
                nbytes += len(content)
                watch(done, head.nspec)
        if done != head.nspec:
            raise StoreError(ANSWER, f"cut off: {done:,} of {head.nspec:,} files came; ask again")
    sum_up(options, f"{done:,} spectra, {nbytes / 1e6:.1f} MB", began)
