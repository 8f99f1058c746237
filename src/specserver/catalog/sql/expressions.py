"""A condition as a typed tree, which the parser makes and each back end writes as its own SQL.

The values of a tree mean the same in each back end:

- The kind ``int`` is exact, in 128 bits; ``float`` is double. An operation of kind ``float`` takes
  its operands as doubles, one of kind ``int`` takes them exactly.
- A missing value is NULL. NaN, in a column or from ``sqrt(-1)`` or ``0/0``, is NULL and satisfies
  no comparison. ``1/0`` is infinite, and ``ln(0)`` negatively so.
- ``%`` takes the sign of the dividend, and ``% 0`` is NULL.
- ``log`` is the decimal logarithm, ``log(b, x)`` that to the base b.
- ``%`` and ``_`` in the pattern of LIKE are wildcards; there is no escape character.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias
from typing import Literal as OneOf

from ...model.ids import NUMBER

Value: TypeAlias = int | float | str | bool | None
"""Value of a literal."""

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


class _Truth:
    """A node that is true, false or NULL."""

    __slots__ = ()
    kind: ClassVar[str] = "bool"
    bits: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class ColumnRef:
    """A column of the catalogue."""

    name: str
    kind: str
    """A key of `KIND_NAMES`, but ``null``."""
    bits: ClassVar[int] = 64
    """Magnitude of a whole number in it: its absolute value is at most ``2 ** bits``."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that the caller wrote."""

    value: Value

    @property
    def kind(self) -> str:
        """Kind of the value."""
        return "null" if self.value is None else type(self.value).__name__

    @property
    def bits(self) -> int:
        """Magnitude of a whole number."""
        return int(self.value).bit_length() if isinstance(self.value, int) else 0


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``+ - * / % & | >>`` of two operands, ``- ~`` of one."""

    operator: str
    operands: "tuple[TypedExpression, ...]"
    kind: str
    """``int`` or ``float``."""
    bits: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the allow-list, `tokenizer.FUNCTIONS`."""

    function: str
    """Its one name, lower case."""
    args: "tuple[TypedExpression, ...]"
    kind: str
    bits: int = 0
    """Magnitude of a whole number."""


@dataclass(frozen=True, slots=True)
class Comparison(_Truth):
    """``= <> < <= > >=``."""

    operator: str
    left: "TypedExpression"
    right: "TypedExpression"


@dataclass(frozen=True, slots=True)
class Between(_Truth):
    """``value BETWEEN low AND high``, both included."""

    value: "TypedExpression"
    low: "TypedExpression"
    high: "TypedExpression"


@dataclass(frozen=True, slots=True)
class In(_Truth):
    """``value IN (…)``."""

    value: "TypedExpression"
    listed: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Like(_Truth):
    """``value LIKE pattern``, or ILIKE."""

    value: "TypedExpression"
    pattern: str
    ignores_case: bool


@dataclass(frozen=True, slots=True)
class Is(_Truth):
    """``value IS NULL``, ``IS TRUE`` or ``IS FALSE``; never NULL itself."""

    value: "TypedExpression"
    state: bool | None


@dataclass(frozen=True, slots=True)
class Not(_Truth):
    """``NOT value``."""

    value: "TypedExpression"


@dataclass(frozen=True, slots=True)
class Junction(_Truth):
    """Two terms or more that are joined by AND, or by OR."""

    operator: OneOf["AND", "OR"]
    terms: "tuple[TypedExpression, ...]"


Truth: TypeAlias = Comparison | Between | In | Like | Is | Not | Junction
"""A node that is true, false or NULL."""
TypedExpression: TypeAlias = ColumnRef | Literal | Arithmetic | Call | Truth
"""A node of the tree, with the ``kind`` of its value."""


@dataclass(frozen=True, slots=True)
class Order:
    """One column of ORDER BY."""

    column: str
    descending: bool


@dataclass(frozen=True, slots=True)
class ConeArgs:
    """Arguments of ``q3c_radial_query`` as written: finite, not yet checked to be on the sky."""

    ra_deg: float
    dec_deg: float
    radius_deg: float


@dataclass(frozen=True, slots=True)
class PolygonArgs:
    """Arguments of ``q3c_poly_query`` as written: finite, not yet checked to be on the sky."""

    vertices: tuple[tuple[float, float], ...]
    """(ra, dec) in degrees, in the order given."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed constraint: the rows wanted, their order and their number."""

    where: TypedExpression | None = None
    """Expression of kind ``bool``, true for the rows wanted; None: all rows."""
    order: tuple[Order, ...] = ()
    """NULL comes last, NaN is the greatest number; rows that are equal stay in their order."""
    limit: int | None = None
    region: ConeArgs | PolygonArgs | None = None
    """Position at the beginning of the text; rows lie in it and meet ``where``."""

    @property
    def is_any(self) -> bool:
        """Whether it takes rows as they are: all of them or the first ones, in any order."""
        return self.where is None and not self.order

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that it uses, those of the order included."""
        used = columns_in(self.where) if self.where is not None else ()
        return frozenset(used) | {key.column for key in self.order}


def columns_in(node: TypedExpression) -> Iterator[str]:
    """Yield the names of the columns in a tree."""
    parts: tuple[TypedExpression, ...] = ()
    match node:
        case ColumnRef():
            yield node.name
        case Arithmetic():
            parts = node.operands
        case Call():
            parts = node.args
        case Junction():
            parts = node.terms
        case Comparison():
            parts = node.left, node.right
        case Between():
            parts = node.value, node.low, node.high
        case In() | Like() | Is() | Not():
            parts = (node.value,)
    for part in parts:
        yield from columns_in(part)


def unified(args: Sequence[TypedExpression]) -> str:
    """Return the common kind of arguments that agree."""
    kinds = {arg.kind for arg in args} - {"null"}
    if kinds and kinds <= WHOLE:
        return "int"
    if kinds and kinds <= NUMBERS:
        return "float"
    return next(iter(kinds), "null")


def fitted(node: TypedExpression, other: TypedExpression, *, same: bool) -> TypedExpression:
    """Return a literal as `fitted_literal` does; other nodes unchanged."""
    return fitted_literal(node, other, same=same) if isinstance(node, Literal) else node


def fitted_literal(literal: Literal, other: TypedExpression, *, same: bool) -> Literal:
    """Return a literal as the column means it that it is compared with.

    Quoted integers are numbers for an integer column (64-bit identifiers travel as text), 0 and 1
    are truth values for a boolean one, and for ``same`` (equality) a negative number means the
    unsigned identifier of the same 64 bits.
    """
    if not isinstance(other, ColumnRef):
        return literal
    value = literal.value
    if other.kind in WHOLE and isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        value = int(value)
    if other.kind == "uint" and same and type(value) is int and -(2**63) <= value < 0:
        value += 2**64
    if other.kind == "bool" and type(value) is int and value in {0, 1}:
        value = bool(value)
    return Literal(value)


def combined(operator: str, left: TypedExpression, right: TypedExpression) -> Arithmetic:
    """Return ``+ - * / %`` of two numbers: exact for integers while 128 bits hold the result."""
    whole = {left.kind, right.kind} <= WHOLE and operator != "/"
    bits = max(left.bits, right.bits) + 1
    if operator == "*":
        bits = left.bits + right.bits
    if operator == "%":
        bits = left.bits
    if not whole or bits > EXACT_BITS:
        return Arithmetic(operator, (left, right), "float")
    return Arithmetic(operator, (left, right), "int", bits)
