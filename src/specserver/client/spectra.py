"""Spectra and FITS files of one context: the request, and its answer decoded as it arrives."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..model.id_tuple import IdPattern, format_ids
from ..wire.columns import REDSHIFT
from .messages import sum_up, warn_left_out
from .progress import Watch
from .request import RequestOptions, ResultOptions
from .session import Session

if TYPE_CHECKING:
    from ..wire.head import FilesHead, StreamHead
    from .results.decode import Spectra
    from .results.files import ReceivedFile

Ids = Sequence[int | IdPattern]


def fetch_spectra(
    session: Session, ids: Ids, wanted: ResultOptions, options: RequestOptions, *columns: str
) -> "Spectra":
    """Fetch spectra into memory.

    Parameters
    ----------
    ids
        Identifiers of the context that ``options`` name.
    columns
        Catalogue columns to fetch with them.
    """
    from .results.decode import decode_spectra
    from .results.media import in_medium
    from .results.resample import resample_spectra

    body = spectra_request(session, ids, wanted, options, columns)
    began = perf_counter()
    # Resampling needs more fields than the result has.
    values = None if wanted.resample else wanted.values
    with (
        session.ask("bulk/spectra", body, options) as answer,
        Watch("spectra", at_once=options.verbose) as watch,
    ):
        spectra = decode_spectra(answer, values=values, align=body["align"], tell=watch)
    if wanted.resample:
        with Watch("resampled", at_once=options.verbose) as watch:
            spectra = resample_spectra([spectra], wanted, watch)
    else:
        spectra = in_medium(spectra, wanted)
    warn_left_out(spectra.head.missing, spectra.head.damaged, len(ids))
    nbytes = sum(one.nbytes for one in spectra.data) if options.verbose else 0
    sum_up(options, len(spectra.ids), nbytes, began)
    return spectra


def fetch_head(session: Session, options: RequestOptions) -> "StreamHead":
    """Return what the spectra of a context are like, without fetching one."""
    from .results.joined import read_head

    wanted = ResultOptions(fmt="numpy", values=None, vectors=None, cutout_aa=None, align=False)
    # No survey counts from 0.
    body = spectra_request(session, [0], wanted, replace(options, missing="skip"))
    with session.ask("bulk/spectra", body, options) as answer:
        return read_head(answer)


def spectra_request(
    session: Session,
    ids: Ids,
    wanted: ResultOptions,
    options: RequestOptions,
    columns: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the body of a request for spectra (docs/wire.md)."""
    if wanted.resample and not (wanted.vectors is None and wanted.cutout_aa is None):
        from .results.resample import needed

        wanted = needed(wanted, [fetch_head(session, options)])
    body = ids_request(session, ids, options) | {
        "vectors": wanted.vectors,
        "cutout": wanted.vacuum_cutout_aa,
        "align": wanted.align and not wanted.resample,
        "columns": [*([REDSHIFT] if wanted.is_spectrum else []), *columns],
    }
    if not wanted.cut_own:
        body["cut_own"] = False
    if wanted.assume_medium is not None:
        body["assume_medium"] = wanted.assume_medium
    return body


def ids_request(session: Session, ids: Ids, options: RequestOptions) -> dict[str, Any]:
    """Return the part of a request that says which spectra it is about."""
    where = session.where(options.context, options.profile)
    return {**where, "ids": format_ids(ids), "missing": options.missing}


def fetch_files(
    session: Session,
    ids: Ids,
    options: RequestOptions,
    fits: str,
    missing: list[str] | None = None,
) -> Iterator["ReceivedFile"]:
    """Yield the FITS file of each spectrum, in the order of the identifiers.

    Parameters
    ----------
    fits
        ``original`` or ``rebuilt``.
    missing
        Is filled with the identifiers that are left out.
    """
    from .results.files import read_files

    def begun(head: "FilesHead") -> None:
        warn_left_out(head.missing, head.damaged, len(ids))
        if missing is not None:
            missing[:] = head.missing

    body = ids_request(session, ids, options) | {"fits": fits}
    began, done, nbytes = perf_counter(), 0, 0
    with (
        session.ask("bulk/files", body, options) as answer,
        Watch("files", at_once=options.verbose) as watch,
    ):
        for file in read_files(answer, begun, watch):
            done += 1
            nbytes += len(file.data)
            yield file
    sum_up(options, done, nbytes, began)
