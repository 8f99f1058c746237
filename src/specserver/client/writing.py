"""Spectra as files, each written while the rest travels."""

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from ..wire.columns import NAME
from .inputs.context_ids import Named
from .messages import sum_up, warn_left_out
from .multi_context import Distinct, fetch_joined
from .progress import Watch
from .request import RequestOptions, ResultOptions
from .session import Session
from .spectra import Ids, fetch_files, fetch_spectra, spectra_request

if TYPE_CHECKING:
    from .results.save import Target


def write_spectra(
    session: Session,
    named: Named,
    wanted: ResultOptions,
    target: "Target",
    options: RequestOptions,
    fits: str,
) -> None:
    """Write each spectrum as a file, FITS files of the kind ``fits``."""
    if len(named.several) < 2:
        _write(session, named.ids, wanted, target, named.within(options), fits)
        return
    distinct = Distinct(target)
    if wanted.align:
        from .results.joined import take
        from .results.save import put_spectra

        whole = fetch_joined(session, named, wanted, options, NAME)
        for context in dict.fromkeys(whole.contexts):
            mine = [at for at, one in enumerate(whole.contexts) if one == context]
            put_spectra(take(whole, mine), wanted.fmt, distinct.of(context))
        return
    pairs = list(zip(named.ids, named.contexts or (), strict=True))
    for context in named.several:
        ids = [one for one, at in pairs if at == context]
        within = replace(options, context=context)
        _write(session, ids, wanted, distinct.of(context), within, fits)


def _write(
    session: Session,
    ids: Ids,
    wanted: ResultOptions,
    target: "Target",
    options: RequestOptions,
    fits: str,
) -> None:
    """Write each spectrum of one context as a file."""
    from .results.save import put_spectra, safe_name

    if not ids:
        return
    if wanted.fmt == "fits":
        for file in fetch_files(session, ids, options, fits):
            target.put(safe_name(file.name), file.data)
    elif wanted.resample:
        # The common lattice is known when the last spectrum has come.
        put_spectra(fetch_spectra(session, ids, wanted, options, NAME), wanted.fmt, target)
    else:
        _write_batches(session, ids, wanted, target, options)


def _write_batches(
    session: Session,
    ids: Ids,
    wanted: ResultOptions,
    target: "Target",
    options: RequestOptions,
) -> None:
    """Write the spectra of each batch while the next one travels."""
    from .results.decode import decode_batches
    from .results.media import in_medium
    from .results.save import put_spectra

    body = spectra_request(session, ids, wanted, options, (NAME,))
    began, done, nbytes = perf_counter(), 0, 0
    with (
        session.ask("bulk/spectra", body, options) as answer,
        Watch("files", at_once=options.verbose) as watch,
    ):
        for part in decode_batches(answer, values=wanted.values, align=wanted.align):
            if not done:
                warn_left_out(part.head.missing, part.head.damaged, len(ids))
            put_spectra(in_medium(part, wanted), wanted.fmt, target)
            done += len(part.ids)
            nbytes += sum(one.nbytes for one in part.data)
            watch(done, part.head.nspec)
    sum_up(options, done, nbytes, began)
