"""A mock SDSS, BOSS and eBOSS in the file formats of their reductions."""
