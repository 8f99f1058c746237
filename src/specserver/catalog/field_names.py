"""Names of columns as callers write them, and suggestions for a name that is none."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from ..errors import UnknownField
from ..model.survey import Column

_LISTED: Final = "spec.catalogs(fmt='json')"
_NEAR: Final = 3
"""Columns that one reason suggests."""
_TOLD: Final[Mapping[str, str]] = {
    **dict.fromkeys(("redshift", "zspec", "zbest", "zred"), "redshift"),
    **dict.fromkeys(("ra", "raj", "alpha", "rightascension"), "right ascension"),
    **dict.fromkeys(("dec", "decl", "de", "dej", "delta", "declination"), "declination"),
    **dict.fromkeys(("snr", "sn", "signal", "noise"), "signal to noise"),
    **dict.fromkeys(("mag", "mags", "magnitude"), "magnitude"),
    **dict.fromkeys(("class", "type", "classification", "spectype"), "class"),
    **dict.fromkeys(("err", "error", "sigma", "uncertainty"), "error"),
    **dict.fromkeys(("warning", "warn", "flag", "flags", "quality"), "bits"),
    **dict.fromkeys(("date", "jd", "time"), "julian"),
    **dict.fromkeys(("fiber", "fibre"), "fibre"),
    **dict.fromkeys(("rv", "velocity"), "velocity"),
}
"""Words that astronomers use for a column, and the phrase of its description for each."""


class FieldNames(dict[str, str]):
    """Each spelling of a column, in lower case, and the column's one name.

    Parameters
    ----------
    columns : their names, the main ones first
    aliases : other spellings, in lower case, to names, of columns that need not be here
    described : what is known of some of the columns
    """

    def __init__(
        self,
        columns: Iterable[str],
        aliases: Mapping[str, str],
        described: Sequence[Column] = (),
    ) -> None:
        self._columns = list(dict.fromkeys(columns))
        self._described = described
        own = {name: name for name in self._columns}
        super().__init__({other: name for other, name in aliases.items() if name in own} | own)

    def find(self, name: str) -> str | None:
        """Return the one name of a column, matched without case; None if it is none."""
        return self.get(name.lower() if name.isascii() else name)

    def resolve(self, name: str) -> str:
        """Return the one name of a column, as `find` does; raise `UnknownField` for none."""
        found = self.find(name)
        if found is None:
            raise self.unknown(name)
        return found

    def unknown(self, name: str, *others: str) -> UnknownField:
        """Return the error for a name that is none; ``others`` are suggested before columns."""
        error = UnknownField(name[:100], self._columns, [*others, *self.near(name)])
        rule = "" if name.replace(".", "").isidentifier() else "a field is the name of a column; "
        return error.saying(f"{error.message}; {rule}{_LISTED} describes them", _LISTED)

    def near(self, name: str) -> list[str]:
        """Return the names that may be meant by one that is none: first those described by it."""
        lower = name.strip().lower()[:100]
        found = [*self._told(lower), *get_close_matches(lower, self, _NEAR)]
        return list(dict.fromkeys(found))

    def _told(self, name: str) -> list[str]:
        """Return the columns whose descriptions say most of the words of a name."""
        told = {
            column.name: column.meaning.lower() for column in self._described if column.name in self
        }
        counts: Counter[str] = Counter()
        for word in re.findall(r"[a-z]+", name):
            known = get_close_matches(word, _TOLD, 1, 0.8)
            phrase = _TOLD[known[0]] if known else word
            said = re.compile(rf"\b{re.escape(phrase)}\b")
            with_it = [column for column, meaning in told.items() if said.search(meaning)]
            if known:
                counts.update(with_it * 2)
            elif len(word) > 2 and len(with_it) <= _NEAR:
                # Another word counts unless many descriptions have it: then it says little.
                counts.update(with_it)
        most = max(counts.values(), default=0)
        return [column for column in told if counts[column] == most > 0][:_NEAR]
