"""What things are: lattices, spectra, identifiers, regions, surveys. NumPy and nothing else."""
