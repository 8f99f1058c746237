"""Spectra as files, each written while the rest travels."""

from time import perf_counter

from ..wire.columns import NAME
from .inputs.context_ids import Named
from .messages import sum_up, warn_left_out
from .progress import Watch
from .request import RequestOptions, ResultOptions
from .session import Session
from .spectra import fetch_files, spectra_request
from .storage import Put


def write_spectra(
    session: Session,
    named: Named,
    wanted: ResultOptions,
    put: Put,
    options: RequestOptions,
    fits: str,
) -> None:
    """Write each spectrum as a file, FITS files of the kind ``fits``."""
    from .results.decode import decode_batches
    from .results.media import in_medium
    from .results.save import put_spectra, safe_name

    if not named.ids:
        return
    if wanted.fmt == "fits":
        for name, data in fetch_files(session, named, options, fits):
            put(safe_name(name), data)
        return
    body = spectra_request(session, named, wanted, options, (NAME,))
    began, done, nbytes = perf_counter(), 0, 0
    with (
        session.ask("bulk/spectra", body, options) as answer,
        Watch("files", at_once=options.verbose) as watch,
    ):
        for head, part in decode_batches(answer, values=wanted.values, align=wanted.align):
            if not done:
                warn_left_out(head.missing, head.damaged, len(named.ids))
            made = part if wanted.resample else in_medium(part, wanted)
            put_spectra(made, wanted.fmt, put)
            done += len(part.ids)
            nbytes += sum(one.nbytes for one in part.data)
            watch(done, head.nspec)
    sum_up(options, f"{done:,} spectra, {nbytes / 1e6:.1f} MB", began)
