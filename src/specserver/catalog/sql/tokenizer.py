"""A constraint's text cut into words that are all known: positions, names, clauses, literals.

The result has only column names (double-quoted), the grammar's own words and signs,
numbers, quoted strings and calls of offered functions. No other text of the caller remains.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...errors import BadConstraint, TooMuch
from ...texts import joined
from ..field_names import FieldNames
from .expressions import ConeArgs, Order, PolygonArgs
from .position import REAL, cut_region

MAX_TEXT: Final = 250_000
"""Characters of a constraint: room for an IN list of 10,000 identifiers of 20 digits."""
MAX_WORDS: Final = 30_000
"""Names, signs and literals: an IN list of 10,000 has 20,000; parsing 30,000 takes 0.4 s."""
MAX_NESTING: Final = 20
"""Parentheses and prefix operators inside each other: each takes some 20 frames of the parser."""
MAX_LIMIT: Final = 2**63 - 1
"""Largest LIMIT: the largest signed 64-bit number."""
MAX_ORDER: Final = 20
"""Columns to order by: a row takes memory for each while it is sorted."""
CALL: Final = "call_"
"""Stands before a function's name: sqlglot keeps calls that it does not know as they are."""
FUNCTIONS: Final[Mapping[str, tuple[str, int, int]]] = {
    **{name: (name, 1, 1) for name in ("sqrt", "ln", "log10", "exp", "sin", "cos", "tan")},
    **{name: (name, 1, 1) for name in ("radians", "degrees", "floor", "ceil", "abs")},
    **{name: (name, 1, 1) for name in ("lower", "upper", "trim", "length")},
    **{name: (name, 1, 100) for name in ("greatest", "least", "coalesce")},
    "ceiling": ("ceil", 1, 1),
    "log": ("log", 1, 2),
    "power": ("power", 2, 2),
    "pow": ("power", 2, 2),
    "round": ("round", 1, 2),
}
"""Name in a constraint to the function's one name and its fewest and most arguments."""

_SCAN: Final = re.compile(
    rf"""(?P<blank>[ \t\r\n]++) | (?P<comment>--|/\*|\*/|\#) | (?P<string>'(?:[^']|'')*+')
    | (?P<name>"[^"]++") | (?P<hex>0[xX][0-9a-fA-F]++(?![\w.])) | (?P<number>{REAL}(?![\w.]))
    | (?P<word>[A-Za-z_]\w*+) | (?P<other>\|\||&&|::|:=|->|=>|\*\*|//|~~|!~)
    | (?P<sign><=|>=|<>|!=|==|<<|>>|[-=<>+*/%&|~(),.;]) | (?P<stray>.)""",
    re.ASCII | re.VERBOSE | re.DOTALL,
)
_GRAMMAR: Final = frozenset(
    ("AND", "OR", "NOT", "IN", "IS", "NULL", "BETWEEN", "LIKE", "ILIKE", "TRUE", "FALSE")
)
_OPERATORS: Final = _GRAMMAR - {"NULL", "TRUE", "FALSE"}
_PREFIX_SIGNS: Final = frozenset({"-", "+", "~", "NOT"})
_BEFORE_NOT: Final = frozenset({"AND", "OR", "NOT", "IS", "("})
_AFTER_NOT: Final = frozenset({"IN", "LIKE", "ILIKE", "BETWEEN"})
_BEFORE_TEXT: Final = frozenset({"=", "==", "<>", "!=", "LIKE", "ILIKE", "IN"})
_KEYWORDS: Final = ("WHERE", *sorted(_GRAMMAR), "ORDER", "LIMIT")
_TABLES: Final = frozenset({"specobj", "specobjall"})
_FORBIDDEN: Final = re.compile(
    "SELECT|FROM|WHERE|UNION|INTERSECT|EXCEPT|GROUP|HAVING|ORDER|BY|LIMIT|OFFSET|FETCH|WITH|VALUES"
    "|TABLE|JOIN|ON|USING|CASE|WHEN|THEN|ELSE|END|CAST|TRY_CAST|EXISTS|ANY|ALL|SOME|ARRAY|STRUCT"
    "|ROW|MAP|INTERVAL|DATE|TIMESTAMP|ESCAPE|SIMILAR|RLIKE|REGEXP|GLOB|DISTINCT|COLLATE|OVER|FILTER"
    "|SYMMETRIC|NULLS|UNKNOWN|NAN|INF|INFINITY|INSERT|UPDATE|DELETE|DROP|CREATE|ALTER|TRUNCATE"
    "|ATTACH|DETACH|COPY|EXPORT|IMPORT|INSTALL|LOAD|PRAGMA|SET|RESET|CALL|EXECUTE|PREPARE|GRANT"
    "|EXPLAIN|DESCRIBE|SHOW|SUMMARIZE|VACUUM|BEGIN|COMMIT|ROLLBACK|DECLARE|AS|DIV|XOR|LAMBDA"
    "|QUALIFY|WINDOW|PIVOT|UNPIVOT|LATERAL|DEFAULT|CURRENT_USER|CURRENT_DATE|ISNULL|NOTNULL"
)
"""Words of SQL that no condition may have; the message that refuses them names them."""
_SYMBOLS: Final = {
    "::": "a cast (::) is not allowed",
    "||": "string concatenation (||) is not allowed",
    "&&": "&& is not allowed: write AND",
    "^": "^ is a power in some databases and an exclusive or in others: write power(a, b)",
    "**": "** is not allowed: write power(a, b)",
    "?": "a parameter (?) is not allowed",
    ":": "a parameter (:) is not allowed",
    "$": "a parameter or dollar quote ($) is not allowed",
    "@": "a variable (@) is not allowed",
    "[": "an array ([) is not allowed",
    "{": "a structure ({) is not allowed",
    "'": "a quote is not closed",
    '"': "a double quote is empty or not closed",
    "\0": "a NUL character is not allowed",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A constraint cut into its parts."""

    region: ConeArgs | PolygonArgs | None
    condition: str
    """SQL of known words only, empty when there is no condition."""
    order: tuple[Order, ...]
    limit: int | None


@dataclass(frozen=True, slots=True)
class _Word:
    kind: str
    text: str

    @property
    def upper(self) -> str:
        return self.text.upper() if self.kind in {"word", "sign"} else ""

    @property
    def is_operand(self) -> bool:
        """Whether it is a value or a name."""
        return self.kind != "sign" and self.upper not in _OPERATORS


def read_sentence(text: str, columns: Mapping[str, str], names: FieldNames) -> Sentence:
    """Cut a constraint into position, condition, order and limit.

    Parameters
    ----------
    columns : names of columns to their kinds
    names : all spellings of them

    Raises
    ------
    BadConstraint, TooMuch, UnknownField
        It holds something that is not allowed.
    """
    if len(text) > MAX_TEXT:
        raise TooMuch("characters of a constraint", len(text), MAX_TEXT)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # JSON can carry it; UTF-8, which the database takes, cannot.
        raise BadConstraint(text, "it holds half of a character (a lone surrogate)") from error
    region, rest = cut_region(text)
    words = _scan(text, rest)
    if words and words[-1].text == ";":
        words.pop()
        if not words and region is None:
            raise BadConstraint(text, "a semicolon ends nothing here")
    if region is not None and words and words[0].upper not in {"AND", "ORDER", "LIMIT"}:
        raise BadConstraint(text, "only AND, ORDER BY or LIMIT may follow the position")
    words, led = _drop_lead(words)
    condition, order, limit = _split(text, _unprefix(text, words, names))
    if led and not condition:
        raise BadConstraint(text, f"no condition follows {led}")
    _check_nesting(text, condition)
    known = [_known(text, condition, place, columns, names) for place in range(len(condition))]
    by = _read_order(text, order, names)
    return Sentence(region, " ".join(known), by, _read_limit(text, limit))


def _scan(text: str, rest: str) -> list[_Word]:
    words: list[_Word] = []
    before = "blank"
    for match in _SCAN.finditer(rest):
        kind, found = str(match.lastgroup), match[0]
        if kind == "comment":
            raise BadConstraint(text, f"a comment ({found}) is not allowed")
        if kind in {"stray", "other"}:
            shown = rest[match.start() : match.start() + 20]
            reason = f"cannot read {shown!r}"
            if not found.isascii():
                reason = f"{found!r} may stand only inside single quotes"
            raise BadConstraint(text, _SYMBOLS.get(found, reason))
        if kind == "string" and before not in {"blank", "sign"}:
            raise BadConstraint(text, "a letter or string directly before a quote is not allowed")
        if kind == "string" and "\0" in found:
            raise BadConstraint(text, _SYMBOLS["\0"])
        if kind in {"hex", "number"}:
            words.append(_Word("number", _read_number(text, found)))
        elif kind != "blank":
            words.append(_Word(kind, found))
        before = kind
    if len(words) > MAX_WORDS:
        raise TooMuch("words of a constraint", len(words), MAX_WORDS)
    return words


def _read_number(text: str, found: str) -> str:
    """Return the number as Python writes it: integers stay exact, all others are doubles."""
    if found.isdigit() or found[:2] in {"0x", "0X"}:
        number = int(found, 0 if found[1:2] in {"x", "X"} else 10) if len(found) <= 100 else 2**64
        if number >= 2**64:
            raise BadConstraint(text, f"the integer {found[:40]} has more than 64 bits")
        return str(number)
    if not math.isfinite(float(found)):
        raise BadConstraint(text, f"the number {found[:40]} is beyond double precision")
    return repr(float(found))


def _drop_lead(words: list[_Word]) -> tuple[list[_Word], str]:
    """Drop an AND and a WHERE that stand in front, and return the last one dropped."""
    led = ""
    for lead in ("AND", "WHERE"):
        if words and words[0].upper == lead:
            words, led = words[1:], lead
    return words, led


def _unprefix(text: str, words: Sequence[_Word], names: FieldNames) -> list[_Word]:
    """Make one word of a catalogue's name and a column; drop the name where there is only one."""
    kept: list[_Word] = []
    several = sorted({name.partition(".")[0] for name in names if "." in name})
    prefix = ""
    for place, word in enumerate(words):
        if word.text != "." or word.kind != "sign":
            column = names.resolve(prefix + word.text.strip('"')) if prefix else ""
            kept.append(_Word("name", f'"{column}"') if prefix else word)
            prefix = ""
            continue
        table = kept.pop().text.strip('"').lower() if kept else ""
        before = words[place - 2].text if place > 1 else ""
        after = words[place + 1].kind if place + 1 < len(words) else ""
        known = table in (several or _TABLES)
        if not known or before == "." or after not in {"word", "name"}:
            allowed = f"here a name may begin with {joined(f'{name}.' for name in several)}"
            reason = allowed if several else "one catalogue is searched at a time"
            raise BadConstraint(text, f"{table}. before a name is not allowed: {reason}")
        prefix = f"{table}." if several else ""
    return kept


def _split(
    text: str, words: Sequence[_Word]
) -> tuple[Sequence[_Word], Sequence[_Word], Sequence[_Word]]:
    """Cut the words before ORDER BY and before LIMIT."""
    depth, starts = 0, {"ORDER": len(words), "LIMIT": len(words)}
    for place, word in enumerate(words):
        depth += (word.upper == "(") - (word.upper == ")")
        if depth == 0 and word.upper in starts:
            if min(starts[word.upper], starts["LIMIT"]) < len(words):
                raise BadConstraint(text, "at most one ORDER BY, and then one LIMIT, may follow")
            starts[word.upper] = place
    order, limit = min(starts.values()), starts["LIMIT"]
    return words[:order], words[order:limit], words[limit:]


def _read_limit(text: str, words: Sequence[_Word]) -> int | None:
    if not words:
        return None
    number = words[1].text if len(words) == 2 and words[1].kind == "number" else ""
    if not number.isdigit() or int(number) > MAX_LIMIT:
        raise BadConstraint(text, "LIMIT takes one whole number from 0, and nothing follows it")
    return int(number)


def _read_order(text: str, words: Sequence[_Word], names: FieldNames) -> tuple[Order, ...]:
    if not words:
        return ()
    rule = "ORDER BY takes column names, each with ASC, DESC or nothing; LIMIT may follow them"
    if len(words) < 3 or words[1].upper != "BY":
        raise BadConstraint(text, rule)
    order: list[Order] = []
    item: list[_Word] = []
    for word in [*words[2:], _Word("sign", ",")]:
        if word.text != ",":
            item.append(word)
            continue
        way = item[1].upper if len(item) == 2 else "ASC"
        is_column = len(item) in {1, 2} and item[0].kind in {"word", "name"}
        if not is_column or way not in {"ASC", "DESC"}:
            raise BadConstraint(text, rule)
        order.append(Order(names.resolve(item[0].text.strip('"')), way == "DESC"))
        item = []
        if len(order) > MAX_ORDER:
            raise TooMuch("columns to order by", None, MAX_ORDER)
    return tuple(order)


def _check_nesting(text: str, words: Sequence[_Word]) -> None:
    """Bound the parser's recursion before it starts, and refuse what sqlglot reads leniently."""
    opened: list[int] = []
    prefixes, before = 0, "("
    for place, word in enumerate(words):
        sign = word.upper
        after = words[place + 1].upper if place + 1 < len(words) else ""
        if sign == "NOT" and before not in _BEFORE_NOT and after not in _AFTER_NOT:
            raise BadConstraint(text, "NOT needs parentheses here")
        if sign == before and sign in {"<", ">"}:
            raise BadConstraint(text, f"a blank stands inside {sign}{sign}")
        if (before, sign) in {(",", ","), (",", ")"), ("(", ",")}:
            raise BadConstraint(text, "a value is missing beside a comma")
        prefixes = prefixes + 1 if sign in _PREFIX_SIGNS else prefixes
        if sign == "(":
            opened.append(prefixes + 1)
            prefixes = 0
        elif sign == ")" and opened:
            opened.pop()
            prefixes = 0
        elif sign not in _PREFIX_SIGNS:
            prefixes = 0
        if sum(opened) + prefixes > MAX_NESTING:
            raise BadConstraint(text, f"more than {MAX_NESTING} levels of nesting")
        before = sign


def _known(
    text: str,
    words: Sequence[_Word],
    place: int,
    columns: Mapping[str, str],
    names: FieldNames,
) -> str:
    """Return one word of the condition as it is given to the parser."""
    word = words[place]
    if word.kind == "sign":
        if word.text == ";":
            raise BadConstraint(text, "a semicolon may stand only at the very end")
        return {"==": "=", "!=": "<>"}.get(word.text, word.text)
    if word.kind in {"string", "number"}:
        return word.text
    name = word.text.strip('"')
    known = names.find(name)
    if word.kind == "word":
        if word.upper in _GRAMMAR:
            return word.upper
        is_call = words[place + 1 : place + 2] == [_Word("sign", "(")]
        if _FORBIDDEN.fullmatch(word.upper) and (is_call or known is None):
            raise BadConstraint(text, f"{word.upper} is not allowed in a condition")
        if is_call:
            return CALL + _function(text, words, place)
    elif known is None:
        near = names.near(name)
        hint = f" (did you mean {joined(near)}?)" if near else ""
        reason = f"no column {word.text[:100]} is known{hint}; text stands in single quotes"
        raise BadConstraint(text, reason)
    if known is None:
        _check_keyword(text, words, place)
        texts = [f"the text '{name[:100]}'"] if _may_be_text(words, place, columns, names) else []
        raise names.unknown(name, *texts)
    return '"' + known.replace('"', '""') + '"'


def _check_keyword(text: str, words: Sequence[_Word], place: int) -> None:
    """Refuse a word beside a value without an operator: perhaps one of the grammar, misspelt."""
    before, after = words[:place][-1:], words[place + 1 : place + 2]
    follows = any(word.is_operand or word.text == ")" for word in before)
    if not follows and not any(word.is_operand for word in after):
        return
    shown = words[place].text[:100]
    near = difflib.get_close_matches(shown.upper(), _KEYWORDS, n=1)
    if near:
        raise BadConstraint(text, f"{shown} is no word of a condition: did you mean {near[0]}?")
    if follows:
        allowed = "an operator, AND, OR, ORDER BY or LIMIT may follow it"
        raise BadConstraint(
            text, f"{shown} stands directly after {before[0].text[:100]}: {allowed}"
        )


def _may_be_text(
    words: Sequence[_Word], place: int, columns: Mapping[str, str], names: FieldNames
) -> bool:
    """Return whether a name stands where text may, as in ``class = QSO``."""
    before = list(words[:place])
    while before and (before[-1].kind == "string" or before[-1].text in {"(", ","}):
        before.pop()
    if not before or before.pop().upper not in _BEFORE_TEXT:
        return False
    left = next((word for word in reversed(before) if word.upper != "NOT"), words[place])
    return left.text == ")" or columns.get(names.find(left.text.strip('"')) or "") == "str"


def _function(text: str, words: Sequence[_Word], place: int) -> str:
    name = words[place].text
    lower = name.lower()
    if lower.startswith("q3c_"):
        raise BadConstraint(text, "a position may stand only at the very front, joined by AND")
    if lower not in FUNCTIONS:
        _check_keyword(text, words, place)
        raise BadConstraint(text, f"no function {name}; offered are {', '.join(FUNCTIONS)}")
    return lower
