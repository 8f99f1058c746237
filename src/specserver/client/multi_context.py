"""Spectra of several contexts in one call: a request each, the order the caller's."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import (
    BadIdentifier,
    BadParameter,
    MixedLattices,
    SpecServerError,
    UnknownContext,
    UnknownField,
)
from ..model.idgaps import Gaps
from ..model.idtext import format_id
from .inputs.context_ids import ONE_OR_MORE, Ids, Named, Naming
from .inputs.identifiers import is_shared, row_of
from .inputs.other_contexts import explain
from .request import RequestOptions, ResultOptions
from .transfer import Transfer, warn_gaps, warn_shared

if TYPE_CHECKING:
    from ..render.style import Viewed
    from ..wire.head import StreamHead
    from .results.decode import Spectra
    from .results.save import Target

T = TypeVar("T")
Fetch = Callable[[Ids, RequestOptions], tuple[Sequence[T], Sequence[str]]]
"""Returns what there is of identifiers of one context, and those that were not found."""


class Across(Transfer):
    """A connection that takes identifiers of several contexts together."""

    def read_named(
        self,
        given: Any,
        context: str | None = None,
        *,
        missing: Literal["error", "skip"] = "error",
        token: str | None = None,
    ) -> Named:
        """Return the identifiers in what a caller holds, and which context each is of.

        `getSpec` takes what is returned.
        """
        return self._named(given, None, RequestOptions(context, missing=missing, token=token))

    def fetch_named(
        self, named: Named, wanted: ResultOptions, call: RequestOptions
    ) -> list[tuple[str, int, Any]]:
        """Fetch spectra of any contexts: context, identifier and record of each.

        What `getSpec` is made of, for programs; aligned spectra are rows of one array.
        """
        if wanted.align and len(named.several) > 1:
            parts = [self._joined(named, wanted, call)]
            return _listed(parts[0])

        def fetch(ids: Ids, call: RequestOptions) -> tuple[Sequence[Any], Sequence[str]]:
            spectra = self._fetch(ids, wanted, call)
            return _listed(spectra), spectra.head.missing

        return self._gathered(named, call, fetch)

    def _named(self, given: Any, id_col: str | None, call: RequestOptions) -> Named:
        """Return the identifiers in what a caller gave, and which context each is of."""
        if isinstance(given, Named):
            return given
        gaps = Gaps(skip=call.missing == "skip")
        naming = Naming(
            plain=_one_context(call.context) or self.get_context(),
            form_of=self._id_form,
            is_context=self._is_context,
            read_vos=self.vos.reader(call.token),
            id_col=id_col,
            gaps=gaps,
        )
        try:
            named = naming.read(given)
        except (UnknownField, BadIdentifier) as error:
            self._raise_explained(error, given, naming)
            raise
        if gaps.rows:
            warn_gaps(gaps.rows)
        if is_shared(given):
            warn_shared()
        return named

    def _raise_explained(
        self, error: UnknownField | BadIdentifier, given: Any, naming: Naming
    ) -> None:
        """Raise a clearer error if the columns of a table name spectra of other contexts."""
        row = row_of(given)
        names = row[0] if row else getattr(error, "known", ())
        if naming.id_col or not names:
            return
        try:
            told = self.list_contexts(fmt="json")
        except SpecServerError:
            # The service cannot be asked: the first error stands.
            return
        if text := explain(names, naming.plain, told):
            raise SpecServerError.from_wire(UnknownField.code, text) from error

    def _of_one(
        self, given: Any, id_col: str | None, call: RequestOptions, what: str
    ) -> tuple[Ids, bool, RequestOptions]:
        """Return identifiers of one context, whether there is a single one, and that context.

        Raises
        ------
        BadParameter
            There are none, or they are of several, which ``what`` cannot show together.
        """
        named = self._named(given, id_col, call)
        if not named.ids:
            raise BadParameter("id_list", "an empty list", f"{what} takes {ONE_OR_MORE}")
        if len(named.several) > 1:
            allowed = (
                f"{what} takes spectra of one context; call it for each, or show several together"
                " with plot([a, b]) or prospect"
            )
            raise BadParameter("context", ", ".join(named.several), allowed)
        return named.ids, named.single, within(named, call)

    def _is_context(self, name: str) -> bool:
        """Return whether the service has a context."""
        try:
            self._id_form(name)
        except UnknownContext:
            return False
        return True

    def _gathered(self, named: Named, call: RequestOptions, fetch: Fetch[T]) -> list[T]:
        """Fetch what each context has, and return all of it in the order of the identifiers."""
        if len(named.several) < 2:
            return list(fetch(named.ids, within(named, call))[0])
        contexts = named.contexts or []
        if all(isinstance(one, int) or one.is_exact for one in named.ids):
            found: dict[int, T] = {}
            for context in named.several:
                places = [at for at, one in enumerate(contexts) if one == context]
                ids = [named.ids[at] for at in places]
                some, missing = fetch(ids, replace(call, context=context))
                lost = set(missing)
                there = [at for at in places if not lost or format_id(named.ids[at]) not in lost]
                if len(there) != len(some):
                    # An identifier stood for several spectra.
                    break
                found.update(zip(there, some, strict=True))
            else:
                return [found[at] for at in sorted(found)]
        made: list[T] = []
        pairs = zip(contexts, named.ids, strict=True)
        for context, run in groupby(pairs, key=lambda pair: pair[0]):
            made += fetch([one for _, one in run], replace(call, context=context))[0]
        return made

    def _joined(
        self, named: Named, wanted: ResultOptions, call: RequestOptions, *columns: str
    ) -> "Spectra":
        """Fetch spectra of several contexts onto one lattice."""
        from .progress import Watch
        from .results.joined import align_parts, take
        from .results.resample import resample_spectra

        heads = {one: self._head(replace(call, context=one)) for one in named.several}
        asked = _asked(heads, wanted, named)
        parts: list[Spectra] = []

        def fetch(ids: Ids, call: RequestOptions) -> tuple[Sequence[int], Sequence[str]]:
            known = heads[str(call.context)].names
            own = [one for one in asked.vectors or () if one in known]
            spectra = self._fetch(ids, replace(asked, vectors=own), call, *columns)
            done = sum(len(part.ids) for part in parts)
            parts.append(spectra)
            return range(done, done + len(spectra.ids)), spectra.head.missing

        order = self._gathered(named, call, fetch)
        if wanted.resample:
            with Watch("resampled", at_once=call.verbose) as watch:
                whole = resample_spectra(parts, wanted, watch)
        else:
            whole = align_parts(parts)
        return take(whole, order)

    def _get_across(
        self, named: Named, wanted: ResultOptions, call: RequestOptions, fits: str
    ) -> Any:
        """Return spectra of several contexts in the form wanted."""
        if wanted.fmt == "fits":
            return self._gathered(named, call, partial(self._files_of, fits=fits))
        if wanted.align:
            return finished(self._joined(named, wanted, call), wanted, single=False)

        def fetch(ids: Ids, call: RequestOptions) -> tuple[Sequence[Any], Sequence[str]]:
            spectra = self._fetch(ids, wanted, call)
            missing = spectra.head.missing
            return finished(spectra, wanted, single=False), missing

        return _in_list(self._gathered(named, call, fetch), wanted)

    def _get_none(self, wanted: ResultOptions, call: RequestOptions) -> Any:
        """Return what a list without identifiers gives: the empty object of the form wanted."""
        if not wanted.align:
            return _in_list([], wanted)
        # Which fields there are, the context tells.
        return finished(self._fetch([], wanted, call), wanted, single=False)

    def _files_of(
        self, ids: Ids, call: RequestOptions, *, fits: str
    ) -> tuple[list[bytes], list[str]]:
        """Return the FITS files of spectra of one context, and what was not found."""
        missing: list[str] = []
        return [file.data for file in self._files(ids, call, fits, missing)], missing

    def _write_across(
        self, named: Named, wanted: ResultOptions, target: "Target", call: RequestOptions, fits: str
    ) -> str:
        """Write each spectrum of several contexts as a file; return ``'OK'``."""
        from ..wire.columns import NAME
        from .results.save import put_spectra

        distinct = _Distinct(target)
        contexts = named.contexts or []
        if wanted.align:
            from .results.joined import take

            whole = self._joined(named, wanted, call, NAME)
            for context in dict.fromkeys(whole.contexts):
                mine = [at for at, one in enumerate(whole.contexts) if one == context]
                put_spectra(take(whole, mine), wanted.fmt, distinct.of(context))
            return "OK"
        for context in named.several:
            ids = [one for one, at in zip(named.ids, contexts, strict=True) if at == context]
            within = replace(call, context=context)
            self._write(ids, wanted, distinct.of(context), within, fits)
        return "OK"

    def _look(
        self, given: Any, id_col: str | None, call: RequestOptions, require: Callable[[int], None]
    ) -> "list[Viewed]":
        """Return the spectra that a caller holds or names, to be shown.

        ``require`` refuses a number of them, before any is fetched.
        """
        from .plots.spectra import fetch_spectra, read_spectra, wanted

        held = read_spectra(given)
        if held is not None:
            return held
        named = self._named(given, id_col, call)
        require(len(named.ids))

        def fetch(ids: Ids, call: RequestOptions) -> "tuple[list[Viewed], list[str]]":
            missing: list[str] = []

            def ask(vectors: Sequence[str] | None, columns: Sequence[str]) -> "Spectra":
                spectra = self._fetch(ids, wanted(vectors), call, *columns)
                missing[:] = spectra.head.missing
                return spectra

            return fetch_spectra(ask), missing

        return self._gathered(named, call, fetch)


def finished(spectra: "Spectra", wanted: ResultOptions, *, single: bool) -> Any:
    """Return spectra in the form wanted."""
    if wanted.fmt == "numpy":
        from .results.carried import carried

        arrays = carried(spectra)
        return arrays[0] if single else arrays
    from .results.convert import convert, convert_one

    if single and wanted.fmt not in {"list", "collection"}:
        return convert_one(spectra, 0, spectra.data[0], wanted.fmt)
    return convert(spectra, wanted.fmt)


def _in_list(made: list[Any], wanted: ResultOptions) -> Any:
    """Return objects as the list of them that is wanted."""
    if wanted.fmt != "list":
        return made
    from specutils import SpectrumList

    return SpectrumList(made)


def within(named: Named, call: RequestOptions) -> RequestOptions:
    """Return the call with the one context that its identifiers are of, if they are of one."""
    return replace(call, context=named.several[0]) if len(named.several) == 1 else call


def _one_context(context: object) -> str | None:
    """Return the context of a call, which is one."""
    if context is not None and not isinstance(context, str):
        allowed = "one context here; others are named with the identifiers, as 'context:id'"
        raise BadParameter("context", context, allowed)
    return context


def _listed(spectra: "Spectra") -> list[tuple[str, int, Any]]:
    """Return context, identifier and record of each spectrum, which carries what it is."""
    from .results.carried import carried

    return list(zip(spectra.contexts, spectra.ids.tolist(), carried(spectra), strict=True))


def _asked(heads: "dict[str, StreamHead]", wanted: ResultOptions, named: Named) -> ResultOptions:
    """Return what to ask each context for, so that all can be laid on one lattice.

    Raises
    ------
    MixedLattices, BadParameter, UnknownField
        They cannot.
    """
    from .results.joined import common_record
    from .results.resample import needed, resampled_record

    told = list(heads.values())
    axis = told[0].grid.axis
    if not wanted.resample and any(head.grid != told[0].grid for head in told):
        contexts = named.contexts or []
        some = [f"{one}:{format_id(named.ids[contexts.index(one)])}" for one in heads]
        raise MixedLattices(some)
    _require_one_unit(heads)
    if wanted.resample:
        record = resampled_record(told, wanted.values)
    else:
        record = common_record(told)
        names = [one.name for one in record]
        for name in wanted.values or wanted.vectors or ():
            if name not in names:
                raise UnknownField(name, names)
    chosen = wanted.vectors
    if chosen is None:
        chosen = [one.name for one in record if one.name != axis]
    asked = replace(wanted, vectors=list(dict.fromkeys(chosen)))
    if not wanted.resample:
        return replace(asked, align=True)
    return replace(needed(asked, told), values=None, align=False, resample=False)


def _require_one_unit(heads: "dict[str, StreamHead]") -> None:
    """Refuse to lay fluxes of different units into one array."""
    units = {context: head.flux_unit for context, head in heads.items()}
    if len(set(units.values())) == 1:
        return
    from astropy import units as u

    known = [u.Unit(one) for one in units.values() if one]
    if len(known) < len(units) or any(one != known[0] for one in known):
        given = ", ".join(f"{unit or 'no unit'} in {name}" for name, unit in units.items())
        allowed = "fluxes in one array have one unit; fetch them unaligned, or each context alone"
        raise BadParameter("align", given, allowed)


class _Distinct:
    """Where the files of several contexts go: one folder, no two files of one name.

    A file is named as on the server; where another context has one of that name already, the name
    of the context comes before it.
    """

    def __init__(self, target: "Target") -> None:
        self._target = target
        self._owner: dict[str, str] = {}
        self._context = ""

    def of(self, context: str) -> "_Distinct":
        """Return where the files of a context go."""
        self._context = context
        return self

    def put(self, name: str, data: bytes) -> None:
        """Keep a file."""
        owner = self._owner.setdefault(name, self._context)
        self._target.put(name if owner == self._context else f"{self._context}-{name}", data)
