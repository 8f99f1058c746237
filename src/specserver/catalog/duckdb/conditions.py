"""A condition written as SQL of DuckDB: columns quoted, every literal a bound parameter.

DuckDB would sort NaN above all numbers and let it equal itself; here it is made NULL first.
"""

import math
from typing import Final

from ..sql import expressions as typed
from ..sql.expressions import TypedExpression, Value

_STATES: Final = {None: "NULL", True: "TRUE", False: "FALSE"}
_OF_TEXT: Final = frozenset({"lower", "upper", "trim", "length"})
_OF_ALIKE: Final = frozenset({"greatest", "least", "coalesce"})


class ConditionWriter:
    """Writes trees as SQL; `params` and `columns` are those of all trees written so far."""

    def __init__(self) -> None:
        self.params: list[Value] = []
        """Values of the placeholders, in their order."""
        self.columns: set[str] = set()
        """Names of the columns used."""

    def write(self, node: TypedExpression) -> str:
        """Return an expression as SQL with ``?`` for its literals."""
        match node:
            case typed.ColumnRef():
                self.columns.add(node.name)
                return quoted(node.name)
            case typed.Literal():
                return self._bound(node.value)
            case typed.Arithmetic():
                return self._arithmetic(node)
            case typed.Call():
                return self._call(node)
            case _:
                return self._truth(node)

    def _truth(self, node: typed.Truth) -> str:  # noqa: PLR0911  # a return for each class
        match node:
            case typed.Comparison():
                return f"{self.settled(node.left)} {node.operator} {self.settled(node.right)}"
            case typed.Between():
                value, low = self.settled(node.value), self.settled(node.low)
                return f"{value} BETWEEN {low} AND {self.settled(node.high)}"
            case typed.In():
                value = self.settled(node.value)
                self.params += node.listed
                return f"{value} IN ({', '.join('?' * len(node.listed))})"
            case typed.Like():
                value = self._apart(node.value)
                way = "ILIKE" if node.ignores_case else "LIKE"
                return f"{value} {way} {self._bound(node.pattern)}"
            case typed.Is():
                return f"{self.settled(node.value)} IS {_STATES[node.state]}"
            case typed.Not():
                return f"NOT {self._apart(node.value)}"
            case typed.Junction():
                return f" {node.operator} ".join(self._apart(term) for term in node.terms)

    def _bound(self, value: Value) -> str:
        """Bind a value and return its placeholder."""
        self.params.append(value)
        return "?"

    def _apart(self, node: TypedExpression) -> str:
        """Return a value that binds tighter than any operator."""
        text = self.write(node)
        return (
            text if isinstance(node, typed.ColumnRef | typed.Literal | typed.Call) else f"({text})"
        )

    def _exact(self, node: TypedExpression) -> str:
        """Return an integer in 128 bits."""
        text = self._apart(node)
        return (
            f"CAST({text} AS INT128)" if isinstance(node, typed.ColumnRef | typed.Literal) else text
        )

    def _double(self, node: TypedExpression) -> str:
        """Return a number in double."""
        text = self._apart(node)
        is_double = node.kind == "float" and not isinstance(node, typed.ColumnRef)
        return text if is_double else f"CAST({text} AS DOUBLE)"

    def _real(self, node: TypedExpression) -> str:
        """Return a number in double, NULL for NaN."""
        return self._without_nan(node, self._double(node))

    def settled(self, node: TypedExpression) -> str:
        """Return what may be compared and sorted: a number as stored, NULL for NaN."""
        return self._without_nan(node, self._apart(node))

    def _without_nan(self, node: TypedExpression, text: str) -> str:
        if node.kind == "float" and not isinstance(node, typed.Literal):
            return f"NULLIF({text}, {self._bound(math.nan)})"
        return text

    def _arithmetic(self, node: typed.Arithmetic) -> str:
        write = self._exact if node.kind == "int" else self._double
        if len(node.operands) == 1:
            return node.operator + write(node.operands[0])
        left, right = map(write, node.operands)
        if node.operator == "%" and node.kind == "int":
            right = f"NULLIF({right}, {self._bound(0)})"
        return f"{left} {node.operator} {right}"

    def _call(self, node: typed.Call) -> str:
        name = node.function.upper()
        if node.function in _OF_TEXT:
            text = f"{name}({self.write(node.args[0])})"
            return f"CAST({text} AS INT128)" if node.kind == "int" else text
        if node.kind == "int":
            return f"{name}({', '.join(map(self._exact, node.args))})"
        if node.function in _OF_ALIKE and node.kind != "float":
            return f"{name}({', '.join(map(self.write, node.args))})"
        args = [self._real(node.args[0])]
        # The number of places is a literal, and an integer.
        write = self.write if node.function == "round" else self._real
        args += [write(arg) for arg in node.args[1:]]
        text = f"{name}({', '.join(args)})"
        # Older databases raise, where newer ones give NaN, outside of a function's domain.
        return text if node.function in _OF_ALIKE else f"TRY({text})"


def quoted(name: str) -> str:
    """Return the name of a column as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'
