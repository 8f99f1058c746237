"""Objects of a mock survey: their kinds, and the record of what each of them is."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .templates import STARS

GALAXY, QSO, STAR, SKY, DEAD = range(5)
PASSIVE, STARFORMING, STARBURST, AGN, BROADLINE = range(5)
"""Subtypes of galaxies; for quasars 0 is normal and 1 has broad absorption."""

TRUTH = np.dtype(
    [
        ("fiber", "i4"), ("ra", "f8"), ("dec", "f8"), ("xfocal", "f4"), ("yfocal", "f4"),
        ("kind", "i1"), ("subtype", "i2"), ("z", "f8"), ("sn", "f4"), ("mix", "f4"), ("tilt", "f4"),
        ("vdisp", "f4"), ("ew", "f4"), ("ratio", "f4"), ("width", "f4"), ("thing", "i4"),
    ]
)  # fmt: skip
"""An object: ``z`` without error, ``sn`` the intended median, the rest shape parameters."""


def draw_stars(
    out: npt.NDArray[Any], rng: np.random.Generator, *, sigma_z: float, sn: float
) -> None:
    """Fill stars of the Galaxy, 1D[n] of `TRUTH`, in place; ``sn`` is the median aimed at."""
    weight = np.array([star.weight for star in STARS])
    out["kind"] = STAR
    out["subtype"] = rng.choice(len(STARS), out.size, p=weight / weight.sum())
    out["z"] = rng.normal(0.0, sigma_z, out.size)
    out["sn"] = sn * rng.lognormal(0.0, 0.55, out.size)
    out["width"] = 1.0
