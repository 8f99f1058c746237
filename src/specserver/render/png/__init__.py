"""PNG pictures of spectra, drawn with NumPy and Pillow."""
