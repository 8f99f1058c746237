"""Pure functions: arrays in, arrays out. NumPy and nothing else."""
