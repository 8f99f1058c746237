"""Mock surveys in the file formats of real ones."""

from .desi import simulate_desi
from .sdss import Summary, simulate_sdss

__all__ = ["Summary", "simulate_desi", "simulate_sdss"]
