"""A mock DESI in the survey's file formats."""
