"""Modules that the mock surveys share: FITS headers, templates, lines, instruments."""
