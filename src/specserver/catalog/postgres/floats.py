"""Functions of numbers with a fraction, as SQL that raises no error outside of their domain.

PostgreSQL raises where a division by zero, a root of a negative number or a logarithm of zero gives
an infinite number or NaN elsewhere. An operand is named ``a`` or ``b`` here.
"""

from collections.abc import Mapping, Sequence
from typing import Final

INFINITE: Final = "'Infinity'::double precision"
_LARGEST: Final = "709.78271289338397"
"""Logarithm of the largest double."""
_LEAST: Final = "-745.13321910194110"
"""Logarithm of the smallest one."""
# NULLIF: a value that is known when the query is planned is computed then, whatever CASE says.
_EXPONENT: Final = "greatest(-1020, floor(ln(NULLIF(abs({0}), 0)) / ln(2::double precision)) - 54)"
"""Exponent of a power of two by which a double is a whole number of 64 bits."""
_WHOLE: Final = "({0} * power(2::double precision, -x{0}))::bigint::numeric"

_TEMPLATES: Final[Mapping[str, str]] = {
    "/": "CASE WHEN {b} = 0 THEN {a} * CASE WHEN CAST({b} AS text) = '-0'"
    f" THEN -{INFINITE} ELSE {INFINITE} END ELSE {{a}} / {{b}} END",
    # Doubles are whole numbers times a power of two, whose remainder PostgreSQL computes exactly.
    "%": "CASE WHEN {b} = 0 OR abs({a}) = 'Infinity' OR {a} = 'NaN' OR {b} = 'NaN' THEN NULL"
    " WHEN abs({a}) < abs({b}) THEN {a} ELSE (SELECT"
    " mod(ma * power(2::numeric, xa - least(xa, xb)), mb * power(2::numeric, xb - least(xa, xb)))"
    "::double precision * power(2::double precision, least(xa, xb)::double precision)"
    " FROM (SELECT " + _WHOLE.format("a") + " AS ma, " + _WHOLE.format("b") + " AS mb,"
    " xa::numeric AS xa, xb::numeric AS xb FROM (SELECT a, b, "
    + _EXPONENT.format("a")
    + " AS xa, "
    + _EXPONENT.format("b")
    + " AS xb FROM (VALUES ({a}, {b})) AS v(a, b) OFFSET 0) AS w) AS u) END",
    "sqrt": "CASE WHEN {a} >= 0 THEN sqrt({a}) END",
    "ln": f"CASE WHEN {{a}} > 0 THEN ln({{a}}) WHEN {{a}} = 0 THEN -{INFINITE} END",
    "log10": f"CASE WHEN {{a}} > 0 THEN log({{a}}) WHEN {{a}} = 0 THEN -{INFINITE} END",
    "exp": f"CASE WHEN {{a}} > {_LARGEST} THEN {INFINITE} WHEN {{a}} < {_LEAST} THEN 0"
    " ELSE exp({a}) END",
    **{
        name: f"CASE WHEN abs({{a}}) < 'Infinity' THEN {name}({{a}}) END"
        for name in ("sin", "cos", "tan")
    },
    **{name: f"{name}({{a}})" for name in ("radians", "degrees", "floor", "ceil", "abs")},
    # Half goes away from zero, where PostgreSQL rounds to even.
    "round": "CASE WHEN abs({a} - trunc({a})) >= 0.5 THEN trunc({a}) + sign({a})"
    " WHEN abs({a}) < 'Infinity' THEN trunc({a}) ELSE {a} END",
    "log": "CASE WHEN {a} > 0 AND {a} <> 1 AND {b} > 0 THEN log({b}) / log({a})"
    f" WHEN {{a}} > 0 AND {{a}} <> 1 AND {{b}} = 0 THEN sign(1 - {{a}}) * {INFINITE} END",
    "power": f"CASE WHEN {{a}} = 0 AND {{b}} < 0 THEN {INFINITE}"
    " WHEN {a} < 0 AND {b} <> floor({b}) THEN NULL"
    " WHEN {a} = 0 OR abs({a}) = 'Infinity' OR abs({b}) = 'Infinity' THEN power({a}, {b})"
    f" WHEN {{b}} * ln(abs({{a}})) > {_LARGEST} THEN CASE WHEN {{a}} < 0 AND"
    f" {{b}} / 2 <> floor({{b}} / 2) THEN -{INFINITE} ELSE {INFINITE} END"
    f" WHEN {{b}} * ln(abs({{a}})) < {_LEAST} THEN 0 ELSE power({{a}}, {{b}}) END",
}
_SIMPLE: Final = frozenset({"floor", "ceil", "abs", "radians", "degrees"})
"""Functions that name their operand once."""


def of_floats(name: str, operands: Sequence[str], *, are_plain: bool) -> str:
    """Return a function of doubles as SQL.

    Parameters
    ----------
    operands : one or two, as SQL of type double precision
    are_plain : they are columns and values, which may be repeated
    """
    template = _TEMPLATES[name]
    if are_plain or name in _SIMPLE:
        return "(" + template.format(**dict(zip("ab", operands, strict=False))) + ")"
    # A longer operand is computed once: repeated, nested ones would become a very long text.
    names = ", ".join("ab"[: len(operands)])
    inner = template.format(a="a", b="b")
    return f"(SELECT {inner} FROM (VALUES ({', '.join(operands)})) AS given({names}))"


def rounded(operand: str, places: int, *, is_plain: bool) -> str:
    """Return a double rounded to decimal places, as SQL."""
    if not places:
        return of_floats("round", [operand], are_plain=is_plain)
    factor = f"{10 ** abs(places)}::double precision"
    there, back = ("*", "/") if places > 0 else ("/", "*")
    whole = of_floats("round", [f"({operand} {there} {factor})"], are_plain=False)
    return f"({whole} {back} {factor})"
