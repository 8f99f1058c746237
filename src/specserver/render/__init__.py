"""Pictures of spectra."""
