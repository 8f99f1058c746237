"""How spectra travel: into memory, or into files while the rest is still under way."""

import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal

from ..model.idtext import IdPattern, format_ids
from ..wire.columns import NAME, REDSHIFT
from .connection import Connection
from .progress import Watch
from .request import RequestOptions, ResultOptions

if TYPE_CHECKING:
    from ..wire.head import FilesHead, StreamHead
    from .results.decode import Spectra
    from .results.files import ReceivedFile
    from .results.save import Target

Ids = Sequence[int | IdPattern]
_SHOWN_CHARS: Final = 200


class Transfer(Connection):
    """A connection that fetches spectra."""

    def fetch(
        self,
        ids: Ids,
        wanted: ResultOptions,
        *,
        context: str | None = None,
        profile: str | None = None,
        missing: Literal["error", "skip"] = "error",
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> "Spectra":
        """Fetch spectra with all that is known of them: identifiers, releases, columns.

        What `getSpec` is made of, for programs; parameters as there.
        """
        call = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
        return self._fetch(ids, wanted, call)

    def _fetch(
        self, ids: Ids, wanted: ResultOptions, call: RequestOptions, *columns: str
    ) -> "Spectra":
        """Fetch spectra into memory, with more columns."""
        from .results.decode import decode_spectra

        body = self._body(ids, wanted, call, columns)
        began = perf_counter()
        values, align = _values(wanted), bool(body["align"])
        with (
            self._posted("bulk/spectra", body, call) as answer,
            Watch("spectra", at_once=call.verbose) as watch,
        ):
            spectra = decode_spectra(answer, values=values, align=align, tell=watch)
        if wanted.resample:
            from .results.resample import resample_spectra

            with Watch("resampled", at_once=call.verbose) as watch:
                spectra = resample_spectra([spectra], wanted, watch)
        else:
            from .results.media import in_medium

            spectra = in_medium(spectra, wanted)
        warn_left_out(spectra.head.missing, spectra.head.damaged, len(ids))
        nbytes = sum(one.nbytes for one in spectra.data) if call.verbose else 0
        _sum_up(call, len(spectra.ids), nbytes, began)
        return spectra

    def _head(self, call: RequestOptions) -> "StreamHead":
        """Ask what the spectra of a context are like, without fetching one."""
        from .results.joined import read_head

        wanted = ResultOptions(fmt="numpy", values=None, vectors=None, cutout_aa=None, align=False)
        # No survey counts from 0.
        body = self._body([0], wanted, replace(call, missing="skip"), ())
        with self._posted("bulk/spectra", body, call) as answer:
            return read_head(answer)

    def _write(
        self, ids: Ids, wanted: ResultOptions, target: "Target", call: RequestOptions, fits: str
    ) -> str:
        """Write each spectrum as a file, FITS files of the kind ``fits``; return ``'OK'``."""
        if ids and wanted.fmt == "fits":
            self._save_files(ids, target, call, fits)
        elif ids:
            self._save(ids, wanted, target, call)
        return "OK"

    def _space(self, name: str, token: str | None = None) -> "Target":
        """Return a folder of the user's virtual storage, ``vos://dir/``."""
        return self.vos.folder(name, token=token)

    def _save(self, ids: Ids, wanted: ResultOptions, target: "Target", call: RequestOptions) -> int:
        """Write each spectrum as a file while the rest travels; return how many there were."""
        from .results.decode import decode_batches
        from .results.media import in_medium
        from .results.save import put_spectra

        if wanted.resample:
            # The common lattice is known when the last spectrum has come.
            spectra = self._fetch(ids, wanted, call, NAME)
            put_spectra(spectra, wanted.fmt, target)
            return len(spectra.ids)
        body = self._body(ids, wanted, call, (NAME,))
        began, done, nbytes = perf_counter(), 0, 0
        with (
            self._posted("bulk/spectra", body, call) as answer,
            Watch("files", at_once=call.verbose) as watch,
        ):
            for part in decode_batches(answer, values=wanted.values, align=wanted.align):
                if not done:
                    warn_left_out(part.head.missing, part.head.damaged, len(ids))
                put_spectra(in_medium(part, wanted), wanted.fmt, target)
                done += len(part.ids)
                nbytes += sum(one.nbytes for one in part.data)
                watch(done, part.head.nspec)
        _sum_up(call, done, nbytes, began)
        return done

    def _save_files(self, ids: Ids, target: "Target", call: RequestOptions, fits: str) -> int:
        """Write the FITS file of each spectrum while the rest travels; return how many."""
        from .results.save import safe_name

        done = 0
        for file in self._files(ids, call, fits):
            target.put(safe_name(file.name), file.data)
            done += 1
        return done

    def _files(
        self, ids: Ids, call: RequestOptions, fits: str, missing: list[str] | None = None
    ) -> Iterator["ReceivedFile"]:
        """Yield the FITS file of each spectrum, in the order of the identifiers.

        ``missing`` is filled with the identifiers that are left out.
        """
        from .results.files import read_files

        def begun(head: "FilesHead") -> None:
            warn_left_out(head.missing, head.damaged, len(ids))
            if missing is not None:
                missing[:] = head.missing

        body = self._asked(ids, call) | {"fits": fits}
        began, done, nbytes = perf_counter(), 0, 0
        with (
            self._posted("bulk/files", body, call) as answer,
            Watch("files", at_once=call.verbose) as watch,
        ):
            for file in read_files(answer, begun, watch):
                done += 1
                nbytes += len(file.data)
                yield file
        _sum_up(call, done, nbytes, began)

    def _asked(self, ids: Ids, call: RequestOptions) -> dict[str, Any]:
        """Return what a request says of the spectra wanted."""
        where: Mapping[str, Any] = self._where(call.context, call.profile)
        text = format_ids(ids)
        return {**where, "ids": text, "missing": call.missing}

    def _body(
        self, ids: Ids, wanted: ResultOptions, call: RequestOptions, columns: Sequence[str]
    ) -> dict[str, Any]:
        """Return the request for spectra."""
        if wanted.resample and not (wanted.vectors is None and wanted.cutout_aa is None):
            from .results.resample import needed

            wanted = needed(wanted, [self._head(call)])
        more: dict[str, Any] = {} if wanted.cut_own else {"cut_own": False}
        if wanted.assume_medium is not None:
            more["assume_medium"] = wanted.assume_medium
        return self._asked(ids, call) | {
            "vectors": wanted.vectors,
            "cutout": wanted.vacuum_cutout_aa,
            "align": wanted.align and not wanted.resample,
            "columns": [*([REDSHIFT] if wanted.is_spectrum else []), *columns],
            **more,
        }

    @contextmanager
    def _posted(self, path: str, body: Mapping[str, Any], call: RequestOptions) -> Iterator[Any]:
        """Post a request and lend the body of the answer."""
        url = self._url(path)
        if call.debug:
            say(f"POST {url} {shortened(body)}")
        with self._http().post(url, body, token=call.token, timeout_s=call.timeout_s) as answer:
            yield answer


def shortened(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as shown to people: a long list of identifiers only begun."""
    return {
        name: value[:_SHOWN_CHARS] + "…"
        if isinstance(value, str) and len(value) > _SHOWN_CHARS
        else value
        for name, value in body.items()
    }


def _values(wanted: ResultOptions) -> list[str] | None:
    """Return the fields to decode: with resampling more of them than the result has."""
    return None if wanted.resample else wanted.values


def _sum_up(call: RequestOptions, nspec: int, nbytes: int, began: float) -> None:
    """Tell what came, when the caller asked to be told."""
    if call.verbose:
        say(f"{nspec:,} spectra, {nbytes / 1e6:.1f} MB in {perf_counter() - began:.2f} s")


def warn_left_out(missing: Sequence[str], damaged: Sequence[str], asked: int) -> None:
    """Warn of identifiers that were left out, and of spectra that were as they are damaged."""
    told = []
    if gone := [one for one in missing if one not in set(damaged)]:
        count = f"{len(gone):,} of {asked:,} identifiers"
        told.append(f"{count} were not found and are left out: {_some(gone)}")
    if damaged:
        told.append(f"{len(damaged):,} spectra cannot be read and are left out: {_some(damaged)}")
    for text in told:
        warnings.warn(text, UserWarning, stacklevel=caller_depth())


def _some(texts: Sequence[str]) -> str:
    """Return the first of some texts."""
    return ", ".join(texts[:5]) + (", …" if len(texts) > 5 else "")


def warn_shared() -> None:
    """Warn of a column of identifiers that alone do not mean the rows of their table."""
    warnings.warn(
        "some rows of this column are not the best spectrum of their identifier, and by itself it"
        " means the best: give the table, its rows, or what query answers with fields='tuple'",
        UserWarning,
        stacklevel=caller_depth(),
    )


def warn_gaps(rows: Sequence[int]) -> None:
    """Warn of rows, counted from 0, that have no identifier and were left out."""
    some = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
    warnings.warn(
        f"{len(rows):,} rows have no identifier and are left out: {some}",
        UserWarning,
        stacklevel=caller_depth(),
    )


def caller_depth() -> int:
    """Return the ``stacklevel`` at which a warning points to code outside of this package."""
    package = __name__.partition(".")[0] + "."
    depth, frame = 0, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(package):
        depth += 1
        frame = frame.f_back
    return depth


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"specserver: {text}\n")
