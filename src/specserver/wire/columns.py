"""Names of columns: those of a batch of spectra, and those that a request asks for."""

from typing import Final

REDSHIFT: Final = "@redshift"
"""Requested column: the redshift that the survey states."""
NAME: Final = "@name"
"""Requested column: the name of the spectrum's original file, unique in the answer."""
FACTS: Final = "@facts"
"""Requested column: values to show beside a picture, as JSON: pairs of a label and a text."""
FITS: Final = "@fits"
"""Requested column: fits that differ from the best one, as JSON: name, class, redshift of each."""
SHOWN_NAME: Final = "name"
"""Label of the first of the facts: the name of the spectrum as its survey writes it."""
TELLING: Final = "@telling"
"""Requested column: all columns that distinguish spectra with the same identifier."""

CATALOG_PREFIX: Final = "col:"
"""Precedes the name of a catalogue column in a batch of spectra."""

ID: Final = "id"
CONTEXT: Final = "context"
START: Final = "start"
WIDTH: Final = "width"
FIRST: Final = "first"
COUNT: Final = "count"
ON_LATTICE: Final = "on_lattice"
MEDIUM: Final = "medium"
PART: Final = "part"
"""Index of the head that describes the spectra of a batch, in a stream with several."""
PLACE: Final = "place"
"""Position in the caller's list, in a stream with several heads."""
POSITION: Final = ("ra", "dec")
"""Columns of uploaded positions, ICRS degrees."""
ROW: Final = "row"
"""Row of an uploaded table, from 0."""
SEPARATION: Final = "separation"
"""Distance from an uploaded position, arcsec."""
FILE_NAME: Final = "name"
FILE_DATA: Final = "data"

PIXELS: Final = (START, WIDTH, FIRST, COUNT)
"""Integer columns that say which lattice pixels the values of a spectrum belong to."""

UNIT: Final = b"unit"
"""Key in the metadata of a field: the unit of a column of catalogue rows, as astropy reads it."""
OTHERS: Final = b"others"
"""Key in the metadata of a table of catalogue rows. With `primary`: the number of further rows
that would meet the query without it. Without `primary`, if spectra can share an identifier: the
number of rows that are not primary."""
