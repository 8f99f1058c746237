"""Mock surveys in the file formats of real ones."""

from .common.writing import Summary
from .desi.survey import simulate_desi
from .sdss.layout import FAMILIES
from .sdss.survey import simulate_sdss

__all__ = ["FAMILIES", "Summary", "simulate_desi", "simulate_sdss"]
