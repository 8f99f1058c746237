"""The SQL condition that a caller may give: read, checked, and rebuilt as a typed tree.

The caller's text never reaches a database. `tokenizer` lets through known words only; sqlglot
parses them; the tree is walked node by node and one of `expressions` is built, which each back end
writes as its own SQL. Where one SQL differs from another the parser means:

- ``& | << >>`` bind tighter than comparisons, as in PostgreSQL and unlike C: ``zwarning & 4 = 0``
  is ``(zwarning & 4) = 0``. Among themselves they go from left to right, below ``+ - * / %``;
  ``~`` and unary ``-`` bind tightest (PostgreSQL reads ``~a + 1`` as ``~(a + 1)``, we do not).
  ``^`` is a power here and an exclusive or there: refused.
- Integers are exact, of unlimited sign, in 128 bits; a result that could pass them is computed in
  double, as all other arithmetic is. ``/`` always gives a double.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

from ...errors import BadConstraint, TooMuch
from ...model.survey import Column
from ..field_names import FieldNames
from . import expressions as typed
from .expressions import KIND_NAMES, Condition, TypedExpression, Value
from .tokenizer import CALL, FUNCTIONS, read_sentence

MAX_LIST: Final = 10_000
"""Values in one IN list; for more, a request takes a list of identifiers."""
MAX_NODES: Final = 5_000
"""Operators, columns and literals outside IN lists; planning time grows with their square."""
MAX_LEVELS: Final = 40
"""Operators inside each other; a chain of AND or of OR counts as one. Each takes stack."""
MAX_GROUPS: Final = 100
"""Chains of AND or OR, as each of ``(z > 1 OR z < 2) AND (…)`` is: 100 of them take the planner
30 MB and half a second, 620 of them 850 MB and 11 s, which no memory limit of the database bounds.
"""
_LENGTH_BITS: Final = 64
_MAX_PLACES: Final = 15
_NUMERIC: Final = typed.NUMBERS | {"null"}
_TEXT: Final = frozenset({"str", "null"})
_COMPARISONS: Final[Mapping[type[exp.Expr], str]] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=",
}  # fmt: skip
_ARITHMETIC: Final[Mapping[type[exp.Expr], str]] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%",
}  # fmt: skip
_BITWISE: Final[Mapping[type[exp.Expr], str]] = {
    exp.BitwiseAnd: "&", exp.BitwiseOr: "|", exp.BitwiseNot: "~",
}  # fmt: skip
_TESTS: Final = (
    *_COMPARISONS, exp.Between, exp.In, exp.Like, exp.ILike, exp.Is, exp.Not,
)  # fmt: skip
_NAMED: Final[Mapping[type[exp.Expr], str]] = {
    exp.RegexpLike: "a regular expression (~)",
    exp.Star: "a star",
    exp.Tuple: "a list outside IN",
    exp.Concat: "a row of strings",
}


def parse_constraint(
    text: str,
    columns: Mapping[str, str],
    aliases: Mapping[str, str],
    described: Sequence[Column] = (),
) -> Condition:
    """Read a condition, with ORDER BY and LIMIT, that may follow a position and AND.

    Parameters
    ----------
    text : as the caller wrote it; blank means no condition
    columns
        Lower-case names of the catalogue's columns to ``int``, ``uint`` (unsigned identifiers, of
        which negative signed forms are wrapped), ``float``, ``str`` or ``bool``.
    aliases : other lower-case spellings to names in ``columns``
    described : what is known of the columns, for suggestions in errors

    Raises
    ------
    BadConstraint
        Text outside the grammar; the message names it.
    UnknownField
        A name that is no column.
    TooMuch
        Text or a list beyond its limit.
    """
    if not text or not text.strip():
        return Condition()
    sentence = read_sentence(text, columns, FieldNames(columns, aliases, described))
    where = None
    if sentence.condition:
        try:
            where = _Builder(text, columns).condition(_parse(text, sentence.condition))
        except RecursionError as e:
            raise BadConstraint(text, "it is nested too deeply") from e
    return Condition(where, sentence.order, sentence.limit, sentence.region)


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
        self._makers: dict[type[exp.Expr], Callable[[exp.Expr], TypedExpression]] = {
            exp.Paren: lambda node: self._build(*self._parts(node, "this")),
            exp.And: self._chain,
            exp.Or: self._chain,
            exp.Not: lambda node: typed.Not(self._truth(*self._parts(node, "this"))),
            **dict.fromkeys(_COMPARISONS, self._compare),
            exp.Between: self._between,
            exp.In: self._in,
            exp.Like: self._like,
            exp.ILike: self._like,
            exp.Is: self._is,
            exp.Neg: self._negative,
            **dict.fromkeys(_ARITHMETIC, self._arithmetic),
            **dict.fromkeys(_BITWISE, self._bitwise),
            **dict.fromkeys((exp.BitwiseLeftShift, exp.BitwiseRightShift), self._shift),
            exp.Anonymous: self._function,
            exp.Column: self._column,
            exp.Literal: self._literal,
            exp.Boolean: self._literal,
            exp.Null: lambda _: typed.Literal(None),
        }

    def condition(self, tree: exp.Expr) -> TypedExpression:
        """Return the new tree of a whole condition."""
        found = self._build(tree)
        if found.kind != "bool":
            raise self._refused(f"it gives {KIND_NAMES[found.kind]}, not true or false")
        return found

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
        built = maker(node)
        self._level -= 1
        return built

    def _parts(self, node: exp.Expr, *names: str, also: str = "") -> list[exp.Expr]:
        """Return the named children; anything else that the parser put there is refused."""
        known = {*names, also, "typed", "safe"}
        extra = {name for name, value in node.args.items() if value} - known
        parts = [node.args.get(name) for name in names]
        if extra or not all(isinstance(part, exp.Expr) for part in parts):
            raise self._refused(f"this form of {node.key.upper()} is not allowed")
        return [part for part in parts if isinstance(part, exp.Expr)]

    def _truth(self, node: exp.Expr) -> TypedExpression:
        term = self._build(node)
        if term.kind not in {"bool", "null"}:
            raise self._refused(f"AND, OR and NOT join comparisons, not {KIND_NAMES[term.kind]}")
        return term

    def _chain(self, node: exp.Expr) -> TypedExpression:
        """Build AND or OR without recursion: a chain of them may be long."""
        self._groups += 1
        if self._groups > MAX_GROUPS:
            reason = f"it has more than {MAX_GROUPS} groups of AND or OR within each other"
            raise self._refused(f"{reason}: planning takes memory with their square; ask in parts")
        terms: list[TypedExpression] = []
        waiting = [node]
        while waiting:
            term = waiting.pop()
            if type(term) is type(node):
                this, expression = self._parts(term, "this", "expression")
                waiting += [expression, this]
            else:
                terms.append(self._truth(term))
        return typed.Junction("AND" if isinstance(node, exp.And) else "OR", tuple(terms))

    def _operand(self, node: exp.Expr) -> TypedExpression:
        """Build what is compared; a comparison there needs parentheses to be meant."""
        if isinstance(node, _TESTS):
            raise self._refused("comparisons in a row need parentheses or AND")
        return self._build(node)

    def _check(self, left: TypedExpression, right: TypedExpression) -> None:
        """Refuse a comparison of values that have nothing in common; NULL goes with all."""
        kinds = {left.kind, right.kind}
        if "null" in kinds or kinds <= typed.NUMBERS or len(kinds) == 1:
            return
        named = [side.name for side in (left, right) if isinstance(side, typed.ColumnRef)]
        shown = [KIND_NAMES[left.kind], KIND_NAMES[right.kind]]
        hint = "; quote text, and only text, in single quotes" if "text" in shown else ""
        raise self._refused(f"{' and '.join(named) or 'it'}: {' stands beside '.join(shown)}{hint}")

    def _compare(self, node: exp.Expr) -> TypedExpression:
        first, second = (self._operand(part) for part in self._parts(node, "this", "expression"))
        same = isinstance(node, (exp.EQ, exp.NEQ))
        left, right = typed.fitted(first, second, same=same), typed.fitted(second, first, same=same)
        self._check(left, right)
        if "bool" in {left.kind, right.kind} and not same:
            raise self._refused("true and false have no order")
        return typed.Comparison(_COMPARISONS[type(node)], left, right)

    def _between(self, node: exp.Expr) -> TypedExpression:
        parts = (self._operand(part) for part in self._parts(node, "this", "low", "high"))
        this, *ends = parts
        low, high = (typed.fitted(end, this, same=False) for end in ends)
        for end in (low, high):
            self._check(this, end)
        if "bool" in {this.kind, low.kind, high.kind}:
            raise self._refused("true and false have no order")
        return typed.Between(this, low, high)

    def _in(self, node: exp.Expr) -> TypedExpression:
        this = self._operand(*self._parts(node, "this", also="expressions"))
        if not node.expressions:
            raise self._refused("the list of IN is empty")
        if len(node.expressions) > MAX_LIST:
            raise TooMuch("values in a list", len(node.expressions), MAX_LIST)
        values: list[Value] = []
        for listed in node.expressions:
            value = _constant(listed)
            if value is None:
                raise self._refused("the list of IN takes numbers and quoted text only")
            fitted = typed.fitted_literal(value, this, same=True)
            self._check(this, fitted)
            values.append(fitted.value)
        return typed.In(this, tuple(values))

    def _like(self, node: exp.Expr) -> TypedExpression:
        parts = self._parts(node, "this", "expression", also="negate")
        this, pattern = (self._operand(part) for part in parts)
        text = pattern.value if isinstance(pattern, typed.Literal) else None
        if this.kind not in _TEXT or not isinstance(text, str):
            raise self._refused("LIKE compares a text column with a quoted pattern")
        return _unless_negated(typed.Like(this, text, isinstance(node, exp.ILike)), node)

    def _is(self, node: exp.Expr) -> TypedExpression:
        this, state = self._parts(node, "this", "expression", also="negate")
        value = self._operand(this)
        if isinstance(state, exp.Boolean) and value.kind in {"bool", "null"}:
            return _unless_negated(typed.Is(value, bool(state.this)), node)
        if isinstance(state, exp.Null):
            return _unless_negated(typed.Is(value, None), node)
        raise self._refused("IS takes NULL, or TRUE and FALSE after a truth value")

    def _numbers(
        self, node: exp.Expr, *names: str, kinds: frozenset[str]
    ) -> tuple[TypedExpression, ...]:
        operands = tuple(self._operand(part) for part in self._parts(node, *names))
        for operand in operands:
            if operand.kind not in kinds:
                wanted = "whole numbers" if kinds == typed.WHOLE else "numbers"
                kind = KIND_NAMES[operand.kind]
                raise self._refused(f"arithmetic here needs {wanted}, not {kind}")
        return operands

    def _negative(self, node: exp.Expr) -> TypedExpression:
        operands = self._numbers(node, "this", kinds=_NUMERIC)
        (operand,) = operands
        if isinstance(operand, typed.Literal) and isinstance(operand.value, (int, float)):
            return typed.Literal(-operand.value)
        kind = "float" if operand.kind == "float" else "int"
        return typed.Arithmetic("-", operands, kind, operand.bits)

    def _arithmetic(self, node: exp.Expr) -> TypedExpression:
        left, right = self._numbers(node, "this", "expression", kinds=_NUMERIC)
        return typed.combined(_ARITHMETIC[type(node)], left, right)

    def _bitwise(self, node: exp.Expr) -> TypedExpression:
        names = ("this",) if isinstance(node, exp.BitwiseNot) else ("this", "expression")
        operands = self._numbers(node, *names, kinds=typed.WHOLE)
        bits = 1 + max(operand.bits for operand in operands)
        if bits > typed.EXACT_BITS:
            raise self._refused("bits beyond the database's integers")
        return typed.Arithmetic(_BITWISE[type(node)], operands, "int", bits)

    def _shift(self, node: exp.Expr) -> TypedExpression:
        left, right = self._numbers(node, "this", "expression", kinds=typed.WHOLE)
        places = right.value if isinstance(right, typed.Literal) else None
        if not isinstance(places, int) or not 0 <= places < 64:
            raise self._refused("a shift takes a plain number of places from 0 to 63")
        if isinstance(node, exp.BitwiseLeftShift):
            return typed.combined("*", left, typed.Literal(2**places))
        return typed.Arithmetic(">>", (left, right), "int", left.bits)

    def _literal(self, node: exp.Expr) -> TypedExpression:
        literal = _constant(node)
        if literal is None:
            raise self._refused("a literal of this form is not allowed")
        return literal

    def _column(self, node: exp.Expr) -> TypedExpression:
        name = node.name
        kind = self._columns.get(name, "")
        if not isinstance(node.this, exp.Identifier) or kind not in KIND_NAMES:
            raise self._refused(f"column {name} cannot stand in a condition")
        self._parts(node, "this")
        return typed.ColumnRef(name, kind)

    def _function(self, node: exp.Expr) -> TypedExpression:
        name = str(node.this).removeprefix(CALL)
        function, fewest, most = FUNCTIONS.get(name, ("", 1, 0))
        args = tuple(self._operand(arg) for arg in node.expressions)
        if not fewest <= len(args) <= most:
            raise self._refused(f"{name} does not take {len(args)} arguments")
        if function in {"greatest", "least", "coalesce"}:
            for other in args[1:]:
                self._check(args[0], other)
            return typed.Call(function, args, typed.unified(args), max(arg.bits for arg in args))
        takes = _TEXT if function in {"lower", "upper", "trim", "length"} else _NUMERIC
        if not all(arg.kind in takes for arg in args):
            raise self._refused(f"{name} takes {'text' if takes is _TEXT else 'numbers'}")
        if function == "length":
            return typed.Call(function, args, "int", _LENGTH_BITS)
        if takes is _TEXT:
            return typed.Call(function, args, "str")
        if function == "abs" and args[0].kind in typed.WHOLE:
            return typed.Call(function, args, "int", args[0].bits)
        if function == "round" and len(args) == 2:
            places = args[1].value if isinstance(args[1], typed.Literal) else None
            if not isinstance(places, int) or not -_MAX_PLACES <= places <= _MAX_PLACES:
                raise self._refused("round takes a plain whole number of places, from -15 to 15")
        return typed.Call(function, args, "float")


def _unless_negated(test: TypedExpression, node: exp.Expr) -> TypedExpression:
    """Return a test, denied when the parsed one says NOT inside itself."""
    return typed.Not(test) if node.args.get("negate") else test


def _constant(node: exp.Expr) -> typed.Literal | None:
    """Return a literal of a parsed tree, also a negative number; None for anything else."""
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and node.this.is_number:
        number = _constant(node.this)
        value = number.value if number else None
        return typed.Literal(-value) if isinstance(value, (int, float)) else None
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if node.is_string:
            return typed.Literal(text)
        return typed.Literal(int(text) if text.isdigit() else float(text))
    return typed.Literal(bool(node.this)) if isinstance(node, exp.Boolean) else None
