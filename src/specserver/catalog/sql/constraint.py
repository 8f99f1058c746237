"""The SQL condition that a caller may give: read, checked, and rebuilt from allowed parts.

The caller's text never reaches the database. `tokenizer` lets through known words only; sqlglot
parses them; the tree is walked node by node and a new one is built, in which every column is
quoted and every literal is a bound parameter. What differs from one SQL to another is settled so:

- ``& | << >>`` bind tighter than comparisons, as in PostgreSQL and unlike C: ``zwarning & 4 = 0``
  is ``(zwarning & 4) = 0``. Among themselves they go from left to right, below ``+ - * / %``;
  ``~`` and unary ``-`` bind tightest (PostgreSQL reads ``~a + 1`` as ``~(a + 1)``, we do not).
  ``^`` is a power here and an exclusive or there: refused.
- Integers are exact, of unlimited sign, in 128 bits; a result that could pass them is computed in
  double. ``/`` always gives a double. ``%`` takes the sign of the dividend, and ``% 0`` is NULL.
- All other arithmetic is in double. NaN, in a column or from ``sqrt(-1)`` or ``0/0``, is NULL and
  satisfies no comparison; left alone, the database would sort it above all numbers. ``1/0`` is
  infinite.
- ``log`` is the decimal logarithm. ``LIKE`` has no escape character.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from ...errors import BadConstraint, TooMuch
from .bounds import MAX_GROUPS, MAX_LEVELS, MAX_LIST, MAX_NODES
from .expressions import (
    EXACT_BITS,
    KIND_NAMES,
    NUMBERS,
    WHOLE,
    TypedExpression,
    Value,
    agree,
    call,
    cast,
    combined,
    constant,
    double,
    exact,
    fitted,
    literal,
    paren,
    real,
    settled,
    tested,
    unified,
)
from .tokenizer import CALL, FUNCTIONS, ConeArgs, Order, PolygonArgs, read_sentence

__all__ = ["Condition", "ConeArgs", "Order", "PolygonArgs", "Value", "parse_constraint"]

_COLUMN_BITS: Final = 64
_MAX_PLACES: Final = 15
_NUMERIC: Final = NUMBERS | {"null"}
_TEXT: Final = frozenset({"str", "null"})
_COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_ARITHMETIC: Final = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
_TESTS: Final = (*_COMPARISONS, exp.Between, exp.In, exp.Like, exp.ILike, exp.Is, exp.Not)
_NAMED: Final[Mapping[type[exp.Expr], str]] = {
    exp.RegexpLike: "a regular expression (~)",
    exp.Star: "a star",
    exp.Tuple: "a list outside IN",
    exp.Concat: "a row of strings",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A constraint that is safe to hand to the database."""

    sql: str = ""
    """Boolean expression; every identifier double-quoted, every literal a ``?``; or empty."""
    params: tuple[Value, ...] = ()
    """Values of the placeholders in their order."""
    columns: frozenset[str] = frozenset()
    """Canonical names of the columns used, those of ORDER BY included."""
    order: tuple[Order, ...] = ()
    limit: int | None = None
    region: ConeArgs | PolygonArgs | None = None
    """Position that stood in front; it is to be met together with all of ``sql``."""


def parse_constraint(
    text: str, columns: Mapping[str, str], aliases: Mapping[str, str]
) -> Condition:
    """Read a condition, with ORDER BY and LIMIT, that may follow a position and AND.

    Parameters
    ----------
    text
        As the caller wrote it; blank means no condition.
    columns
        Lower-case names of the catalogue's columns to ``int``, ``uint`` (unsigned identifiers, of
        which negative signed forms are wrapped), ``float``, ``str`` or ``bool``.
    aliases
        Other lower-case spellings to names in ``columns``.

    Raises
    ------
    BadConstraint
        What stands outside the grammar, named.
    UnknownField
        A name that is no column.
    TooMuch
        Text or a list beyond its limit.
    """
    if not text or not text.strip():
        return Condition()
    try:
        return _read(text, columns, aliases)
    except RecursionError as e:
        raise BadConstraint(text, "it is nested too deeply") from e


def _read(text: str, columns: Mapping[str, str], aliases: Mapping[str, str]) -> Condition:
    sentence = read_sentence(text, columns, aliases)
    used = {one.column for one in sentence.order}
    sql, params = "", list[Value]()
    if sentence.condition:
        tree = _Builder(text, columns).condition(_parse(text, sentence.condition))
        used.update(column.name for column in tree.find_all(exp.Column))
        params = [node.meta["value"] for node in tree.find_all(exp.Placeholder, bfs=False)]
        sql = tree.sql("duckdb", copy=False)
    return Condition(
        sql, tuple(params), frozenset(used), sentence.order, sentence.limit, sentence.region
    )


def _parse(text: str, condition: str) -> exp.Expr:
    try:
        trees = Dialect.get_or_raise("postgres").parse_into(exp.Condition, condition)
    except SqlglotError as e:
        raise BadConstraint(text, "it is not a well-formed condition") from e
    if len(trees) != 1 or trees[0] is None:
        raise BadConstraint(text, "it is not one condition")
    return trees[0]


class _Builder:
    """Builds the new tree from the parsed one; a node of no known type ends it."""

    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self._text = text
        self._columns = columns
        self._nodes = 0
        self._level = self._groups = 0
        makers: dict[type[exp.Expr], Callable[[exp.Expr], TypedExpression]] = {
            exp.Paren: lambda node: self._build(*self._parts(node, "this")),
            exp.And: self._chain,
            exp.Or: self._chain,
            exp.Not: self._not,
            **dict.fromkeys(_COMPARISONS, self._compare),
            exp.Between: self._between,
            exp.In: self._in,
            exp.Like: self._like,
            exp.ILike: self._like,
            exp.Is: self._is,
            exp.Neg: self._negative,
            **dict.fromkeys(_ARITHMETIC, self._arithmetic),
            **dict.fromkeys((exp.BitwiseAnd, exp.BitwiseOr), self._bitwise),
            **dict.fromkeys((exp.BitwiseLeftShift, exp.BitwiseRightShift), self._shift),
            exp.BitwiseNot: self._complement,
            exp.Anonymous: self._function,
            exp.Column: self._column,
            exp.Literal: self._constant,
            exp.Boolean: self._constant,
            exp.Null: lambda _: literal(None),
        }
        self._makers = makers

    def condition(self, tree: exp.Expr) -> exp.Expr:
        """Return the new tree of a whole condition."""
        piece = self._build(tree)
        if piece.kind != "bool":
            raise self._refused(f"it gives {KIND_NAMES[piece.kind]}, not true or false")
        return piece.node

    def _refused(self, reason: str) -> BadConstraint:
        return BadConstraint(self._text, reason)

    def _build(self, node: exp.Expr) -> TypedExpression:
        maker = self._makers.get(type(node))
        if maker is None:
            raise self._refused(f"{_NAMED.get(type(node), node.key.upper())} is not allowed")
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._refused(f"it has more than {MAX_NODES:,} parts")
        self._level += 1
        if self._level > MAX_LEVELS:
            raise self._refused(f"more than {MAX_LEVELS} operators inside each other")
        piece = maker(node)
        self._level -= 1
        return piece

    def _parts(self, node: exp.Expr, *names: str, also: str = "") -> list[exp.Expr]:
        """Return the named children; anything else that the parser put there is refused."""
        known = {*names, also, "typed", "safe"}
        extra = {name for name, value in node.args.items() if value} - known
        parts = [node.args.get(name) for name in names]
        if extra or not all(isinstance(part, exp.Expr) for part in parts):
            raise self._refused(f"this form of {node.key.upper()} is not allowed")
        return [part for part in parts if isinstance(part, exp.Expr)]

    def _truth(self, node: exp.Expr) -> exp.Expr:
        piece = self._build(node)
        if piece.kind not in {"bool", "null"}:
            raise self._refused(f"AND, OR and NOT join comparisons, not {KIND_NAMES[piece.kind]}")
        return paren(piece.node)

    def _chain(self, node: exp.Expr) -> TypedExpression:
        """Build AND or OR without recursion: a chain of them may be long."""
        self._groups += 1
        if self._groups > MAX_GROUPS:
            reason = f"it has more than {MAX_GROUPS} groups of AND or OR within each other"
            raise self._refused(f"{reason}: planning takes memory with their square; ask in parts")
        terms: list[exp.Expr] = []
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if type(one) is type(node):
                this, expression = self._parts(one, "this", "expression")
                waiting += [expression, this]
            else:
                terms.append(self._truth(one))
        tree = terms[0]
        for term in terms[1:]:
            tree = type(node)(this=tree, expression=term)
        return TypedExpression(tree, "bool")

    def _not(self, node: exp.Expr) -> TypedExpression:
        return TypedExpression(exp.Not(this=self._truth(*self._parts(node, "this"))), "bool")

    def _operand(self, node: exp.Expr) -> TypedExpression:
        """Build what is compared; a comparison there needs parentheses to be meant."""
        if isinstance(node, _TESTS):
            raise self._refused("comparisons in a row need parentheses or AND")
        return self._build(node)

    def _check(self, left: TypedExpression, right: TypedExpression) -> None:
        """Refuse a comparison that the database would fail at, or answer by surprise."""
        if agree(left, right):
            return
        named = [piece.node.name for piece in (left, right) if piece.role == "column"]
        one, other = KIND_NAMES[left.kind], KIND_NAMES[right.kind]
        hint = "; quote text, and only text, in single quotes" if "text" in {one, other} else ""
        raise self._refused(f"{' and '.join(named) or 'it'}: {one} stands beside {other}{hint}")

    def _compare(self, node: exp.Expr) -> TypedExpression:
        one, other = (self._operand(part) for part in self._parts(node, "this", "expression"))
        same = isinstance(node, (exp.EQ, exp.NEQ))
        left, right = fitted(one, other, same=same), fitted(other, one, same=same)
        self._check(left, right)
        if "bool" in {left.kind, right.kind} and not same:
            raise self._refused("true and false have no order")
        return TypedExpression(type(node)(this=settled(left), expression=settled(right)), "bool")

    def _between(self, node: exp.Expr) -> TypedExpression:
        parts = (self._operand(part) for part in self._parts(node, "this", "low", "high"))
        this, *ends = parts
        low, high = (fitted(end, this, same=False) for end in ends)
        for end in (low, high):
            self._check(this, end)
        if "bool" in {this.kind, low.kind, high.kind}:
            raise self._refused("true and false have no order")
        tree = exp.Between(this=settled(this), low=settled(low), high=settled(high))
        return TypedExpression(tree, "bool")

    def _in(self, node: exp.Expr) -> TypedExpression:
        this = self._operand(*self._parts(node, "this", also="expressions"))
        if not node.expressions:
            raise self._refused("the list of IN is empty")
        if len(node.expressions) > MAX_LIST:
            raise TooMuch("values in a list", len(node.expressions), MAX_LIST)
        values: list[exp.Expr] = []
        for listed in node.expressions:
            value = constant(listed)
            if value is None:
                raise self._refused("the list of IN takes numbers and quoted text only")
            value = fitted(value, this, same=True)
            self._check(this, value)
            values.append(value.node)
        return TypedExpression(exp.In(this=settled(this), expressions=values), "bool")

    def _like(self, node: exp.Expr) -> TypedExpression:
        parts = self._parts(node, "this", "expression", also="negate")
        this, pattern = (self._operand(part) for part in parts)
        if this.kind not in _TEXT or pattern.kind != "str" or pattern.role != "literal":
            raise self._refused("LIKE compares a text column with a quoted pattern")
        tree = type(node)(this=paren(this.node), expression=pattern.node)
        return tested(tree, node)

    def _is(self, node: exp.Expr) -> TypedExpression:
        this, state = self._parts(node, "this", "expression", also="negate")
        piece = self._operand(this)
        if isinstance(state, exp.Boolean) and piece.kind in {"bool", "null"}:
            tree: exp.Expr = exp.Is(this=paren(piece.node), expression=exp.Boolean(this=state.this))
        elif isinstance(state, exp.Null):
            tree = exp.Is(this=settled(piece), expression=exp.Null())
        else:
            raise self._refused("IS takes NULL, or TRUE and FALSE after a truth value")
        return tested(tree, node)

    def _numbers(self, node: exp.Expr, *names: str, kinds: frozenset[str]) -> list[TypedExpression]:
        pieces = [self._operand(part) for part in self._parts(node, *names)]
        for piece in pieces:
            if piece.kind not in kinds:
                wanted = "whole numbers" if kinds == WHOLE else "numbers"
                raise self._refused(f"arithmetic here needs {wanted}, not {KIND_NAMES[piece.kind]}")
        return pieces

    def _negative(self, node: exp.Expr) -> TypedExpression:
        (piece,) = self._numbers(node, "this", kinds=_NUMERIC)
        if piece.role == "literal" and isinstance(piece.value, (int, float)):
            return literal(-piece.value)
        if piece.kind == "float":
            return TypedExpression(exp.Neg(this=double(piece)), "float")
        return TypedExpression(exp.Neg(this=exact(piece)), "int", piece.bits)

    def _arithmetic(self, node: exp.Expr) -> TypedExpression:
        left, right = self._numbers(node, "this", "expression", kinds=_NUMERIC)
        assert isinstance(node, exp.Binary)
        return combined(type(node), left, right)

    def _bitwise(self, node: exp.Expr) -> TypedExpression:
        left, right = self._numbers(node, "this", "expression", kinds=WHOLE)
        return self._within(type(node)(this=exact(left), expression=exact(right)), left, right)

    def _complement(self, node: exp.Expr) -> TypedExpression:
        (piece,) = self._numbers(node, "this", kinds=WHOLE)
        return self._within(exp.BitwiseNot(this=exact(piece)), piece)

    def _within(self, tree: exp.Expr, *pieces: TypedExpression) -> TypedExpression:
        bits = 1 + max(piece.bits for piece in pieces)
        if bits > EXACT_BITS:
            raise self._refused("bits beyond the database's integers")
        return TypedExpression(tree, "int", bits)

    def _shift(self, node: exp.Expr) -> TypedExpression:
        left, right = self._numbers(node, "this", "expression", kinds=WHOLE)
        places = right.value if right.role == "literal" else None
        if not isinstance(places, int) or not 0 <= places < 64:
            raise self._refused("a shift takes a plain number of places from 0 to 63")
        if isinstance(node, exp.BitwiseLeftShift):
            return combined(exp.Mul, left, literal(2**places))
        tree = exp.BitwiseRightShift(this=exact(left), expression=exact(right))
        return TypedExpression(tree, "int", left.bits)

    def _constant(self, node: exp.Expr) -> TypedExpression:
        piece = constant(node)
        if piece is None:
            raise self._refused("a literal of this form is not allowed")
        return piece

    def _column(self, node: exp.Expr) -> TypedExpression:
        name = node.name
        kind = self._columns.get(name, "")
        if not isinstance(node.this, exp.Identifier) or kind not in KIND_NAMES:
            raise self._refused(f"column {name} cannot stand in a condition")
        self._parts(node, "this")
        column = exp.Column(this=exp.Identifier(this=name, quoted=True))
        return TypedExpression(column, kind, _COLUMN_BITS, "column")

    def _function(self, node: exp.Expr) -> TypedExpression:
        name = str(node.this).removeprefix(CALL)
        native, fewest, most = FUNCTIONS.get(name, ("", 1, 0))
        args = [self._operand(arg) for arg in node.expressions]
        if not fewest <= len(args) <= most:
            raise self._refused(f"{name} does not take {len(args)} arguments")
        if native in {"GREATEST", "LEAST", "COALESCE"}:
            for other in args[1:]:
                self._check(args[0], other)
            kind, nodes = unified(args)
            return TypedExpression(call(native, *nodes), kind, max(arg.bits for arg in args))
        takes = _TEXT if native in {"LOWER", "UPPER", "TRIM", "LENGTH"} else _NUMERIC
        if not all(arg.kind in takes for arg in args):
            raise self._refused(f"{name} takes {'text' if takes is _TEXT else 'numbers'}")
        if native == "LENGTH":
            return TypedExpression(cast(call(native, args[0].node), "INT128"), "int", _COLUMN_BITS)
        if takes is _TEXT:
            return TypedExpression(call(native, args[0].node), "str")
        if native == "ABS" and args[0].kind in WHOLE:
            return TypedExpression(call(native, exact(args[0])), "int", args[0].bits)
        return self._real_function(name, native, args)

    def _real_function(
        self, name: str, native: str, args: list[TypedExpression]
    ) -> TypedExpression:
        nodes = [real(arg) for arg in args]
        if name == "round" and len(args) == 2:
            places = args[1].value if args[1].role == "literal" else None
            if not isinstance(places, int) or not -_MAX_PLACES <= places <= _MAX_PLACES:
                raise self._refused("round takes a plain whole number of places, from -15 to 15")
            nodes[1] = args[1].node
        # Older databases raise, where newer ones give NaN, outside of a function's domain.
        return TypedExpression(call("TRY", call(native, *nodes)), "float")
