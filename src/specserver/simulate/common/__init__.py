"""What the mock surveys share: FITS headers, templates, lines, instruments."""
