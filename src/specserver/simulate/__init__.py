"""Mock surveys in the file formats of real ones."""

from .sdss import Summary, simulate_sdss

__all__ = ["Summary", "simulate_sdss"]
