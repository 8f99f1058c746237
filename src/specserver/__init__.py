"""A spectroscopic data service: survey spectra, found, fetched and looked at in one line."""

from importlib.metadata import version

__version__ = version("specserver")
