"""Spectra of several contexts in one call: a request each, the order the caller's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from ..errors import BadParameter, MixedLattices, UnknownField
from ..model.id_tuple import format_id
from .inputs.context_ids import Named
from .progress import Watch
from .request import RequestOptions, ResultOptions
from .session import Session
from .spectra import Ids, fetch_head, fetch_spectra

if TYPE_CHECKING:
    from ..wire.head import StreamHead
    from .results.decode import Spectra
    from .results.save import Target

T = TypeVar("T")
FetchOne = Callable[[Ids, RequestOptions], tuple[Sequence[T], Sequence[str]]]
"""Returns what there is of identifiers of one context, and those that were not found."""


def gathered(named: Named, options: RequestOptions, fetch: FetchOne[T]) -> list[T]:
    """Fetch what each context has, and return all of it in the order of the identifiers."""
    if len(named.several) < 2:
        return list(fetch(named.ids, named.within(options))[0])
    contexts = named.contexts or []
    if all(isinstance(one, int) or one.is_exact for one in named.ids):
        found: dict[int, T] = {}
        for context in named.several:
            places = [at for at, one in enumerate(contexts) if one == context]
            ids = [named.ids[at] for at in places]
            some, missing = fetch(ids, replace(options, context=context))
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
        made += fetch([one for _, one in run], replace(options, context=context))[0]
    return made


def fetch_joined(
    session: Session,
    named: Named,
    wanted: ResultOptions,
    options: RequestOptions,
    *columns: str,
) -> "Spectra":
    """Fetch spectra of several contexts onto one lattice."""
    from .results.joined import align_parts, take
    from .results.resample import resample_spectra

    heads = {one: fetch_head(session, replace(options, context=one)) for one in named.several}
    asked = _asked(heads, wanted, named)
    parts: list[Spectra] = []

    def fetch(ids: Ids, options: RequestOptions) -> tuple[Sequence[int], Sequence[str]]:
        known = heads[str(options.context)].names
        own = [one for one in asked.vectors or () if one in known]
        spectra = fetch_spectra(session, ids, replace(asked, vectors=own), options, *columns)
        done = sum(len(part.ids) for part in parts)
        parts.append(spectra)
        return range(done, done + len(spectra.ids)), spectra.head.missing

    order = gathered(named, options, fetch)
    if wanted.resample:
        with Watch("resampled", at_once=options.verbose) as watch:
            whole = resample_spectra(parts, wanted, watch)
    else:
        whole = align_parts(parts)
    return take(whole, order)


def _asked(heads: "Mapping[str, StreamHead]", wanted: ResultOptions, named: Named) -> ResultOptions:
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


def _require_one_unit(heads: "Mapping[str, StreamHead]") -> None:
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


class Distinct:
    """Where the files of several contexts go: one folder, no two files of one name.

    A file is named as on the server; where another context has one of that name already, the name
    of the context comes before it.
    """

    def __init__(self, target: "Target") -> None:
        self._target = target
        self._owner: dict[str, str] = {}
        self._context = ""

    def of(self, context: str) -> "Distinct":
        """Return where the files of a context go."""
        self._context = context
        return self

    def put(self, name: str, data: bytes) -> None:
        """Keep a file."""
        owner = self._owner.setdefault(name, self._context)
        self._target.put(name if owner == self._context else f"{self._context}-{name}", data)
