"""Figures of spectra, drawn with matplotlib."""
