"""Objects of a mock survey: their kinds, and the record of what each of them is."""

import numpy as np

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
"""What an object is: ``z`` without error, ``sn`` the median aimed at, the rest shape parameters."""
