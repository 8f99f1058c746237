"""Whole releases written for other programs; HATS catalogues, which LSDB reads."""

from .hats import HatsExport, HatsOptions, HatsSummary

__all__ = ["HatsExport", "HatsOptions", "HatsSummary"]
