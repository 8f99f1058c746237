"""Typed parts of the database's own condition: what a new tree is put together from."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlglot import exp

Value: TypeAlias = int | float | str | bool | None
"""What a placeholder may stand for."""

NUMBERS: Final = frozenset({"int", "uint", "float"})
WHOLE: Final = frozenset({"int", "uint", "null"})

KIND_NAMES: Final = {
    "int": "a whole number",
    "uint": "a whole number",
    "float": "a number with a fraction",
    "str": "text",
    "bool": "true or false",
    "null": "NULL",
}
"""Kinds of columns and literals, and what to call them."""

EXACT_BITS: Final = 126
"""Magnitude that a signed 128-bit integer surely holds."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_NAN: Final = math.nan
_ATOMS: Final = (exp.Column, exp.Placeholder, exp.Anonymous, exp.Cast, exp.Paren)


@dataclass(frozen=True, slots=True)
class TypedExpression:
    """A part of the new tree and what is known of its value."""

    node: exp.Expr
    kind: str
    """As in the columns, or ``null``."""
    bits: int = 0
    """Magnitude of an integer."""
    role: str = "computed"
    """Or ``column`` or ``literal``."""

    @property
    def value(self) -> Value:
        """What a literal stands for."""
        value: Value = self.node.meta["value"]
        return value


def literal(value: Value) -> TypedExpression:
    """Return a placeholder that carries its value."""
    node = exp.Placeholder()
    node.meta["value"] = value
    if value is None:
        return TypedExpression(node, "null", 0, "literal")
    bits = int(value).bit_length() if isinstance(value, int) else 0
    return TypedExpression(node, type(value).__name__, bits, "literal")


def paren(node: exp.Expr) -> exp.Expr:
    """Return a node that binds tighter than any operator."""
    return node if isinstance(node, _ATOMS) else exp.Paren(this=node)


def cast(node: exp.Expr, to: str) -> exp.Expr:
    """Return the node in a type of the database."""
    return exp.Cast(this=node, to=exp.DataType.build(to))


def call(name: str, *args: exp.Expr) -> exp.Expr:
    """Return a call of a function of the database, as named."""
    return exp.Anonymous(this=name, expressions=list(args))


def exact(piece: TypedExpression) -> exp.Expr:
    """Return an integer in 128 bits."""
    return paren(piece.node) if piece.role == "computed" else cast(piece.node, "INT128")


def double(piece: TypedExpression) -> exp.Expr:
    """Return a number in double."""
    if piece.kind == "float" and piece.role != "column":
        return paren(piece.node)
    return cast(piece.node, "DOUBLE")


def real(piece: TypedExpression) -> exp.Expr:
    """Return a number in double, NULL for NaN."""
    node = double(piece)
    if piece.kind == "float" and piece.role != "literal":
        return call("NULLIF", node, literal(_NAN).node)
    return node


def settled(piece: TypedExpression) -> exp.Expr:
    """Return what may be compared: a number as stored, NULL for NaN."""
    if piece.kind == "float" and piece.role != "literal":
        return call("NULLIF", piece.node, literal(_NAN).node)
    return paren(piece.node)


def unified(pieces: Sequence[TypedExpression]) -> tuple[str, list[exp.Expr]]:
    """Return the common kind of arguments that agree, and them in it."""
    kinds = {piece.kind for piece in pieces} - {"null"}
    if kinds and kinds <= WHOLE:
        return "int", [exact(piece) for piece in pieces]
    if kinds and kinds <= NUMBERS:
        return "float", [real(piece) for piece in pieces]
    return next(iter(kinds), "null"), [piece.node for piece in pieces]


def agree(left: TypedExpression, right: TypedExpression) -> bool:
    """Tell whether two values may be compared; NULL may be with all."""
    kinds = {left.kind, right.kind}
    return "null" in kinds or kinds <= NUMBERS or len(kinds) == 1


def fitted(piece: TypedExpression, other: TypedExpression, *, same: bool) -> TypedExpression:
    """Return a literal as the column means it that it is compared with.

    Quoted integers are numbers for an integer column (64-bit identifiers travel as text), 0 and 1
    are truth values for a boolean one, and for ``same`` (equality) a negative number means the
    unsigned identifier of the same 64 bits.
    """
    if piece.role != "literal" or other.role != "column":
        return piece
    value = piece.value
    if other.kind in WHOLE and isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if other.kind == "uint" and same and type(value) is int and -(2**63) <= value < 0:
        value += 2**64
    if other.kind == "bool" and type(value) is int and value in {0, 1}:
        value = bool(value)
    return literal(value)


def combined(
    operator: type[exp.Binary], left: TypedExpression, right: TypedExpression
) -> TypedExpression:
    """Return ``+ - * / %`` of two numbers: exact for integers while 128 bits hold the result."""
    whole = {left.kind, right.kind} <= WHOLE and operator is not exp.Div
    bits = max(left.bits, right.bits) + 1
    if operator is exp.Mul:
        bits = left.bits + right.bits
    if operator is exp.Mod:
        bits = left.bits
    if not whole or bits > EXACT_BITS:
        return TypedExpression(operator(this=double(left), expression=double(right)), "float")
    divisor = exact(right)
    if operator is exp.Mod:
        divisor = call("NULLIF", divisor, literal(0).node)
    return TypedExpression(operator(this=exact(left), expression=divisor), "int", bits)


def tested(tree: exp.Expr, parsed: exp.Expr) -> TypedExpression:
    """Return a test, denied when the parsed one says NOT inside itself."""
    return TypedExpression(exp.Not(this=paren(tree)) if parsed.args.get("negate") else tree, "bool")


def constant(node: exp.Expr) -> TypedExpression | None:
    """Return a literal of a parsed tree, also a negative number; None for anything else."""
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and node.this.is_number:
        number = constant(node.this)
        value = number.value if number else None
        return literal(-value) if isinstance(value, (int, float)) else None
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if node.is_string:
            return literal(text)
        return literal(int(text) if text.isdigit() else float(text))
    return literal(bool(node.this)) if isinstance(node, exp.Boolean) else None
