"""The catalogue: tables of spectra, the index over them, and queries."""
