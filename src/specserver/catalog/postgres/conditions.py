"""A condition written as SQL of PostgreSQL: columns quoted, every literal a bound parameter.

A condition that must be true of a row is written such that an index on its column serves it; within
NOT and OR, where NULL and false differ, NaN is made NULL first.
"""

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from ..sql import expressions as typed
from ..sql.expressions import TypedExpression, Value
from .floats import of_floats, rounded
from .letters import Letters
from .names import StoredColumn
from .parameters import Parameters

_STATES: Final = {None: "NULL", True: "TRUE", False: "FALSE"}
_OF_ALIKE: Final = frozenset({"greatest", "least", "coalesce"})
_OF_TEXT: Final = frozenset({"lower", "upper", "trim", "length"})
_DOUBLE: Final = "double precision"
_NATIVE_BITS: Final = 62
"""Magnitude of a whole number that surely is a bigint, and its negative, too."""
_LIMB: Final = "9223372036854775808::numeric"
"""2 ** 63: wider numbers are combined bit by bit in two pieces."""


class ConditionWriter:
    """Writes trees as SQL.

    Parameters
    ----------
    columns : by their names in the catalogue
    values : takes the literals
    letters : of the database
    """

    def __init__(
        self,
        columns: Mapping[str, StoredColumn],
        values: Parameters,
        letters: Letters,
    ) -> None:
        self._columns = columns
        self._values = values
        self._letters = letters
        self.known: set[str] = set()
        """Columns that are neither null nor NaN where `require` holds."""

    def require(self, node: TypedExpression) -> str:
        """Return a condition for WHERE: it need not tell false from NULL."""
        match node:
            case typed.Junction(operator="AND", terms=terms):
                return " AND ".join(f"({self.require(term)})" for term in terms)
            case typed.Comparison(
                left=typed.ColumnRef() as column, right=typed.Literal() as literal
            ):
                return self._required(column, node.operator, literal) or self.write(node)
            case typed.Between(
                value=typed.ColumnRef() as column,
                low=typed.Literal() as least,
                high=typed.Literal() as most,
            ):
                low = self._required(column, ">=", least)
                high = self._required(column, "<=", most)
                return f"{low} AND {high}" if low and high else self.write(node)
            case typed.In(value=typed.ColumnRef() as column):
                self.known.add(column.name)
                return self.write(node)
            case _:
                return self.write(node)

    def _required(
        self, column: typed.ColumnRef, operator: str, literal: typed.Literal
    ) -> str | None:
        """Return a comparison that an index on the column serves; None: there is none."""
        stored = self._columns[column.name]
        if literal.value is None or stored.is_wrapped or literal.bits > _NATIVE_BITS:
            return None
        self.known.add(column.name)
        if operator == "=" and stored.is_text_of_others and isinstance(literal.value, str):
            # Text is equal in all collations; in another one no index would serve it.
            return f"{stored.plain} = {self._values.bind(literal.value, collated=False)}"
        if stored.kind == "float" and type(literal.value) is int:
            # A bigint would have the column converted, which no index serves.
            literal = typed.Literal(float(literal.value))
        text = f"{self._name(column)} {operator} {self.write(literal)}"
        if stored.kind == "float" and operator in {">", ">=", "<>"}:
            # NaN is the greatest number here.
            text += f" AND {self._name(column)} < 'NaN'"
        return text

    def order(self, name: str, *, descending: bool) -> str:
        """Return an item of ORDER BY in which NaN and null come last, as equals."""
        stored = self._columns[name]
        text = stored.order
        if name in self.known:
            # An index is read in either direction.
            return f"{text} DESC" if descending else text
        text = f"NULLIF({text}, 'NaN')" if stored.kind == "float" else text
        return f"{text} {'DESC' if descending else 'ASC'} NULLS LAST"

    def write(self, node: TypedExpression) -> str:
        """Return an expression as SQL."""
        match node:
            case typed.ColumnRef():
                return self._column(node)
            case typed.Literal():
                return "NULL" if node.value is None else self._values.bind(node.value)
            case typed.Arithmetic():
                return self._arithmetic(node)
            case typed.Call():
                return self._call(node)
            case _:
                return self._truth(node)

    def _truth(self, node: typed.Truth) -> str:  # noqa: PLR0911  # a return for each class
        match node:
            case typed.Comparison():
                return self._comparison(node)
            case typed.In():
                return self._in(node)
            case typed.Between():
                above = typed.Comparison(">=", node.value, node.low)
                below = typed.Comparison("<=", node.value, node.high)
                return self._truth(typed.Junction("AND", (above, below)))
            case typed.Like():
                value, pattern = self._apart(node.value), self._values.bind(node.pattern)
                if node.ignores_case:
                    value, pattern = self._cased("lower", value), self._cased("lower", pattern)
                return f"{value} LIKE {pattern} ESCAPE ''"
            case typed.Is():
                return f"{self.settled(node.value)} IS {_STATES[node.state]}"
            case typed.Not():
                return f"NOT {self._apart(node.value)}"
            case typed.Junction():
                return f" {node.operator} ".join(self._apart(term) for term in node.terms)

    def _comparison(self, node: typed.Comparison) -> str:
        for one, other in ((node.left, node.right), (node.right, node.left)):
            wrapped = self._wrapped(one, other, node.operator)
            if wrapped:
                return wrapped
        return f"{self.settled(node.left)} {node.operator} {self.settled(node.right)}"

    def _wrapped(self, one: TypedExpression, other: TypedExpression, operator: str) -> str:
        """Return whether an unsigned column equals a literal, so that an index serves it."""
        if (
            isinstance(one, typed.ColumnRef)
            and isinstance(other, typed.Literal)
            and self._columns[one.name].is_wrapped
            and operator in {"=", "<>"}
            and type(other.value) is int
            and 0 <= other.value < 2**64
        ):
            return f"{self._name(one)} {operator} {self._values.bind(_wrap(other.value))}"
        return ""

    def _in(self, node: typed.In) -> str:
        value = node.value
        listed = node.listed
        if (
            isinstance(value, typed.ColumnRef)
            and self._columns[value.name].is_wrapped
            and all(type(item) is int for item in listed)
        ):
            inside = [_wrap(item) for item in listed if type(item) is int and 0 <= item < 2**64]
            return (
                f"{self._name(value)} = ANY({self._values.bind_all(inside, pa.int64(), 'bigint')})"
            )
        groups: dict[str, list[Value]] = {}
        for item in listed:
            is_wide = type(item) is int and not -(2**63) <= item < 2**63
            groups.setdefault("wide" if is_wide else type(item).__name__, []).append(item)
        text = self.settled(value)
        found = [f"{text} = ANY({self._listed(kind, items)})" for kind, items in groups.items()]
        return f"({' OR '.join(found)})"

    def _listed(self, kind: str, items: list[Value]) -> str:
        """Return the values of a list that are of one kind."""
        if kind == "wide":
            return (
                f"ARRAY[{', '.join(self._values.bind(item) for item in items if item is not None)}]"
            )
        form, name = {
            "bool": (pa.bool_(), "boolean"),
            "int": (pa.int64(), "bigint"),
            "float": (pa.float64(), _DOUBLE),
            "str": (pa.string(), "text"),
        }[kind]
        return self._values.bind_all(items, form, name)

    def _name(self, column: typed.ColumnRef) -> str:
        return self._columns[column.name].identifier

    def _column(self, column: typed.ColumnRef) -> str:
        """Return a column's value; an unsigned one of 64 bits as the number that it means."""
        name = self._name(column)
        if not self._columns[column.name].is_wrapped:
            return name
        wide = f"{name}::numeric"
        return f"(CASE WHEN {name} < 0 THEN {wide} + 18446744073709551616 ELSE {wide} END)"

    def _apart(self, node: TypedExpression) -> str:
        """Return a value that binds tighter than any operator."""
        text = self.write(node)
        return (
            text if isinstance(node, typed.ColumnRef | typed.Literal | typed.Call) else f"({text})"
        )

    def settled(self, node: TypedExpression) -> str:
        """Return what may be compared and sorted: NULL for NaN."""
        text = self._apart(node)
        if node.kind == "float" and not isinstance(node, typed.Literal):
            return f"NULLIF({text}, 'NaN')"
        return text

    # -- numbers with a fraction ------------------------------------------------------------------

    def _double(self, node: TypedExpression) -> str:
        """Return a number in double."""
        return f"CAST({self.write(node)} AS {_DOUBLE})"

    def _real(self, node: TypedExpression) -> str:
        """Return a number in double, NULL for NaN."""
        text = self._double(node)
        return f"NULLIF({text}, 'NaN')" if node.kind == "float" else text

    # -- whole numbers ----------------------------------------------------------------------------

    def bits(self, node: TypedExpression) -> int:
        """Return the magnitude of a whole number: its absolute value is at most ``2 ** bits``."""
        match node:
            case typed.ColumnRef():
                return self._columns[node.name].bits
            case typed.Arithmetic():
                each = [self.bits(operand) for operand in node.operands]
                if node.operator == "*":
                    return sum(each)
                return each[0] if node.operator in {"%", ">>"} else max(each) + 1
            case typed.Call():
                if node.function == "length":
                    return 32
                return max((self.bits(arg) for arg in node.args), default=0)
            case _:
                return node.bits

    def _is_wide(self, node: TypedExpression) -> bool:
        """Return whether a whole number is written as numeric."""
        parts: tuple[TypedExpression, ...] = ()
        if isinstance(node, typed.Arithmetic):
            parts = node.operands
        elif isinstance(node, typed.Call) and node.function != "length":
            parts = node.args
        if not parts:
            return self.bits(node) > _NATIVE_BITS + 1
        # The negative of the least bigint is none.
        return self.bits(node) > _NATIVE_BITS or any(self._is_wide(part) for part in parts)

    def _whole(self, node: TypedExpression, *, wide: bool) -> str:
        """Return a whole number as numeric or bigint."""
        return f"CAST({self.write(node)} AS {'numeric' if wide else 'bigint'})"

    def _arithmetic(self, node: typed.Arithmetic) -> str:
        operator = node.operator
        if node.kind != "int":
            operands = [self._double(operand) for operand in node.operands]
            if len(operands) == 1:
                return f"{operator}{operands[0]}"
            if operator in {"/", "%"}:
                return of_floats(operator, operands, are_plain=_are_plain(node.operands))
            return f"{operands[0]} {operator} {operands[1]}"
        wide = self._is_wide(node)
        operands = [self._whole(operand, wide=wide) for operand in node.operands]
        if wide and operator in {"&", "|", "~", ">>"}:
            return _wide_bits(operator, operands)
        if len(operands) == 1:
            return f"{operator}{operands[0]}"
        left, right = operands
        if operator == "%":
            right = f"NULLIF({right}, 0)"
        if operator == ">>":
            right = f"CAST({right} AS integer)"
        return f"{left} {operator} {right}"

    def _call(self, node: typed.Call) -> str:
        name, args = node.function, node.args
        if node.kind == "null":
            return "NULL"
        if name in _OF_ALIKE:
            return self._of_alike(node)
        if name in _OF_TEXT:
            return self._of_text(name, self.write(args[0]))
        if node.kind == "int":
            return f"{name}({self._whole(args[0], wide=self._is_wide(node))})"
        operands = [self._real(args[0])]
        if name == "round":
            # The number of places is a literal.
            places = args[1].value if len(args) > 1 and isinstance(args[1], typed.Literal) else 0
            return rounded(operands[0], int(places or 0), is_plain=_are_plain(args[:1]))
        name = "log10" if name == "log" and len(args) == 1 else name
        operands += [self._real(arg) for arg in args[1:]]
        return of_floats(name, operands, are_plain=_are_plain(args))

    def _of_text(self, name: str, text: str) -> str:
        if name in {"lower", "upper"}:
            return self._cased(name, text)
        if name == "length":
            return f"char_length({text})"
        return f"btrim({text}, {self._values.bind(self._letters.blanks)})"

    def _of_alike(self, node: typed.Call) -> str:
        """Return a function of any number of arguments of one kind."""
        if node.kind == "int":
            wide = self._is_wide(node)
            args = [self._whole(arg, wide=wide) for arg in node.args]
        elif node.kind == "float":
            args = [self._real(arg) for arg in node.args]
        else:
            args = [self.write(arg) for arg in node.args]
        return f"{node.function}({', '.join(args)})"

    def _cased(self, function: str, text: str) -> str:
        return f'{function}({text} COLLATE {self._letters.case_collation}) COLLATE "C"'


def _are_plain(nodes: tuple[TypedExpression, ...]) -> bool:
    """Return whether all are columns or literals."""
    return all(isinstance(node, typed.ColumnRef | typed.Literal) for node in nodes)


def _wrap(value: int) -> int:
    """Return the signed form of an unsigned number of 64 bits."""
    return value - 2**64 if value >= 2**63 else value


def _wide_bits(operator: str, operands: list[str]) -> str:
    """Return a bitwise operation on numeric, which PostgreSQL lacks: piece by piece."""
    if operator == "~":
        return f"-1 - {operands[0]}"
    # floor(x / y) without rounding: a quotient of numeric has few digits behind the point.
    floor = "div(CASE WHEN {0} < 0 THEN {0} - ({1} - 1) ELSE {0} END, {1})"
    given = f"(VALUES ({', '.join(operands)})) AS given(a, b)"
    if operator == ">>":
        return f"(SELECT {floor.format('a', 'power(2::numeric, b)')} FROM {given})"
    high = floor.replace("{1}", _LIMB)
    pieces = ", ".join(f"{high.format(name)} AS h{name}, {name}" for name in "ab")
    low = f"({{0}} - h{{0}} * {_LIMB})::bigint"
    return (
        f"(SELECT (ha::bigint {operator} hb::bigint)::numeric * {_LIMB}"
        f" + ({low.format('a')} {operator} {low.format('b')})::numeric"
        f" FROM (SELECT {pieces} FROM {given}) AS w)"
    )
