"""Plots of spectra: shown in a notebook, a window or a browser, or saved."""
