"""Value-added tables: read from files, linked to spectra, kept with an index."""
