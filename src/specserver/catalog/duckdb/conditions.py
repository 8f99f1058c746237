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

    def write(self, one: TypedExpression) -> str:
        """Return an expression as SQL with ``?`` for its literals."""
        match one:
            case typed.Column():
                self.columns.add(one.name)
                return quoted(one.name)
            case typed.Literal():
                return self._bound(one.value)
            case typed.Arithmetic():
                return self._arithmetic(one)
            case typed.Call():
                return self._call(one)
            case _:
                return self._truth(one)

    def _truth(self, one: typed.Truth) -> str:  # noqa: PLR0911  # a return for each class
        match one:
            case typed.Comparison():
                return f"{self._settled(one.left)} {one.operator} {self._settled(one.right)}"
            case typed.Between():
                value, low = self._settled(one.value), self._settled(one.low)
                return f"{value} BETWEEN {low} AND {self._settled(one.high)}"
            case typed.In():
                value = self._settled(one.value)
                self.params += one.listed
                return f"{value} IN ({', '.join('?' * len(one.listed))})"
            case typed.Like():
                value = self._apart(one.value)
                way = "ILIKE" if one.ignores_case else "LIKE"
                return f"{value} {way} {self._bound(one.pattern)}"
            case typed.Is():
                return f"{self._settled(one.value)} IS {_STATES[one.state]}"
            case typed.Not():
                return f"NOT {self._apart(one.value)}"
            case typed.Junction():
                return f" {one.operator} ".join(self._apart(term) for term in one.terms)

    def _bound(self, value: Value) -> str:
        """Bind a value and return its placeholder."""
        self.params.append(value)
        return "?"

    def _apart(self, one: TypedExpression) -> str:
        """Return a value that binds tighter than any operator."""
        text = self.write(one)
        return text if isinstance(one, typed.Column | typed.Literal | typed.Call) else f"({text})"

    def _exact(self, one: TypedExpression) -> str:
        """Return an integer in 128 bits."""
        text = self._apart(one)
        return f"CAST({text} AS INT128)" if isinstance(one, typed.Column | typed.Literal) else text

    def _double(self, one: TypedExpression) -> str:
        """Return a number in double."""
        text = self._apart(one)
        is_double = one.kind == "float" and not isinstance(one, typed.Column)
        return text if is_double else f"CAST({text} AS DOUBLE)"

    def _real(self, one: TypedExpression) -> str:
        """Return a number in double, NULL for NaN."""
        return self._without_nan(one, self._double(one))

    def _settled(self, one: TypedExpression) -> str:
        """Return what may be compared: a number as stored, NULL for NaN."""
        return self._without_nan(one, self._apart(one))

    def _without_nan(self, one: TypedExpression, text: str) -> str:
        if one.kind == "float" and not isinstance(one, typed.Literal):
            return f"NULLIF({text}, {self._bound(math.nan)})"
        return text

    def _arithmetic(self, one: typed.Arithmetic) -> str:
        write = self._exact if one.kind == "int" else self._double
        if len(one.operands) == 1:
            return one.operator + write(one.operands[0])
        left, right = map(write, one.operands)
        if one.operator == "%" and one.kind == "int":
            right = f"NULLIF({right}, {self._bound(0)})"
        return f"{left} {one.operator} {right}"

    def _call(self, one: typed.Call) -> str:
        name = one.function.upper()
        if one.function in _OF_TEXT:
            text = f"{name}({self.write(one.args[0])})"
            return f"CAST({text} AS INT128)" if one.kind == "int" else text
        if one.kind == "int":
            return f"{name}({', '.join(map(self._exact, one.args))})"
        if one.function in _OF_ALIKE and one.kind != "float":
            return f"{name}({', '.join(map(self.write, one.args))})"
        args = [self._real(one.args[0])]
        # The number of places is a literal, and an integer.
        write = self.write if one.function == "round" else self._real
        args += [write(arg) for arg in one.args[1:]]
        text = f"{name}({', '.join(args)})"
        # Older databases raise, where newer ones give NaN, outside of a function's domain.
        return text if one.function in _OF_ALIKE else f"TRY({text})"


def quoted(name: str) -> str:
    """Return the name of a column as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'
