"""Composite spectra: the combination, its lattice, and its scratch file."""

from ...ops.composite import StackRequest
from .scratch import StackLimits
from .stacking import NO_LEVEL, NO_PIXEL, NO_REDSHIFT, Composite, Stacking

__all__ = [
    "NO_LEVEL",
    "NO_PIXEL",
    "NO_REDSHIFT",
    "Composite",
    "StackLimits",
    "StackRequest",
    "Stacking",
]
