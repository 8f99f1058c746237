"""The forms in which a caller names a place on the sky → a cone or a polygon, ICRS degrees."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from numbers import Real
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import numpy as np

from ...errors import BadArguments, BadParameter, BadRegion

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

_AFTER_POSITION: Final = ("constraint", "out", "context", "profile")


@dataclass(frozen=True, slots=True)
class SkyRegion:
    """A cone, a polygon, or with neither the whole sky."""

    cone: tuple[float, float, float] | None = None
    """Right ascension, declination and radius, ICRS degrees."""
    polygon: tuple[tuple[float, float], ...] | None = None
    """Vertices, ICRS degrees."""


def positions_by_kind(function: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
    """Return a method that takes positional arguments after their kind: `name_arguments`.

    Its signature has those of a cone.
    """

    @wraps(function)
    def called(client: C, /, *args: P.args, **keywords: P.kwargs) -> R:
        __tracebackhide__ = True
        named: Any = name_arguments(args, keywords)
        return function(client, **named)  # type: ignore[call-arg]  # P by names

    return called


def name_arguments(args: tuple[Any, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Name the positional arguments of a query after their kind, and add the keywords given.

    Parameters
    ----------
    args
        ``ra, dec, size``, ``coord, size`` or ``region``, then constraint, out, context, profile.
    given
        The keywords; None stands for one not given.

    Raises
    ------
    BadArguments
        There are too many, or one is given twice.
    """
    if not args:
        names: tuple[str, ...] = ()
    elif is_angle(args[0]):
        names = ("ra", "dec", "size")
    elif is_coordinate(args[0]):
        names = ("coord", "size")
    else:
        names = ("region",)
    if len(names) > 1 and len(args) > 1:
        # Angles only: query(coord, "z > 1", size=0.1) gives the size by its name.
        names = names[:1] + tuple(
            name for name, value in zip(names[1:], args[1:], strict=False) if is_angle(value)
        )
    names += _AFTER_POSITION
    if len(args) > len(names):
        raise BadArguments(f"query() takes at most {len(names)} positional arguments of this form")
    named = {name: value for name, value in given.items() if value is not None}
    for name, value in zip(names, args, strict=False):
        if value is not None and name in named:
            raise BadArguments(f"query() got multiple values for argument {name!r}")
        if value is not None:
            named[name] = value
    return named


def read_sky_region(given: Mapping[str, Any]) -> SkyRegion:
    """Return the region that ``ra, dec, size``, ``coord`` or ``pos``, or ``region`` stand for.

    Parameters
    ----------
    given
        The arguments; None stands for one not given.

    Raises
    ------
    BadParameter
        The arguments do not make up one region.
    BadRegion
        They do, but it is none on the sky.
    """
    named = {name: value for name, value in given.items() if value is not None}
    coord = named.get("coord", named.get("pos"))
    forms = [
        name
        for name, there in (
            ("ra, dec", "ra" in named or "dec" in named),
            ("coord", coord is not None),
            ("region", "region" in named),
        )
        if there
    ]
    if len(forms) > 1 or ("coord" in named and "pos" in named):
        raise BadParameter("position", ", ".join(forms), "give one of ra and dec, coord, region")
    if "region" in named:
        if "size" in named:
            raise BadParameter("size", named["size"], "a region has its size in its vertices")
        return SkyRegion(polygon=_polygon(named["region"]))
    if not forms:
        if "size" in named:
            raise BadParameter("size", named["size"], "it goes with ra and dec, or with coord")
        return SkyRegion()
    missing = [name for name in ("ra", "dec") if coord is None and name not in named]
    missing += ["size"] if "size" not in named else []
    if missing:
        allowed = "a cone is ra, dec, size or coord, size: numbers of degrees, or 1 * u.deg"
        if text := named.get("constraint"):
            allowed += f"; {text!r} was taken for the condition"
        raise BadParameter(missing[0], None, allowed)
    ra, dec = (named["ra"], named["dec"]) if coord is None else _icrs(coord)
    size = named["size"]
    cone = read_degrees("ra", ra), read_degrees("dec", dec), read_degrees("size", size)
    for name, angle in zip(("ra", "dec", "size"), cone, strict=True):
        if not isfinite(angle):
            raise BadRegion(f"{name} is {angle}")
    return SkyRegion(cone=cone)


def is_angle(value: object) -> bool:
    """Whether a value is one number or one quantity."""
    if isinstance(value, bool | np.bool_):
        return False
    if isinstance(value, Real):
        return True
    return not is_coordinate(value) and getattr(value, "shape", None) == ()


def is_coordinate(value: object) -> bool:
    """Whether a value is an astropy coordinate, in any frame."""
    return hasattr(value, "transform_to")


def read_degrees(name: str, value: Any) -> float:
    """Return an angle in degrees, from a number or an angle of astropy."""
    try:
        return float(value.to_value("deg") if hasattr(value, "to_value") else value)
    except (TypeError, ValueError) as error:
        raise BadParameter(name, value, "a number of degrees, or one angle") from error


def icrs_of(coord: Any) -> tuple[Any, Any]:
    """Return right ascension and declination of coordinates in any frame, 1D[n] ICRS deg."""
    from astropy.coordinates import SkyCoord

    icrs = SkyCoord(coord).icrs.ravel()
    return icrs.ra.deg, icrs.dec.deg


def _icrs(coord: Any) -> tuple[Any, Any]:
    """Return right ascension and declination of one coordinate, ICRS."""
    if not is_coordinate(coord):
        if np.ndim(coord) == 1 and len(coord) == 2:
            return coord[0], coord[1]
        raise BadParameter("coord", coord, "a SkyCoord, or a pair ra, dec in degrees")
    ra, dec = icrs_of(coord)
    if len(ra) != 1:
        raise BadParameter("coord", f"{len(ra)} positions", "one position; ask in a loop")
    return float(ra[0]), float(dec[0])


def _polygon(region: Any) -> tuple[tuple[float, float], ...]:
    """Return the vertices of a region in any of its forms."""
    if is_coordinate(region):
        region = np.stack(icrs_of(region), axis=-1)
    try:
        points = np.asarray(region, dtype=np.float64)
    except (TypeError, ValueError) as error:
        allowed = "give vertices [(ra, dec), …] or [ra, dec, ra, dec, …], or a cone in degrees"
        raise BadRegion(f"{allowed}; a SkyCoord reads hours, minutes and seconds") from error
    if points.ndim == 1 and points.size % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        shape = (
            f"{points.size} numbers" if points.ndim == 1 else f"an array of shape {points.shape}"
        )
        raise BadRegion(f"vertices are pairs ra, dec; got {shape}")
    if not np.isfinite(points).all():
        raise BadRegion("a vertex is not a finite number")
    vertices = [(float(ra), float(dec)) for ra, dec in points]
    if len(vertices) > 1 and vertices[0] == vertices[-1]:
        vertices.pop()
    if len(vertices) < 3:
        raise BadRegion(f"a polygon needs 3 vertices, got {len(vertices)}")
    return tuple(vertices)
