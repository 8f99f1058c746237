"""Lattices, spectra, identifiers, regions and surveys, with NumPy alone."""
