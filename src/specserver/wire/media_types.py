"""The media types of requests and answers."""

from typing import Final

ARROW: Final = "application/vnd.apache.arrow.stream"
CSV: Final = "text/csv"
FITS: Final = "application/fits"
FORM: Final = "application/x-www-form-urlencoded"
GZIP: Final = "application/gzip"
JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
"""Bytes of no other type: files of NumPy, and files of users."""
PNG: Final = "image/png"
SPECTRUM: Final = "application/vnd.specserver.spectrum"
"""One spectrum as it travels between service and client (docs/wire.md)."""
TEXT: Final = "text/plain"
ZIP: Final = "application/zip"
