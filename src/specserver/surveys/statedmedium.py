"""The medium of a spectrum's wavelengths, as its file states it: in air, in vacuum, or not at all.

These state a medium, as public headers show (`docs/how-to/generic.md` has the list): keywords for
it, the spectral types of the FITS standard, words in the names of axes and of the column of
wavelengths, and the UCD of that column. Comments of cards are ignored: in the archives they
contradict the keywords beside them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import BadFile
from ..model.medium import AIR, UNKNOWN, VACUUM, Medium
from .fileparts import FilePart

_KEYWORDS: Final = ("AIRORVAC", "AIRVAC", "AIR_VAC", "WAVEMED", "WAVE_MED", "WAVETYPE", "MEDIUM")
_LABEL: Final = re.compile(r"WAT\d_\d{3}|WCSNAME[A-Z]?|CNAME\d[A-Z]?")
_TYPE: Final = re.compile(r"CTYPE\d[A-Z]?|TCTYP\d+|\d+CTY?P?\d+")
# Adjacent letters make another word: AIRMASS, HAIR.
_AIR: Final = re.compile(r"(?<![A-Za-z])air(?![A-Za-z])", re.IGNORECASE)
_VACUUM: Final = re.compile(r"(?<![A-Za-z])vac(?:uum)?(?![A-Za-z])", re.IGNORECASE)
_WAVES: Final = r"(?:log_?)?(?:wavelengths?|waves?|lambda|lam|wl)"
_COLUMN_AIR: Final = re.compile(rf"air_?{_WAVES}|{_WAVES}[ _(]*air\)?|awav", re.IGNORECASE)
_COLUMN_VACUUM: Final = re.compile(
    rf"vac(?:uum)?_?{_WAVES}|{_WAVES}[ _(]*vac(?:uum)?\)?", re.IGNORECASE
)
# The JSON that linetools writes into a card.
_LINETOOLS: Final = re.compile(r'"airvac":\s*"(\w+)"')
_TRUE: Final = frozenset({"t", "true", "yes", "y", "1"})
_FALSE: Final = frozenset({"f", "false", "no", "n", "0"})


def medium_of(parts: Sequence[FilePart], axis: npt.NDArray[Any], wished: str = "") -> Medium:
    """Return the medium of a spectrum's wavelengths.

    Parameters
    ----------
    parts : the parts of its file
    axis : 1D[npix], its spectral axis as the file has it: tells which column it is
    wished : what the operator says, for files that do not say it themselves; empty: nothing

    Raises
    ------
    BadFile
        The file says both and the operator nothing, or the file says another than the operator.
    """
    said: dict[Medium, str] = {}
    for part in parts:
        for where, medium in (*_of_cards(part.cards), *_of_columns(part, axis)):
            said.setdefault(medium, where)
    if len(said) > 1:
        if wished:
            return _named(wished)
        raise BadFile(
            f"its header says that wavelengths are in air ({said[AIR]}) and in vacuum"
            f" ({said[VACUUM]}): say --medium air or --medium vacuum"
        )
    if not said:
        return _named(wished)
    ((medium, where),) = said.items()
    if wished and wished != medium:
        raise BadFile(
            f"its header says that wavelengths are in {medium} ({where}), --medium says {wished}:"
            " ingest such files into a context of their own, without --medium"
        )
    return medium


def _named(text: str) -> Medium:
    """Return the medium of a word; empty: not known."""
    return AIR if text == AIR else VACUUM if text == VACUUM else UNKNOWN


def _of_cards(cards: Mapping[str, Any]) -> Iterator[tuple[str, Medium]]:
    """Yield keyword and medium of each card of a part that states one."""
    for keyword in cards:
        value = cards[keyword]
        if keyword == "VACUUM":
            word = str(value).strip().lower()
            if word in _TRUE | _FALSE:
                yield keyword, VACUUM if word in _TRUE else AIR
        elif not isinstance(value, str):
            continue
        elif _TYPE.fullmatch(keyword):
            # 'WAVE' and 'AWAV', alone or before an algorithm (WAVE-LOG), are of FITS paper III.
            kind = value.strip().upper()[:5]
            if kind in {"WAVE", "WAVE-", "AWAV", "AWAV-"}:
                yield keyword, VACUUM if kind[0] == "W" else AIR
            else:
                yield from _of_words(keyword, value)
        elif keyword == "METADATA":
            for word in _LINETOOLS.findall(value):
                yield from _of_words(keyword, word)
        elif keyword in _KEYWORDS or _LABEL.fullmatch(keyword):
            yield from _of_words(keyword, value)


def _of_words(keyword: str, text: str) -> Iterator[tuple[str, Medium]]:
    """Yield the one medium that a text names; nothing if it names both."""
    air, vacuum = bool(_AIR.search(text)), bool(_VACUUM.search(text))
    if air != vacuum:
        yield keyword, AIR if air else VACUUM


def _of_columns(part: FilePart, axis: npt.NDArray[Any]) -> Iterator[tuple[str, Medium]]:
    """Yield the medium that the column of the axis states."""
    same = [wave for wave in part.waves if np.array_equal(np.ravel(wave.values), axis)]
    # In the VO's spectrum data model wavelengths are in vacuum unless stated otherwise.
    of_vo = str(part.cards.get("VOCLASS", "")).upper().startswith("SPECTRUM")
    for column in same or part.waves:
        where = f"column {column.name}"
        if _COLUMN_AIR.fullmatch(column.name) or "obs.atmos" in column.ucd:
            yield where, AIR
        elif _COLUMN_VACUUM.fullmatch(column.name) or (of_vo and column.ucd == "em.wl"):
            yield where, VACUUM
