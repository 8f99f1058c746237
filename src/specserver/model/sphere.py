"""Distances and directions on the sphere, in float64 and exact to rounding from 0° to 180°."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def angle_rad(left: Floats, right: Floats) -> Floats:
    """Return angles in rad, 1D[n] float64, between unit vectors, 2D[n, 3]; a scalar of two 1D[3].

    They are exact to rounding from 0 to π.
    """
    chord = np.linalg.norm(left - right, axis=-1)
    angle: Floats = 2.0 * np.arctan2(chord, np.linalg.norm(left + right, axis=-1))
    return angle


def is_position(ra_deg: Floats, dec_deg: Floats) -> Bools:
    """Return where coordinates, 1D[n] float64 each, deg, are a position: 1D[n] bool."""
    known: Bools = np.isfinite(ra_deg) & (np.abs(dec_deg) <= 90.0)
    return known


def cos_dec(dec_deg: Floats) -> Floats:
    """Return cos of dec in deg, 1D[n] float64, as 1D[n]: precise up to the poles, and 0 there."""
    cosine: Floats = np.sin(np.radians(90.0 - np.abs(dec_deg)))
    return cosine


def wrap_deg(ra_deg: Floats) -> Floats:
    """Return right ascension, 1D[n] float64, deg, in [0, 360), 1D[n]; NaN stays NaN."""
    with np.errstate(invalid="ignore"):
        # The remainder of a tiny negative number rounds up to 360.
        wrapped: Floats = np.mod(np.mod(ra_deg, 360.0), 360.0)
    return wrapped


def unit(ra_deg: Floats, dec_deg: Floats) -> Floats:
    """Return unit vectors, 2D[n, 3] float64, of positions, 1D[n] float64 each, deg."""
    ra = np.radians(wrap_deg(ra_deg))
    x, y = cos_dec(dec_deg) * np.cos(ra), cos_dec(dec_deg) * np.sin(ra)
    return np.stack([x, y, np.sin(np.radians(dec_deg))], axis=-1)


def separation_deg(
    ra1_deg: npt.ArrayLike, dec1_deg: npt.ArrayLike, ra2_deg: npt.ArrayLike, dec2_deg: npt.ArrayLike
) -> Floats:
    """Return great-circle distances in degrees, exact to rounding from 0° to 180°.

    The haversine of the distance to a position and that of the distance to its antipode are both
    sums of positive terms; the ratio of the two loses no digits at either end.

    Parameters
    ----------
    ra1_deg, dec1_deg, ra2_deg, dec2_deg : scalars or 1D[n] float64, deg
        Broadcast against each other.

    Returns
    -------
    1D[n] float64, deg
        NaN where either end is not a position.
    """
    ra1, dec1 = np.asarray(ra1_deg, dtype=np.float64), np.asarray(dec1_deg, dtype=np.float64)
    ra2, dec2 = np.asarray(ra2_deg, dtype=np.float64), np.asarray(dec2_deg, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        turn = ra2 - ra1
        half = np.radians(turn - 360.0 * np.rint(turn / 360.0)) / 2.0
        across = cos_dec(dec1) * cos_dec(dec2)
        near = np.sin(np.radians(dec2 - dec1) / 2.0) ** 2 + across * np.sin(half) ** 2
        far = np.sin(np.radians(dec2 + dec1) / 2.0) ** 2 + across * np.cos(half) ** 2
        angle = np.degrees(2.0 * np.arctan2(np.sqrt(near), np.sqrt(far)))
    return np.where(is_position(ra1, dec1) & is_position(ra2, dec2), angle, np.nan)
